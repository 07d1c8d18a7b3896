"""Results of programs that have been run before, in one SQLite file that many evaluations may share.

A result is found again by a hash of all that decides it: program, entry point, language, tests, limits,
isolation, interpreter. What depends on the moment is not kept: a timeout or a full memory says something of
the machine too, times are never reused, and a key under which two runs disagreed is flaky and stays empty.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from codegen_eval.errors import CodealignError
from codegen_eval.records import Oracle, Problem
from sandbox import CallTest, IOTest, Limits, Verdict
from sandbox.program import Test

FORMAT = 1
# Verdicts that say something of the program alone.
REUSED = frozenset(
    (Verdict.passed, Verdict.wrong_answer, Verdict.runtime_error, Verdict.syntax_error, Verdict.violation)
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    key BLOB PRIMARY KEY, verdict TEXT NOT NULL, cause TEXT NOT NULL, message TEXT NOT NULL, failed INTEGER,
    flaky INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_AT_ONCE = 500  # of keys in one question


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark needs of a result. `failed` is the number of the first failing test, None without."""

    verdict: Verdict
    cause: str = ""
    message: str = ""
    failed: int | None = None


class ResultStore:
    """The file; a context manager. Several processes may use it at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file.

        Raises:
            CodealignError: If it is no store, or of another format, or cannot be opened.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_SCHEMA)
            self._database.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(FORMAT),))
            (found,) = self._database.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise CodealignError(f"cannot use {path} as a store of results: {error}") from None
        if found != str(FORMAT):
            raise CodealignError(f"{path} is a store of format {found}, this version writes {FORMAT}")

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """The outcomes that may be reused."""
        found: dict[bytes, Outcome] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(
                "SELECT key, verdict, cause, message, failed FROM results "
                f"WHERE NOT flaky AND key IN ({marks})",
                some,
            )
            found |= {row[0]: Outcome(Verdict(row[1]), *row[2:]) for row in rows}
        return found

    def keep(self, outcomes: Iterable[tuple[bytes, Outcome]]) -> None:
        """Add outcomes; one that another run of the same contradicts makes its key flaky."""
        rows = [
            (key, outcome.verdict.value, outcome.cause, outcome.message, outcome.failed)
            for key, outcome in outcomes
            if outcome.verdict in REUSED
        ]
        if not rows:
            return
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT INTO results (key, verdict, cause, message, failed) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET flaky = flaky OR verdict != excluded.verdict",
                rows,
            )

    def flaky(self) -> int:
        """How many keys have had two verdicts."""
        (count,) = self._database.execute("SELECT count(*) FROM results WHERE flaky").fetchone()
        return int(count)


def keys(
    work: Iterable[tuple[Problem, str]], limits: Limits, level: str, toolchains: dict[str, str] | None = None
) -> Iterator[bytes]:
    """One key a (problem, source).

    Args:
        work: Sources as they are run, with their problems.
        limits: Those of problems that name none.
        level: Isolation in force.
        toolchains: What runs other languages, by language.
    """
    heads: dict[int, tuple[Problem, bytes]] = {}  # the problem is kept, so that no other has its id
    for problem, source in work:
        if id(problem) not in heads:
            heads[id(problem)] = (problem, _head(problem, limits, level, toolchains or {}))
        whole = hashlib.sha256(heads[id(problem)][1])
        whole.update(source.encode("utf-8", "surrogatepass"))
        yield whole.digest()


def _head(problem: Problem, limits: Limits, level: str, toolchains: dict[str, str]) -> bytes:
    """Hash of all but the source. Expected answers that a reference is still to give count as that reference
    and its inputs.
    """
    given, oracle = problem.limits or limits, problem.oracle
    interpreter = sys.version if problem.language == "python" else toolchains.get(problem.language, "")
    parts: list[object] = [FORMAT, interpreter, problem.language, problem.entry_point, given.wire(), level]
    parts += map(_test, problem.tests)
    if oracle is not None:
        parts += ["oracle", oracle.program, oracle.inputs, oracle.tolerance, _judge(oracle)]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


def _judge(oracle: Oracle) -> tuple[object, ...]:
    """What makes an oracle's tests: a function's name, and what it was made with."""
    judge = oracle.judge
    closure = getattr(judge, "__closure__", None) or ()
    names = (getattr(judge, "__module__", ""), getattr(judge, "__qualname__", repr(judge)))
    return (*names, *(cell.cell_contents for cell in closure))


def _test(test: Test) -> tuple[object, ...]:
    if isinstance(test, CallTest):
        return ("call", test.key())
    if isinstance(test, IOTest):
        how = (test.checker, test.tolerance, test.checker_source, test.args)
        return ("io", test.stdin, test.expected, *how)
    return ("code", test.source, test.trusted, test.in_process)
