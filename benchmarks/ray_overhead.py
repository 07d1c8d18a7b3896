"""What Ray costs beside the local executor: the same work by both, in turns, on one machine.

    make .venv-distributed/.stamp
    .venv-distributed/bin/python -m benchmarks.ray_overhead --rounds 5

Two kinds of work: matrices as a data job makes them (10 programs x 10 tests of a prompt), and single programs
of three tests, the least that can be sent. Both executors have the same number of workers; Ray's batches hold
at most 64. A ratio is the median over rounds of Ray's time over the local executor's within a round. CPU time
is that of all processes of this machine but the idle ones, so measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import Bar, machine, print_machine, print_table, write_json
from sandbox.executors import make_executor
from sandbox.matrix import MatrixJob
from sandbox.program import CallTest, Program

Spent = tuple[float, float]
"""Seconds by the clock, and of CPU."""
Kind = Callable[[Any, str], None]
"""(executor, mark of the round): does the work; marked programs are new to every cache."""

_CODE = "def f(n):\n    total = 0\n    for i in range(n):\n        total += 2 * i + 1\n    return total"
_TESTS = [CallTest((n,), n * n) for n in range(10)]


def matrices(executor: Any, mark: str, count: int) -> None:
    """`count` prompts of 10 programs and 10 tests."""
    codes = [
        [f"{_CODE} + {int(i % 5 == 4)}  # {mark} {job} {i}\n" for i in range(10)] for job in range(count)
    ]
    found = list(executor.pass_matrices(MatrixJob(part, _TESTS, "f") for part in codes))
    right = [[i % 5 != 4] * 10 for i in range(10)]
    if [matrix.passed.tolist() for matrix in found] != [right] * count:
        raise RuntimeError("a matrix is wrong")


def programs(executor: Any, mark: str, count: int) -> None:
    """`count` programs of three tests."""
    work = (Program(f"{_CODE}  # {mark} {i}\n", "f", _TESTS[:3]) for i in range(count))
    if not all(str(result.verdict) == "passed" for result in executor.run(work)):
        raise RuntimeError("a program that must pass does not")


def seconds(work: Callable[[], None]) -> Spent:
    """Wall seconds, and CPU seconds of the whole machine."""
    wall, cpu = time.perf_counter(), _busy()
    work()
    return time.perf_counter() - wall, _busy() - cpu


def _busy() -> float:
    """CPU seconds since the start that were not idle, of all processors."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / 100


def measured(
    boxes: dict[str, Any], kinds: dict[str, Kind], rounds: int
) -> dict[tuple[str, str], list[Spent]]:
    """(kind of work, executor) -> one entry a round; a round before them warms up."""
    times: dict[tuple[str, str], list[Spent]] = {}
    for turn in range(rounds + 1):
        for kind, run in kinds.items():
            for name in sorted(boxes, reverse=bool(turn % 2)):
                spent = seconds(partial(run, boxes[name], f"{turn} {name}"))
                if turn:
                    times.setdefault((kind, name), []).append(spent)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--matrices", type=int, default=60)
    parser.add_argument("--programs", type=int, default=640)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    facts = machine()
    print_machine(facts)
    kinds: dict[str, Kind] = {
        "matrices of 10 x 10": partial(matrices, count=given.matrices),
        "programs of 3 tests": partial(programs, count=given.programs),
    }
    with (
        make_executor("local", workers=given.workers) as local,
        make_executor("ray", workers_per_node=given.workers) as ray,
    ):
        times = measured({"local": local, "ray": ray}, kinds, given.rounds)
    body, bars = [], []
    for kind in kinds:
        pairs = list(zip(times[kind, "local"], times[kind, "ray"], strict=True))
        wall, cpu = (statistics.median(b[side] / a[side] for a, b in pairs) for side in (0, 1))
        for name in ("local", "ray"):
            sides = [statistics.median(one[side] for one in times[kind, name]) for side in (0, 1)]
            body.append([kind, name, *(f"{side:.2f}" for side in sides)])
        body.append([kind, "ray / local", f"{wall:.2f}", f"{cpu:.2f}"])
        bars.append(Bar(f"{kind}: ray / local, wall", wall, most=1.1))
    print_table("Time of one round", ["work", "executor", "wall s", "CPU s of the machine"], body)
    print_table("Bars", ["what", "value", "bar", ""], [bar.row() for bar in bars])
    write_json(given.out, {"machine": facts, "times": {" / ".join(k): v for k, v in times.items()}})


if __name__ == "__main__":
    main()
