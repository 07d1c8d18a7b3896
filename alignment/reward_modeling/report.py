"""What the members of a reward ensemble are worth: accuracy on held-out pairs, and how they disagree.

Accuracy on pairs like those of training does not predict robustness (Coste et al. 2023, F.1), so the report
also says how the members disagree, and whether they disagree more on strange text: each held-out answer under
another held-out prompt. Members that do not are members whose minimum warns of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.rewards.aggregation import OBJECTIVES, FloatArray, aggregate, checked_scores
from codegen_eval.errors import CodealignError
from codegen_eval.metrics.statistics import bootstrap_ratio


def correct_shares(margins: ArrayLike) -> FloatArray:
    """1 where the better side has the higher score, 0.5 where both are equal, else 0; any shape."""
    array = np.asarray(margins, dtype=np.float64)
    right: FloatArray = (array > 0) + 0.5 * (array == 0)
    return right


def correlations(scores: ArrayLike) -> FloatArray:
    """Pearson correlation of the members' scores, shape (members, members).

    Raises:
        CodealignError: For fewer than two samples, or a member that gives all of them one score.
    """
    array = checked_scores(scores)
    if array.ndim != 2 or len(array) < 2:
        raise CodealignError(f"correlations need scores of two or more samples, got shape {array.shape}")
    flat = np.flatnonzero(np.ptp(array, axis=0) == 0)
    if len(flat):
        raise CodealignError(f"member {flat[0]} gives every sample one score: it correlates with nothing")
    found: FloatArray = np.corrcoef(array, rowvar=False).reshape(array.shape[1], array.shape[1])
    return found


def split_votes(margins: ArrayLike) -> float:
    """Share of pairs whose better side the members do not agree on; margins (pairs, members)."""
    signs = np.sign(checked_scores(margins))
    return float((signs != signs[:, :1]).any(axis=1).mean())


def spread(scores: ArrayLike) -> float:
    """Mean over samples of the members' (population) standard deviation, on calibrated scores."""
    return float(checked_scores(scores).std(axis=-1).mean())


def agreement(
    chosen: FloatArray,
    rejected: FloatArray,
    strange: FloatArray | None,
    prompts: Sequence[str],
    *,
    lam: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The whole report as plain data.

    Args:
        chosen: Calibrated scores of the better sides, shape (pairs, members).
        rejected: Of the worse sides, same shape.
        strange: Of answers under other prompts, shape (samples, members); None where there is one prompt.
        prompts: The pairs' prompts: intervals draw whole prompts.
        lam: UWO's lambda.
        resamples: Bootstrap samples; with fewer than two prompts there is no interval.
        seed: Of the bootstrap.
    """
    margins = chosen - rejected
    groups = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    which = np.array([groups[prompt] for prompt in prompts])
    accuracy = {
        f"member{j}": _accuracy(margins[:, j], which, resamples, seed) for j in range(margins.shape[1])
    }
    for objective in OBJECTIVES:
        better, worse = (aggregate(side, objective, lam=lam).rewards for side in (chosen, rejected))
        accuracy[objective] = _accuracy(better - worse, which, resamples, seed)
    scores = np.concatenate([chosen, rejected])
    return {
        "pairs": len(margins),
        "prompts": len(groups),
        "accuracy": accuracy,
        "all_wrong": float((margins < 0).all(axis=1).mean()),
        "split_votes": split_votes(margins),
        "correlation": correlations(scores).tolist(),
        "correlation_of_margins": correlations(margins).tolist() if len(margins) > 1 else None,
        "spread": spread(scores),
        "spread_strange": None if strange is None else spread(strange),
        "lam": lam,
    }


def _accuracy(margins: FloatArray, groups: NDArray[np.int64], resamples: int, seed: int) -> dict[str, float]:
    """Share of right pairs, with its interval over prompts where there are two or more."""
    right = correct_shares(margins)
    sums, counts = np.bincount(groups, right), np.bincount(groups)
    if len(counts) < 2:
        return {"value": float(right.mean())}
    return bootstrap_ratio(sums, counts, resamples=resamples, seed=seed).to_json()


def markdown(report: dict[str, Any]) -> str:
    """The report as a table and a few lines."""
    lines = [
        f"{report['pairs']} held-out pairs of {report['prompts']} prompts.",
        "",
        "| | accuracy | 95 % interval |",
        "|---|---|---|",
    ]
    for name, found in report["accuracy"].items():
        ends = f"[{found['low']:.3f}, {found['high']:.3f}]" if "low" in found else "-"
        lines.append(f"| {name} | {found['value']:.3f} | {ends} |")
    matrix = np.array(report["correlation"])
    lines.append("")
    if len(matrix) > 1:
        pairs = matrix[np.triu_indices(len(matrix), 1)]
        lines.append(
            f"Correlation between members' scores: {pairs.mean():.3f} "
            f"({pairs.min():.3f} to {pairs.max():.3f})."
        )
    lines.append(f"Pairs on which the members vote differently: {report['split_votes']:.3f}.")
    lines.append(f"Pairs that all members get wrong (no rule here mends them): {report['all_wrong']:.3f}.")
    lines.append(f"Spread of the members on held-out answers: {report['spread']:.3f} standard deviations.")
    strange = report["spread_strange"]
    if strange is not None:
        lines.append(f"Spread on answers under other prompts: {strange:.3f}.")
        if len(matrix) > 1 and strange <= report["spread"]:
            lines.append(
                "The members do not disagree more on strange text: their minimum warns of little. "
                "Let heads differ (--vary_head), train longer, or use full copies instead of adapters."
            )
    return "\n".join(lines) + "\n"
