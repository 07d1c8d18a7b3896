"""Test hygiene: what is dropped, what is put aside, and every step in the counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from codegen_eval.ranking.hygiene import asserts_something, clean, contradictions
from codegen_eval.ranking.rechecks import canaries, recheck
from codegen_eval.ranking.rows import MatrixRow
from sandbox import MatrixJob, PassMatrix
from tests.codegen_eval.made_up_runs import FakeSandbox


def made(passed: Sequence[Sequence[int]], tests: Sequence[str], codes: Sequence[str] = ()) -> MatrixRow:
    matrix = np.array(passed, dtype=bool).reshape(len(passed), len(tests))
    return MatrixRow(
        task_id="t",
        entry_point="f",
        codes=tuple(codes) or tuple(f"def f(x): return {i}" for i in range(len(passed))),
        tests=tuple(tests),
        sources=("own",) * len(tests),
        passed=matrix,
        code_counts=np.ones(len(passed)),
        test_counts=np.ones(len(tests)),
        unloadable=np.zeros(len(passed), dtype=bool),
    )


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ("assert f(1) == 2", True),
        ("assert True", False),
        ("f(1)", False),
        ("assert g(1) == 2", False),
        ("x = f(1)\nassert x == 2", True),
        ("x = f(1)\ny = x + 1\nassert y == 2", True),
        ("x = f(1)\nassert True", False),
        ("try:\n    assert f(1) == 2\nexcept AssertionError:\n    pass", False),
        ("try:\n    assert f(1) == 2\nexcept:\n    pass", False),
        ("try:\n    assert f(1) == 2\nexcept ValueError:\n    pass", True),
        ("try:\n    f(0)\nexcept Exception:\n    raise\nassert f(1) == 1", True),
        ("def check(candidate):\n    assert candidate(1) == 2", True),
        ("assert Solution().f(1) == 2", True),
        ("assert (", False),
        ("assert f" + "(" * 300 + ")" * 300, False),
        ("\0", False),
    ],
)
def test_a_test_must_be_able_to_fail_by_the_entry_point(test: str, holds: bool) -> None:
    assert asserts_something(test, "f") is holds


def test_contradictions_are_other_values_of_one_call() -> None:
    tests = [
        "assert f(1) == 2",
        "assert f(1) == 3",
        "assert f(2) == 3",
        "assert 2 == f(1)",
        "assert f(1) == 2.0",
    ]
    assert contradictions(tests, "f") == [[[0, 3, 4], [1]]]
    assert contradictions(["assert f(1) == True", "assert f(1) == 1"], "f") == []
    # 1 and True are other arguments: a program may tell them apart.
    assert contradictions(["assert f(1) == 1", "assert f(True) == 2"], "f") == []


def test_each_step_is_counted() -> None:
    tests = [
        "assert f(1) == 2",
        "assert f(1) == 3",
        "assert True",
        "assert f(5)  ==  9",
        "assert f(5) == 9",
        "assert f(0) == 0",
        "assert f(7) == 7",
        "assert f(8) == 8",
    ]
    row = made(
        [
            [1, 0, 1, 1, 1, 1, 0, 1],
            [1, 0, 1, 1, 1, 1, 0, 1],
            [0, 1, 1, 0, 0, 1, 0, 0],
            [1, 1, 1, 1, 1, 1, 1, 1],
        ],
        tests,
    )
    left = clean(row, range(4))
    assert left.aside == {3}
    assert left.tests == [0, 3, 6, 7]
    assert left.test_counts.tolist()[3] == 2.0
    assert dict(left.counts) == {
        **{"tests": 8, "programs": 4, "programs_contradicting": 1, "tests_no_call": 1},
        **{"tests_repeated": 1, "tests_unsteady": 0, "tests_contradicting": 1, "tests_constant": 1},
        **{"contradictions": 1, "contradictions_undecided": 0, "tests_never_passed": 1},
    }
    used = left.row(row)
    assert used.tests == tuple(tests[j] for j in (0, 3, 6, 7)) and used.test_counts.tolist() == [1, 2, 1, 1]


def test_equal_tests_with_other_outcomes_are_both_unreliable() -> None:
    left = clean(made([[1, 0], [0, 0]], ["assert f(1) == 2", "assert f(1)==2"]), range(2))
    assert left.tests == [] and left.counts["tests_unsteady"] == 2


def test_undecided_contradictions_are_kept() -> None:
    left = clean(made([[1, 0], [0, 1]], ["assert f(1) == 2", "assert f(1) == 3"]), range(2))
    assert left.tests == [0, 1] and left.counts["contradictions_undecided"] == 1


@pytest.mark.parametrize("passed", [[], [[]], [[1]], [[0]]])
def test_hygiene_of_next_to_nothing(passed: list[list[int]]) -> None:
    tests = ["assert f(1) == 2"][: len(passed[0]) if passed else 1]
    left = clean(made(passed, tests), range(len(passed)))
    assert left.aside == set() and len(left.tests) <= len(tests)


EQUAL = "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()"
RIGHT, WRONG = "def f(x): return x + 1", "def f(x): return x"


def test_a_program_equal_to_everything_passes_a_canary_and_is_put_aside() -> None:
    tests = ["assert f(1) == 2", "assert f(2) == 3"]
    row = made([[1, 1], [0, 0], [1, 1]], tests, [RIGHT, WRONG, EQUAL])
    left = clean(row, range(3))
    assert left.aside == set()
    recheck([row], [left], [range(3)], FakeSandbox())
    assert left.aside == {2} and left.tests == [0, 1]
    assert left.counts["canaries"] == 2 and left.counts["programs_passing_canaries"] == 1
    assert left.counts["cells_changed"] == 0 and left.counts["cells_run_again"] == 2 * 3 * 2


def test_canaries_depend_on_seed_and_task_and_no_program_knows_them() -> None:
    row = made([[1]], ["assert f(1) == 2"])
    (one,), (other,) = canaries(row, seed=1), canaries(row, seed=2)
    assert one.source != other.source and one.source.startswith("assert f(1) == 'canary-")


class Unsteady(FakeSandbox):
    """A sandbox in which given (program, test) cells turn over at each job."""

    def __init__(self, cells: set[tuple[int, int]]) -> None:
        super().__init__()
        self.cells = cells

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        for matrix in super().pass_matrices(jobs):
            verdicts: Any = matrix.verdicts.copy()
            for place in self.cells:
                verdicts[place] = 2 if matrix.passed[place] else 0
            yield PassMatrix(
                verdicts, matrix.code_counts, matrix.test_counts, matrix.code_index, matrix.test_index
            )


def test_a_test_on_which_an_outcome_changes_is_dropped_and_a_program_of_many_changes_put_aside() -> None:
    tests = [f"assert f({i}) == {i + 1}" for i in range(3)]
    row = made([[1, 1, 1], [0, 0, 0], [1, 1, 1]], tests, [RIGHT, WRONG, RIGHT + "  # other"])
    left = clean(row, range(3))
    recheck([row], [left], [range(3)], Unsteady({(0, 1)}))
    assert left.tests == [0, 2] and left.aside == set() and left.counts["tests_flaky"] == 1
    left = clean(row, range(3))
    recheck([row], [left], [range(3)], Unsteady({(0, 1), (0, 2)}))
    assert left.tests == [0, 1, 2] and left.aside == {0} and left.counts["programs_unsteady"] == 1
