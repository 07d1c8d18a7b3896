from __future__ import annotations

from collections import Counter

from codegen_eval.pairs.hygiene import sha
from codegen_eval.pairs.records import read_ranking_row
from codegen_eval.ranking.rows import read_matrix_row
from codegen_eval.report.funnel import Lane, count_matrix, lanes
from tests.codegen_eval.report.made_up_data import matrix_row, ranked_row


def by_name(found: list[Lane]) -> dict[str, dict[str, tuple[int, tuple[tuple[int, str], ...]]]]:
    return {lane.name: {step.name: (step.count, step.dropped) for step in lane.steps} for lane in found}


def counted() -> Counter[str]:
    # Two copies of the first; the fourth passes nothing, the fifth does not compile.
    raw = matrix_row("t", ["1110", "1100", "1??0", "0000", "xxxx"], [2, 1, 1, 1, 1])
    row = read_matrix_row(raw)
    return count_matrix(raw, row, read_ranking_row(ranked_row(raw), row), {sha(row.codes[0])})


def test_programs_and_tests_lose_what_the_matrix_shows_step_by_step() -> None:
    found = by_name(lanes({}, counted()))
    assert found["programs"] == {
        "drawn from the model": (6, ()),
        "distinct within their problem": (5, ((1, "drawn more than once"),)),
        "that compile": (4, ((1, "do not compile"),)),
        "that pass a test": (3, ((1, "pass no test"),)),
        "chosen in a pair": (1, ((2, "chosen in no pair"),)),
    }
    assert found["tests"] == {
        "written by the model or in the prompt": (6, ()),
        "usable": (4, ((2, "no call"),)),
        "distinct within their problem": (4, ()),
        "passed by some program": (3, ((1, "passed by none"),)),
        "that tell programs apart": (3, ()),
    }
    assert counted()["cells_unknown"] == 2


def test_what_hygiene_took_is_a_step_of_its_own() -> None:
    raw = matrix_row("t", ["111", "100", "010"])
    row = read_matrix_row(raw)
    ranking = ranked_row(raw) | {"tests": [0, 2], "test_counts": [1.0, 1.0, 1.0]}
    ranking["scores"][2] = None
    found = by_name(lanes({}, count_matrix(raw, row, read_ranking_row(ranking, row), set())))
    assert found["programs"]["ranked"] == (2, ((1, "put aside: they detect tests"),))
    assert found["tests"]["left by hygiene"][0] == 2
    # Of tests 0 and 2 and programs 0 and 1: both pass the first, one the second.
    assert found["tests"]["that tell programs apart"] == (1, ((1, "passed by all"),))


def test_problems_timed_ones_combinations_and_pairs_come_from_the_counts_of_the_job() -> None:
    funnel = {
        "problems": 30,
        "problem_with_pairs": 21,
        "problem_uninformative": 6,
        "problem_nothing_passes": 3,
        "efficiency_with_pairs": 5,
        "efficiency_one_program": 7,
        "efficiency_disagreeing_programs": 99,
        "efficiency_pairs_over_share": 4,
        "candidate_equal_code": 8,
        "pairs_correctness": 39,
        "pairs_efficiency": 2,
    }
    found = by_name(lanes(funnel, None))
    assert set(found) == {"problems", "problems, timed", "combinations of two programs", "pairs"}
    assert found["problems"]["with a pair of programs"] == (
        21,
        ((6, "all programs tie"), (3, "no program passes any test")),
    )
    assert found["problems, timed"]["looked at for efficiency"][0] == 12
    assert found["combinations of two programs"]["not used"] == (8, ((8, "the same program but for layout"),))
    assert found["pairs"]["made"][0] == 45
    assert found["pairs"]["written"] == (41, ((4, "efficiency pairs beyond their share"),))
    later = by_name(lanes({"pairs_correctness": 9, "pairs_repeated": 2, "pairs_contaminated": 3}, None))
    assert later["pairs"]["written"][0] == 4 and later["pairs"]["made"][0] == 9


def test_shares_are_of_the_first_step_and_a_lone_step_has_none() -> None:
    found = {
        lane.name: lane for lane in lanes({"problems": 8, "problem_with_pairs": 2, "candidate_x": 1}, None)
    }
    assert [step.share for step in found["problems"].steps] == [100.0, 25.0]
    assert [step.share for step in found["combinations of two programs"].steps] == [None]


def test_a_count_that_nobody_knows_keeps_its_name_and_nothing_makes_no_lane() -> None:
    found = by_name(lanes({"problems": 2, "problem_full_moon<b>": 2}, None))
    assert found["problems"]["with a pair of programs"] == (0, ((2, "full moon<b>"),))
    assert lanes({}, None) == []
