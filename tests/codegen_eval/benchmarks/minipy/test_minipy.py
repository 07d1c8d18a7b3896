"""MiniPy's promises: its size, its splits, and that every known program is what it is said to be."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.benchmarks.minipy.build import (
    SPLITS,
    Task,
    examples,
    fails,
    hidden_tests,
    problem,
    sizes,
    tasks,
)
from codegen_eval.benchmarks.minipy.families import FAMILIES
from codegen_eval.benchmarks.minipy.inputs import LARGE, SMALL
from codegen_eval.errors import CodealignError

ALL = [task for split in SPLITS for task in tasks(split)]


def cpu_seconds(function: Callable[[Any], Any], argument: Any) -> float:
    given = copy.deepcopy(argument)
    begun = time.process_time()
    function(given)
    return time.process_time() - begun


def test_there_are_at_least_forty_families_and_five_hundred_problems() -> None:
    assert len(FAMILIES) >= 40
    assert len(ALL) >= 500
    assert {f.topic for f in FAMILIES} == {
        "lists",
        "strings",
        "numbers",
        "dictionaries",
        "recursion",
        "algorithms",
    }


def test_every_family_has_a_reference_a_slow_variant_and_two_wrong_ones() -> None:
    for family in FAMILIES:
        assert family.right and family.slow and len(family.wrong) >= 2, family.name
        assert len(set(family.right + family.slow + family.wrong)) == len(
            family.right + family.slow + family.wrong
        ), family.name
        assert family.inputs in SMALL and (family.worst in LARGE or not family.worst), family.name


def test_family_names_are_unique_and_each_family_is_in_every_split() -> None:
    assert Counter(f.name for f in FAMILIES).most_common(1)[0][1] == 1
    for split in SPLITS:
        assert {t.family.name for t in tasks(split)} == {f.name for f in FAMILIES}


def test_splits_share_no_family_and_parameters() -> None:
    settings = [(t.family.name, tuple(t.params.items())) for t in ALL]
    assert len(settings) == len(set(settings))
    assert len({t.task_id for t in ALL}) == len(ALL)


@pytest.mark.parametrize("split", SPLITS)
def test_right_and_slow_programs_pass_all_hidden_tests_and_wrong_ones_fail_one(split: str) -> None:
    for task in tasks(split):
        hidden = hidden_tests(task)
        assert len(hidden) >= 5
        for variant in task.variants():
            failed = any(fails(task.function(variant.completion), t.args[0], t.expected) for t in hidden)
            assert failed == (variant.kind == "wrong"), (task.task_id, variant)


def test_docstring_examples_are_true_and_no_hidden_tests() -> None:
    for made, task in zip(load("minipy", split="test"), tasks("test"), strict=True):
        reference = task.function(task.variants()[0].completion)
        hidden = [test.args[0] for test in made.tests]
        lines = made.prompt.splitlines()
        calls = [i for i, line in enumerate(lines) if line.strip().startswith(">>> ")]
        assert calls
        for i in calls:
            argument = eval(lines[i].strip().removeprefix(f">>> {made.entry_point}(").removesuffix(")"))
            assert repr(reference(argument)) == lines[i + 1].strip()
            assert argument not in hidden


def test_prompts_and_canonical_solutions_compile_as_one_program() -> None:
    for made in load("minipy", split="tune"):
        compile(made.prompt + made.canonical_solution, made.task_id, "exec")
        assert f"def {made.entry_point}(" in made.prompt


def test_inputs_are_graded_in_four_growing_sizes() -> None:
    def extent(argument: Any) -> int:
        return argument if isinstance(argument, int) else len(argument)

    for task in tasks("tune"):
        levels = sizes(task)
        assert len(levels) == 4
        extents = [max(extent(arguments[0]) for arguments in level) for level in levels]
        assert extents == sorted(extents) and extents[0] < extents[-1], task.task_id


@pytest.mark.slow
@pytest.mark.parametrize("name", [f.name for f in FAMILIES])
def test_slow_programs_take_over_ten_times_as_long_at_the_largest_size(name: str) -> None:
    task = next(t for t in tasks("test") if t.family.name == name)
    variants = task.variants()
    largest = [arguments[0] for arguments in sizes(task)[-1]]

    def total(completion: str) -> float:
        function = task.function(completion)
        return min(sum(cpu_seconds(function, a) for a in largest) for _ in range(3))

    reference = total(variants[0].completion)
    for variant in variants:
        if variant.kind == "slow":
            assert total(variant.completion) > 10 * reference, variant
        if variant.kind == "right":
            assert total(variant.completion) < 10 * reference, variant


def test_slow_and_right_programs_agree_on_large_inputs() -> None:
    for task in tasks("tune"):
        argument = sizes(task)[1][0][0]
        values = [
            task.function(v.completion)(copy.deepcopy(argument)) for v in task.variants() if v.kind != "wrong"
        ]
        assert all(value == values[0] for value in values), task.task_id


def test_problems_do_not_depend_on_the_order_in_which_they_are_built() -> None:
    task = tasks("train")[100]
    again = Task(task.family, task.params)
    assert problem(again) == problem(task)
    assert examples(task, Random(1)) == examples(again, Random(1))


def test_an_unknown_split_is_an_error_that_names_the_splits() -> None:
    with pytest.raises(CodealignError, match="train"):
        load("minipy", split="trian")


def test_a_dataset_path_is_refused(tmp_path: Any) -> None:
    with pytest.raises(CodealignError, match="built in"):
        load("minipy", dataset=tmp_path)
