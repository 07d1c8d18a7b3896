"""The list of problems: strips, choice of programs, bounds of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codegen_eval.report import samples
from codegen_eval.report.canvas import Side
from codegen_eval.report.page import render
from codegen_eval.report.samples import choose, css, explore
from codegen_eval.results import EvalResults, read_evaluation
from tests.codegen_eval.report import made_up
from tests.codegen_eval.report.strict_html import StrictPage

pytest.importorskip("matplotlib")
pytest.importorskip("pygments")


def row(number: int, verdict: str, text: str = "", task: str = "t") -> dict[str, Any]:
    return {"task_id": task, "sample": number, "verdict": verdict, "completion": text or f"p{number}",
            "passed": verdict == "passed", "cause": ""}  # fmt: skip


def side(*problems: dict[str, Any], name: str = "only") -> Side:
    figures = {"n_problems": len(problems), "pass_at_k": {"1": {"value": 0.5}}}
    return Side(name, EvalResults.model_validate({**figures, "problems": problems}))


def problem(n: int, c: int, task: str = "t", **more: Any) -> dict[str, Any]:
    return {"task_id": task, "n": n, "c": c, **more}


def test_many_samples_are_drawn_in_runs() -> None:
    rows = [row(i, "timeout" if 10 <= i < 12 else "passed") for i in range(41)]
    (one,) = explore([side(problem(41, 39))], [rows], shown=0).problems
    assert one.strips[0] is not None
    assert dict(one.strips[0].paths) == {"v-passed": "M0 .5h10M12 .5h29", "v-timeout": "M10 .5h2"}


def test_a_strip_has_one_path_a_verdict_and_a_line_a_sample() -> None:
    words = ["passed", "passed", "timeout", "passed", "wrong_answer", "wrong_answer"]
    rows = [row(i, word) for i, word in enumerate(words)]
    (one,) = explore([side(problem(6, 3))], [rows[::-1]], shown=0).problems
    assert one.strips[0] is not None
    assert dict(one.strips[0].paths) == {
        "v-passed": "M0 .5h.95M1 .5h.95M3 .5h.95",
        "v-timeout": "M2 .5h.95",
        "v-wrong_answer": "M4 .5h.95M5 .5h.95",
    }
    assert one.strips[0].words == "3 passed, 2 wrong answer, 1 timeout"
    assert (one.kinds, one.state, one.share) == ("v-passed v-timeout v-wrong_answer", "some", 0.5)


def test_without_rows_the_strip_shows_the_counts() -> None:
    known = problem(5, 2, verdicts={"timeout": 1, "passed": 2, "wrong_answer": 2})
    (one,) = explore([side(known)], [[]], shown=4).problems
    assert one.strips[0] is not None
    assert dict(one.strips[0].paths) == {
        "v-passed": "M0 .5h.95M1 .5h.95", "v-wrong_answer": "M2 .5h.95M3 .5h.95", "v-timeout": "M4 .5h.95",
    }  # fmt: skip
    (bare,) = explore([side(problem(5, 2))], [[]], shown=4).problems
    assert bare.strips[0] is not None
    assert dict(bare.strips[0].paths) == {
        "v-passed": "M0 .5h.95M1 .5h.95",
        "v-failed": "M2 .5h.95M3 .5h.95M4 .5h.95",
    }
    assert bare.groups[0].left_out == "the run keeps no programs"


def test_a_verdict_that_nobody_knows_never_becomes_a_class() -> None:
    assert css("timeout") == "v-timeout"
    assert css('x" onload="alert(1)') == css("v-passed") == "v-other"


def test_programs_are_chosen_from_every_verdict_in_turn_failures_first() -> None:
    rows = [
        row(0, "passed", "a"), row(1, "passed", "b"), row(2, "passed", "b"),
        row(3, "wrong_answer", "c"), row(4, "wrong_answer", "d"), row(5, "wrong_answer", "c"),
        row(6, "timeout", "e"),
    ]  # fmt: skip
    picked = [(found["sample"], copies) for found, copies in choose(rows, 5)]
    assert picked == [(3, 2), (6, 1), (1, 2), (4, 1), (0, 1)]
    assert choose(rows, 0) == []
    assert len(choose(rows, 50)) == 5


def test_equal_programs_with_other_verdicts_stay_apart() -> None:
    picked = choose([row(0, "passed", "a"), row(1, "timeout", "a")], 4)
    assert [(found["verdict"], copies) for found, copies in picked] == [("timeout", 1), ("passed", 1)]


def test_what_is_left_out_is_counted_and_said() -> None:
    rows = [row(i, "passed") for i in range(9)]
    (one,) = explore([side(problem(9, 9))], [rows], shown=4).problems
    assert len(one.groups[0].samples) == 4
    assert one.groups[0].left_out == "4 of 9 distinct programs are shown"
    (all_,) = explore([side(problem(9, 9))], [rows], shown=9).problems
    assert all_.groups[0].left_out == ""


def test_two_sides_are_ordered_by_change_and_a_lone_problem_is_kept() -> None:
    before = side(problem(4, 2, "a"), problem(4, 0, "b"), problem(4, 1, "c"), problem(4, 1, "x"))
    after = side(problem(4, 2, "a"), problem(4, 1, "b"), problem(4, 4, "c"), problem(4, 4, "y"))
    found = explore([before, after], [[], []], shown=1).problems
    assert [(p.task_id, p.change, p.points) for p in found] == [
        ("c", "better", "+75.0"), ("b", "better", "+25.0"), ("a", "same", "0.0"), ("x", "same", "–"),
        ("y", "same", "–"),
    ]  # fmt: skip
    assert found[3].strips[1] is None and found[4].strips[0] is None


def test_too_many_samples_for_fields_of_their_own_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_CELLS", 5)
    rows = [row(i, "passed" if i % 2 else "timeout") for i in range(6)]
    found = explore([side(problem(6, 3))], [rows], shown=0)
    assert not found.in_order and found.problems[0].strips[0] is not None
    assert dict(found.problems[0].strips[0].paths) == {
        "v-passed": "M0 .5h.95M1 .5h.95M2 .5h.95",
        "v-timeout": "M3 .5h.95M4 .5h.95M5 .5h.95",
    }


def test_more_problems_than_anybody_reads_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_PROBLEMS", 3)
    found = explore([side(*(problem(1, 1, str(i)) for i in range(9)))], [[]], shown=0)
    assert (len(found.problems), found.total) == (3, 9)


@pytest.mark.slow
def test_200_samples_of_164_problems_before_and_after_stay_under_5_megabytes(tmp_path: Path) -> None:
    runs = []
    for name, skill in (("a", 0.0), ("b", 0.05)):
        results = made_up.eval_results(skill, n_problems=164, samples=200)
        runs.append(
            read_evaluation(made_up.write_eval(tmp_path / name, results, made_up.sample_rows(results)))
        )
    page = render(*runs)
    assert len(page.encode()) < 5_000_000
    read = StrictPage(page)
    assert read.problems == []
    assert read.counts["article"] > 164 * 4
    assert "in the order in which they were drawn" in page


@pytest.mark.slow
def test_the_worst_programs_keep_the_page_under_5_megabytes_and_say_what_is_missing(tmp_path: Path) -> None:
    worst = ["'&'+" * 2000, "1if 1else 1;" * 500, "\u202e" * 9000, ("if 1:" * 10 + "\n") * 90, "&" * 9000]
    results = made_up.eval_results(0.0, n_problems=164, samples=20)
    rows = made_up.sample_rows(results)
    for number, one in enumerate(rows):
        one["completion"] = f"{number}{worst[number % 5]}"
        one["failed_test"] = one["message"] = one["cause"] = worst[(number + 1) % 5]
    page = render(read_evaluation(made_up.write_eval(tmp_path / "a", results, rows)), samples_shown=50)
    assert len(page.encode()) < 5_000_000
    assert "more would make the page too large" in page
    assert StrictPage(page).problems == []


def test_the_legend_names_the_verdicts_of_both_sides() -> None:
    figures = {"n_problems": 1, "pass_at_k": {"1": {"value": 0.5}}, "problems": [problem(3, 2)]}
    counts = [{"timeout": 2, "passed": 1}, {"passed": 2, "odd <b>": 1}]
    sides = [
        Side(str(i), EvalResults.model_validate({**figures, "verdicts": c})) for i, c in enumerate(counts)
    ]
    assert explore(sides, [[], []], shown=0).legend == (
        ("v-passed", "passed", (1, 2)),
        ("v-timeout", "timeout", (2, 0)),
        ("v-other", "odd <b>", (0, 1)),
    )
