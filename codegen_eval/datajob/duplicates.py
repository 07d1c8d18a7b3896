"""Near-duplicate prompts: exact Jaccard similarity of token shingles, candidates found by MinHash.

MinHash (Broder 1997) with banding: a pair of similarity s shares one of `BANDS` bands of `ROWS` values with
probability 1 - (1 - s^ROWS)^BANDS, at s = 0.8 all but one in 10 million. A candidate is a duplicate only if
its exact similarity says so, so that nothing is dropped by chance.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codegen_eval.errors import CodealignError

SHINGLE = 3
BANDS, ROWS = 32, 4
_TOKEN = re.compile(r"\w+|[^\w\s]")

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Text number `index` is nearly text number `of`, which is kept; `similarity` is exact."""

    index: int
    of: int
    similarity: float


def tokens(text: str) -> list[str]:
    """Words and single signs of a text, in lower case; layout does not count."""
    return _TOKEN.findall(text.lower())


def hashed(parts: Sequence[str], length: int) -> Hashes:
    """Distinct 64-bit hashes, sorted, of all runs of `length` parts; of all of them together if fewer."""
    runs = {"\0".join(parts[i : i + length]) for i in range(max(1, len(parts) - length + 1))}
    digests = (hashlib.blake2b(run.encode("utf-8", "surrogatepass"), digest_size=8).digest() for run in runs)
    return np.sort(np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64))


def jaccard(a: Hashes, b: Hashes) -> float:
    """Shared over all; both are sorted and distinct."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def signature(hashes: Hashes) -> Hashes:
    """MinHash values, (BANDS, ROWS): the least of the hashes under as many mixing functions."""
    mixed = hashes[:, None] * _MULTIPLIERS + _ADDENDS  # modulo 2^64, as unsigned numbers do
    least: Hashes = (mixed ^ (mixed >> np.uint64(32))).min(axis=0)
    return least.reshape(BANDS, ROWS)


_random = np.random.default_rng(20240917)
_MULTIPLIERS = _random.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_ADDENDS = _random.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)


def near_duplicates(texts: Iterable[str], threshold: float) -> list[Duplicate]:
    """Texts that are nearly an earlier one that is kept, in order.

    A text is compared with kept texts only, so that a chain of small steps does not drop its far end. Of
    several kept ones the most similar is named, the first on ties.

    Args:
        texts: In order of preference.
        threshold: Least Jaccard similarity of `SHINGLE`-token shingles, in (0, 1].

    Raises:
        CodealignError: The threshold lies outside.
    """
    if not 0 < threshold <= 1:
        raise CodealignError(f"the similarity of near duplicates is {threshold}; give a number in (0, 1]")
    kept: dict[int, Hashes] = {}
    buckets: dict[tuple[int, bytes], list[int]] = {}
    found = []
    for index, text in enumerate(texts):
        hashes = hashed(tokens(text), SHINGLE)
        bands = [(number, band.tobytes()) for number, band in enumerate(signature(hashes))]
        near = sorted({other for band in bands for other in buckets.get(band, ())})
        scored = [(jaccard(hashes, kept[other]), -other) for other in near]
        best, other = max(scored, default=(0.0, 0))
        if best >= threshold:
            found.append(Duplicate(index, -other, best))
            continue
        kept[index] = hashes
        for band in bands:
            buckets.setdefault(band, []).append(index)
    return found
