"""Puts a pass matrix in an order that shows its consensus sets: pure functions on arrays.

Rows: the sets of equal rows, best score first, then more often drawn, then the lower program number; programs
that were not ranked come last. Columns: tests that the best set passes first, among them those that the
second set passes, and so on, so that equal columns stand together; tests that hygiene left out come last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from codegen_eval.ranking.common import BoolArray, FloatArray, consensus_sets


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Programs and tests by index, in the order in which they are drawn.

    Attributes:
        sets: Consensus sets of the ranked programs, best first.
        unranked: Programs without a score.
        columns: Groups of tests that no set tells apart.
        left_out: Tests that the ranking did not use.
    """

    sets: tuple[tuple[int, ...], ...]
    unranked: tuple[int, ...]
    columns: tuple[tuple[int, ...], ...]
    left_out: tuple[int, ...]


def arrange(
    passed: BoolArray,
    scores: Sequence[float | None] | None,
    drawn: FloatArray,
    tests: Sequence[int] | None = None,
) -> Arrangement:
    """Sorts a matrix into its consensus sets.

    Args:
        passed: (codes, tests); unknown cells are False.
        scores: One a program, None for one that was not ranked; None for no ranking at all: then sets that
            pass more tests come first.
        drawn: (codes,) how often each program was sampled.
        tests: Those that the ranking used; all when absent.
    """
    kept = list(range(passed.shape[1])) if tests is None else sorted(tests)
    given: Sequence[float | None] = passed[:, kept].sum(axis=1).tolist() if scores is None else scores
    score = {i: value for i, value in enumerate(given) if value is not None}
    ranked = list(score)
    found = consensus_sets(passed[np.ix_(ranked, kept)])
    members = [[ranked[i] for i in own] for own in found.members]

    def place(own: list[int]) -> tuple[float, float, int]:
        return -max(score[i] for i in own), -float(drawn[own].sum()), own[0]

    sets = [sorted(own, key=lambda i: (-score[i], -drawn[i], i)) for own in sorted(members, key=place)]
    fails = ~passed[[own[0] for own in sets]]

    def column(test: int) -> bytes:
        return fails[:, test].tobytes()

    columns = [tuple(own) for _, own in groupby(sorted(kept, key=lambda j: (column(j), j)), key=column)]
    used = set(kept)
    return Arrangement(
        tuple(map(tuple, sets)),
        tuple(i for i in range(len(passed)) if i not in score),
        tuple(columns),
        tuple(j for j in range(passed.shape[1]) if j not in used),
    )


def thin(items: Sequence[int], most: int, keep: Collection[int] = ()) -> list[int]:
    """At most `most` of the items in their order, evenly chosen; those in `keep` go before the others."""
    if len(items) <= most:
        return list(items)
    places = [k for k, item in enumerate(items) if item in keep][:most]
    others = [k for k, item in enumerate(items) if item not in keep]
    room = most - len(places)
    places += [others[k * len(others) // room] for k in range(room)]
    return [items[k] for k in sorted(places)]
