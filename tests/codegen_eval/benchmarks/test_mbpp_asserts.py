"""What asserts say: names of functions, and types that JSON has lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.mbpp_asserts import called, literal_calls, restored
from codegen_eval.errors import CodealignError

# The tasks for which EvalPlus keeps a table of types (evalplus/data/mbpp.py).
IN_TABLE = {
    *(2, 63, 64, 70, 75, 94, 106, 115, 116, 120, 124, 132, 143, 222, 237, 250, 252, 259, 261, 272, 273, 278),
    *(299, 307, 394, 399, 400, 401, 405, 409, 413, 417, 421, 424, 429, 438, 444, 445, 446, 470, 473, 560),
    *(579, 580, 596, 614, 615, 616, 617, 630, 720, 722, 726, 740, 744, 750, 753, 763, 780, 791, 808, 809),
}


def through_json(value: Any) -> Any:
    """What the release's files make of a value."""
    if isinstance(value, list | tuple | set | frozenset):
        return [through_json(item) for item in value]
    if isinstance(value, dict):
        return {key: through_json(item) for key, item in value.items()}
    return str(value) if isinstance(value, complex) else value


@pytest.mark.parametrize(
    ("asserts", "inputs", "wanted"),
    [
        ("assert f((1, 2), [3]) == 1", [[[5], [6]]], [((5,), [6])]),
        ("assert f([(1, 2)]) == 1", [[[[3, 4], [5]]], [[]]], [([(3, 4), (5,)],), ([],)]),
        ("assert f({1, 2}) == 1", [[[3]]], [({3},)]),
        ("assert f([{1}, {}]) == 1", [[[[3], []]]], [([{3}, {}],)]),
        ("assert f({'a': (1, 2)}, 6) == 1", [[{"b": [3]}, 4]], [({"b": (3,)}, 4)]),
        # Deeper than any assert: tuples where there are only tuples.
        ("assert f((1, (2,))) == 1", [[[[[3]]]]], [(((((3,),),)),)]),
        ("assert f([(1,)]) == 1", [[[[[3]]]]], [([([3],)],)]),
        # Some with containers, some without: told apart by that.
        ("assert f(([1], [2])) == 2\nassert f([1]) == 1", [[[[7], [8]]], [[7]]], [(([7], [8]),), ([7],)]),
        # Of two minds: left alone.
        ("assert f((1,)) == 2\nassert f([1]) == 1", [[[7]]], [([7],)]),
        ("assert f(1) == (1.0, 0.0)", [["(1+2j)"], ["3"]], [(1 + 2j,), (3.0,)]),
        ("assert f(0, 1j) == 1", [["0.5", "2j"]], [(0.5, 2j)]),
        ("assert f('a', 1) == 1", [["1", "x"]], [("1", "x")]),
        ("assert set(f((1, 2))) == set(f((2, 1)))", [[[5]]], [((5,),)]),
        ("assert f(set([1]), x) == 1\nassert f(set(), 2) == 0", [[[5], 1]], [({5}, 1)]),
        ("no python", [[[5]]], [([5],)]),
        ("assert f((1,)) == 1", [[[5], [6]], []], [((5,), [6]), ()]),
    ],
)
def test_inputs_get_the_types_that_the_asserts_show(asserts: str, inputs: Any, wanted: Any) -> None:
    found = restored(inputs, literal_calls(asserts, "f"))
    assert repr(found) == repr(wanted)


def test_every_task_of_the_sanitised_file_gets_its_asserts_arguments_back(shared: Path) -> None:
    rows = json.loads((shared / "data" / "benchmarks" / "mbpp" / "sanitized-mbpp.json").read_text())
    changed, wrong = set(), []
    for row in rows:
        name = called(row["code"], row["test_list"], "f")
        calls = literal_calls("\n".join(row["test_list"]), name)
        lost = [through_json(call) for call in calls]
        back = restored(lost, calls)
        if repr(back) != repr(calls):
            wrong.append(row["task_id"])
        if repr([list(call) for call in back]) != repr(lost):
            changed.add(row["task_id"])
    assert not wrong
    assert len(IN_TABLE) == 62
    # 252 shows no complex number: its inputs are known by their text. The others are not in the table.
    assert IN_TABLE - changed == {252} and changed - IN_TABLE == {98, 104, 117, 140, 145, 582}


@pytest.mark.parametrize(
    ("code", "asserts", "wanted"),
    [
        ("def g(x): pass\ndef f(x): pass", ["assert set(f(1)) == set(2)"], "f"),
        ("class Pair: pass\ndef f(x): pass", ["assert f([Pair(1)]) == 1"], "f"),
        ("f = lambda x: x", ["assert sorted(f(1)) == 1"], "f"),
    ],
)
def test_the_function_that_asserts_are_about_is_found(code: str, asserts: list[str], wanted: str) -> None:
    assert called(code, asserts, "f:1") == wanted


@pytest.mark.parametrize(
    ("code", "asserts", "why"),
    [
        ("def f(x): pass", ["assert len([1]) == 1"], "f:1: no assert calls a function"),
        ("def f(x)", ["assert f(1)"], "f:1: code or asserts are not Python"),
        ("def f(x): pass", ["assert f(1"], "f:1: code or asserts are not Python"),
    ],
)
def test_asserts_about_nothing_are_refused(code: str, asserts: list[str], why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        called(code, asserts, "f:1")
