"""Why two runs differ: settings, matching of programs, causes, and what both say together."""

from __future__ import annotations

import random
from typing import Any

import pytest

from codegen_eval.explanation import by_cause, changes, findings, settings
from tests.codegen_eval.formats.rows import row

PROTOCOL: dict[str, Any] = {
    "command": "eval",
    "config": {"cpu_seconds": 3.0, "samples": "x", "isolation": "full", "seed": 0},
    "inputs": {"samples": {"path": "x", "sha256": "a" * 64}},
    "seeds": {"seed": 0},
    "versions": {"python": "3.11.2", "numpy": "2.0"},
    "machine": {"cpus": 2},
    "started": "2026-01-01",
}


def of(*rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Changes between the first and the second half of the rows, as tuples."""
    half = len(rows) // 2
    found, _ = changes(rows[:half], rows[half:])
    return [(c.cause, c.sample_a, c.sample_b, c.gain) for c in found]


def test_settings_that_differ_are_listed_and_the_start_and_paths_are_not() -> None:
    other = {
        **PROTOCOL,
        "config": {"cpu_seconds": 10.0, "samples": "y", "seed": 1, "new": {"deep": True}},
        "inputs": {"samples": {"path": "y", "sha256": "b" * 64}},
        "seeds": {"seed": 1},
        "versions": {"python": "3.12.1", "numpy": "2.0"},
        "started": "2026-02-02",
    }
    assert [(s.group, s.key, s.a, s.b) for s in settings(PROTOCOL, other)] == [
        ("config", "cpu_seconds", 3.0, 10.0),
        ("config", "isolation", "full", None),
        ("config", "new.deep", None, True),
        ("config", "seed", 0, 1),
        ("inputs", "samples.sha256", "a" * 64, "b" * 64),
        ("versions", "python", "3.11.2", "3.12.1"),
    ]
    assert settings(PROTOCOL, {**PROTOCOL, "started": "later"}) == []
    assert settings({}, PROTOCOL)[0].key == "command"


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        ("passed", "timeout", "time limit"),
        ("timeout", "wrong_answer", "time limit"),
        ("memory_limit", "passed", "resource limit"),
        ("runtime_error", "output_limit", "resource limit"),
        ("passed", "wrong_answer", "verdict"),
        ("runtime_error", "wrong_answer", "reason"),
    ],
)
def test_a_program_judged_otherwise_has_a_cause(first: str, second: str, cause: str) -> None:
    gain = int(second == "passed") - int(first == "passed")
    assert of(row(0, 0, first), row(0, 0, second)) == [(cause, 0, 0, gain)]


def test_equal_programs_are_matched_whatever_their_numbers() -> None:
    a = [row(0, i, "passed", completion=f"p{i}") for i in range(3)]
    b = [row(0, i, "passed", completion=f"p{2 - i}") for i in range(3)]
    assert changes(a, b) == ([], 3)


def test_each_copy_of_a_program_is_matched_once() -> None:
    a = [row(0, i, "passed", completion="p") for i in range(3)]
    b = [row(0, 0, "passed", completion="p"), row(0, 1, "wrong_answer", completion="q")]
    found, alike = changes(a, b)
    assert alike == 1
    assert [(c.cause, c.sample_a, c.sample_b, c.gain) for c in found] == [
        ("sampling", 1, None, -1),
        ("sampling", 2, None, -1),
        ("sampling", None, 1, 0),
    ]


def test_gains_add_up_to_the_difference_in_right_samples() -> None:
    rng = random.Random(0)
    words = ("passed", "wrong_answer", "timeout", "memory_limit")
    sides = [
        [
            row(task, i, rng.choice(words), completion=f"p{rng.randrange(6)}")
            for task in range(5)
            for i in range(8)
        ]
        for _ in "ab"
    ]
    found, alike = changes(*sides)
    right = [sum(r["passed"] for r in side) for side in sides]
    assert sum(change.gain for change in found) == right[1] - right[0]
    assert sum(c.sample_a is not None for c in found) + alike == 40
    assert sum(c.sample_b is not None for c in found) + alike == 40
    rows = by_cause(found)
    assert sum(r["gained"] - r["lost"] for r in rows) == right[1] - right[0]
    assert sum(r["samples"] for r in rows) == len(found)


def test_a_completion_is_matched_with_the_solution_that_ends_with_it() -> None:
    ours = row(0, 4, "wrong_answer", completion="    return 1\n")
    theirs = row(0, 4, "timeout", completion=None, solution="def f(x):\n    return 1\n")
    assert of(ours, theirs) == [("time limit", 4, 4, 0)]
    empty = row(0, 4, "passed", completion="\n")
    assert [cause for cause, *_ in of(empty, theirs)] == ["sampling", "sampling"]


def test_kinds_of_failure_that_one_side_does_not_tell_apart_are_not_differences() -> None:
    ours = [row(0, 0, "memory_limit", completion="p"), row(0, 1, "runtime_error", completion="q")]
    theirs = [row(0, 0, "failed", completion="p"), row(0, 1, "passed", completion="q")]
    found, alike = changes(ours, theirs)
    assert alike == 1 and [c.cause for c in found] == ["verdict"]


def test_only_problems_of_both_runs_are_looked_at() -> None:
    assert changes([row(0, 0, "passed")], [row(1, 0, "passed")]) == ([], 0)
    assert changes([], [row(1, 0, "passed")]) == ([], 0)


def test_causes_are_summed_up_the_weightiest_first() -> None:
    a = [row(0, 0, "passed"), row(1, 1, "passed"), row(1, 2, "timeout"), row(1, 3, "wrong_answer")]
    b = [row(0, 0, "timeout"), row(1, 1, "timeout"), row(1, 2, "passed"), row(1, 3, "passed")]
    rows = by_cause(changes(a, b)[0])
    assert [(r["cause"], r["samples"], r["gained"], r["lost"], r["problems"]) for r in rows] == [
        ("time limit", 3, 1, 2, 2),
        ("verdict", 1, 1, 0, 1),
    ]
    assert rows[0]["examples"] == ["HumanEval/1", "HumanEval/0"]


def test_findings_put_the_cause_and_the_setting_together() -> None:
    limits = settings(PROTOCOL, {**PROTOCOL, "config": {**PROTOCOL["config"], "cpu_seconds": 1.0}})
    late = by_cause(changes([row(0, 0, "passed")], [row(0, 0, "timeout")])[0])
    assert findings(limits, late) == [
        "verdicts changed at a limit, and the limits differ: cpu_seconds 3.0 in A and 1.0 in B"
    ]
    assert "run near it, or the machines differ" in findings([], late)[0]
    assert findings(limits, []) == ["the limits differ, but no verdict changed at a limit"]
    flaky = by_cause(changes([row(0, 0, "passed")], [row(0, 0, "wrong_answer")])[0])
    assert "randomness" in findings([], flaky)[0]
    data = settings(PROTOCOL, {**PROTOCOL, "inputs": {**PROTOCOL["inputs"], "dataset": {"sha256": "c"}}})
    assert "met other tests" in findings(data, flaky)[0]
    drawn = by_cause(changes([row(0, 0, "passed", completion="x")], [row(0, 0, "passed")])[0])
    samples = settings(PROTOCOL, {**PROTOCOL, "inputs": {"samples": {"sha256": "d"}}})
    assert "the model's drawing" in findings(samples, drawn)[0]
    assert "no other samples file is known" in findings([], drawn)[0]
