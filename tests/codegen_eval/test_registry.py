"""The registry and the benchmarks it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS, load
from codegen_eval.errors import CodealignError, nearest_first, unknown
from codegen_eval.records import Problem
from codegen_eval.registry import Registry


def test_a_miss_names_the_nearest_and_lists_all() -> None:
    registry: Registry[int] = Registry("ranker", "codealign.test")
    registry.register("codet")(1)
    registry.register("maxpass")(2)
    with pytest.raises(
        CodealignError, match=r"unknown ranker 'coedt'; did you mean 'codet'.* codet, maxpass"
    ):
        registry.get("coedt")


def test_nothing_near_gives_no_wrong_hint() -> None:
    assert "did you mean" not in str(unknown("ranker", "zzz", ["codet"]))
    assert "there is none" in str(unknown("ranker", "zzz", []))


def test_a_name_is_taken_once() -> None:
    registry: Registry[object] = Registry("ranker", "codealign.test")
    registry.register("a")(1)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("a")(2)


def test_nearest_names_come_first_and_ties_by_alphabet() -> None:
    assert nearest_first("b4", ["codet", "b4", "a4"])[:2] == ["b4", "a4"]


def test_entry_points_of_other_distributions_are_loaded_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []

    class Point:
        name = "outside"

        def load(self) -> str:
            loaded.append(self.name)
            return "thing"

    def points(*, group: str, name: str | None = None) -> list[Point]:
        return [Point()] if name in (None, "outside") else []

    monkeypatch.setattr("codegen_eval.registry.entry_points", points)
    registry: Registry[str] = Registry("ranker", "codealign.test")
    assert registry.names() == ["outside"] and not loaded
    assert registry.get("outside") == "thing"


def test_humaneval_is_found_by_its_name() -> None:
    with pytest.raises(CodealignError, match="did you mean 'humaneval'"):
        load("humanevl", Path("x"))


def test_a_benchmark_without_problems_or_with_twins_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Problem("t", "", "f", (), "")
    monkeypatch.setitem(BENCHMARKS._entries, "empty", lambda dataset, split: [])
    monkeypatch.setitem(BENCHMARKS._entries, "twins", lambda dataset, split: [twin, twin])
    with pytest.raises(CodealignError, match="no problems"):
        load("empty")
    with pytest.raises(CodealignError, match="more than once: t"):
        load("twins")


def test_what_the_chain_sees_of_a_problem_holds_no_answer() -> None:
    public = Problem("t", "def f():", "f", (), "    secret", ((("secret",),),)).public()
    assert "secret" not in repr(public)


def test_a_long_list_of_names_is_cut_after_the_nearest() -> None:
    said = str(unknown("task id", "t/7", [f"t/{i}" for i in range(500)]))
    assert "did you mean 't/7'" in said and said.endswith(" and 480 more") and len(said) < 300
