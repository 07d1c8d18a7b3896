"""Entry point: direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) and its family.

    accelerate launch -m alignment.dpo --config recipes/tiny-coder/dpo.yaml --dataset_name RUN/pairs.jsonl

Options are TRL's (the fields of ScriptArguments, DPOConfig and ModelConfig) and those of
`preference.options.PairOptions`; `loss_type` names any loss of docs/losses.md. `output_dir` is a run
directory: metrics.jsonl, checkpoints, `model/` at the end; `--overwrite` starts it anew. Killed anywhere, the
same command goes on from the last whole checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alignment.preference.arguments import Arguments
from alignment.preference.job import adapters, entry_point, load_model, open_run, train
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; `beta` and `label_smoothing` that nobody set are those of the loss.

    Raises:
        CodealignError: As `arguments.parse`, and for a loss or options of it that do not fit.
    """
    from trl import DPOConfig

    from alignment.preference.arguments import parse as read
    from alignment.preference.options import PairOptions

    arguments = read(argv, DPOConfig, PairOptions)
    from alignment.preference.objective import defaults, objective_of

    training, given = arguments.training, arguments.given
    own = defaults(training.loss_type)
    for name, value in own.items():
        if name not in given:
            setattr(training, name, value)
    if "beta" in given and "beta" not in own:
        raise CodealignError(
            f"--beta does nothing in the loss {', '.join(training.loss_type)!r}; leave it out"
        )
    objective_of(training, arguments.options)
    return arguments


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used.
    """
    arguments = parse(argv)
    from alignment.cards import publish
    from alignment.preference.data import load_pairs
    from alignment.preference.runlog import RunLog
    from alignment.preference.trainer import PairTrainer

    directory = open_run(arguments, "dpo")
    if directory.finished:
        return publish(directory, arguments)
    options, script = arguments.options, arguments.script
    extra = ["confidence"] if options.confidence_as != "none" else []
    extra += [options.weight_column] if options.weight_column else []
    pairs = load_pairs(script.dataset_name, script.dataset_train_split, extra)
    model, tokenizer = load_model(arguments.model)
    trainer = PairTrainer(
        model,
        arguments.training,
        pairs,
        tokenizer,
        options=options,
        peft_config=adapters(arguments.model),
    )
    beta = arguments.training.beta if trainer.plain else None
    trainer.add_callback(RunLog(directory, beta, hashes=arguments.health.checkpoint_hashes))
    train(directory, trainer, len(pairs), arguments)
    return publish(directory, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.dpo`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
