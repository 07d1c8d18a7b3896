"""Two evaluations of the same problems: paired differences, whether they could be chance, what changed most.

Takes the content of two results.json (`codegen_eval.results` reads other files into the same form).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen_eval.errors import CodealignError
from codegen_eval.metrics import paired
from codegen_eval.metrics.per_problem import eff_values, pass_values, slow_counts
from codegen_eval.metrics.statistics import Interval, paired_difference, paired_ratio_difference

Results = Mapping[str, Any]
Problems = list[Mapping[str, Any]]
_MUST_AGREE = ("temperature", "samples_per_problem")
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Paired:
    """The problems of both sides, the same ones in the same order, and how many only one side has."""

    before: Problems
    after: Problems
    only_before: int
    only_after: int


def pair(before: Results, after: Results, *, common: bool = False) -> Paired:
    """Sets the problems of two results beside each other.

    Args:
        before: Content of a results.json.
        after: Content of another.
        common: Take the problems that both have, and other splits of a benchmark, instead of refusing.

    Raises:
        CodealignError: For other benchmarks (where both sides name theirs), splits or problems, or none that
            both have.
    """
    for key in ("benchmark",) if common else ("benchmark", "split"):
        if key in before and key in after and before[key] != after[key]:
            raise CodealignError(
                f"cannot compare: {key} is {before[key]!r} in one run, {after[key]!r} in the other"
                + ("; --common compares the problems that both have" if key == "split" else "")
            )
    first, second = ({p["task_id"]: p for p in side["problems"]} for side in (before, after))
    shared = [task_id for task_id in first if task_id in second]
    lone = [sorted(first.keys() - second.keys()), sorted(second.keys() - first.keys())]
    if any(lone) and not common:
        sides = zip(("first", "second"), lone, strict=True)
        raise CodealignError(
            f"cannot compare: {sum(map(len, lone))} problems are in one run only: "
            + "; ".join(f"{_some(ids)} in the {side}" for side, ids in sides if ids)
            + "; --common compares the problems that both have"
        )
    if not shared:
        raise CodealignError("cannot compare: the two runs have no problem in common")
    return Paired(
        [first[task_id] for task_id in shared],
        [second[task_id] for task_id in shared],
        len(lone[0]),
        len(lone[1]),
    )


def compare(
    before: Results, after: Results, *, resamples: int = 10_000, seed: int = 0, common: bool = False
) -> dict[str, dict[str, Any]]:
    """Paired differences (after - before) of two evaluations of the same problems.

    Args:
        before: Content of a results.json.
        after: Content of another.
        resamples: Bootstrap samples and random swaps; problems are drawn, the same ones for both sides.
        seed: Of both.
        common: As for `pair`.

    Returns:
        For "pass@1", "pass@10", ... and "eff@1", ... (every k that both report) and "slow_share" (if both
        have it), as far as their problems allow it:

        - the values `before` and `after`, their `difference`, the ends `low` and `high` of its 95 % interval;
        - `p_value` of the permutation test; `problems` compared, of them `higher`, `lower` and `same`;
        - `detectable`: the smallest difference that so many problems find with 80 % power, `needed`: how
          many problems the observed one needs (`codegen_eval.metrics.paired.power`; None where unknown).

    Raises:
        CodealignError: As `pair`.
    """
    pairs = pair(before, after, common=common)
    chance = {"resamples": resamples, "seed": seed}
    found = {}
    for k in _common_k(before, after, "pass_at_k"):
        found[f"pass@{k}"] = _mean_row(pass_values(pairs.before, k), pass_values(pairs.after, k), **chance)
    scored = _scored(pairs)
    for k in _common_k(before, after, "eff_at_k") if scored else ():
        found[f"eff@{k}"] = _mean_row(eff_values(scored[0], k), eff_values(scored[1], k), **chance)
    if before.get("slow_share") and after.get("slow_share"):
        sides = [
            tuple(np.array(counts, dtype=np.float64) for counts in slow_counts(side))
            for side in (pairs.before, pairs.after)
        ]
        if all(bottom.sum() > 0 for _, bottom in sides):
            found["slow_share"] = _ratio_row((sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]), **chance)
    return found


def changed_problems(before: Problems, after: Problems) -> list[dict[str, Any]]:
    """The problems whose share of right samples differs, the greatest change first, then by task id.

    Args:
        before: Problems with `task_id`, `n`, `c`.
        after: The same problems in the same order.

    Returns:
        Rows with `task_id`, the shares `before` and `after`, and their `difference`.
    """
    rows = []
    for a, b in zip(before, after, strict=True):
        shares = [p["c"] / p["n"] for p in (a, b)]
        if abs(shares[1] - shares[0]) > 1e-12:
            rows.append(
                {
                    "task_id": a["task_id"],
                    "before": shares[0],
                    "after": shares[1],
                    "difference": shares[1] - shares[0],
                }
            )
    return sorted(rows, key=lambda row: (-abs(row["difference"]), row["task_id"]))


def unlike(before: Results, after: Results) -> list[tuple[str, Any, Any]]:
    """Settings in which two runs differ although a fair comparison wants them equal: name and both values.

    Only what both say is looked at: a foreign result names no temperature.
    """
    return [
        (key, before[key], after[key])
        for key in _MUST_AGREE
        if key in before and key in after and before[key] != after[key]
    ]


def _some(ids: list[str]) -> str:
    """How many, and the first of them by name."""
    more = ", ..." if len(ids) > _NAMED else ""
    return f"{len(ids)} ({', '.join(map(repr, ids[:_NAMED]))}{more})"


def _common_k(before: Results, after: Results, metric: str) -> list[int]:
    return sorted(map(int, set(before.get(metric) or ()) & set(after.get(metric) or ())))


def _scored(pairs: Paired) -> list[Problems]:
    """Both sides' problems that have efficiency scores on both; empty where there is none."""
    both = [(a, b) for a, b in zip(pairs.before, pairs.after, strict=True) if a.get("eff") and b.get("eff")]
    return [list(side) for side in zip(*both, strict=True)]


def _mean_row(
    before: NDArray[np.float64], after: NDArray[np.float64], *, resamples: int, seed: int
) -> dict[str, Any]:
    difference = paired_difference(before, after, resamples=resamples, seed=seed)
    p_value = paired.permutation_test(before, after, resamples=resamples, seed=seed)
    return _row(float(before.mean()), difference, p_value, paired.changes(before, after), after - before)


def _ratio_row(
    before: tuple[NDArray[np.float64], NDArray[np.float64]],
    after: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """A row for a ratio of sums; its spread is that of the ratio's linear terms, its changes those of
    problems that have a ratio on both sides.
    """
    difference = paired_ratio_difference(before, after, resamples=resamples, seed=seed)
    p_value = paired.ratio_permutation_test(before, after, resamples=resamples, seed=seed)
    ratios = [top.sum() / bottom.sum() for top, bottom in (before, after)]
    terms = [
        (top - ratio * bottom) / bottom.mean()
        for (top, bottom), ratio in zip((before, after), ratios, strict=True)
    ]
    both = (before[1] > 0) & (after[1] > 0)
    shares = [top[both] / bottom[both] for top, bottom in (before, after)]
    changes = paired.changes(*shares) if both.any() else paired.Changes(0, 0, 0)
    return _row(float(ratios[0]), difference, p_value, changes, terms[1] - terms[0] + difference.value)


def _row(
    before: float,
    difference: Interval,
    p_value: float,
    changes: paired.Changes,
    differences: NDArray[np.float64],
) -> dict[str, Any]:
    hint = paired.power(differences)
    return {
        "before": before,
        "after": before + difference.value,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p_value": p_value,
        "problems": len(differences),
        **asdict(changes),
        "detectable": hint.detectable if hint else None,
        "needed": hint.needed if hint else None,
    }
