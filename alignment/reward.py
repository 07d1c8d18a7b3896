"""Entry point: k reward models from preference pairs (Bradley-Terry), for an ensemble.

    accelerate launch -m alignment.reward --config recipes/tiny-coder/reward.yaml --dataset_name PAIRS

Options are TRL's (ScriptArguments, RewardConfig, ModelConfig) and those of reward_modeling/options.py. The
members are trained one after another, each in the way that the launch configuration says (DDP, ZeRO, FSDP).
`output_dir` is a run directory: `members/0`, ..., each a model (or adapter) of its own with its scale;
report.json, report.md; heldout_scores.jsonl. Killed anywhere, the same command goes on: finished members
stay, the one in work goes on from its last whole checkpoint.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.health.options import NAMES as HEALTH_OPTIONS
from alignment.preference.job import entry_point
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.preference.arguments import Arguments
    from alignment.reward_modeling.data import Pair

# Where a run lives and how often it speaks is no part of what it makes.
_NOT_IDENTITY = (
    "output_dir",
    "dataset_name",
    "holdout_dataset",
    "model_name_or_path",
    "logging_steps",
    "save_steps",
    *HEALTH_OPTIONS,
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
    "hub_token",
)
# Of one prompt's answers under another prompt; more would only cost time.
_STRANGE = 500


def run(argv: Sequence[str]) -> Path:
    """Trains the members that are not there yet, measures their scales, and writes the report.

    Returns:
        The run directory.

    Raises:
        CodealignError: For options, data or models that cannot be used.
    """
    from alignment.cards import publish
    from alignment.compat import plain_loading
    from alignment.reward_modeling.data import apart, flip_labels, split
    from alignment.reward_modeling.members import member_seeds
    from alignment.reward_modeling.options import parse

    options = parse(argv)
    ensemble, training = options.options, options.training
    seeds = member_seeds(
        training.seed, ensemble.members, vary_head=ensemble.vary_head, vary_order=ensemble.vary_order
    )
    folder = Path(training.output_dir)
    main = training.process_index == 0
    directory = _open(folder, options, "--overwrite" in argv) if main else None
    # The others look at the folder only when it is the run's: --overwrite clears it first.
    training.distributed_state.wait_for_everyone()
    if (folder / "finished.json").exists():
        if main:
            publish(RunDir(folder), options, "members")
        return folder
    pairs = _pairs(options.script.dataset_name, options.script.dataset_train_split)
    if ensemble.holdout_dataset:
        train, held_out = pairs, _pairs(ensemble.holdout_dataset, options.script.dataset_train_split)
        apart(train, held_out)
    else:
        train, held_out = split(pairs, ensemble.holdout, training.seed)
    train, flipped = flip_labels(train, ensemble.label_noise, training.seed)
    dropped = 0
    for number, seed in enumerate(seeds):
        dropped = max(dropped, _member(number, seed, train, options, directory))
    if directory is not None:
        if dropped:
            print(f"{dropped} of {len(train)} pairs are longer than max_length and left out", file=sys.stderr)
        directory.write_json(
            "data.json", {"train": len(train), "held_out": len(held_out), "flipped": flipped}
        )
        plain_loading()
        _conclude(directory, held_out, options)
        with contextlib.suppress(OSError):
            (folder / "training").rmdir()
        publish(directory, options, "members")
    return folder


def _open(folder: Path, options: Arguments, overwrite: bool) -> RunDir:
    named = {
        "dataset_name": options.script.dataset_name,
        "holdout_dataset": options.options.holdout_dataset,
        "model_name_or_path": options.model.model_name_or_path,
    }
    inputs = {key: Path(path) for key, path in named.items() if path and Path(path).exists()}
    identity = {key: value for key, value in options.given.items() if key not in _NOT_IDENTITY}
    return RunDir.open(folder, "reward", identity, overwrite=overwrite, inputs=inputs)


def _pairs(name: str, split: str) -> list[Pair]:
    from alignment.preference.data import load_pairs
    from alignment.reward_modeling.data import Pair

    return [Pair(row["prompt"], row["chosen"], row["rejected"]) for row in load_pairs(name, split)]


def _member(number: int, seeds: Any, train: list[Pair], options: Arguments, directory: RunDir | None) -> int:
    """Trains one member unless it is there; returns how many pairs were too long for it."""
    from trl import get_peft_config

    from alignment.memory import announce
    from alignment.reward_modeling.members import NOTE, MemberNote, draw_member
    from alignment.reward_modeling.train import (
        MemberLog,
        make_trainer,
        member_arguments,
        release,
        train_member,
    )

    folder = Path(options.training.output_dir)
    target, checkpoints = folder / "members" / str(number), folder / "training" / str(number)
    if (target / NOTE).exists():
        return 0
    config, plugin = options.model, options.training.deepspeed_plugin
    model, tokenizer = draw_member(
        config.model_name_or_path,
        seeds,
        dtype="float32" if config.dtype in (None, "auto") else str(config.dtype),
        attention=config.attn_implementation or "sdpa",
        peft_config=get_peft_config(config),
        own_head=options.options.vary_head,
        autocast_adapter=plugin is None or plugin.zero_stage != 3,
    )
    write, hashes = directory.log if directory is not None else _silent, options.health.checkpoint_hashes
    log = MemberLog(number, write, hashes=hashes)
    arguments = member_arguments(options.training, seeds, checkpoints)
    trainer, dropped = make_trainer(
        model, tokenizer, arguments, train, reward_l2=options.options.reward_l2, callbacks=[log]
    )
    if number == 0 and trainer.is_world_process_zero():
        announce(trainer)
    note = MemberNote(arguments.max_length, seeds)
    train_member(trainer, checkpoints, target, note, tokenizer, options.health)
    release(trainer)
    return dropped


def _silent(**_: Any) -> None:
    """The log of a process that has no run directory."""


def _conclude(directory: RunDir, held_out: list[Pair], options: Arguments) -> None:
    """Scales, report, and the held-out scores as a pool for `codealign bon --calibration`."""
    import numpy as np

    from alignment.cards import write_cards
    from alignment.reward_modeling.calibration import calibrate_members, score_all
    from alignment.reward_modeling.data import answers, fitting
    from alignment.reward_modeling.report import agreement, markdown
    from alignment.reward_modeling.scoring import open_members
    from codegen_eval.runs import write_jsonl

    batch, limit = options.training.per_device_eval_batch_size, options.training.max_length
    folders = {f"member{j}": directory.path / "members" / str(j) for j in range(options.options.members)}
    members = open_members(folders, batch_size=batch)
    held_out, left_out = fitting(held_out, members["member0"].tokenizer, limit)
    texts = answers(held_out)
    scores = score_all(members, texts)
    scales = calibrate_members(members, scores, floor=options.options.calibration_floor)
    scaled = np.stack([scales[name].apply(scores[:, j]) for j, name in enumerate(members)], axis=1)
    place = {text: i for i, text in enumerate(texts)}
    chosen = scaled[[place[p.prompt, p.chosen] for p in held_out]]
    rejected = scaled[[place[p.prompt, p.rejected] for p in held_out]]
    found = agreement(
        chosen,
        rejected,
        _strange(members, scales, texts, limit),
        [p.prompt for p in held_out],
        lam=options.options.lam,
        seed=options.training.seed,
    )
    rows = (
        {"task_id": prompt, "completion": completion, "scores": dict(zip(members, row.tolist(), strict=True))}
        for (prompt, completion), row in zip(texts, scores, strict=True)
    )
    write_jsonl(directory.path / "heldout_scores.jsonl", rows)
    directory.write_json("report.json", {**found, "held_out_too_long": left_out})
    directory.write_text("report.md", markdown(found))
    write_cards(directory, found)
    directory.finish(
        members=len(members),
        pairs=len(held_out),
        accuracy={k: v["value"] for k, v in found["accuracy"].items()},
    )


def _strange(members: Any, scales: Any, texts: list[tuple[str, str]], limit: int | None) -> Any:
    """Calibrated scores of answers under the next other prompt; None where all prompts are one."""
    import numpy as np

    from alignment.reward_modeling.calibration import score_all
    from alignment.reward_modeling.scoring import row_ids

    prompts = list(dict.fromkeys(prompt for prompt, _ in texts))
    if len(prompts) < 2:
        return None
    after = dict(zip(prompts, prompts[1:] + prompts[:1], strict=True))
    moved = [(after[prompt], completion) for prompt, completion in texts[:_STRANGE]]
    tokenizer = members["member0"].tokenizer
    moved = [text for text in moved if limit is None or len(row_ids(tokenizer, *text)) <= limit]
    if not moved:
        return None
    scores = score_all(members, moved)
    return np.stack([scales[name].apply(scores[:, j]) for j, name in enumerate(members)], axis=1)


def _told(folder: Path) -> str:
    return f"{(folder / 'report.md').read_text(encoding='utf-8')}\nmembers: {folder / 'members'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.reward`; errors that a user can mend are one message."""
    return entry_point(run, argv, _told)


if __name__ == "__main__":
    sys.exit(main())
