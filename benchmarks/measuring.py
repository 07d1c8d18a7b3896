"""What the benchmarks share: exact CPU time of many processes, interleaved rounds, ratios, tables.

CPU time of a way of running programs is that of all its processes, however deep. It is read from a control
group of its own (v1 `cpuacct` or v2, where this user may make one): exact for the living and the dead.
Elsewhere it is the difference of two whole lives of different length by getrusage, which counts a process
only after everyone above it has waited for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Run = Callable[[int], None]


@dataclass(frozen=True)
class Way:
    """One way of doing a piece of work.

    Attributes:
        name: Shown in the table.
        open: A context that gives a function which does the work n times.
        count: How often in a round.
        per: Units of work in one; times are given per unit.
    """

    name: str
    open: Callable[[], AbstractContextManager[Run]]
    count: int
    per: int = 1


@dataclass
class Series:
    """Seconds per unit of work, one entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class _Group:
    """A control group that counts the CPU time of everything started in it."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._path = home / f"bench-{os.getpid()}-{name}"
        self._path.mkdir()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This process, and what it starts, counts for the group meanwhile."""
        (self._path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (self._home / "cgroup.procs").write_text(str(os.getpid()))

    def seconds(self) -> float:
        """CPU time so far."""
        usage = self._path / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self._path / "cpu.stat").read_text().split()[1]) / 1e6

    def remove(self) -> None:
        """Take it away once its processes have ended."""
        for _ in range(100):
            try:
                self._path.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                return


def _own_group(controller: str) -> Path | None:
    """Folder of this process's group in the hierarchy of a v1 controller, or of v2 (``)."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        for _, target, kind, options, *_ in mounts:
            right = kind == "cgroup2" if not controller else controller in options.split(",")
            if right and kind.startswith("cgroup"):
                return Path(target + path)
    return None


class Meter:
    """Measures ways; `kind` says how CPU time is counted."""

    def __init__(self) -> None:
        self._home: Path | None = None
        self.kind = "getrusage of two whole lives"
        for controller in ("cpuacct", ""):
            home = _own_group(controller)
            try:
                if home is not None:
                    group = _Group(home, "probe")
                    with group.inside():
                        group.seconds()
                    group.remove()
                    self._home, self.kind = home, f"control group ({controller or 'v2'})"
                    return
            except (OSError, IndexError):
                continue

    def rounds(self, ways: list[Way], rounds: int) -> dict[str, Series]:
        """Measure all ways in turn, `rounds` times; each round starts with another one."""
        found = {way.name: Series() for way in ways}
        if self._home is None:
            for turn in range(rounds):
                for way in _rotated(ways, turn):
                    _two_lives(way, found[way.name])
            return found
        with contextlib.ExitStack() as stack:
            opened = {}
            for place, way in enumerate(ways):
                group = _Group(self._home, str(place))
                stack.callback(group.remove)
                with group.inside():
                    run = stack.enter_context(way.open())
                    run(1)
                opened[way.name] = (group, run)
            for turn in range(rounds):
                for way in _rotated(ways, turn):
                    _in_group(way, *opened[way.name], found[way.name])
        return found


def _rotated(ways: list[Way], turn: int) -> list[Way]:
    start = turn % len(ways)
    return ways[start:] + ways[:start]


def _in_group(way: Way, group: _Group, run: Run, series: Series) -> None:
    with group.inside():
        used, begin = group.seconds(), time.perf_counter()
        run(way.count)
        wall, cpu = time.perf_counter() - begin, group.seconds() - used
    series.wall.append(wall / way.count / way.per)
    series.cpu.append(cpu / way.count / way.per)


def _two_lives(way: Way, series: Series) -> None:
    wall = 0.0
    costs = []
    few = max(1, way.count // 4)
    for count in (few, way.count + few):
        before = _used()
        with way.open() as run:
            begin = time.perf_counter()
            run(count)
            wall = (time.perf_counter() - begin) / count
        costs.append(_used() - before)
    series.wall.append(wall / way.per)
    series.cpu.append((costs[1] - costs[0]) / way.count / way.per)


def _used() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def paired(over: list[float], under: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def rows(found: dict[str, Series], base: str, unit: float = 1e3) -> list[list[str]]:
    """Table rows: best and median of wall and CPU time, and the ratios to the base."""
    table = []
    for name, series in found.items():
        table.append(
            [
                name,
                *(f"{value * unit:.3f}" for value in (min(series.wall), statistics.median(series.wall))),
                *(f"{value * unit:.3f}" for value in (min(series.cpu), statistics.median(series.cpu))),
                f"{paired(series.wall, found[base].wall):.2f}",
                f"{paired(series.cpu, found[base].cpu):.2f}",
            ]
        )
    return table


def header(base: str, unit: str = "ms") -> list[str]:
    """Heads of the columns of `rows`."""
    kinds = [f"{kind} {unit} {which}" for kind in ("wall", "CPU") for which in ("best", "median")]
    return ["way", *kinds, f"wall / {base}", f"CPU / {base}"]


def print_table(title: str, heads: list[str], body: list[list[str]]) -> None:
    """Print Markdown."""
    print(f"\n### {title}\n")
    for line in (heads, ["---"] * len(heads), *body):
        print("| " + " | ".join(line) + " |")


@dataclass(frozen=True)
class Bar:
    """A figure and what it must be."""

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def held(self) -> bool:
        """Whether the figure is within the bar."""
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    def row(self) -> list[str]:
        """For the table of bars."""
        bar = f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"
        return [self.what, f"{self.value:.3g}", bar, "held" if self.held else "NOT held"]


def busy_share(seconds: float = 1.0) -> float:
    """Share of all processors that other work takes, while this process sleeps."""

    def counters() -> list[int]:
        line = Path("/proc/stat").read_text().split("\n", 1)[0]
        return [int(value) for value in line.split()[1:9]]

    before = counters()
    time.sleep(seconds)
    spent = [b - a for a, b in zip(before, counters(), strict=True)]
    return 1 - (spent[3] + spent[4]) / max(1, sum(spent))


def machine() -> dict[str, Any]:
    """The machine and how busy it is."""
    busy = busy_share()
    return {
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "user": os.geteuid(),
        "load_average": list(os.getloadavg()),
        "busy_before": round(busy, 3),
        "idle": busy < 0.1,
    }


def print_machine(facts: dict[str, Any]) -> None:
    """One line on the machine."""
    load = ", ".join(f"{value:.2f}" for value in facts["load_average"])
    state = "idle" if facts["idle"] else "NOT idle: read ratios, not times, and run again when it is"
    print(
        f"{facts['processors']} processors, {facts['system']}, Python {facts['python']}; "
        f"load average {load}; other work takes {facts['busy_before']:.0%} of the processors: {state}"
    )


def write_json(out: Path | None, content: dict[str, Any]) -> None:
    """Write the figures where asked."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1) + "\n")
        print(f"\nfigures written to {out}")


def series_json(found: dict[str, Series]) -> dict[str, Any]:
    """All rounds, for JSON."""
    return {name: {"wall": series.wall, "cpu": series.cpu} for name, series in found.items()}
