"""Pair builders: CodeDPO, DSTC, AceCoder, posterior; credible timing; KTO rows; where two programs differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codegen_eval.errors import CodealignError
from codegen_eval.pairs.acecoder import acecoder_choice
from codegen_eval.pairs.credible import credible_pairs, credible_race, intervals, time_credible
from codegen_eval.pairs.dstc import dstc_choice
from codegen_eval.pairs.job import Ranked, join, preference_rows
from codegen_eval.pairs.kto import kto_rows
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.posterior import right_probabilities
from codegen_eval.pairs.records import Pair, read_ranking_row
from codegen_eval.pairs.spans import common_ends
from codegen_eval.ranking.hygiene import clean
from codegen_eval.ranking.rows import MatrixRow, RankOptions, ranking_row
from codegen_eval.records import Prompt
from sandbox import Timing
from tests.codegen_eval.made_up_runs import FakeSandbox

HEAD = "def f(x):\n"
matrices = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.bool_, shape, elements=st.booleans())
)


def made(
    passed: Any,
    *,
    codes: Sequence[str] = (),
    tests: Sequence[str] = (),
    broken: Sequence[int] = (),
    unknown: Sequence[tuple[int, int]] = (),
    task_id: str = "t",
) -> MatrixRow:
    matrix = np.array(passed, dtype=bool)
    known = np.ones(matrix.shape, dtype=bool)
    for place in unknown:
        known[place] = False
    n, m = matrix.shape
    return MatrixRow(
        task_id=task_id,
        entry_point="f",
        codes=tuple(codes) or tuple(f"{HEAD}    return {i}\n" for i in range(n)),
        tests=tuple(tests) or tuple(f"assert f({j}) == {j}" for j in range(m)),
        sources=("own",) * m,
        passed=matrix,
        code_counts=np.ones(n),
        test_counts=np.ones(m),
        unloadable=np.array([i in broken for i in range(n)], dtype=bool),
        known=known,
    )


def pairs_of(
    builder: str, row: MatrixRow, ranker: str = "codedpo", **options: Any
) -> tuple[list[Pair], Counter[str]]:
    funnel: Counter[str] = Counter()
    ranked = read_ranking_row(ranking_row(row, RankOptions(ranker)), row)
    return BUILDERS.get(builder)(row, ranked, PairOptions(builder=builder, **options), funnel), funnel


def test_codedpo_takes_best_and_worst_and_counts_the_ties() -> None:
    row = made([[1, 1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]])
    drawn = set()
    for seed in range(40):
        (pair,), funnel = pairs_of("codedpo", row, seed=seed)
        assert pair.ties == 4 and pair.margin == 1.0 and funnel == {"problem_with_pairs": 1}
        assert pair.scores[0] is not None and pair.scores[1] is not None and pair.scores[0] > pair.scores[1]
        drawn.add((pair.chosen, pair.rejected))
    assert drawn == {(0, 3), (0, 4), (1, 3), (1, 4)}


@pytest.mark.parametrize(
    ("row", "options", "reason"),
    [
        (made([[1, 1], [1, 1]]), {}, "uninformative"),
        (made([[0, 0], [0, 0]]), {}, "nothing_passes"),
        (made([[1]]), {}, "uninformative"),
        (made([[1, 1], [1, 0]]), {"min_gap": 0.9}, "gap_too_small"),
        (made([[1, 1], [1, 0]], codes=[HEAD + "  return 1", HEAD + "  return  1 # x"]), {}, "equal_code"),
    ],
)
def test_codedpo_gives_no_pair_without_a_usable_gap(row: MatrixRow, options: Any, reason: str) -> None:
    pairs, funnel = pairs_of("codedpo", row, **options)
    assert pairs == [] and funnel == {f"problem_{reason}": 1}


def test_dstc_takes_the_hardest_passed_and_the_easiest_failed_test() -> None:
    row = made([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    (pair,), _ = pairs_of("dstc", row)
    # Test 2 only the best passes; test 1 most pass that some fail; program 2 is the weakest that fails it.
    assert (pair.chosen, pair.rejected, pair.tests, pair.kind) == (0, 2, (2, 1), "code_test")
    assert pair.ties == 1


@settings(max_examples=80, deadline=None)
@given(matrices, st.integers(0, 5))
def test_dstc_pairs_pass_on_one_side_and_fail_on_the_other(matrix: np.ndarray, seed: int) -> None:
    pairs, funnel = pairs_of("dstc", made(matrix), "maxpass", seed=seed)
    assert sum(funnel.values()) == 1
    for pair in pairs:
        assert pair.tests is not None and pair.chosen != pair.rejected
        assert matrix[pair.chosen, pair.tests[0]] and not matrix[pair.rejected, pair.tests[1]]


def test_dstc_rejects_no_program_whose_failure_was_not_seen() -> None:
    row = made([[1, 1], [1, 0], [1, 0]], unknown=[(1, 1)])
    for seed in range(10):
        (pair,), _ = pairs_of("dstc", row, "maxpass", seed=seed)
        assert pair.rejected == 2
    pairs, funnel = pairs_of("dstc", made([[1, 1], [1, 0]], unknown=[(1, 1)]), "maxpass")
    assert pairs == [] and funnel == {"problem_nothing_fails": 1}
    assert dstc_choice([[1, 0]], [[0, 0]]).reason == "no failure is known"


def test_dstc_drops_pairs_of_one_program_unless_told() -> None:
    row = made([[1, 0]])
    assert pairs_of("dstc", row, "maxpass") == ([], {"problem_same_code": 1})
    ((pair,), _) = pairs_of("dstc", row, "maxpass", keep_same_code=True)
    assert pair.chosen == pair.rejected == 0 and pair.tests == (0, 1) and pair.confidence == 0.5


def test_acecoder_decides_in_whole_numbers() -> None:
    def passing(*counts: int) -> np.ndarray:
        return np.array([[j < c for j in range(10)] for c in counts])

    # 9/10 against 5/10 is exactly 0.4 apart: not enough; 8/10 is not above 0.8; 0 is never rejected.
    assert acecoder_choice(passing(9, 5, 4, 0, 8)) == [(0, 2)]
    assert acecoder_choice([[1, 1, 0], [1, 0, 0]], [1, 8, 1]) == [(0, 1)]
    assert acecoder_choice(np.zeros((0, 3))) == [] and acecoder_choice(np.zeros((3, 0))) == []


def test_acecoder_pairs_need_five_tests_and_are_drawn_up_to_the_limit() -> None:
    assert pairs_of("acecoder", made([[1, 1, 1, 1], [1, 0, 0, 0]]))[1] == {"problem_few_tests": 1}
    row = made([[1] * 5, [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
    pairs, funnel = pairs_of("acecoder", row, pairs_per_problem=2)
    assert len(pairs) == 2 and {p.chosen for p in pairs} == {0} and funnel == {"problem_with_pairs": 1}
    assert pairs_of("acecoder", made([[1] * 5, [0] * 5]))[1] == {"problem_no_gap": 1}


@pytest.mark.parametrize("ranker", ["posterior", "b4"])
def test_posterior_pairs_carry_the_probabilities_of_their_programs(ranker: str) -> None:
    row = made([[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    ranked = read_ranking_row(ranking_row(row, RankOptions(ranker)), row)
    right = right_probabilities(row, ranked)
    assert right[0] == right[1]
    total = right[0] + right[2] + right[3]
    assert total == pytest.approx(1.0) if ranker == "b4" else total < 1.0 + 1e-9
    pairs, _ = pairs_of("posterior", row, ranker, pairs_per_problem=9)
    assert len(pairs) >= 3
    for pair in pairs:
        c, r = right[pair.chosen], right[pair.rejected]
        assert pair.weights == (pytest.approx(c), pytest.approx(1 - r)) and c > r
        assert pair.confidence == pytest.approx(c / (c + r))


def test_posterior_pairs_below_the_least_confidence_are_not_made() -> None:
    row = made([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    every = pairs_of("posterior", row, "posterior", pairs_per_problem=9)[0]
    sure = pairs_of("posterior", row, "posterior", pairs_per_problem=9, min_confidence=0.9)[0]
    assert {(p.chosen, p.rejected) for p in sure} == {
        (p.chosen, p.rejected) for p in every if p.confidence >= 0.9
    }
    assert len(sure) < len(every)


def test_posterior_pairs_of_a_ranker_without_probabilities_are_an_error() -> None:
    with pytest.raises(CodealignError, match="'maxpass' gives none; rank with --ranker posterior"):
        pairs_of("posterior", made([[1, 0], [0, 0]]), "maxpass")


@settings(max_examples=60, deadline=None)
@given(matrices, st.sampled_from(["ranked", "codedpo", "acecoder", "dstc", "posterior"]), st.integers(0, 3))
def test_every_builder_gives_the_same_pairs_for_the_same_seed(
    matrix: np.ndarray, builder: str, seed: int
) -> None:
    one, funnel = pairs_of(builder, made(matrix), "posterior", seed=seed)
    assert one == pairs_of(builder, made(matrix), "posterior", seed=seed)[0]
    assert sum(n for key, n in funnel.items() if key.startswith("problem_")) == 1
    for pair in one:
        assert pair.chosen != pair.rejected and 0.5 <= pair.confidence <= 1.0


@settings(max_examples=100, deadline=None)
@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_texts_are_prefix_middle_suffix(one: str, other: str) -> None:
    prefix, suffix = common_ends(one, other)
    assert prefix + suffix <= min(len(one), len(other))
    assert one[:prefix] == other[:prefix] and one[len(one) - suffix :] == other[len(other) - suffix :]
    middles = (one[prefix : len(one) - suffix], other[prefix : len(other) - suffix])
    assert (middles == ("", "")) == (one == other)
    if all(middles):
        assert middles[0][0] != middles[1][0] and middles[0][-1] != middles[1][-1]


def rows_of(row: MatrixRow, builder: str, **options: Any) -> list[dict[str, Any]]:
    ranked = read_ranking_row(ranking_row(row, RankOptions("posterior")), row)
    problem = Ranked(Prompt(row.task_id, HEAD, "f"), row, ranked)
    return preference_rows([problem], {}, PairOptions(builder=builder, **options), 0.0, Counter())


def test_rows_say_where_the_programs_differ_and_concatenate_the_test() -> None:
    codes = [HEAD + "    y = x\n    return y + 1\n", HEAD + "    y = x\n    return y - 1\n"]
    (row,) = rows_of(made([[1, 1, 1], [0, 1, 0]], codes=codes), "ranked")
    assert row["chosen"][row["prefix_chars"] : len(row["chosen"]) - row["suffix_chars"]] == "+"
    assert row["label_smoothing"] == pytest.approx(1 - row["confidence"]) and row["chosen_weight"] == 1.0
    (row,) = rows_of(made([[1, 1, 1], [0, 1, 0]], codes=codes), "dstc")
    assert row["chosen"].startswith("    y = x\n    return y + 1\n\nassert f(") and row["kind"] == "code_test"
    assert row["chosen"].endswith("\n") and row["rejected"].count("assert") == 1


def test_kto_rows_are_single_texts_without_contradictions() -> None:
    base = {"prompt": "p", "kind": "correctness", "task_id": "t", "ranker": "b4"}

    def pair(chosen: str, rejected: str) -> dict[str, Any]:
        sides = {f"{s}_{k}": v for s in ("chosen", "rejected") for k, v in (("score", 1.0), ("sha", "s"))}
        return {
            **base,
            **sides,
            "chosen": chosen,
            "rejected": rejected,
            "chosen_weight": 0.9,
            "rejected_weight": 0.7,
        }

    funnel: Counter[str] = Counter()
    rows = kto_rows([pair("a", "b"), pair("a", "c"), pair("c", "d")], funnel)
    assert [(r["completion"], r["label"], r["weight"]) for r in rows] == [
        ("a", True, 0.9),
        ("b", False, 0.7),
        ("d", False, 0.7),
    ]
    assert funnel == {"kto_repeated": 1, "kto_on_both_sides": 1, "kto_rows": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs_per_problem": 0}, "at least 1"),
        ({"min_confidence": 0.3}, r"\[0.5, 1\]"),
        ({"min_confidence": math.nan}, r"\[0.5, 1\]"),
        ({"min_gap": math.nan}, "share between 0 and 1"),
        ({"min_ratio": 0.5}, "at least 1"),
    ],
)
def test_bad_options_are_named(options: Any, message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        PairOptions(**options)


def test_an_unknown_builder_names_the_nearest() -> None:
    with pytest.raises(CodealignError, match="did you mean 'acecoder'"):
        BUILDERS.get("acecode")


FAST, SLOW = HEAD + "    return 2 * x\n", HEAD + "    return x + x  # seconds: 0.005\n"
CLOSE = HEAD + "    return x * 2  # seconds: 0.00101\n"
NOISY = HEAD + "    return 1 * x + x  # seconds: 0.005 # spread: 2.0\n"
FAILS = HEAD + "    return x * 2 + 0  # seconds: nan\n"
DOUBLES = ["assert f(2) == 4", "assert f(1) == 2", "assert f(3) == 7"]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([FAST, SLOW], "with_pairs"),
        ([FAST, NOISY], "intervals_overlap"),
        ([FAST, CLOSE], "ratio_too_small"),
        ([FAST, FAILS], "no_contrast"),
    ],
)
def test_credible_timing_makes_a_pair_only_of_surely_different_programs(
    codes: list[str], expected: str
) -> None:
    row = made([[1, 1, 0]] * len(codes), codes=codes, tests=DOUBLES)
    ranked = read_ranking_row(ranking_row(row, RankOptions("codedpo")), row)
    funnel: Counter[str] = Counter()
    race = credible_race(row, ranked, funnel)
    assert race is not None and race.calls == ((2,), (1,)) and race.expected == (4, 2)
    box = FakeSandbox()
    box_spread = 1e-4 if expected == "ratio_too_small" else None
    (timing,) = time_credible([race], box, 1)
    if box_spread is not None:
        timing["reach"] = [box_spread * s for s in timing["seconds"]]
    pairs = credible_pairs(row, ranked, timing, PairOptions(efficiency="credible"), funnel)
    assert funnel == {f"efficiency_{expected}": 1}
    assert [(p.chosen, p.rejected, p.kind) for p in pairs] == (
        [(0, 1, "efficiency")] if expected == "with_pairs" else []
    )


def test_only_programs_that_pass_every_credible_test_are_timed() -> None:
    codes = [FAST, SLOW, HEAD + "    return 4\n"]
    row = made([[1, 1, 0], [1, 1, 1], [1, 0, 0]], codes=codes, tests=DOUBLES)
    ranked = read_ranking_row(ranking_row(row, RankOptions("b4")), row)
    race = credible_race(row, ranked, Counter())
    assert race is None or set(race.programs) <= {0, 1}
    funnel: Counter[str] = Counter()
    alone = made([[1, 1, 1], [1, 0, 0]], codes=codes[:2], tests=DOUBLES)
    assert (
        credible_race(alone, read_ranking_row(ranking_row(alone, RankOptions("b4")), alone), funnel) is None
    )
    assert funnel == {"efficiency_one_program": 1}


def test_intervals_by_hand() -> None:
    shape = (2, 2)
    seconds = np.array([[1.0, 2.0], [1.0, math.inf]])
    rounds = np.repeat(seconds[..., None], 4, axis=-1)
    spread, repeats = np.full(shape, 0.1), np.full(shape, 4)
    timing = Timing(seconds, seconds, seconds, rounds, spread, repeats, None, (1.0,), 0)
    total, reach = intervals(timing)
    by_hand = 2 * math.sqrt(math.pi / 2) * math.sqrt((0.1 * 1 / 2) ** 2 + (0.1 * 2 / 2) ** 2)
    assert total[0] == 3.0 and reach[0] == pytest.approx(by_hand)
    assert math.isnan(total[1]) and math.isnan(reach[1])


def test_hygiene_of_the_ranking_reaches_the_pairs() -> None:
    tests = ["assert True", "assert f(1) == 1", "assert f(2) == 2"]
    row = made([[1, 1, 1], [1, 0, 0], [1, 0, 1]], tests=tests)
    ranked = ranking_row(row, RankOptions("maxpass"), clean(row, range(3)))
    assert ranked["tests"] == [1, 2] and ranked["hygiene"]["tests_no_call"] == 1
    assert ranked["scores"] == [2.0, 0.0, 1.0]
    used = read_ranking_row(ranked, row).restricted(row)
    assert used.tests == tuple(tests[1:]) and used.passed.shape == (3, 2)
    with pytest.raises(CodealignError, match="other tests than the matrix has"):
        read_ranking_row({**ranked, "tests": [1, 7]}, row)
    assert join({}, [], []) == []
