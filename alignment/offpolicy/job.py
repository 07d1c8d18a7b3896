"""What the entry points of RRHF and RAFT share: data, trainer, run directory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from alignment.offpolicy.data import Candidates, load_candidates
from alignment.preference.arguments import Arguments
from alignment.preference.job import adapters, load_model, open_run, train
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.offpolicy.trainer import Objective

Choice = Callable[[Sequence[Candidates]], tuple[list[Candidates], Counter[str]]]


def train_on(arguments: Arguments, method: str, choose: Choice, objective: Objective) -> RunDir:
    """Trains, or goes on training, and saves the model; data.json says what became of the answers.

    Args:
        arguments: As `offpolicy.options.parse` gives them.
        method: Name of the entry point.
        choose: Which answers are trained on.
        objective: The loss.

    Raises:
        CodealignError: For data or models that cannot be used.
    """
    from alignment.cards import publish
    from alignment.offpolicy.trainer import CandidateTrainer
    from alignment.preference.runlog import RunLog

    directory = open_run(arguments, method)
    if directory.finished:
        return publish(directory, arguments)
    options, script = arguments.options, arguments.script
    found, left_out = load_candidates(
        script.dataset_name, script.dataset_train_split, kl_coef=options.kl_coef
    )
    chosen, counts = choose(found)
    model, tokenizer = load_model(arguments.model)
    trainer = CandidateTrainer(
        model,
        arguments.training,
        chosen,
        tokenizer,
        objective=objective,
        append_eos=options.append_eos,
        peft_config=adapters(arguments.model),
    )
    if trainer.is_world_process_zero():
        answers = [reward for entry in found for reward in entry.rewards]
        kept = [reward for entry in chosen for reward in entry.rewards]
        directory.write_json(
            "data.json",
            {
                "prompts": len(found),
                "answers": len(answers),
                "mean_reward": sum(answers) / len(answers),
                "mean_reward_kept": sum(kept) / len(kept),
                "too_long": trainer.dropped,
                **left_out,
                **counts,
            },
        )
        print(f"{len(kept)} of {len(answers)} scored answers are trained on", file=sys.stderr)
    trainer.add_callback(RunLog(directory, None, hashes=arguments.health.checkpoint_hashes))
    train(directory, trainer, sum(len(entry.rewards) for entry in chosen), arguments)
    return publish(directory, arguments)
