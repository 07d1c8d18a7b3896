"""Decontamination: which texts share a run of words with the prompts or solutions of given benchmarks.

Words are compared, in lower case and without signs; a run of `words` of them (10 by default, as long as those
of StarCoder's and the GPT reports' filters) must be equal. Runs in which fewer than half of the words hold a
letter do not count: `1, 2, 3, 4, ...` is in every docstring. A text of the benchmark that is shorter than the
run counts as a whole from `SHORTEST` words on. The benchmark's hidden tests are not read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError

SHORTEST = 6
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Target:
    """A benchmark to keep out: its name, split and data, as `load` takes them."""

    name: str
    split: str | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class Hit:
    """What a text shares with a benchmark."""

    benchmark: str
    task_id: str
    words: str


def parse_target(text: str) -> Target:
    """`NAME`, `NAME:PATH` or `NAME@SPLIT:PATH`.

    Raises:
        CodealignError: There is no name.
    """
    head, _, path = text.partition(":")
    name, _, split = head.partition("@")
    if not name:
        raise CodealignError(f"--decontaminate {text!r}: give NAME, NAME:PATH or NAME@SPLIT:PATH")
    return Target(name, split or None, Path(path) if path else None)


def words(text: str) -> list[str]:
    """The words of a text in lower case; `list_of` is two."""
    return _WORD.findall(text.lower())


def _key(run: Sequence[str]) -> bytes:
    return hashlib.blake2b("\0".join(run).encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _telling(run: Sequence[str]) -> bool:
    return 2 * sum(any(c.isalpha() for c in word) for word in run) >= len(run)


def _runs(parts: Sequence[str], length: int) -> Iterator[Sequence[str]]:
    return (parts[i : i + length] for i in range(len(parts) - length + 1))


class Index:
    """The runs of words of some benchmarks.

    Args:
        length: Words of a run.

    Raises:
        CodealignError: The length is below `SHORTEST`.
    """

    def __init__(self, length: int = 10) -> None:
        if length < SHORTEST:
            raise CodealignError(
                f"runs of {length} words are in texts that have nothing to do with each other; "
                f"give at least {SHORTEST}"
            )
        self.length = length
        # By length of the run: texts that are shorter than a run are kept as a whole.
        self._runs: dict[int, dict[bytes, tuple[str, str]]] = {length: {}}

    def add(self, benchmark: str, task_id: str, text: str) -> None:
        """Takes in a text of a benchmark; of equal runs the first task is named."""
        parts = words(text)
        length = min(self.length, len(parts))
        if length < SHORTEST:
            return
        known = self._runs.setdefault(length, {})
        for run in _runs(parts, length):
            if _telling(run):
                known.setdefault(_key(run), (benchmark, task_id))

    def find(self, text: str) -> Hit | None:
        """The first run that a text shares with a benchmark, longest runs first."""
        parts = words(text)
        for length in sorted(self._runs, reverse=True):
            known = self._runs[length]
            for run in _runs(parts, length) if known else ():
                task = known.get(_key(run))
                if task is not None:
                    return Hit(*task, " ".join(run))
        return None


def index_of(targets: Iterable[Target], length: int = 10) -> Index:
    """The index over prompts, chat prompts and reference solutions of benchmarks.

    Raises:
        CodealignError: For an unknown benchmark, or one whose data cannot be read.
    """
    index = Index(length)
    for target in targets:
        for problem in load(target.name, target.path, target.split):
            for text in (problem.prompt, problem.chat, problem.canonical_solution):
                index.add(target.name, problem.task_id, text)
    return index
