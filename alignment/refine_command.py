"""`codealign refine-schedule RUN`: a learning-rate schedule from the gradient norms of a run.

RUN is a run directory that was trained with `--log_gradient_norms true`, or a file of norms; the schedule is
written beside it or to `--out`, and training takes it by `--lr_schedule_file`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.schedules import NORMS, POWERS, filled, refined, save_schedule, smoothed
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl

FILE = "schedule.json"


def main(argv: Sequence[str]) -> int:
    """Parses the command line of `codealign refine-schedule` and writes the schedule."""
    parser = argparse.ArgumentParser(
        prog="codealign refine-schedule",
        description="Refines a learning-rate schedule from the gradient norms of a run (arXiv 2310.07831).",
    )
    parser.add_argument("run", type=Path, help="run directory, gradient_norms.jsonl, or a CSV file")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {FILE} in the run directory")
    parser.add_argument(
        "--optimizer",
        choices=sorted(POWERS),
        default="adam",
        help="adam and its kin: L1 norms, power 1; sgd: L2 norms, power 2 (default: adam)",
    )
    parser.add_argument(
        "--tau", type=float, default=0.1, help="share of the run to smooth over (default: 0.1)"
    )
    parser.add_argument("--power", type=float, help="exponent of the norms, instead of the optimizer's")
    arguments = parser.parse_args(argv)
    path = refine(
        arguments.run, arguments.out, optimizer=arguments.optimizer, tau=arguments.tau, power=arguments.power
    )
    print(f"schedule: {path}")
    return 0


def refine(
    run: Path, out: Path | None, *, optimizer: str = "adam", tau: float = 0.1, power: float | None = None
) -> Path:
    """Writes the schedule of a run.

    Args:
        run: As `read_norms` takes it.
        out: The schedule's file; None for `schedule.json` in a run directory.
        optimizer: `adam` or `sgd`, a key of `schedules.POWERS`.
        tau: Share of the run that the median runs over.
        power: Exponent, instead of the optimizer's.

    Raises:
        CodealignError: For norms or settings that make no schedule, or no place to write it.
    """
    if out is None and not run.is_dir():
        raise CodealignError(f"--out is needed where the norms come from a file ({run})")
    kind = "l1" if optimizer == "adam" else "l2"
    norms = read_norms(run, kind)
    curve = refined(smoothed(filled(norms), tau), POWERS[optimizer] if power is None else power)
    target = run / FILE if out is None else out
    save_schedule(
        target,
        curve,
        norm=kind,
        power=POWERS[optimizer] if power is None else power,
        tau=tau,
        steps=len(norms),
    )
    peak = int(curve.argmax())
    print(f"{len(norms)} steps; the rate is highest at step {peak + 1}", file=sys.stderr)
    return target


def read_norms(source: Path, kind: str) -> list[float]:
    """The norms of a run's steps, NaN where a step has none.

    Args:
        source: A run directory with gradient_norms.jsonl, such a file, or a CSV file with a column `step` and
            one for the norm.
        kind: `l1` or `l2`; the CSV column of that name, or `norm`.

    Raises:
        CodealignError: If there are none, or a step is missing or twice.
    """
    path = source / NORMS if source.is_dir() else source
    if not path.is_file():
        raise CodealignError(
            f"{source} has no {NORMS}: run it once more with --log_gradient_norms true, then refine"
            if source.is_dir()
            else f"no such file: {source}"
        )
    rows = _csv(path) if path.suffix == ".csv" else list(read_jsonl(path))
    found: dict[int, float] = {}
    for row in rows:
        try:
            step = int(row["step"])
            value = row[kind] if kind in row else row["norm"]
            value = float("nan") if value is None or value == "" else float(value)
        except (KeyError, TypeError, ValueError):
            raise CodealignError(f"{path}: a row lacks a step or its norm {kind!r}: {row}") from None
        if step in found:
            raise CodealignError(f"{path}: step {step} stands there twice")
        found[step] = value
    if not found:
        raise CodealignError(f"{path} holds no norm")
    first, last = min(found), max(found)
    missing = [step for step in range(first, last + 1) if step not in found]
    if missing or first > 1:
        named = ", ".join(map(str, (missing or [1])[:5]))
        raise CodealignError(f"{path}: the norms of step(s) {named} are missing; a schedule needs every step")
    return [found[step] for step in range(first, last + 1)]


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
