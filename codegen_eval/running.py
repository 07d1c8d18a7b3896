"""Programs through the sandbox, or past it where a store knows what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from codegen_eval.store import Outcome, ResultStore, keys
from sandbox import Limits, Program, Result, Sandbox, Verdict

_CHUNK = 500


def outcome(result: Result) -> Outcome:
    """What an evaluation needs of a result."""
    failed = next((i for i, cell in enumerate(result.cells) if cell.verdict is not Verdict.passed), None)
    return Outcome(result.verdict, result.cause, result.message, failed)


def run(
    programs: Sequence[Program],
    box: Callable[[], Sandbox],
    store: ResultStore | None = None,
    *,
    limits: Limits | None = None,
    level: str = "full",
) -> Iterator[Outcome]:
    """Outcomes in the order of the programs, as they come.

    Args:
        programs: What to run.
        box: Gives the sandbox; called only if something has to be run.
        store: Where outcomes are looked up and kept.
        limits: The sandbox's own, which decide the keys of the store.
        level: Isolation in force, likewise.

    Raises:
        SandboxError: The engine failed repeatedly on a program.
    """
    if store is None:
        yield from map(outcome, box().run(programs)) if programs else ()
        return
    every = list(keys(programs, limits or Limits(), level, _toolchains(programs)))
    known = store.find(every)
    missing = [program for program, key in zip(programs, every, strict=True) if key not in known]
    found = map(outcome, box().run(missing)) if missing else iter(())
    work = iter(zip(programs, every, strict=True))
    while chunk := list(islice(work, _CHUNK)):
        fresh = []
        for _, key in chunk:
            if key in known:
                yield known[key]
                continue
            given = next(found)
            fresh.append((key, given))
            yield given
        store.keep(fresh)


def _toolchains(programs: Sequence[Program]) -> dict[str, str]:
    """Versions of what runs the languages other than Python."""
    from sandbox import languages

    names = {program.language for program in programs} - {"python"}
    return {name: languages.get(name).toolchain().version for name in names}
