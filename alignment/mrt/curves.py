"""Curves of many traces: J, accuracy and regret against tokens of thinking, as means over questions.

All functions take the judged traces of one question together, average over its traces, and give one row a
question, so that intervals can be drawn over questions (traces of one question are not independent).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from alignment.mrt.prover import Judged
from alignment.mrt.regret import cumulative_regret, token_regret
from codegen_eval.errors import CodealignError

FloatArray = NDArray[np.float64]


def trace_regret(judged: Judged, budget: float) -> float:
    """Regret of one trace at a budget of tokens (`regret.token_regret`), from J of the empty prefix on.

    Tokens are those of thinking: neither prompt nor answer counts. A trace that never thought has the curve
    J(empty) throughout.
    """
    j = judged.j
    if len(j) == 1:
        return 1.0 - float(j[0])
    return token_regret(j[1:], judged.places[1:], budget, j_empty=float(j[0]))


def regrets(groups: Sequence[Sequence[Judged]], budgets: Sequence[float]) -> FloatArray:
    """Normalised regret by question and budget, (questions, budgets); times the budget it is cumulative."""
    return _by_question(groups, lambda one: [trace_regret(one, budget) for budget in budgets])


def j_at(groups: Sequence[Sequence[Judged]], tokens: Sequence[float]) -> FloatArray:
    """J by question and tokens of thinking, (questions, tokens): straight between prefixes, level behind."""
    return _by_question(groups, lambda one: np.interp(tokens, one.places, one.j).tolist())


def accuracy_at(groups: Sequence[Sequence[Judged]], tokens: Sequence[float]) -> FloatArray:
    """Share of right answers within so many tokens of thinking, (questions, tokens).

    A trace that ended by itself within them counts with its own answer; any other is stopped by force at its
    last whole episode within them and counts with J there.

    Raises:
        CodealignError: For a finished trace whose own answer could not be graded.
    """

    def of(one: Judged) -> list[float]:
        if one.trace.finished and one.trace.outcome is None:
            raise CodealignError(f"the answer to {one.trace.question.key!r} has no reward: leave it out")
        j = one.j
        places = np.searchsorted(one.places, tokens, side="right") - 1
        own = [one.trace.finished and one.trace.cuts[-1:] <= (limit,) for limit in map(int, tokens)]
        outcome = one.trace.outcome or 0.0
        return [outcome if done else float(j[i]) for done, i in zip(own, places, strict=True)]

    return _by_question(groups, of)


def episode_regrets(groups: Sequence[Sequence[Judged]], episodes: int) -> FloatArray:
    """Cumulative regret against an oracle after 1, 2, ... episodes, (questions, episodes).

    Counted from the first episode's end; behind its last episode a trace keeps its J.
    """

    def of(one: Judged) -> list[float]:
        places = np.minimum(np.arange(1, episodes + 1), len(one.j) - 1)
        return list(cumulative_regret(one.j[places]))

    return _by_question(groups, of)


def episode_counts(groups: Sequence[Sequence[Judged]]) -> FloatArray:
    """Mean number of episodes by question, (questions,)."""
    return _by_question(groups, lambda one: [float(len(one.trace.cuts))])[:, 0]


def accuracies(groups: Sequence[Sequence[Judged]]) -> FloatArray:
    """Share of right answers by question, (questions,), each trace by its own answer."""
    return _by_question(groups, lambda one: [float(one.trace.outcome or 0.0)])[:, 0]


def _by_question(groups: Sequence[Sequence[Judged]], of: Callable[[Judged], Sequence[float]]) -> FloatArray:
    if not groups or not all(groups):
        raise CodealignError("a curve needs at least one question, and one trace of each")
    return np.array([np.mean([of(one) for one in group], axis=0) for group in groups], dtype=np.float64)
