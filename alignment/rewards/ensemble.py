"""An ensemble as one reward function, for our trainers and for TRL's `reward_funcs`.

TRL sums what several reward functions say and drops a NaN silently; an ensemble must be one callable that
combines its members itself (specification: docs/ensembles.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alignment.rewards.aggregation import (
    Aggregate,
    Calibration,
    FloatArray,
    Objective,
    aggregate,
)
from codegen_eval.errors import CodealignError

Scores = Callable[..., Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Scored:
    """What the last call saw: one row a scored sample, members in their order.

    Attributes:
        samples: Positions in the call's batch; all of it unless a row had no score.
        scores: On the common scale, shape (samples, members).
        result: What the ensemble made of them.
    """

    samples: tuple[int, ...]
    scores: FloatArray
    result: Aggregate


class EnsembleReward:
    """Several members, one conservative reward.

    Args:
        members: Reward functions in TRL's form, `f(prompts, completions, **kwargs) -> [number, ...]`, or
            objects with a method `score` of that form; by name, or as a list (then named member0, ...). A
            path is a folder that `codealign train reward` made, for all its members, or, as one member, a
            reward model or adapter with its scale.
        objective: "mean", "wco" or "uwo" (see aggregation.py).
        lam: UWO's lambda; the paper uses 0.5 for best-of-n and 0.1 for PPO.
        ddof: 0 for the population variance (default), 1 for the sample variance.
        calibration: Scale of each member by name; a member's own attribute `calibration` serves otherwise.
        uncalibrated: Take members that have no calibration as they are, e.g. pass rates that share a scale.
        missing: What a score of None means: "error", or "none": the whole row has no reward. Never is the
            member dropped. NaN is always an error.

    Raises:
        CodealignError: For no members, a member that cannot score, or two or more members of which one has no
            calibration.
    """

    def __init__(
        self,
        members: Mapping[str, Any] | Sequence[Any] | str | Path,
        objective: Objective = "mean",
        *,
        lam: float = 0.5,
        ddof: int = 0,
        calibration: Mapping[str, Calibration] | None = None,
        uncalibrated: bool = False,
        missing: Literal["error", "none"] = "error",
    ) -> None:
        named = _named(members)
        if not named:
            raise CodealignError("an ensemble needs at least one member")
        if missing not in ("error", "none"):
            raise CodealignError(f'missing must be "error" or "none" (given: {missing!r})')
        self.names = tuple(named)
        self._score = {name: _score_function(name, member) for name, member in named.items()}
        self._calibration = _calibrations(named, calibration or {}, uncalibrated)
        self.objective: Objective = objective
        self.lam = lam
        self.ddof = ddof
        self._missing = missing
        self.last: Scored | None = None
        aggregate(np.zeros((1, len(named))), objective, lam=lam, ddof=ddof)  # refuses bad settings now
        self.__name__ = f"{objective}_of_{len(named)}"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """One reward a completion.

        Args:
            prompts: Texts or message lists, one a completion.
            completions: What was generated.
            log_extra: TRL's hook for a column of the table of completions, where the trainer has it.
            log_metric: TRL's hook for a metric, where the trainer has it.
            kwargs: Other columns of the data set; every member gets them.

        Raises:
            CodealignError: If a member fails to give one finite number a completion; member and sample are
                named.
        """
        if len(prompts) != len(completions):
            raise CodealignError(f"{len(prompts)} prompts do not fit {len(completions)} completions")
        columns = [self._column(name, prompts, completions, kwargs, len(completions)) for name in self.names]
        samples = tuple(
            i for i in range(len(completions)) if all(column[i] is not None for column in columns)
        )
        rewards: list[float | None] = [None] * len(completions)
        if samples:
            raw = np.array([[column[i] for column in columns] for i in samples], dtype=np.float64)
            self.last = self._combine(samples, raw)
            for i, reward in zip(samples, self.last.result.rewards.tolist(), strict=True):
                rewards[i] = reward
            self._report(len(completions), log_extra, log_metric)
        return rewards

    def _column(
        self, name: str, prompts: Sequence[Any], completions: Sequence[Any], kwargs: dict[str, Any], size: int
    ) -> list[float | None]:
        """A member's scores, their number and kind checked."""
        given = self._score[name](prompts=prompts, completions=completions, **kwargs)
        try:
            values = [None if value is None else float(value) for value in given]
        except (TypeError, ValueError) as error:
            raise CodealignError(f"member {name!r} must return one number a completion: {error}") from None
        if len(values) != size:
            raise CodealignError(f"member {name!r} returned {len(values)} scores for {size} completions")
        for i, value in enumerate(values):
            if value is None and self._missing == "error":
                raise CodealignError(
                    f"member {name!r} has no score for sample {i}; a member is never left out of an "
                    'ensemble. missing="none" gives the whole row no reward'
                )
        return values

    def _combine(self, samples: tuple[int, ...], raw: FloatArray) -> Scored:
        scores = raw.copy()
        for j, name in enumerate(self.names):
            bad = np.flatnonzero(~np.isfinite(raw[:, j]))
            if len(bad):
                raise CodealignError(
                    f"member {name!r} gave sample {samples[bad[0]]} the score {raw[bad[0], j]}; "
                    "scores must be finite numbers"
                )
            if name in self._calibration:
                scores[:, j] = self._calibration[name].apply(raw[:, j])
        result = aggregate(scores, self.objective, lam=self.lam, ddof=self.ddof, members=self.names)
        return Scored(samples, scores, result)

    def _report(
        self,
        size: int,
        log_extra: Callable[[str, list[Any]], None] | None,
        log_metric: Callable[[str, float], None] | None,
    ) -> None:
        """Member scores, variance and the deciding member, to whatever hooks the trainer has."""
        seen = self.last
        assert seen is not None
        if log_metric is not None:
            log_metric("ensemble/variance", float(seen.result.variance.mean()))
            log_metric("ensemble/mean", float(seen.result.mean.mean()))
            for j, name in enumerate(self.names):
                log_metric(f"ensemble/{name}/score", float(seen.scores[:, j].mean()))
                log_metric(f"ensemble/{name}/lowest", float((seen.result.lowest == j).mean()))
        if log_extra is not None:
            columns: dict[str, list[Any]] = {
                **{f"score_{name}": seen.scores[:, j].tolist() for j, name in enumerate(self.names)},
                "ensemble_variance": seen.result.variance.tolist(),
                "ensemble_lowest": [self.names[j] for j in seen.result.lowest],
            }
            for column, values in columns.items():
                spread: list[Any] = [None] * size
                for i, value in zip(seen.samples, values, strict=True):
                    spread[i] = value
                log_extra(column, spread)


def _named(members: Mapping[str, Any] | Sequence[Any] | str | Path) -> dict[str, Any]:
    """The members by name, reward models opened where a path stands for them."""
    if isinstance(members, str | Path):
        from alignment.reward_modeling.scoring import load_members

        return dict(load_members(members))
    named = (
        dict(members)
        if isinstance(members, Mapping)
        else {f"member{i}": member for i, member in enumerate(members)}
    )
    paths = {name: Path(member) for name, member in named.items() if isinstance(member, str | Path)}
    if paths:
        from alignment.reward_modeling.scoring import open_members

        named.update(open_members(paths))
    return named


def _score_function(name: str, member: Any) -> Scores:
    score = getattr(member, "score", None)
    function = score if callable(score) else member
    if not callable(function):
        raise CodealignError(
            f"member {name!r} cannot score: it is neither a function nor has a method `score` "
            f"({type(member).__name__})"
        )
    scores: Scores = function
    return scores


def _calibrations(
    members: Mapping[str, Any], given: Mapping[str, Calibration], uncalibrated: bool
) -> dict[str, Calibration]:
    """Each member's scale, where it has one; refuses a mixture of scales that nobody asked for."""
    strange = sorted(set(given) - set(members))
    if strange:
        raise CodealignError(
            f"calibration of {', '.join(strange)}: no such member; there are {', '.join(members)}"
        )
    found = {name: given.get(name, getattr(member, "calibration", None)) for name, member in members.items()}
    known = {name: scale for name, scale in found.items() if scale is not None}
    bare = [name for name in members if name not in known]
    if bare and len(members) > 1 and not uncalibrated:
        raise CodealignError(
            f"no calibration for {', '.join(bare)}: minima and variances would compare scales, not answers. "
            "Give calibration={name: calibrate(scores on a fixed set)}, or uncalibrated=True if the members "
            "share a scale"
        )
    return known
