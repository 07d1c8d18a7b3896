"""Pairs of a reward model: which are held out, which labels are flipped, and their tokens.

Both choices hang on a hash of the seed and of the pair itself: they do not depend on the order of the file,
are the same for every member, and a prompt is held out as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignment.reward_modeling.scoring import row_ids
from codegen_eval.errors import CodealignError


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference; `chosen` is the better completion of `prompt`."""

    prompt: str
    chosen: str
    rejected: str

    def flipped(self) -> Pair:
        """The pair with the wrong label."""
        return Pair(self.prompt, self.rejected, self.chosen)


def share(seed: int, *texts: str) -> float:
    """A number in [0, 1) that is uniform over texts and fixed for each."""
    digest = hashlib.sha256("\0".join([str(seed), *texts]).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def split(pairs: Sequence[Pair], holdout: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; all pairs of a prompt are on one side.

    Raises:
        CodealignError: For a share outside (0, 1), or if a side has no pair.
    """
    if not 0 < holdout < 1:
        raise CodealignError(f"--holdout must lie between 0 and 1 (given: {holdout})")
    out = [share(seed, "holdout", pair.prompt) < holdout for pair in pairs]
    sides = (
        [p for p, away in zip(pairs, out, strict=True) if not away],
        [p for p, away in zip(pairs, out, strict=True) if away],
    )
    if not all(sides):
        prompts = len({pair.prompt for pair in pairs})
        raise CodealignError(
            f"--holdout {holdout} leaves {len(sides[0])} pairs to train on and {len(sides[1])} held out, of "
            f"{prompts} prompts; give more prompts, another share, or --holdout_dataset FILE"
        )
    return sides


def apart(train: Sequence[Pair], held_out: Sequence[Pair]) -> None:
    """Refuses held-out pairs that are trained on.

    Raises:
        CodealignError: If a pair (or its mirror image) is on both sides.
    """
    seen = {(p.prompt, *sorted((p.chosen, p.rejected))) for p in train}
    common = sum((p.prompt, *sorted((p.chosen, p.rejected))) in seen for p in held_out)
    if common:
        raise CodealignError(
            f"{common} of {len(held_out)} held-out pairs are trained on as well; take other ones"
        )


def flip_labels(pairs: Sequence[Pair], noise: float, seed: int) -> tuple[list[Pair], list[int]]:
    """The pairs, each with its label flipped with probability `noise`, and which ones were.

    Raises:
        CodealignError: For a probability outside [0, 1).
    """
    if not 0 <= noise < 1:
        raise CodealignError(f"--label_noise must be 0 or more and below 1 (given: {noise})")
    marks = [
        i
        for i, p in enumerate(pairs)
        # The two sides sorted, so that a pair and its mirror image are flipped alike.
        if share(seed, "noise", p.prompt, *sorted((p.chosen, p.rejected))) < noise
    ]
    wrong = set(marks)
    return [p.flipped() if i in wrong else p for i, p in enumerate(pairs)], marks


def token_rows(
    pairs: Sequence[Pair], tokenizer: Any, max_length: int | None
) -> tuple[list[dict[str, list[int]]], int]:
    """TRL's columns `chosen_ids` and `rejected_ids`, and how many pairs were too long and are left out.

    Raises:
        CodealignError: If no pair is short enough.
    """
    rows = [
        {
            "chosen_ids": row_ids(tokenizer, pair.prompt, pair.chosen),
            "rejected_ids": row_ids(tokenizer, pair.prompt, pair.rejected),
        }
        for pair in pairs
    ]
    if max_length is None:
        return rows, 0
    short = [row for row in rows if max(map(len, row.values())) <= max_length]
    if not short:
        raise CodealignError(f"all {len(rows)} pairs are longer than max_length={max_length}; raise it")
    return short, len(rows) - len(short)


def fitting(pairs: Sequence[Pair], tokenizer: Any, max_length: int | None) -> tuple[list[Pair], int]:
    """The pairs of which both sides are short enough, and how many were left out.

    Raises:
        CodealignError: If no pair is short enough.
    """
    short = [
        pair
        for pair in pairs
        if max_length is None
        or max(len(row_ids(tokenizer, pair.prompt, side)) for side in (pair.chosen, pair.rejected))
        <= max_length
    ]
    if not short:
        raise CodealignError(
            f"all {len(pairs)} held-out pairs are longer than max_length={max_length}; raise it"
        )
    return short, len(pairs) - len(short)


def answers(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """The distinct (prompt, completion) of the pairs, in their order."""
    return list(dict.fromkeys((p.prompt, side) for p in pairs for side in (p.chosen, p.rejected)))
