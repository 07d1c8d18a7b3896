"""Programs through the sandbox, or past it where a store knows what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from codegen_eval.oracles import answered
from codegen_eval.records import Problem
from codegen_eval.store import Outcome, ResultStore, keys
from sandbox import Limits, Program, Result, Sandbox, Verdict
from sandbox.program import MAX_SOURCE

Work = Sequence[tuple[Problem, str]]
_AT_ONCE = 200
TOO_LONG = f"longer than {MAX_SOURCE >> 20} MiB"


def outcome(result: Result) -> Outcome:
    """What an evaluation needs of a result."""
    failed = next((i for i, cell in enumerate(result.cells) if cell.verdict is not Verdict.passed), None)
    return Outcome(result.verdict, result.cause, result.message, failed)


def run(
    work: Work,
    box: Callable[[], Sandbox],
    store: ResultStore | None = None,
    *,
    limits: Limits | None = None,
    level: str = "full",
) -> Iterator[Outcome]:
    """Outcomes in the order of the work, as they come.

    Args:
        work: Problems, each with the source of a program for it.
        box: Gives the sandbox; called only if something has to be run.
        store: Where outcomes are looked up and kept.
        limits: The sandbox's own, which decide the keys of the store.
        level: Isolation in force, likewise.

    Raises:
        CodealignError: A reference that is to give the expected answers fails.
        SandboxError: The engine failed repeatedly on a program.
    """
    if store is None:
        yield from _executed(work, box)
        return
    every = list(keys(work, limits or Limits(), level, _toolchains(work)))
    known = store.find(every)
    found = _executed([one for one, key in zip(work, every, strict=True) if key not in known], box)
    fresh: list[tuple[bytes, Outcome]] = []
    try:
        for place, key in enumerate(every):
            given = known[key] if key in known else next(found)
            if key not in known:
                fresh.append((key, given))
            if len(fresh) >= _AT_ONCE or place + 1 == len(every):  # who takes the last one may not come back
                store.keep(fresh)
                fresh = []
            yield given
    finally:
        store.keep(fresh)


def _executed(work: Work, box: Callable[[], Sandbox]) -> Iterator[Outcome]:
    if not work:
        return
    asked = {id(problem): problem for problem, _ in work}
    ready = dict(zip(asked, answered(list(asked.values()), box()), strict=True))
    short = [not too_long(source) for _, source in work]
    programs: Iterator[Program] = (
        ready[id(problem)].program(source) for (problem, source), ok in zip(work, short, strict=True) if ok
    )
    found = map(outcome, box().run(programs))
    for ok in short:
        yield next(found) if ok else Outcome(Verdict.syntax_error, TOO_LONG)


def too_long(source: str) -> bool:
    """Whether a source is beyond what the sandbox takes."""
    return len(source) > MAX_SOURCE or len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE


def _toolchains(work: Work) -> dict[str, str]:
    """Versions of what runs the languages other than Python."""
    from sandbox import languages

    names = {problem.language for problem, _ in work} - {"python"}
    return {name: languages.get(name).toolchain().version for name in names}
