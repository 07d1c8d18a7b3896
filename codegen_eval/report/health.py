"""Health of a training run, from the files that its trainer left in `health/` (docs/health.md).

The files are read as they are: a line or a field that a kill tore, or that is of another type, is left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.phases import waiting
from codegen_eval.report.text import number, percent, short
from codegen_eval.runs import HEALTH

_SHOWN = 40
_ENDS = ("failed", "hang")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingHealth:
    """What a page shows of it.

    Attributes:
        files: Those that were read.
        sentence: Steps, throughput, restarts in words.
        phases: Names of the phases that any process spent time in.
        ranks: For each process its state, step, seconds a step, share waited, then seconds in each phase.
        faults: For each kind of event how often it came, and what became of it.
        events: The last ones: when, who, what, its facts.
        left_out: Number of events before those.
    """

    files: tuple[Path, ...]
    sentence: str
    phases: tuple[str, ...]
    ranks: tuple[tuple[str, ...], ...]
    faults: tuple[tuple[str, int, str], ...]
    events: tuple[tuple[str, str, str, str], ...]
    left_out: int


def load_health(run: Path) -> TrainingHealth | None:
    """Reads a training run's directory; None where its trainer was not watched."""
    folder = run / HEALTH
    beat_files = sorted(folder.glob("rank_*.json"))
    event_files = sorted(folder.glob("events_*.jsonl"))
    beats = _current([row for file in beat_files for row in _rows(file, "rank", "world", "time")])
    events = sorted(
        (
            {**row, "writer": file.stem.removeprefix("events_")}
            for file in event_files
            for row in _rows(file, "time")
            if isinstance(row.get("kind"), str)
        ),
        key=lambda row: float(row["time"]),
    )
    if not beats and not events:
        return None
    spent = {int(beat["rank"]): _seconds(beat.get("phases")) for beat in beats}
    names = tuple(sorted({name for row in spent.values() for name, seconds in row.items() if seconds > 0}))
    return TrainingHealth(
        (*beat_files, *event_files),
        _sentence(beats, events),
        tuple(short(name, 20) for name in names),
        _ranks(beats, spent, names),
        _faults(beats, events),
        tuple(map(_told, events[-_SHOWN:])),
        max(0, len(events) - _SHOWN),
    )


def _rows(file: Path, *numbers: str) -> list[dict[str, Any]]:
    """The JSON objects of a file's lines in which these fields are finite numbers."""
    found = []
    with contextlib.suppress(OSError):
        for line in file.read_bytes().splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and all(_finite(row.get(name)) for name in numbers):
                    found.append(row)
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _current(beats: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beats by rank, without those that a run of more processes left."""
    newest = max(beats, key=lambda beat: float(beat["time"]), default=None)
    kept = [beat for beat in beats if newest is not None and beat["rank"] < newest["world"]]
    return sorted(kept, key=lambda beat: int(beat["rank"]))


def _seconds(value: Any) -> dict[str, float]:
    rows = value.items() if isinstance(value, dict) else ()
    return {str(name): float(seconds) for name, seconds in rows if _finite(seconds)}


def _sentence(beats: Sequence[Row], events: Sequence[Row]) -> str:
    """Steps, trained tokens a second and restarts, as far as they are known."""
    parts = []
    first = beats[0] if beats else {}
    if _finite(first.get("step")):
        steps = number(first["step"])
        most = first.get("max_steps")
        parts.append(f"{steps} of {number(most)} steps" if _finite(most) and most else f"{steps} steps")
    if _finite(first.get("tokens_per_second")) and first["tokens_per_second"]:
        parts.append(f"{number(round(first['tokens_per_second']))} trained tokens a second")
    if _finite(first.get("mfu")):
        parts.append(f"{percent(first['mfu'])} of the devices' peak")
    restarts = sum(row["kind"] == "restart" for row in events)
    parts.append(f"started again {restarts} time{'' if restarts == 1 else 's'}")
    return ", ".join(parts) + "."


def _ranks(
    beats: Sequence[Row], spent: Mapping[int, Mapping[str, float]], names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    steps = [float(beat["step_seconds"]) for beat in beats if _finite(beat.get("step_seconds"))]
    shares = waiting(spent, max(steps, default=0.0))
    rows = []
    for beat in beats:
        rank = int(beat["rank"])
        length = beat.get("step_seconds")
        rows.append(
            (
                str(rank),
                short(str(beat.get("state", "?")), 20),
                number(beat["step"]) if _finite(beat.get("step")) else "–",
                _figure(length),
                percent(shares.get(rank)) if len(beats) > 1 else "–",
                *(_figure(spent[rank].get(name)) for name in names),
            )
        )
    return tuple(rows)


def _figure(value: Any) -> str:
    return f"{value:.3g}" if _finite(value) else "–"


def _faults(beats: Sequence[Row], events: Sequence[Row]) -> tuple[tuple[str, int, str], ...]:
    """Each kind of event and what became of it: a run's log must account for all that it suffered."""
    counts = Counter(str(row["kind"]) for row in events)
    return tuple((short(kind, 40), counts[kind], _fate(kind, beats, events)) for kind in sorted(counts))


def _fate(kind: str, beats: Sequence[Row], events: Sequence[Row]) -> str:
    of = [row for row in events if row["kind"] == kind]
    if kind in ("nan", "spike"):
        actions = Counter(short(str(row.get("action", "?")), 20) for row in of)
        return ", ".join(f"{action} {count}" for action, count in sorted(actions.items()))
    if kind == "ended":
        again = sum(_restarted(row, events) for row in of)
        return f"{again} started again, {len(of) - again} not"
    if kind in _ENDS:
        over = any(beat.get("state") in ("failed", "hung") for beat in beats)
        last = [row for row in events if row["kind"] in _ENDS][-1] in of
        return "the run stands since the last" if over and last else "the run went on"
    if kind == "straggler":
        slow = Counter(short(f"rank {row.get('slow_rank')} in {row.get('phase')}", 60) for row in of)
        return ", ".join(sorted(slow))
    if kind == "slow_save":
        return f"{number(round(sum(row['seconds'] for row in of if _finite(row.get('seconds')))))} s in all"
    return {"torn_checkpoint": "set aside, not used", "rewind": "back to an earlier checkpoint"}.get(kind, "")


def _restarted(ended: Row, events: Sequence[Row]) -> bool:
    """Whether the front that told of an end then told of a restart, before any other end."""
    later = (
        row["kind"] for row in events if row["writer"] == ended["writer"] and row["time"] > ended["time"]
    )
    return next((kind for kind in later if kind in ("ended", "restart")), None) == "restart"


def _told(row: Row) -> tuple[str, str, str, str]:
    try:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(float(row["time"])))
    except (ValueError, OverflowError, OSError):
        when = "–"
    facts = [
        f"{key}={short(str(value), 160)}"
        for key, value in row.items()
        if key not in ("kind", "time", "writer") and value is not None
    ]
    return when, short(str(row["writer"]), 60), short(str(row["kind"]), 40), short(" ".join(facts), 400)
