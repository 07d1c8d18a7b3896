"""Adaptive execution: the sure rule is sure, the other one saves, and the sandbox sees only what is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.adaptive import (
    AdaptiveOptions,
    Progress,
    best_codes,
    known_scores,
    next_cells,
    record,
    replay,
)
from codegen_eval.ranking.adaptive_run import run_adaptive
from codegen_eval.ranking.common import RANKERS, make_view
from codegen_eval.ranking.simulation import Setting, trials
from sandbox import CallTest, MatrixJob, PassMatrix
from tests.codegen_eval.made_up_runs import FakeSandbox

matrices = st.tuples(st.integers(0, 7), st.integers(0, 9)).flatmap(
    lambda shape: arrays(np.bool_, shape, elements=st.booleans())
)


@settings(max_examples=100, deadline=None)
@given(matrices, st.integers(1, 4))
def test_maxpass_chooses_what_the_full_matrix_chooses(matrix: np.ndarray, batch: int) -> None:
    options = AdaptiveOptions("maxpass", batch=batch)
    progress = replay(matrix, options)
    assert best_codes(progress, options) == RANKERS.get("maxpass")(make_view(matrix)).best
    assert (progress.passed <= matrix).all() and progress.executions <= matrix.size


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(1, 4))
def test_b4_never_leaves_anybody_out_where_the_least_probability_is_zero(
    matrix: np.ndarray, batch: int
) -> None:
    if len(matrix) < 2:
        return
    options = AdaptiveOptions("b4", batch=batch, least=0.0)
    progress = replay(matrix, options)
    assert progress.known.all()
    scores = RANKERS.get("b4")(make_view(matrix)).scores
    np.testing.assert_allclose(known_scores(progress, options), scores, rtol=1e-9, atol=1e-9)
    assert best_codes(progress, options) == RANKERS.get("b4")(make_view(matrix)).best


def test_b4_saves_a_third_of_the_simulation_at_nearly_equal_choice() -> None:
    options = AdaptiveOptions("b4")
    saved, equal = [], []
    for trial in trials(Setting(), 150, np.random.default_rng(5)):
        progress = replay(trial.passed, options)
        saved.append(1 - progress.executions / trial.passed.size)
        full = RANKERS.get("b4")(make_view(trial.passed)).best
        equal.append(best_codes(progress, options) == full)
    assert np.mean(saved) > 0.25 and np.mean(equal) >= 0.95


def test_programs_leave_the_race_when_they_cannot_win_any_more() -> None:
    options = AdaptiveOptions("maxpass", batch=2)
    progress = Progress.start(3, 4)
    assert next_cells(progress, options) == ([0, 1, 2], [0, 1])
    matrix = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [0, 0, 1, 1]], dtype=bool)
    final = replay(matrix, options)
    assert final.executions == 12 and best_codes(final, options) == (0, 1)
    ahead = replay(np.array([[1, 1, 1, 1], [0, 0, 0, 1]], dtype=bool), AdaptiveOptions("maxpass", batch=1))
    # After three tests the second can reach one pass of four at most.
    assert ahead.executions == 6


class Seen(FakeSandbox):
    """Counts cells."""

    cells = 0

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        for job in jobs:
            self.cells += len(job.codes) * len(job.tests)
            yield from super().pass_matrices([job])


def test_the_sandbox_runs_only_what_is_reported() -> None:
    codes = ["def f(x): return x + 1", "def f(x): return 0", "def f(x): return x + 1", "def f(x) return"]
    tests = [CallTest((i,), i + 1) for i in range(1, 13)]
    box = Seen()
    jobs = [MatrixJob(codes, tests, "f", id="a"), MatrixJob(codes[:1], tests, "f"), MatrixJob([], [], "f")]
    first, alone, nothing = run_adaptive(jobs, box, AdaptiveOptions("maxpass", batch=3))
    assert first.best == (0,) and alone.best == (0,) and nothing.best == ()
    assert first.executions + first.saved == 3 * 12 and first.executions < 36
    assert box.cells == first.executions and alone.executions == 0
    assert int(first.matrix.known.sum()) == first.executions
    assert first.matrix.code_index.tolist() == [0, 1, 0, 2] and first.matrix.code_counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rule": "codet"}, "choose from"), ({"batch": 0}, "at least 1"), ({"least": float("nan")}, "below 1")],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        AdaptiveOptions(**options)  # type: ignore[arg-type]


def test_outcomes_are_taken_where_they_were_asked_for() -> None:
    progress = Progress.start(2, 3)
    record(progress, [1], [0, 1], np.array([[True, False]]))
    assert progress.known.tolist() == [[False] * 3, [True, True, False]] and progress.done == 2
    assert progress.passed.sum() == 1
