"""Codes x tests: which program passes which test."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .limits import Limits
from .program import CallTest, Test
from .verdict import Verdict

UNKNOWN = 255
VERDICTS = tuple(Verdict)
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class MatrixJob:
    """Programs that share an entry point, and tests that each of them is to run."""

    codes: Sequence[str]
    tests: Sequence[Test]
    entry_point: str
    limits: Limits | None = None
    id: str = ""


@dataclass(frozen=True, eq=False)
class PassMatrix:
    """Outcome of every distinct code on every distinct test.

    Attributes:
        verdicts: uint8 (distinct codes, distinct tests), index into `tuple(Verdict)`; 255 = unknown (not
            run, because the code had used up its chances).
        code_counts: (distinct codes,) how many of the given codes have this text.
        test_counts: (distinct tests,) likewise.
        code_index: (given codes,) row of each given code.
        test_index: (given tests,) column of each given test.
    """

    verdicts: NDArray[np.uint8]
    code_counts: NDArray[np.int64]
    test_counts: NDArray[np.int64]
    code_index: NDArray[np.int64]
    test_index: NDArray[np.int64]

    def __post_init__(self) -> None:
        shape = (len(self.code_counts), len(self.test_counts))
        if self.verdicts.shape != shape:
            raise ValueError(f"verdicts have shape {self.verdicts.shape}, counts say {shape}")
        for name, index, counts in (
            ("code", self.code_index, self.code_counts),
            ("test", self.test_index, self.test_counts),
        ):
            if not np.array_equal(np.bincount(index, minlength=len(counts)), counts) or (counts < 1).any():
                raise ValueError(f"{name}_index and {name}_counts do not agree")
        known = self.verdicts[self.verdicts != UNKNOWN]
        if known.size and known.max() >= len(VERDICTS):
            raise ValueError(f"verdict {known.max()} is not one of the {len(VERDICTS)} verdicts")

    @property
    def passed(self) -> NDArray[np.bool_]:
        """Bool (distinct codes, distinct tests)."""
        return np.asarray(self.verdicts == VERDICTS.index(Verdict.passed), np.bool_)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Bool (distinct codes, distinct tests)."""
        return np.asarray(self.verdicts != UNKNOWN, np.bool_)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON.

        `passed` and `known` are bits packed row-major, most significant first, as hex; `other` lists the
        verdict of every known cell that did not pass, row-major.
        """
        other = self.verdicts[self.known & ~self.passed]
        return {
            "shape": [int(n) for n in self.verdicts.shape],
            "passed": np.packbits(self.passed).tobytes().hex(),
            "known": np.packbits(self.known).tobytes().hex(),
            "other": other.astype(np.uint8).tobytes().hex(),
            "verdicts": [str(verdict) for verdict in VERDICTS],
            "code_index": self.code_index.tolist(),
            "test_index": self.test_index.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PassMatrix:
        """The matrix that `to_json` wrote.

        Raises:
            ValueError: Parts are missing or do not fit together.
        """
        try:
            rows, columns = (int(n) for n in data["shape"])
            passed, known = (_bits(data[name], rows, columns) for name in ("passed", "known"))
            names = [Verdict(name) for name in data["verdicts"]]
            other = np.frombuffer(bytes.fromhex(data["other"]), np.uint8)
            code_index = np.asarray(data["code_index"], np.int64)
            test_index = np.asarray(data["test_index"], np.int64)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a pass matrix: {error}") from None
        if (passed & ~known).any() or int((known & ~passed).sum()) != len(other):
            raise ValueError("not a pass matrix: its passed, known and other cells do not fit together")
        if len(other) and other.max() >= len(names):
            raise ValueError(f"not a pass matrix: verdict {other.max()} of {len(names)}")
        verdicts = np.full((rows, columns), UNKNOWN, np.uint8)
        verdicts[passed] = VERDICTS.index(Verdict.passed)
        places = np.asarray([VERDICTS.index(name) for name in names], np.uint8)
        verdicts[known & ~passed] = places[other]
        counts = (np.bincount(code_index, minlength=rows), np.bincount(test_index, minlength=columns))
        return cls(verdicts, counts[0], counts[1], code_index, test_index)


def _bits(text: str, rows: int, columns: int) -> NDArray[np.bool_]:
    raw = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(raw) != (rows * columns + 7) // 8:
        raise ValueError(f"not a pass matrix: {len(raw)} bytes of bits for {rows} x {columns} cells")
    return np.unpackbits(raw, count=rows * columns).reshape(rows, columns).astype(bool)


def distinct(items: Sequence[_Item], keys: Iterable[Hashable]) -> tuple[list[_Item], list[int]]:
    """Items with new keys in order of appearance, and for every given item its place among them."""
    places: dict[Hashable, int] = {}
    kept: list[_Item] = []
    index: list[int] = []
    for item, key in zip(items, keys, strict=True):
        if key not in places:
            places[key] = len(kept)
            kept.append(item)
        index.append(places[key])
    return kept, index


def test_key(test: Test) -> Hashable:
    """Equal for equal tests; 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(test, CallTest):
        return (test.wire()[1], repr(test.expected), test.tolerance)
    return test.source
