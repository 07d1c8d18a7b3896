"""From families to problems: prompts, hidden tests, graded inputs, splits.

Everything is drawn from generators seeded by the task's own name, so that a problem is the same in every
process, on every machine and in whatever order problems are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from types import MappingProxyType
from typing import Any

from codegen_eval.benchmarks.minipy.families import FAMILIES
from codegen_eval.benchmarks.minipy.family import Family, Params
from codegen_eval.benchmarks.minipy.inputs import LEVELS, large, levels, small
from codegen_eval.deferred import Deferred
from codegen_eval.records import Problem
from sandbox import CallTest

SPLITS = ("train", "tune", "test")
TEST_SETTINGS = 4
TUNE_SETTINGS = 2
POOL = 60
HIDDEN_TESTS = 14
REVEALING = 2
EXAMPLES = 2
LEAST_TESTS = 5
INPUTS_PER_LEVEL = 2


@dataclass(frozen=True, slots=True)
class Variant:
    """One known program of a problem: kind is `right`, `slow` or `wrong`; `completion` continues the
    prompt.
    """

    kind: str
    completion: str


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A family with one parameter setting, before a prompt is written for it."""

    family: Family
    params: Params

    @property
    def task_id(self) -> str:
        """`minipy/FAMILY/VALUES`, the parameter values joined by `-`."""
        return f"minipy/{self.family.name}/{'-'.join(str(v) for v in self.params.values())}"

    def variants(self) -> tuple[Variant, ...]:
        """All known programs, reference first."""
        bodies = (("right", self.family.right), ("slow", self.family.slow), ("wrong", self.family.wrong))
        return tuple(Variant(kind, self.family.fill(b, self.params)) for kind, texts in bodies for b in texts)

    def function(self, completion: str) -> Callable[[Any], Any]:
        """A known program as a Python function. Only for bodies of this package: nothing is sandboxed."""
        return _compiled(self.family.name, self.family.signature() + "\n" + completion)

    def arguments(self, rng: Random, count: int, taken: list[Any] | None = None) -> list[Any]:
        """`count` distinct small arguments that are not in `taken`; fewer where the generator has no more."""
        found: list[Any] = []
        for _ in range(count * 30):
            if len(found) == count:
                break
            argument = small(self.family.inputs, self.params, rng)
            if argument not in found and argument not in (taken or []):
                found.append(argument)
        return found

    def prompt(self, wording: int, examples: list[tuple[Any, Any]]) -> str:
        """Signature and docstring with the examples as doctest lines."""
        lines = [self.family.signature(), f'    """{self.family.doc(wording, self.params)}', ""]
        for argument, value in examples:
            lines += [f"    >>> {self.family.name}({argument!r})", f"    {value!r}"]
        return "\n".join([*lines, '    """']) + "\n"


@cache
def _compiled(name: str, source: str) -> Callable[[Any], Any]:
    scope: dict[str, Any] = {}
    exec(source, scope)
    return scope[name]  # type: ignore[no-any-return]


def call(function: Callable[[Any], Any], argument: Any) -> Any:
    """The value for a copy of the argument, a flat one; the exception's name in a tuple when the body
    raises.
    """
    try:
        return function(argument.copy() if isinstance(argument, list | dict) else argument)
    except Exception as error:
        return ("raised", type(error).__name__)


def same(value: Any, expected: Any) -> bool:
    """Equal value and equal type: `True` is no 1 for a plausible mistake."""
    return type(value) is type(expected) and bool(value == expected)


def fails(function: Callable[[Any], Any], argument: Any, expected: Any) -> bool:
    """Whether the function gives another value than expected."""
    return not same(call(function, argument), expected)


@cache
def tasks(split: str, families: tuple[str, ...] = ()) -> tuple[Task, ...]:
    """The tasks of a split, of all families or of those that are named, in the order of families and
    settings.

    A setting is left out when a wrong body passes all hidden tests of it.
    """
    if split not in SPLITS:
        raise ValueError(f"MiniPy has no split {split!r}; choose one of {', '.join(SPLITS)}")
    chosen = [family for family in FAMILIES if not families or family.name in families]
    return tuple(task for family in chosen for task in _family_tasks(family)[split])


@cache
def _family_tasks(family: Family) -> Mapping[str, tuple[Task, ...]]:
    order = list(range(len(family.settings)))
    Random(f"minipy/split/{family.name}").shuffle(order)
    sound = [t for t in (Task(family, family.settings[i]) for i in order) if _sound(t)]
    cuts = {"test": sound[:TEST_SETTINGS], "tune": sound[TEST_SETTINGS : TEST_SETTINGS + TUNE_SETTINGS]}
    cuts["train"] = sound[TEST_SETTINGS + TUNE_SETTINGS :]
    return MappingProxyType({name: tuple(sorted(cut, key=lambda t: t.task_id)) for name, cut in cuts.items()})


def _sound(task: Task) -> bool:
    hidden = _hidden(task)
    wrong = [task.function(v.completion) for v in task.variants() if v.kind == "wrong"]
    return len(hidden) >= LEAST_TESTS and all(any(fails(body, *pair) for pair in hidden) for body in wrong)


@cache
def hidden_tests(task: Task) -> tuple[CallTest, ...]:
    """The tests that decide correctness; never shown to a model."""
    return tuple(CallTest((argument,), expected) for argument, expected in _hidden(task))


@cache
def _hidden(task: Task) -> list[tuple[Any, Any]]:
    """Arguments with their values. The first are chosen to reveal each wrong body; the rest are drawn
    blindly.
    """
    rng = Random(f"{task.task_id}/hidden")
    reference = task.function(task.variants()[0].completion)
    shown = [argument for argument, _ in published(task)[1]]
    pool = [(a, call(reference, a)) for a in task.arguments(rng, POOL, shown)]
    wrong = [task.function(v.completion) for v in task.variants() if v.kind == "wrong"]
    revealing = [pair for body in wrong for pair in [p for p in pool if fails(body, *p)][:REVEALING]]
    chosen = {id(pair): pair for pair in [*revealing, *pool]}
    return list(chosen.values())[:HIDDEN_TESTS]


def examples(task: Task, rng: Random) -> list[tuple[Any, Any]]:
    """One or two docstring examples: arguments with their values."""
    reference = task.function(task.variants()[0].completion)
    return [(a, call(reference, a)) for a in task.arguments(rng, rng.randint(1, EXAMPLES))]


@cache
def published(task: Task) -> tuple[int, list[tuple[Any, Any]]]:
    """Wording and examples of the one published prompt; its examples are no hidden tests."""
    rng = Random(f"{task.task_id}/prompt")
    return rng.randrange(len(task.family.docs)), examples(task, rng)


def sizes(task: Task) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """Four levels of argument tuples, small to large."""
    family, rng = task.family, Random(f"{task.task_id}/sizes")
    return tuple(
        tuple((large(family.worst, family.inputs, task.params, n, rng),) for _ in range(INPUTS_PER_LEVEL))
        for n in levels(family.worst, family.scale)
    )


def problem(task: Task) -> Problem:
    """The problem with its one published prompt."""
    return Problem(
        task_id=task.task_id,
        prompt=task.prompt(*published(task)),
        entry_point=task.family.name,
        tests=hidden_tests(task),
        canonical_solution=task.variants()[0].completion,
        sizes=Deferred(LEVELS, partial(sizes, task)),  # as much work as all the rest, and for timing alone
        meta={"family": task.family.name, "topic": task.family.topic, "params": dict(task.params)},
    )
