"""`codealign status RUN`: what each process of a training run does, and what happened to the run so far.

Read from the files in RUN/health, so it works beside a running job, after a dead one, and from another
machine that sees the same disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.health.beats import Beat, read_beats
from alignment.health.events import FOLDER, Event, read_events
from alignment.health.hang import REPORT, REQUEST, stacks_path
from alignment.health.stragglers import stragglers
from codegen_eval.errors import CodealignError
from codegen_eval.phases import waiting
from codegen_eval.report.text import visible

if TYPE_CHECKING:
    from rich.console import Group

STALE = 60.0
"""Seconds after which a running rank without a beat is called silent."""

_LAST = 8
_GIB = float(1 << 30)


def main(argv: Sequence[str]) -> int:
    """Command line of `codealign status`."""
    parser = argparse.ArgumentParser(prog="codealign status", description=__doc__)
    parser.add_argument("run", type=Path, help="a training run's directory")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--watch", action="store_true", help="refresh until it is complete (Ctrl-C leaves)")
    parser.add_argument("--stacks", action="store_true", help="ask all ranks for their Python stacks now")
    options = parser.parse_args(list(argv))
    folder = options.run / FOLDER
    found = look(options.run)
    if options.stacks:
        print(ask_stacks(folder, len(found["ranks"])))
    elif options.json:
        print(json.dumps(found, indent=1, sort_keys=True))
    elif options.watch:
        _watch(options.run)
    else:
        from rich.console import Console

        Console(highlight=False).print(page(found))
    return 0


def look(run: Path, now: float | None = None) -> dict[str, Any]:
    """A run's health as plain data.

    Args:
        run: The run directory.
        now: Seconds since 1970; None for this moment.

    Returns:
        `ranks` (each beat, with `state` silent where beats stopped and `waiting`, its share of a step),
        `events` counted by kind, `last_events`, `stragglers`, `tokens_per_second`, `mfu`, `finished`.

    Raises:
        CodealignError: If there is no such run, or it is not watched.
    """
    now = time.time() if now is None else now
    if not run.is_dir():
        raise CodealignError(f"no such run directory: {run}")
    beats, events = read_beats(run / FOLDER), read_events(run / FOLDER)
    if not beats and not events:
        raise CodealignError(
            f"{run} has no {FOLDER}/: it is no training run, or its training has not begun yet"
        )
    # A run of fewer processes than the one before leaves files of ranks that are no more.
    newest = max(beats, key=lambda beat: beat.time, default=None)
    beats = [beat for beat in beats if newest is not None and beat.rank < newest.world]
    phases = {beat.rank: beat.phases for beat in beats if beat.phases}
    steps = [beat.step_seconds for beat in beats if beat.step_seconds]
    shares = waiting(phases, max(steps, default=0.0))
    first = next((beat for beat in beats if beat.rank == 0), None)
    return {
        "ranks": [
            {
                **asdict(beat),
                "state": _state(beat, now),
                "age": now - beat.time,
                "waiting": shares.get(beat.rank),
            }
            for beat in beats
        ],
        "events": dict(Counter(event.kind for event in events)),
        "last_events": [asdict(event) for event in events[-_LAST:]],
        "stragglers": [asdict(s) for s in stragglers(phases)],
        "tokens_per_second": first.tokens_per_second if first else None,
        "mfu": first.mfu if first else None,
        "finished": (run / "finished.json").exists(),
        "hang_report": str(run / FOLDER / REPORT) if (run / FOLDER / REPORT).exists() else None,
    }


def _state(beat: Beat, now: float) -> str:
    return "silent" if beat.state == "running" and now - beat.time > STALE else beat.state


def ask_stacks(folder: Path, ranks: int, timeout: float = 15.0) -> str:
    """Asks all ranks of a running job for their stacks, and returns them."""
    since = time.time()
    (folder / REQUEST).touch()
    paths = [stacks_path(folder, rank) for rank in range(ranks)]
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not all(_newer(path, since) for path in paths):
        time.sleep(0.2)
    texts = [
        visible(path.read_text(errors="replace")) if _newer(path, since) else f"{path.stem}: no answer\n"
        for path in paths
    ]
    return "\n".join(texts)


def _newer(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since - 1.0
    except OSError:
        return False


def page(found: dict[str, Any]) -> Group:
    """The same for a terminal."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rank", "state", "step", "phase", "loss", "s/step", "waits", "beat", "GiB", "where"):
        table.add_column(name, no_wrap=True, justify="left" if name in _WORDS else "right")
    most = max((row["step"] for row in found["ranks"]), default=0)
    for row in found["ranks"]:
        behind = row["step"] < most - 1
        table.add_row(
            str(row["rank"]),
            Text(row["state"], _COLOURS.get(row["state"], "red")),
            Text(f"{row['step']}/{row['max_steps'] or '?'}", "red" if behind else ""),
            Text(visible(row["phase"])),
            "" if row["loss"] is None else f"{row['loss']:.4f}",
            "" if row["step_seconds"] is None else f"{row['step_seconds']:.3g}",
            "" if row["waiting"] is None else f"{row['waiting']:.0%}",
            f"{row['age']:.0f} s ago",
            f"{(row['device_memory'] or row['memory']) / _GIB:.1f}",
            Text(visible(f"{row['host']} {row['pid']}")),
        )
    return Group(table, *(Text(line) for line in lines(found)))


_WORDS = ("state", "phase", "where")
_COLOURS = {"running": "green", "finished": "bold", "silent": "yellow"}


def lines(found: dict[str, Any]) -> list[str]:
    """What stands below the table."""
    said = []
    if found["tokens_per_second"]:
        share = f", {found['mfu']:.1%} of the devices' peak" if found["mfu"] else ""
        said.append(f"{found['tokens_per_second']:.0f} trained tokens a second{share}")
    for slow in found["stragglers"]:
        said.append(
            f"rank {slow['rank']} is slow in {slow['phase']}: {slow['seconds']:.2f} s a step, the others "
            f"{slow['median']:.2f} s"
        )
    if found["events"]:
        said.append("events: " + ", ".join(f"{kind} {n}" for kind, n in sorted(found["events"].items())))
    said += [_event_line(Event(**row)) for row in found["last_events"]]
    if found["hang_report"]:
        said.append(f"stacks of the last hang: {found['hang_report']}")
    if found["finished"]:
        said.append("the run is complete")
    return [visible(line) for line in said]


def _event_line(event: Event) -> str:
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(event.time))
    facts = " ".join(f"{key}={str(value)[:120]}" for key, value in event.facts.items() if value is not None)
    return f"  {when} {event.writer:<8} {event.kind} {facts}"


def _watch(run: Path) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(page(look(run)), console=Console(highlight=False), refresh_per_second=2) as live:
        while True:
            found = look(run)
            live.update(page(found))
            if found["finished"]:
                return
            time.sleep(1.0)


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
