"""Results of programs that have been run before, in one SQLite file that many evaluations may share.

A result is found again by a hash of all that decides it: program, entry point, language, tests, limits,
isolation, interpreter. What depends on the moment is not kept: a timeout or a full memory says something of
the machine too, times are never reused, and a key under which two runs disagreed is flaky and stays empty.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from codegen_eval.errors import CodealignError
from sandbox import CallTest, IOTest, Limits, Program, Verdict
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
    programs: Iterable[Program], limits: Limits, level: str, toolchains: dict[str, str] | None = None
) -> Iterator[bytes]:
    """One key a program.

    Args:
        programs: The programs.
        limits: Those of programs that name none.
        level: Isolation in force.
        toolchains: What runs other languages, by language.
    """
    of_tests: dict[int, tuple[object, bytes]] = {}  # the tests are kept, so that no other has their id
    for program in programs:
        tests = program.tests
        if id(tests) not in of_tests:
            of_tests[id(tests)] = (tests, _tests_hash(tests))
        given = program.limits or limits
        head = json.dumps(
            [
                FORMAT,
                sys.version if program.language == "python" else (toolchains or {}).get(program.language, ""),
                program.language,
                program.entry_point,
                [given.cpu_seconds, given.wall_seconds, given.memory_mb, given.output_kb],
                level,
            ]
        )
        whole = hashlib.sha256(head.encode())
        whole.update(of_tests[id(tests)][1])
        whole.update(program.source.encode("utf-8", "surrogatepass"))
        yield whole.digest()


def _tests_hash(tests: Sequence[Test]) -> bytes:
    whole = hashlib.sha256()
    for test in tests:
        if isinstance(test, CallTest):
            parts: list[object] = ["call", test.key()]
        elif isinstance(test, IOTest):
            parts = ["io", test.stdin, test.expected, test.checker, test.tolerance, test.checker_source]
            parts.append(test.args)
        else:
            parts = ["code", test.source, test.trusted, test.in_process]
        whole.update(repr(parts).encode("utf-8", "surrogatepass"))
    return whole.digest()
