"""EvalPlus's judgement: closeness, and tasks with an oracle of their own."""

from __future__ import annotations

import pytest

from codegen_eval.benchmarks import evalplus
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import CallTest, CodeTest, Sandbox
from tests.codegen_eval.benchmarks.judging import verdicts

LIAR = (
    "class X(list):\n    def __eq__(self, o): return True\n    __hash__ = None\n"
    "    def __iter__(self): return iter([9])\n"
)


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("expected", "atol", "tolerance"),
    [
        (1.5, 0.0, 1e-6),
        ([1.5, 2.0], 0.0, 1e-6),
        ((0.5,), 0.0, 1e-6),
        (1, 0.0, 0.0),
        ([1.5, 2], 0.0, 0.0),
        ([], 0.0, 0.0),
        ({"a": 1.5}, 0.0, 0.0),
        ({"a": 1.5}, 1e-4, 1e-4),
        (1.5, 1e-3, 1e-3),
    ],
)
def test_floats_are_compared_with_a_tolerance_and_all_else_with_the_rows_own(
    expected, atol: float, tolerance: float
) -> None:
    test = evalplus.judge("f", atol, mbpp=True)((1,), expected)
    assert isinstance(test, CallTest) and test.tolerance == tolerance


def verdict(box: Sandbox, entry_point: str, args: tuple, expected, body: str, mbpp: bool = True) -> str:
    test = evalplus.judge(entry_point, 1e-4, mbpp)(args, expected)
    assert isinstance(test, CodeTest) and test.trusted
    problem = Problem("t", "", entry_point, (test,), "")
    (found,) = verdicts(box, problem, f"{LIAR}def {entry_point}(*a):\n    return {body}\n")
    return found


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("entry_point", "args", "expected", "right", "wrong"),
    [
        ("are_equivalent", (1, 2), False, ["True", "False", "None"], ["1 / 0"]),
        ("sum_div", (8,), 7, ["7", "0"], ["8", "None"]),
        # Base 3, slant height 4: 33. Read as the height of the pyramid: 9 + 6 * sqrt(2.25 + 16) = 34.6.
        ("surface_Area", (3, 4), 33, ["33", "35", "35.00001"], ["34", "36"]),
        # 123 and 256: 1 + 3 + 3. Of 1 and 23, zeros in front: 2 + 2 = 4.
        ("digit_distance_nums", (123, 256), 7, ["7"], ["8"]),
        ("digit_distance_nums", (1, 23), 1, ["1", "4"], ["3"]),
        ("similar_elements", ((3, 4), (4, 3)), (4, 3), ["[3, 4]", "{4, 3}", "(3, 4, 4)"], ["[3]", "None"]),
        ("Diff", ([1], [2]), [1, 2], ["[2, 1]"], ["[1]", "X()"]),
        ("check_str", ("a",), True, ["True", "'yes'", "X()"], ["False", "None"]),
        ("text_match_three", ("a",), False, ["False", "None"], ["True", "'no'"]),
    ],
)
def test_special_tasks_of_mbpp_accept_what_evalplus_accepts(
    box: Sandbox, entry_point: str, args, expected, right: list[str], wrong: list[str]
) -> None:
    assert {body: verdict(box, entry_point, args, expected, body) for body in right} == dict.fromkeys(
        right, "passed"
    )
    assert all(verdict(box, entry_point, args, expected, body) != "passed" for body in wrong)


@pytest.mark.sandbox
def test_a_zero_of_a_polynomial_is_judged_by_its_value_and_not_by_the_references_zero(box: Sandbox) -> None:
    # x^2 - 5x + 6: zeros 2 and 3.
    for body, wanted in (
        ("3.0", "passed"),
        ("2", "passed"),
        ("2.5", "wrong_answer"),
        ("X()", "runtime_error"),
    ):
        assert verdict(box, "find_zero", ([6, -5, 1],), 2.0, body, mbpp=False) == wanted
    assert isinstance(evalplus.judge("find_zero", 0.0, mbpp=True)((1,), 2.0), CallTest)


@pytest.mark.sandbox
def test_a_reference_whose_answer_is_no_data_says_whether_there_is_one(box: Sandbox) -> None:
    from sandbox import CallJob

    source = "import re\ndef check_str(s):\n    return re.match('a', s)\n"
    wrapped = evalplus.reference(source, "check_str", mbpp=True)
    (answers,) = box.answers([CallJob(wrapped, "check_str", [("abc",), ("x",)])])
    assert [answer.value for answer in answers] == [True, False]
    assert evalplus.reference(source, "check_str", mbpp=False) == source


@pytest.mark.sandbox
def test_infinite_and_complex_inputs_survive_in_a_tests_text(box: Sandbox) -> None:
    args = ([float("inf"), float("nan"), 2j],)
    assert verdict(box, "Diff", args, [1], "[1] if a[0][0] > 9 and a[0][2] == 2j else 0") == "passed"


@pytest.mark.parametrize("atol", [None, True, "0", -1, float("nan"), 2])
def test_a_tolerance_that_is_none_is_refused(atol) -> None:
    with pytest.raises(CodealignError, match="f:1: atol must be a number from 0 to 1"):
        evalplus.tolerance({"atol": atol}, "f:1")


@pytest.mark.parametrize("value", [None, "[[1]]", [1], [[1], {}]])
def test_inputs_must_be_lists_of_arguments(value) -> None:
    with pytest.raises(CodealignError, match="f:1: 'plus_input' must be a list with a list of arguments"):
        evalplus.inputs({"plus_input": value}, "plus_input", "f:1")
