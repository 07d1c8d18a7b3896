"""Training text for the embedded model: plausible, not reliable.

A sequence is a prompt followed by a program (right, slow or wrong) or by assertions (most of them right).
Only tasks of the training split are used; every sequence gets a freshly written prompt (new examples,
either wording), so that the model learns to read the docstring and not to recognise it.

How often a family's programs are right is drawn once per family: the model ends up good at some tasks and
bad at others, as real models are. Since wrong programs are spread over several bodies, right behaviour is
mostly the most frequent one, which is what consensus methods rely on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from codegen_eval.benchmarks.minipy.build import Task, call, examples, tasks

TEST_PREFIX = "    pass\n\n"
"""What follows a prompt when assertions are asked for: the function is left open, tests come next."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the corpus.

    Attributes:
        tests: Share of sequences that are assertions.
        right_mean: Mean over families of the share of correct programs (normal, clipped to 0.25 .. 0.85).
        right_spread: Standard deviation of that share over families.
        slow: Share of slow bodies among the correct programs.
        wrong_value: Share of assertions with a wrong expected value.
        by_mistake: Share of the wrong values that a wrong body computes; the others are perturbed.
        copied: Share of assertions that repeat a docstring example.
        assertions: Assertions in one sequence.
        longest: Longest list, string or dictionary in an assertion.
    """

    tests: float = 0.6
    right_mean: float = 0.5
    right_spread: float = 0.15
    slow: float = 0.3
    wrong_value: float = 0.1
    by_mistake: float = 0.4
    copied: float = 0.1
    assertions: int = 5
    longest: int = 3


@dataclass(frozen=True, slots=True)
class Sequence:
    """One training text: `kind` is `program` or `tests`."""

    task_id: str
    kind: str
    prompt: str
    completion: str


def sequences(mixture: Mixture, seed: int, count: int, families: tuple[str, ...] = ()) -> Iterator[Sequence]:
    """Draws `count` training sequences.

    Args:
        mixture: Shares of right, slow and wrong.
        seed: Another seed is other text of the same mixture.
        count: Number of sequences.
        families: Only these families; empty for all.
    """
    rng = Random(f"minipy/corpus/{seed}")
    chosen = tasks("train", families)
    if not chosen:
        raise ValueError(f"no MiniPy family is named {', '.join(families)}")
    for _ in range(count):
        yield draw(rng.choice(chosen), mixture, rng)


def draw(task: Task, mixture: Mixture, rng: Random) -> Sequence:
    """One sequence for a task."""
    shown = examples(task, rng)
    prompt = task.prompt(rng.randrange(len(task.family.docs)), shown)
    if rng.random() < mixture.tests:
        return Sequence(task.task_id, "tests", prompt + TEST_PREFIX, _assertions(task, mixture, rng, shown))
    return Sequence(task.task_id, "program", prompt, _program(task, mixture, rng))


def right_share(family: str, mixture: Mixture) -> float:
    """How often the corpus solves a family correctly; the same in every corpus of this mixture."""
    share = Random(f"minipy/right/{family}").gauss(mixture.right_mean, mixture.right_spread)
    return min(0.85, max(0.25, share))


def _program(task: Task, mixture: Mixture, rng: Random) -> str:
    kind = "wrong"
    if rng.random() < right_share(task.family.name, mixture):
        kind = "slow" if rng.random() < mixture.slow else "right"
    return rng.choice([v.completion for v in task.variants() if v.kind == kind])


def _assertions(task: Task, mixture: Mixture, rng: Random, shown: list[tuple[Any, Any]]) -> str:
    variants = task.variants()
    reference = task.function(variants[0].completion)
    drawn = [a for a in task.arguments(rng, 2 * mixture.assertions) if _length(a) <= mixture.longest]
    lines = []
    for argument in drawn[: mixture.assertions]:
        if rng.random() < mixture.copied:
            argument, value = rng.choice(shown)
        elif rng.random() < mixture.wrong_value:
            value = _wrong_value(task, mixture, rng, argument, call(reference, argument))
        else:
            value = call(reference, argument)
        lines.append(f"assert {task.family.name}({argument!r}) == {value!r}\n")
    return "".join(dict.fromkeys(lines))


def _wrong_value(task: Task, mixture: Mixture, rng: Random, argument: Any, right: Any) -> Any:
    if rng.random() < mixture.by_mistake:
        body = rng.choice([v.completion for v in task.variants() if v.kind == "wrong"])
        value = call(task.function(body), argument)
        if not isinstance(value, tuple):
            return value
    return perturbed(right, rng)


def perturbed(value: Any, rng: Random) -> Any:
    """A nearby value of the same type: off by one, one element or letter changed, dropped or doubled."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 2)) if value > 0 else value + 1
    if isinstance(value, str | list):
        if not value:
            return value
        cut = rng.randrange(len(value))
        items = list(value)
        items[cut : cut + 1] = [] if rng.random() < 0.6 else [items[cut]] * 2
        return "".join(items) if isinstance(value, str) else items
    if isinstance(value, dict):
        return {key: perturbed(v, rng) for key, v in value.items()}
    return value


def _length(argument: Any) -> int:
    return len(argument) if isinstance(argument, list | str | dict) else 0
