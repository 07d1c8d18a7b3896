"""Why two evaluations of one model differ: the protocol first, then every sample, summed up by cause.

A program that both runs judged is the same text on the same problem. What changed about it is the judging;
what only one run has is the sampling. Both parts of a difference are counted apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

# Groups of protocol.json whose differences can matter, the likelier causes first.
_GROUPS = ("config", "inputs", "versions", "seeds", "machine")
_LIMITS = ("cpu_seconds", "wall_seconds", "memory_mb")
_RESOURCES = frozenset({"memory_limit", "output_limit"})
# Verdicts that only our own results tell apart; another tool says `failed` for all of them.
_COARSE = frozenset({"passed", "timeout", "failed"})

CAUSES = {
    "time limit": "the same program, a time limit on one side",
    "resource limit": "the same program, a memory or output limit on one side",
    "verdict": "the same program judged otherwise, no limit involved: flaky, or other tests",
    "reason": "the same program wrong on both sides, for another reason",
    "sampling": "programs that the other run does not have, counted on both sides",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of the protocol in which the runs differ; None where a side does not have it."""

    group: str
    key: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Change:
    """A sample that makes the runs differ; a side is None where only the other run has the program.

    Attributes:
        task_id: The problem.
        cause: A key of `CAUSES`.
        sample_a: Its number in A. sample_b: Its number in B.
        verdict_a: What A said. verdict_b: What B said.
        why_a: The cause that A gives. why_b: The cause that B gives.
    """

    task_id: str
    cause: str
    sample_a: int | None
    sample_b: int | None
    verdict_a: str | None
    verdict_b: str | None
    why_a: str = ""
    why_b: str = ""

    @property
    def gain(self) -> int:
        """By how much it moves the number of right samples from A to B: -1, 0 or 1."""
        return int(self.verdict_b == "passed") - int(self.verdict_a == "passed")


def settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Setting]:
    """The lines in which two protocols differ, the likelier causes first.

    Paths of inputs do not count, their content does; nor does when a run was started.
    """
    inputs = set(a.get("inputs") or ()) | set(b.get("inputs") or ())
    found = []
    if a.get("command") != b.get("command"):
        found.append(Setting("run", "command", a.get("command"), b.get("command")))
    for group in _GROUPS:
        first, second = (dict(_leaves(side.get(group) or {})) for side in (a, b))
        for key in sorted(first.keys() | second.keys()):
            if group == "inputs" and not key.endswith(".sha256"):
                continue
            if group == "config" and key.partition(".")[0] in inputs:
                continue
            if group == "seeds" and first.get(key) == (a.get("config") or {}).get(key):
                continue
            if first.get(key) != second.get(key):
                found.append(Setting(group, key, first.get(key), second.get(key)))
    return found


def changes(rows_a: Iterable[Row], rows_b: Iterable[Row]) -> tuple[list[Change], int]:
    """What became of every sample that does not stand equally in both runs.

    Args:
        rows_a: Rows of A's sample_results.jsonl.
        rows_b: Those of B.

    Returns:
        The changes by problem and sample, and how many samples are the same program with the same verdict.
        Only problems that both runs have are looked at. Where one side is another tool's, which does not
        tell kinds of failure apart, neither side's are.
    """
    sides = [_by_task(rows) for rows in (rows_a, rows_b)]
    coarse = any(row["verdict"] == "failed" for side in sides for rows in side.values() for row in rows)
    found: list[Change] = []
    alike = 0
    for task_id in (task_id for task_id in sides[0] if task_id in sides[1]):
        for a, b in _matched(sides[0][task_id], sides[1][task_id]):
            cause = _cause(a, b, coarse)
            if cause is None:
                alike += 1
            else:
                found.append(_change(task_id, cause, a, b))
    return found, alike


def by_cause(found: Sequence[Change]) -> list[dict[str, Any]]:
    """The changes summed up by cause, those that move most samples first.

    Returns:
        Rows with `cause`, `meaning`, `samples`, right ones `gained` and `lost` from A to B, `problems`, and
        up to five `examples` of task ids, those with most changes first.
    """
    groups: defaultdict[str, list[Change]] = defaultdict(list)
    for change in found:
        groups[change.cause].append(change)
    rows = []
    for cause, group in groups.items():
        tasks = Counter(change.task_id for change in group)
        rows.append(
            {
                "cause": cause,
                "meaning": CAUSES[cause],
                "samples": len(group),
                "gained": sum(change.gain > 0 for change in group),
                "lost": sum(change.gain < 0 for change in group),
                "problems": len(tasks),
                "examples": [t for t, _ in sorted(tasks.items(), key=lambda item: (-item[1], item[0]))[:5]],
            }
        )
    return sorted(rows, key=lambda row: (-(row["gained"] + row["lost"]), -row["samples"], row["cause"]))


def findings(differing: Sequence[Setting], causes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What protocol and samples say together, in sentences."""
    keys = {(s.group, s.key): s for s in differing}
    seen = {row["cause"]: row for row in causes}
    said = []
    limits = [keys["config", key] for key in _LIMITS if ("config", key) in keys]
    if "time limit" in seen or "resource limit" in seen:
        if limits:
            named = ", ".join(f"{s.key} {s.a} in A and {s.b} in B" for s in limits)
            said.append(f"verdicts changed at a limit, and the limits differ: {named}")
        else:
            said.append(
                "verdicts changed at a limit although the limits are equal or unknown: those programs run "
                "near it, or the machines differ in speed or load"
            )
    elif limits:
        said.append("the limits differ, but no verdict changed at a limit")
    if "verdict" in seen:
        tests = [s for (group, key), s in keys.items() if (group, key) == ("inputs", "dataset.sha256")]
        said.append(
            "the benchmark's data differ, so equal programs met other tests"
            if tests
            else "equal programs were judged otherwise without a limit: look for randomness, time or other "
            "versions in them and in their tests"
        )
    if "sampling" in seen:
        other = ("inputs", "samples.sha256") in keys
        said.append(
            "the runs read other samples: that part of the difference is the model's drawing"
            if other
            else "the runs hold other programs although no other samples file is known"
        )
    return said


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(row["task_id"], []).append(row)
    return tasks


def _matched(a: Sequence[Row], b: Sequence[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """The samples of one problem, equal programs together whatever their numbers, each sample once.

    A completion of one side is the same program as a solution of the other that ends with it.
    """
    waiting: defaultdict[str, list[Row]] = defaultdict(list)
    for row in reversed(b):
        waiting[_text(row)].append(row)
    lone = []
    for row in a:
        same = waiting.get(_text(row))
        if same:
            yield row, same.pop()
        else:
            lone.append(row)
    rest = {id(row): row for rows in waiting.values() for row in rows}
    numbered = {(row["sample"]): row for row in rest.values()}
    for row in lone:
        other = numbered.get(row["sample"])
        if other is not None and _continues(row, other):
            del rest[id(other)]
            yield row, other
        else:
            yield row, None
    yield from ((None, row) for row in b if id(row) in rest)


def _text(row: Row) -> str:
    solution = row.get("solution")
    return f"S{solution}" if solution is not None else f"C{row.get('completion') or ''}"


def _continues(a: Row, b: Row) -> bool:
    """Whether one is a completion and the other a solution that ends with it."""
    for completion, solution in (
        (a.get("completion"), b.get("solution")),
        (b.get("completion"), a.get("solution")),
    ):
        if completion and completion.strip() and solution and solution.rstrip().endswith(completion.rstrip()):
            return True
    return False


def _cause(a: Row | None, b: Row | None, coarse: bool) -> str | None:
    """The key of `CAUSES`, or None where both say the same of the same program."""
    if a is None or b is None:
        return "sampling"
    verdicts = {_verdict(row, coarse) for row in (a, b)}
    if len(verdicts) == 1:
        return None
    if "timeout" in verdicts:
        return "time limit"
    if verdicts & _RESOURCES:
        return "resource limit"
    return "verdict" if "passed" in verdicts else "reason"


def _verdict(row: Row, coarse: bool) -> str:
    verdict = str(row["verdict"])
    return "failed" if coarse and verdict not in _COARSE else verdict


def _change(task_id: str, cause: str, a: Row | None, b: Row | None) -> Change:
    return Change(
        task_id,
        cause,
        a["sample"] if a else None,
        b["sample"] if b else None,
        a["verdict"] if a else None,
        b["verdict"] if b else None,
        str(a.get("cause") or "") if a else "",
        str(b.get("cause") or "") if b else "",
    )
