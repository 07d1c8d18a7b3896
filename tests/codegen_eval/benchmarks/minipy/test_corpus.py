"""The training text: its shares are those of the mixture, and nothing of the held-out splits is in it."""

from __future__ import annotations

import ast
from collections import Counter
from random import Random

import pytest

from codegen_eval.benchmarks.minipy.build import call, same, tasks
from codegen_eval.benchmarks.minipy.corpus import Mixture, perturbed, right_share, sequences

MIXTURE = Mixture()
TRAIN = {task.task_id: task for task in tasks("train")}


def test_only_training_tasks_occur() -> None:
    drawn = {s.task_id for s in sequences(MIXTURE, 0, 3000)}
    assert drawn <= set(TRAIN)
    assert len(drawn) > 600


def test_the_same_seed_draws_the_same_text_and_another_seed_other_text() -> None:
    assert list(sequences(MIXTURE, 3, 50)) == list(sequences(MIXTURE, 3, 50))
    assert list(sequences(MIXTURE, 3, 50)) != list(sequences(MIXTURE, 4, 50))


def test_programs_are_right_slow_and_wrong_in_the_mixtures_shares() -> None:
    kinds: Counter[str] = Counter()
    for s in sequences(MIXTURE, 1, 6000):
        if s.kind == "program":
            kinds[next(v.kind for v in TRAIN[s.task_id].variants() if v.completion == s.completion)] += 1
    total = sum(kinds.values())
    assert total == pytest.approx(0.4 * 6000, rel=0.1)
    assert (kinds["right"] + kinds["slow"]) / total == pytest.approx(0.5, abs=0.06)
    assert kinds["slow"] / (kinds["right"] + kinds["slow"]) == pytest.approx(0.3, abs=0.05)


def test_about_nine_in_ten_assertions_are_true() -> None:
    outcomes = []
    for s in sequences(MIXTURE, 2, 2000):
        if s.kind == "tests":
            task = TRAIN[s.task_id]
            reference = task.function(task.variants()[0].completion)
            for statement in ast.parse(s.completion).body:
                assert isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare)
                called = statement.test.left
                assert isinstance(called, ast.Call)
                argument = ast.literal_eval(called.args[0])
                outcomes.append(
                    same(call(reference, argument), ast.literal_eval(statement.test.comparators[0]))
                )
    assert 0.86 < sum(outcomes) / len(outcomes) < 0.95


def test_families_differ_in_how_often_they_are_solved() -> None:
    shares = [right_share(task.family.name, MIXTURE) for task in tasks("test")]
    assert min(shares) >= 0.25 and max(shares) <= 0.85
    assert max(shares) - min(shares) > 0.3


@pytest.mark.parametrize("value", [True, 0, 7, [1, 2, 3], "abc", {"a": 1}])
def test_a_perturbed_value_differs_but_keeps_its_type(value: object) -> None:
    for seed in range(20):
        other = perturbed(value, Random(seed))
        assert type(other) is type(value) and other != value


def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(ValueError, match="no MiniPy family"):
        next(sequences(MIXTURE, 0, 1, ("no_such",)))
