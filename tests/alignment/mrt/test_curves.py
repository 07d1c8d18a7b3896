"""Curves over questions, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.mrt import curves
from codegen_eval.errors import CodealignError
from tests.alignment.mrt.made_up import judged

# J: 0 at 0 tokens, 0.5 at 3, 1 at 6; right at its own end.
RISING = judged([[0, 0], [0, 1], [1, 1]])
# J: 0.5 throughout 3 tokens; wrong at its own end.
FLAT = judged([[0, 1], [1, 0]], outcome=0.0)
NEVER = judged([[1, 0, 0, 0]], outcome=0.0)


def test_regret_of_one_trace_by_hand() -> None:
    # Area below the curve up to 6: triangle 6 x 1 / 2; up to 12 another 6 x 1.
    assert curves.trace_regret(RISING, 6) == pytest.approx(1 - 3 / 6)
    assert curves.trace_regret(RISING, 12) == pytest.approx(1 - 9 / 12)
    assert curves.trace_regret(FLAT, 100) == pytest.approx(0.5)
    assert curves.trace_regret(NEVER, 30) == pytest.approx(0.75), "no thinking: J of the empty prefix"


def test_traces_are_averaged_within_a_question_first() -> None:
    groups = [[RISING, FLAT], [FLAT, FLAT]]
    assert np.allclose(curves.regrets(groups, [12]), [[(0.25 + 0.5) / 2], [0.5]])
    assert np.allclose(curves.j_at(groups, [0, 1.5, 6, 99]), [[0.25, 0.375, 0.75, 0.75], [0.5] * 4])
    assert np.allclose(curves.episode_counts(groups), [1.5, 1.0])
    assert np.allclose(curves.accuracies(groups), [0.5, 0.0])


def test_accuracy_takes_the_own_answer_once_it_is_within_the_tokens_and_a_forced_one_before() -> None:
    found = curves.accuracy_at([[RISING]], [0, 2, 3, 5, 6, 50])
    assert np.allclose(found, [[0, 0, 0.5, 0.5, 1, 1]])
    wrong = judged([[0, 0], [1, 1]], outcome=0.0)
    assert np.allclose(curves.accuracy_at([[wrong]], [2, 3]), [[0, 0]]), "its own answer was wrong"
    endless = judged([[0, 0], [1, 1]], outcome=0.0, ended=False)
    assert np.allclose(curves.accuracy_at([[endless]], [2, 3, 9]), [[0, 1, 1]]), "forced: it never ended"


def test_cumulative_regret_by_episodes_keeps_the_last_j() -> None:
    assert np.allclose(curves.episode_regrets([[RISING]], 4), [[0.5, 0.5, 0.5, 0.5]])
    assert np.allclose(curves.episode_regrets([[FLAT]], 3), [[0.5, 1.0, 1.5]])


def test_what_has_no_curve_is_refused() -> None:
    for groups in ([], [[RISING], []]):
        with pytest.raises(CodealignError, match="at least one question"):
            curves.regrets(groups, [3])
    with pytest.raises(CodealignError, match="no reward"):
        curves.accuracy_at([[judged([[0], [1]], outcome=None)]], [3])
