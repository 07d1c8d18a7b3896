"""A member's scale: mean and standard deviation of its scores on held-out completions, kept with the member.

The authors of the ensemble paper wrote these two numbers into the model's configuration but never applied
them (specification in docs/ensembles.md); here an ensemble refuses members without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from alignment.reward_modeling.members import MemberNote, read_note
from alignment.reward_modeling.scoring import RewardModel
from alignment.rewards.aggregation import Calibration, FloatArray, calibrate
from codegen_eval.errors import CodealignError


def score_all(members: Mapping[str, RewardModel], texts: Sequence[tuple[str, str]]) -> FloatArray:
    """Raw scores of all members, shape (texts, members).

    Raises:
        CodealignError: For a text that a member has no score for.
    """
    prompts, completions = [p for p, _ in texts], [c for _, c in texts]
    columns = []
    for name, member in members.items():
        found = member.score(prompts, completions)
        for i, value in enumerate(found):
            if value is None:
                raise CodealignError(
                    f"{name} has no score for text {i}: it is longer than max_length={member.max_length}; "
                    "leave it out"
                )
        columns.append(found)
    return np.array(columns, dtype=np.float64).T


def calibrate_members(
    members: Mapping[str, RewardModel], scores: FloatArray, *, floor: float = 0.0
) -> dict[str, Calibration]:
    """Measures each member's scale and writes it into the note beside its weights.

    Args:
        members: By name, in the order of the scores' columns.
        scores: Raw scores of the calibration texts, shape (texts, members).
        floor: Least standard deviation.

    Raises:
        CodealignError: For a member that gives every text one score, or scores that are not finite.
    """
    scales = {}
    for j, (name, member) in enumerate(members.items()):
        scales[name] = calibrate(scores[:, j], floor=floor, name=name)
        note = read_note(member.folder) or MemberNote(member.max_length)
        replace(note, calibration=scales[name]).write(Path(member.folder))
        member.calibration = scales[name]
    return scales
