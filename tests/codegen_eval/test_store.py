"""The store: what is found again, what never is."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.records import Oracle, Problem
from codegen_eval.store import Outcome, ResultStore, keys
from sandbox import CallTest, CodeTest, IOTest, Limits, Verdict

SOURCE = "def f(x): return x"
PROBLEM = Problem("t", "", "f", (CallTest((1,), 1),), "")
ORACLE = Oracle(SOURCE, ((1,),))


def key(problem: Problem = PROBLEM, source: str = SOURCE, level: str = "full") -> bytes:
    (found,) = keys([(problem, source)], Limits(), level)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"entry_point": "g"},
        {"tests": (CallTest((1,), 1), CallTest((1,), 1))},
        {"tests": (CallTest((1.0,), 1),)},
        {"tests": (CallTest((True,), 1),)},
        {"tests": (CallTest((1,), 1, 1e-6),)},
        {"tests": (CodeTest("assert f(1) == 1"),)},
        {"tests": (CodeTest("assert f(1) == 1", trusted=True),)},
        {"tests": (IOTest("1", "1"),)},
        {"tests": (IOTest("1", "1", "exact"),)},
        {"limits": Limits(cpu_seconds=1.0)},
        {"limits": Limits(memory_mb=99)},
        {"limits": Limits(output_kb=9)},
        {"oracle": ORACLE},
        {"language": "c"},
    ],
)
def test_all_that_decides_a_result_is_in_its_key(changes: dict[str, Any]) -> None:
    assert key(replace(PROBLEM, **changes)) != key()


@pytest.mark.parametrize("changes", [{"inputs": ((1.0,),)}, {"program": "x"}, {"tolerance": 1e-6}])
def test_so_are_references_that_are_to_give_the_answers(changes: dict[str, Any]) -> None:
    assert key(replace(PROBLEM, oracle=replace(ORACLE, **changes))) != key(replace(PROBLEM, oracle=ORACLE))


def test_the_name_is_not_and_the_sandboxs_limits_stand_for_absent_ones() -> None:
    assert key(replace(PROBLEM, task_id="another")) == key(replace(PROBLEM, limits=Limits())) == key()
    assert key(level="filter") != key() != key(source=SOURCE + " ")


def test_outcomes_are_found_again_by_another_process(tmp_path: Path) -> None:
    outcome = Outcome(Verdict.wrong_answer, "cause", "message \ud800".encode("utf-8", "replace").decode(), 3)
    with ResultStore(tmp_path / "a/s.sqlite") as store:
        store.keep([(b"k", outcome), (b"l", Outcome(Verdict.passed))])
    with ResultStore(tmp_path / "a/s.sqlite") as store:
        assert store.find([b"k", b"l", b"m"]) == {b"k": outcome, b"l": Outcome(Verdict.passed)}


@pytest.mark.parametrize("verdict", [Verdict.timeout, Verdict.memory_limit, Verdict.output_limit])
def test_what_depends_on_the_moment_is_not_kept(tmp_path: Path, verdict: Verdict) -> None:
    with ResultStore(tmp_path / "s") as store:
        store.keep([(b"k", Outcome(verdict))])
        assert store.find([b"k"]) == {}


def test_two_verdicts_make_a_key_flaky_for_ever(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store:
        for verdict in (Verdict.passed, Verdict.wrong_answer, Verdict.passed):
            store.keep([(b"k", Outcome(verdict))])
        assert store.find([b"k"]) == {} and store.flaky() == 1
        store.keep([(b"k", Outcome(Verdict.passed))])
        assert store.find([b"k"]) == {}


def test_more_keys_than_one_question_holds(tmp_path: Path) -> None:
    wanted = [i.to_bytes(2, "big") for i in range(1500)]
    with ResultStore(tmp_path / "s") as store:
        store.keep((k, Outcome(Verdict.passed)) for k in wanted)
        assert len(store.find(wanted)) == 1500


def test_two_stores_on_one_file_see_each_other(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as one, ResultStore(tmp_path / "s") as two:
        one.keep([(b"k", Outcome(Verdict.passed))])
        two.keep([(b"l", Outcome(Verdict.passed))])
        assert set(one.find([b"k", b"l"])) == set(two.find([b"k", b"l"])) == {b"k", b"l"}


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(CodealignError, match=r"cannot use .*text as a store"):
        ResultStore(tmp_path / "text")
    with ResultStore(tmp_path / "old"):
        pass
    with sqlite3.connect(tmp_path / "old") as database:
        database.execute("UPDATE about SET value = '99'")
    with pytest.raises(CodealignError, match="format 99"):
        ResultStore(tmp_path / "old")
    with pytest.raises(CodealignError, match="cannot use"):
        ResultStore(tmp_path)
