"""How much a timed call varies on a busy machine.

    python -m benchmarks.sandbox_timing [--busy 0 1 2 4] [--groups 60] [--out FILE]

A function that takes 50 ms of CPU time is timed by `Sandbox.measure` with 6 repeats, `--groups` times,
while 0, 1, 2, 4 processes of this script spin. Shown is the coefficient of variation (population standard
deviation over mean) of the groups' minimum, of single calls, and of wall time measured beside: the same
function called in this process, minimum of 6 and single. `relative` is `Timing.relative`, over the
calibration loop (`loop`): it is steady where the speed of the core is not.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import Bar
from benchmarks.sandbox_speed import spin_source
from sandbox import Sandbox, TimingJob

SECONDS = 0.05
REPEATS = 6
_SPINNER = (
    "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass\n"
)


@contextlib.contextmanager
def spinners(count: int) -> Iterator[None]:
    """So many busy processes meanwhile."""
    found = [subprocess.Popen([sys.executable, "-I", "-S", "-c", _SPINNER]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in found:
            process.kill()
            process.wait()


def variation(values: list[float]) -> float:
    """Coefficient of variation."""
    return statistics.pstdev(values) / statistics.fmean(values)


def _wall(function: Any) -> float:
    begin = time.perf_counter()
    function(1)
    return time.perf_counter() - begin


def one_load(box: Sandbox, source: str, groups: int) -> dict[str, list[float]]:
    """Seconds of every group at the load there is: the sandbox's and wall, turn and turn about."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    names = ("cpu min", "cpu single", "relative", "calibration", "wall min", "wall single")
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(groups):
        timing = next(iter(box.measure([TimingJob([source], "f", [(1,)], REPEATS, spread=math.inf)])))
        found["cpu min"].append(float(timing.seconds[0, 0]))
        found["relative"].append(float(timing.relative[0, 0]))
        found["calibration"].append(min(timing.calibration))
        found["cpu single"].append(float(box.time_calls([source], "f", [(1,)], repeats=1)[0, 0]))
        walls = [_wall(scope["f"]) for _ in range(REPEATS)]
        found["wall min"].append(min(walls))
        found["wall single"].append(walls[0])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4], help="spinning processes")
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    facts = measuring.machine()
    measuring.print_machine(facts)
    source = spin_source(SECONDS)
    every: dict[int, dict[str, list[float]]] = {}
    with Sandbox(1) as box:
        for busy in arguments.busy:
            with spinners(busy):
                every[busy] = one_load(box, source, arguments.groups)
    body = []
    for busy, found in every.items():
        mean = statistics.fmean(found["cpu min"]) * 1e3
        cells = [f"{variation(values):.2%}" for values in found.values()]
        body.append([str(busy), f"{mean:.1f}", *cells])
    heads = [
        "busy",
        "mean ms",
        "CPU min of 6",
        "CPU single",
        "relative",
        "loop",
        "wall min of 6",
        "wall single",
    ]
    measuring.print_table(f"Coefficient of variation over {arguments.groups} groups", heads, body)
    bars = [
        Bar(f"{name}, {busy} busy", variation(found[key]), most=0.03)
        for busy, found in every.items()
        for name, key in (("CPU min of 6", "cpu min"), ("relative", "relative"))
    ]
    measuring.print_table("Bars (goal 0.01)", ["figure", "value", "bar", ""], [bar.row() for bar in bars])
    measuring.write_json(
        arguments.out,
        {
            "machine": facts,
            "seconds": {str(busy): found for busy, found in every.items()},
            "bars": {bar.what: {"value": bar.value, "held": bar.held} for bar in bars},
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
