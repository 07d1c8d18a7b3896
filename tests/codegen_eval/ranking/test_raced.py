"""Matrices that were filled adaptively: what was not run is unknown, and whoever needs it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.execution import Task, matrix_row
from codegen_eval.pairs.correctness import correctness_pairs
from codegen_eval.pairs.job import preference_rows
from codegen_eval.pairs.options import PairOptions
from codegen_eval.pairs.records import read_ranking_row
from codegen_eval.ranking.adaptive import AdaptiveOptions, best_codes, replay
from codegen_eval.ranking.adaptive_run import run_adaptive
from codegen_eval.ranking.common import RANKERS, make_view
from codegen_eval.ranking.hygiene import clean
from codegen_eval.ranking.raced import Race, raced_scores
from codegen_eval.ranking.rows import RankOptions, rank_matrix, ranking_row, read_matrix_row
from codegen_eval.ranking.simulation import Setting, trials
from codegen_eval.records import Prompt
from sandbox import Verdict
from sandbox.matrix import UNKNOWN
from tests.codegen_eval.made_up_runs import FakeSandbox

ONES = RankOptions("b4", weights="ones")
PROMPT = Prompt("made/f", "def f(x):\n", "f")
PROGRAMS = ("x + 1", "1 + x", "x - 1", "x +", "x + 1 if x < 20 else 0", "2", "2 * x")


def raced(least: float = 1e-4, **options: Any) -> dict[str, Any]:
    """A row of matrices.jsonl."""
    codes = tuple(f"def f(x):\n    return {text}\n" for text in PROGRAMS)
    tests = tuple((f"assert f({x}) == {x + 1}", "own") for x in range(30))
    task = Task(PROMPT, codes, tests, {})
    rule = AdaptiveOptions(least=least, **options)
    (found,) = run_adaptive([task.job()], FakeSandbox(), rule, drop_unloadable=True)
    return {**matrix_row(task, found.matrix), "race": found.race.to_json()}


def test_where_nobody_leaves_scores_are_those_of_the_full_matrix() -> None:
    for trial in trials(Setting(), 20, np.random.default_rng(1)):
        race = Race(np.ones(trial.passed.shape, bool), np.ones(len(trial.passed), bool), 0.0)
        codes = range(len(trial.passed))
        scores, found = raced_scores(trial.passed, race, codes, None, None)
        full = RANKERS.get("b4")(make_view(trial.passed))
        np.testing.assert_allclose([scores[i] for i in codes], full.scores, rtol=1e-9)
        assert found == {**full.parameters, "least": 0.0}


def test_the_ranking_of_a_row_is_that_of_the_planner() -> None:
    options = AdaptiveOptions()
    for trial in trials(Setting(), 20, np.random.default_rng(2)):
        progress = replay(trial.passed, options)
        race = Race(progress.known, progress.live, options.least)
        # What was not run is not looked at.
        scores, _ = raced_scores(trial.passed | ~progress.known, race, range(len(trial.passed)), None, None)
        best = max(scores.values())
        assert tuple(i for i in scores if scores[i] >= best - 1e-9) == best_codes(progress, options)


def test_a_program_that_does_not_compile_counts_nowhere_and_is_known_to_fail() -> None:
    row = read_matrix_row(raced())
    assert row.race is not None and row.known is not None
    assert row.race.live.tolist() == [True, True, False, False, False, False, False]
    assert row.unloadable.tolist() == [i == 3 for i in range(7)] and row.known[3].all()
    found = ranking_row(row, ONES)
    with_all = raced_scores(row.passed, row.race, range(7), None, None)[0]
    without = raced_scores(row.passed, row.race, [0, 1, 2, 4, 5, 6], None, None)[0]
    assert [found["scores"][i] for i in (0, 1)] == list(without.values()) != list(with_all.values())
    assert found["best"] == [0, 1] and found["left_race"] == {"programs": [2, 4, 5, 6], "confidence": 0.9999}


def test_what_was_not_run_is_no_failure_in_a_pair() -> None:
    row = read_matrix_row(raced())
    ranked = read_ranking_row(ranking_row(row, ONES), row)
    options = PairOptions(pairs_per_problem=20)
    pairs = {(p.chosen, p.rejected): p for p in correctness_pairs(row, ranked, options, Counter())}
    assert {rejected for _, rejected in pairs} == {2, 3, 4, 5, 6}
    # Of the 8 tests that it met, `2 * x` passes one: a margin over all 30 would be 29 / 30.
    assert row.common_passes(0, 6) == (8, 1, 8) and pairs[0, 6].margin == pytest.approx(7 / 8)
    assert pairs[0, 6].confidence == 0.9999 and pairs[0, 3].confidence == 1.0
    assert row.common_passes(0, 4) == (24, 20, 24) and pairs[0, 4].margin == pytest.approx(4 / 24)
    # It passed as much as the best where it ran, so no order is claimed.
    alike = replace(row, passed=row.passed | (row.race.asked & (np.arange(7) == 6)[:, None]))  # type: ignore[union-attr]
    assert all(p.rejected != 6 for p in correctness_pairs(alike, ranked, options, Counter()))


def test_the_row_comes_back_as_it_was_and_a_torn_one_is_refused() -> None:
    raw = raced()
    assert Race.from_json(raw["race"], 7, 30).to_json() == raw["race"]
    for change in ({"met": [1] * 6}, {"met": [31] * 7}, {"live": [7]}, {"least": "x"}):
        with pytest.raises(CodealignError, match=r"not a row of matrices.jsonl"):
            read_matrix_row({**raw, "race": {**raw["race"], **change}})


@pytest.mark.parametrize(
    "work",
    [
        lambda row: ranking_row(row, replace(ONES, ranker="codet")),
        lambda row: ranking_row(row, replace(ONES, weights="counts")),
        lambda row: ranking_row(row, replace(ONES, drop_trivial_tests=True)),
        lambda row: rank_matrix(row, ONES),
        lambda row: clean(row, range(7)),
        lambda row: preference_rows([row], {}, PairOptions(builder="dstc"), 0.0, Counter()),
    ],
)
def test_what_needs_the_whole_matrix_refuses(work: Any) -> None:
    row = read_matrix_row(raced())
    with pytest.raises(CodealignError, match=r"needs the whole matrix.*unknown, not failed"):
        work(row) if not _wants_problem(work) else work(_problem(row))


def _wants_problem(work: Any) -> bool:
    return "preference_rows" in work.__code__.co_names


def _problem(row: Any) -> Any:
    from codegen_eval.pairs.job import Ranked

    return Ranked(PROMPT, row, read_ranking_row(ranking_row(row, ONES), row))


def test_a_cell_that_the_sandbox_left_unknown_counts_as_not_passed_as_in_a_full_matrix() -> None:
    class GivesUp(FakeSandbox):
        def pass_matrices(self, jobs: Any) -> Any:
            for matrix in super().pass_matrices(jobs):
                matrix.verdicts[2, -1] = UNKNOWN
                yield matrix

    task = Task(
        PROMPT, tuple(f"def f(x): return {t}" for t in ("x", "1", "2")), (("assert f(1) == 1", "own"),), {}
    )
    (found,) = run_adaptive([task.job()], GivesUp(), AdaptiveOptions())
    assert found.race.asked.all() and not found.matrix.known.all()
    assert found.matrix.verdicts[0, 0] == list(Verdict).index(Verdict.passed)
    row = read_matrix_row({**matrix_row(task, found.matrix), "race": found.race.to_json()})
    full = read_matrix_row(matrix_row(task, found.matrix))
    assert ranking_row(row, ONES)["scores"] == pytest.approx(ranking_row(full, ONES)["scores"])
