"""Near duplicates against a direct double loop, and MinHash against the similarity that it estimates."""

from __future__ import annotations

import random

import numpy as np
import pytest

from codegen_eval.datajob.duplicates import (
    SHINGLE,
    Duplicate,
    hashed,
    jaccard,
    near_duplicates,
    signature,
    tokens,
)
from codegen_eval.errors import CodealignError


def exact(a: str, b: str) -> float:
    """Jaccard similarity of shingles as sets of tuples: a second derivation."""
    sets = []
    for text in (a, b):
        parts = tokens(text)
        sets.append({tuple(parts[i : i + SHINGLE]) for i in range(max(1, len(parts) - SHINGLE + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def texts(count: int) -> list[str]:
    """Texts with a family of variants each, of all degrees of likeness."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(60)]
    made = []
    for _ in range(count):
        base = rng.choices(words, k=rng.randint(8, 40))
        made.append(" ".join(base))
        for changes in (1, 1, 2, 4):
            other = list(base)
            for _ in range(changes):
                other[rng.randrange(len(other))] = rng.choice(words)
            made.append(" ".join(other))
    return made


@pytest.mark.parametrize(("threshold", "least"), [(0.8, 10), (1.0, 1)])
def test_dropped_are_those_of_a_direct_double_loop(threshold: float, least: int) -> None:
    given = texts(24)
    kept: list[int] = []
    dropped = {}
    for i, text in enumerate(given):
        scores = [(exact(text, given[k]), -k) for k in kept]
        best, k = max(scores, default=(0.0, 0))
        if best >= threshold:
            dropped[i] = (-k, best)
        else:
            kept.append(i)
    found = {d.index: (d.of, d.similarity) for d in near_duplicates(given, threshold)}
    assert found == dropped
    assert len(dropped) >= least


def test_layout_and_case_do_not_count_but_signs_do() -> None:
    assert near_duplicates(["def f(x):\n    '''Twice x.'''", "DEF f( x ): '''twice X.'''"], 1.0) == [
        Duplicate(1, 0, 1.0)
    ]
    assert near_duplicates(["a + b", "a - b"], 0.5) == []


def test_minhash_estimates_the_similarity() -> None:
    a, b = texts(1)[0] * 3, texts(1)[1] * 3
    one, other = (hashed(tokens(text), SHINGLE) for text in (a, b))
    assert jaccard(one, other) == pytest.approx(exact(a, b))
    shared = float((signature(one) == signature(other)).mean())
    # 128 draws: three standard errors.
    assert abs(shared - jaccard(one, other)) < 3 * np.sqrt(0.25 / 128)


def test_empty_and_short_texts_are_compared_as_a_whole() -> None:
    assert [d.index for d in near_duplicates(["", "", "x", "x y", "x"], 1.0)] == [1, 4]


def test_a_chain_of_small_steps_keeps_its_far_end() -> None:
    parts = [f"w{i}" for i in range(30)]
    steps = [" ".join([*(f"new{i}" for i in range(2 * k)), *parts[2 * k :]]) for k in range(6)]
    gone = {d.index for d in near_duplicates(steps, 0.8)}
    assert 0 not in gone and 5 not in gone and 1 in gone


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_threshold_outside_is_refused(threshold: float) -> None:
    with pytest.raises(CodealignError, match="similarity"):
        near_duplicates(["a"], threshold)
