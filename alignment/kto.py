"""Entry point: KTO (Ethayarajh et al. 2024, arXiv 2402.01306), training on single completions with a label.

    accelerate launch -m alignment.kto --config recipes/tiny-coder/kto.yaml --dataset_name RUN/kto.jsonl

`codealign pairs --kto` writes kto.jsonl. Options are TRL's (the fields of ScriptArguments, KTOConfig and
ModelConfig) and those of `preference.options.PreferenceOptions`. `output_dir` is a run directory, as for
`alignment.dpo`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alignment.preference.arguments import Arguments
from alignment.preference.job import adapters, entry_point, load_model, open_run, train
from codegen_eval.runs import RunDir


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; see `arguments.parse`."""
    from trl import KTOConfig

    from alignment.preference.arguments import parse as read
    from alignment.preference.options import PreferenceOptions

    return read(argv, KTOConfig, PreferenceOptions)


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used.
    """
    arguments = parse(argv)
    from alignment.cards import publish
    from alignment.preference.data import load_labelled
    from alignment.preference.kto_trainer import LabelledTrainer
    from alignment.preference.runlog import RunLog

    directory = open_run(arguments, "kto")
    if directory.finished:
        return publish(directory, arguments)
    options, script = arguments.options, arguments.script
    extra = [options.weight_column] if options.weight_column else []
    rows = load_labelled(script.dataset_name, script.dataset_train_split, extra)
    model, tokenizer = load_model(arguments.model)
    trainer = LabelledTrainer(
        model,
        arguments.training,
        rows,
        tokenizer,
        options=options,
        peft_config=adapters(arguments.model),
    )
    trainer.add_callback(RunLog(directory, None, hashes=arguments.health.checkpoint_hashes))
    train(directory, trainer, len(rows), arguments)
    return publish(directory, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.kto`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
