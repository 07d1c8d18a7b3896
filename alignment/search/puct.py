"""Selection and node values of step-level search: MCTS-DPO (Xie et al. 2024, arXiv 2405.00451)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

FloatArray = NDArray[np.float64]


def step_priors(logps: ArrayLike, lengths: ArrayLike, length_penalty: float = 1.25) -> FloatArray:
    """exp(summed log-probability / length^length_penalty) of steps, of the inputs' shape.

    With a penalty of 1 this is the geometric mean of the token probabilities; above 1 long steps are drawn
    towards 1. 1.25 is the authors' value.

    Raises:
        CodealignError: For unequal shapes, a step of no tokens, or a log-probability above 0 or NaN.
    """
    sums, sizes = np.asarray(logps, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    if sums.shape != sizes.shape:
        raise CodealignError(f"priors need one length a step, got {sums.shape} and {sizes.shape}")
    if not (sizes >= 1).all() or not (sums <= 0).all():
        raise CodealignError("a step has no tokens, or a log-probability that is above 0 or not a number")
    return np.exp(sums / sizes**length_penalty)


def puct_score(q: float, visits: float, prior: float, root_of_visits: float, c_puct: float) -> float:
    """Q + c_puct x prior x sqrt(N(parent)) / (1 + N(child)); `root_of_visits` is that square root."""
    return q + c_puct * prior * root_of_visits / (1.0 + visits)


def puct_scores(
    q: ArrayLike, visits: ArrayLike, priors: ArrayLike, parent_visits: float, c_puct: float = 1.0
) -> FloatArray:
    """`puct_score` of all children, (children,). The first maximum is selected."""
    columns = (np.asarray(x, dtype=np.float64).tolist() for x in (q, visits, priors))
    root = float(np.sqrt(parent_visits))
    return np.array([puct_score(v, n, p, root, c_puct) for v, n, p in zip(*columns, strict=True)])


def node_value(outcome: float, confidence: float) -> float:
    """R = outcome + confidence, the paper's eq. 2: outcome 1 or -1 at a terminal node, else 0."""
    return outcome + confidence


def length_penalised_value(
    outcome: float, confidence: float, *, parent_depth: int, parent_value: float
) -> float:
    """R as the authors' code has it (mcts_rl, search_config.py).

    The confidence is divided by the parent's depth - 3 where that is above 1, replaced by the parent's value
    where the result is 0, and the outcome added.
    """
    share = confidence / max(parent_depth - 3, 1)
    return (share if share != 0 else parent_value) + outcome


def children_value(q: Sequence[float], visits: Sequence[int], weights: str) -> float:
    """V of a node: mean of its children's Q by visits ("visits", the paper) or by max(1, visits) ("max1").

    With "visits" and no visit at all it is 0.
    """
    shares = visits if weights == "visits" else [max(n, 1) for n in visits]
    total = sum(shares)
    return sum(n * value for n, value in zip(shares, q, strict=True)) / total if total else 0.0
