"""Execution: which programs meet which tests, and the rows that come of it."""

from __future__ import annotations

from typing import Any

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.execution import build_rows, collect
from codegen_eval.ranking.rows import RankOptions, ranking_row, read_matrix_row
from tests.codegen_eval.made_up_runs import PROGRAMS, TESTS, FakeSandbox, problems

PROMPTS = [p.public() for p in problems()]


def rows(**options: Any) -> list[dict[str, Any]]:
    return list(build_rows(PROMPTS, PROGRAMS, TESTS, FakeSandbox(), **options))


def test_rows_hold_distinct_programs_and_tests_in_the_matrix_order() -> None:
    double = rows()[0]
    assert double["task_id"] == "made/double" and double["entry_point"] == "double"
    assert [t["text"] for t in double["tests"]] == [
        "assert double(3) == 6",
        "assert double(0) == 0",
        "assert double(1) == 3",
        "assert double(2) == 4",
    ]
    assert [t["source"] for t in double["tests"]] == ["own", "own", "own", "example"]
    assert len(double["codes"]) == 5  # the two equal programs are one
    assert all(code.startswith(PROMPTS[0].prompt) for code in double["codes"])
    assert not double["codes"][-1].endswith("print(double(1))\n")
    row = read_matrix_row(double)
    assert row.code_counts.tolist() == [2, 1, 1, 1, 1] and row.test_counts.tolist() == [2, 1, 1, 1]
    assert row.passed.astype(int).tolist() == [
        [1, 1, 0, 1],
        [1, 1, 0, 1],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 1, 0],
    ]
    assert row.unloadable.tolist() == [False, False, False, True, False]
    assert double["counts"]["program_cut"] == 1 and double["counts"]["test_unparsable"] == 1


def test_sources_of_tests_are_switched_apart() -> None:
    assert [[t["source"] for t in row["tests"]] for row in rows(sources=("examples",))] == [["example"]] * 2
    assert {t["source"] for row in rows(sources=("own",)) for t in row["tests"]} == {"own"}
    with pytest.raises(CodealignError, match="at least one of own, examples"):
        rows(sources=())


def test_own_test_that_repeats_an_example_counts_as_own() -> None:
    task = collect(PROMPTS[0], ["    return 1\n"], ["assert double(2) == 4"], ("own", "examples"))
    row = next(build_rows([PROMPTS[0]], {}, {"made/double": ["assert double(2) == 4"]}, FakeSandbox()))
    assert row["tests"] == [{"text": "assert double(2) == 4", "source": "own"}]
    assert len(task.tests) == 2


@pytest.mark.parametrize(("programs", "tests"), [({}, {}), (PROGRAMS, {}), ({}, TESTS)])
def test_problems_without_programs_or_tests_still_give_a_row(programs: Any, tests: Any) -> None:
    found = list(build_rows(PROMPTS, programs, tests, FakeSandbox(), sources=("own",)))
    assert len(found) == 2
    for row in found:
        for ranker in ("b4", "codet", "maxpass", "mbr_exec"):
            assert not ranking_row(read_matrix_row(row), RankOptions(ranker))["informative"]


def test_ranking_leaves_programs_that_do_not_compile_out_unless_told() -> None:
    row = read_matrix_row(rows()[0])
    assert ranking_row(row, RankOptions("maxpass"))["scores"] == [4.0, 4.0, 2.0, None, 2.0]
    assert ranking_row(row, RankOptions("maxpass", drop_unloadable=False))["scores"][3] == 0.0
    assert ranking_row(row, RankOptions("maxpass", weights="ones"))["scores"][0] == 3.0


def test_tests_that_everybody_passes_can_be_left_out() -> None:
    row = read_matrix_row(rows()[0])
    with_zero = ranking_row(row, RankOptions("maxpass", weights="ones"))["scores"]
    without = ranking_row(row, RankOptions("maxpass", weights="ones", drop_trivial_tests=True))["scores"]
    assert [a - b for a, b in zip(with_zero, without, strict=True) if a is not None] == [1.0] * 4


@pytest.mark.parametrize(
    "change",
    [{"matrix": {}}, {"codes": []}, {"tests": [{"text": "x"}]}, {"matrix": None}, {"codes": None}],
)
def test_broken_matrix_rows_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(CodealignError, match="made/double"):
        read_matrix_row({**rows()[0], **change})
