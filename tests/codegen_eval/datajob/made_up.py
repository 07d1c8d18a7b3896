"""A made-up model and executor for tests of the data job; both run in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from codegen_eval.generation.base import Batch, Drawn, Request, Sampling
from codegen_eval.records import Problem
from sandbox import CallTest
from tests.codegen_eval.made_up_runs import FakeSandbox

COUNT = 12
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def problems() -> list[Problem]:
    """Functions that add a number."""
    return [
        Problem(
            f"made/add_{word}",
            f'def add_{word}(x):\n    """x plus {word}, for the {word} in {word} lists.\n\n'
            f'    >>> add_{word}(1)\n    {n + 1}\n    """\n',
            f"add_{word}",
            (CallTest((5,), 5 + n),),
            f"    return x + {n}\n",
        )
        for n, word in enumerate(WORDS[:COUNT], 1)
    ]


class Model:
    """Writes right and wrong programs and tests of `problems()`; text depends on the request alone."""

    def __init__(self, single: bool = False) -> None:
        self.single = single
        self.asked: list[str] = []

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        for number, requests in reversed(batches):
            yield number, [self._texts(request) for request in requests]

    def _texts(self, request: Request) -> list[str]:
        kind, _, task_id = request.key.partition("/")
        self.asked.append(request.key)
        word = task_id.rpartition("_")[2]
        n = WORDS.index(word) + 1
        programs = [
            f"    return x + {n}\n",
            f"    return x + {n}  # a comment\n",
            f"    return {n} + x\n",
            f"    return x - {n}\n",
            f"    return x + {n} +\n",
            f"    return {n}\n",
        ]
        tests = [
            f"assert add_{word}(2) == {n + 2}\n",
            f"assert add_{word}(0) == {n}\nassert add_{word}(3) == 3\n",
        ]
        texts = programs if kind == "programs" else tests
        return [texts[i % len(texts)] for i in range(request.first, request.first + request.count)]


class Executor(FakeSandbox):
    """Answers orders at once."""

    def submit_order(self, order: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(next(self.pass_matrices([order.work])))
        return future

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *error: object) -> None:
        return None
