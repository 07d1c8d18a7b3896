"""Codes x tests: which program passes which test."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from .limits import Limits
from .program import CallTest, Test
from .verdict import Verdict

UNKNOWN = 255
VERDICTS = tuple(Verdict)
Mode = Literal["shared", "checked", "independent"]
_Item = TypeVar("_Item")


def _none() -> NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class MatrixJob:
    """Programs that share an entry point, and tests that each of them is to run.

    Attributes:
        codes: Sources; equal ones run once.
        tests: Equal ones run once.
        entry_point: The function under test.
        limits: Limits of each cell; the sandbox's own when absent.
        id: Free; named in errors.
        mode: How far cells are kept apart. `shared`: a code runs its tests in one process, in the given
            order. `checked`: in one process and a drawn order; then what is in doubt is run again, and codes
            whose outcomes depend on what ran before are marked and run test by test (sandbox/filling.py).
            `independent`: every cell has a process that has loaded the program and nothing else.
        audit: Share of the codes that `checked` runs again although nothing failed.
        seed: Of the drawn order and of the audit; both depend on it and on the code's text alone.

    Raises:
        ValueError: `mode` is none of the three, or `audit` is no share.
    """

    codes: Sequence[str]
    tests: Sequence[Test]
    entry_point: str
    limits: Limits | None = None
    id: str = ""
    mode: Mode = "checked"
    audit: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode is {self.mode!r}; choose from {', '.join(get_args(Mode))}")
        if not 0 <= self.audit <= 1:
            raise ValueError(f"audit is {self.audit!r}; give a share between 0 and 1")


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
        stateful: Bool (distinct codes,): outcomes depended on what the code's process had run before, or on
            chance; its cells are those of independent runs.
        forgeable: Bool (distinct tests,): the test shares the program's process, which can forge a pass.
    """

    verdicts: NDArray[np.uint8]
    code_counts: NDArray[np.int64]
    test_counts: NDArray[np.int64]
    code_index: NDArray[np.int64]
    test_index: NDArray[np.int64]
    stateful: NDArray[np.bool_] = field(default_factory=_none)
    forgeable: NDArray[np.bool_] = field(default_factory=_none)

    def __post_init__(self) -> None:
        shape = (len(self.code_counts), len(self.test_counts))
        if self.verdicts.shape != shape:
            raise ValueError(f"verdicts have shape {self.verdicts.shape}, counts say {shape}")
        for name, size in (("stateful", shape[0]), ("forgeable", shape[1])):
            marks = getattr(self, name)
            if not len(marks):
                object.__setattr__(self, name, np.zeros(size, np.bool_))
            elif len(marks) != size:
                raise ValueError(f"{name} has {len(marks)} entries where there are {size}")
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
        verdict of every known cell that did not pass, row-major; `stateful` and `forgeable` list places.
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
            "stateful": np.flatnonzero(self.stateful).tolist(),
            "forgeable": np.flatnonzero(self.forgeable).tolist(),
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
            marks = [_marks(data.get("stateful", ()), rows), _marks(data.get("forgeable", ()), columns)]
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
        return cls(verdicts, counts[0], counts[1], code_index, test_index, *marks)


def _marks(places: Sequence[int], size: int) -> NDArray[np.bool_]:
    if any(not 0 <= place < size for place in places):
        raise ValueError(f"not a pass matrix: marks at {list(places)} where there are {size} places")
    marks = np.zeros(size, np.bool_)
    marks[list(places)] = True
    return marks


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


def key_of_test(test: Test) -> Hashable:
    """Equal for equal tests; 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    return test.key() if isinstance(test, CallTest) else test
