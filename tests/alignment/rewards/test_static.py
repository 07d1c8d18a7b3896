"""Static checks, each apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignment.rewards.static import Format, HasEntryPoint, Parses
from codegen_eval.errors import CodealignError
from tests.alignment.rewards.problems import DOUBLE

FENCED = "```python\ndef double(x):\n    return 2 * x\n```"
# Completion, parses, defines the entry point, is fenced, continues the prompt.
ANSWERS = [
    (FENCED, 1, 1, 1, 0),
    ("Here you are:\n" + FENCED + "\nDone.", 1, 1, 1, 0),
    (FENCED.removesuffix("```"), 1, 1, 0, 0),
    ("    return 2 * x\n", 1, 1, 0, 1),
    ("    return (\n", 0, 0, 0, 0),
    ("```python\ndef twice(x):\n    return 2 * x\n```", 1, 0, 1, 0),
    ("```python\ndef double(x):\n    ...\n```", 1, 0, 1, 0),
    ('```python\ndef double(x):\n    """Nothing."""\n    pass\n```', 1, 0, 1, 0),
    ("```python\ndouble = 3\n```", 1, 0, 1, 0),
    ("No.", 0, 0, 0, 0),
    ("", 0, 0, 0, 0),
    ("\x00\ud800" + "(" * 5000, 0, 0, 0, 0),
]


@pytest.mark.parametrize(("completion", "parses", "defines", "fenced", "continues"), ANSWERS)
def test_each_check_says_one_thing(
    completion: str, parses: int, defines: int, fenced: int, continues: int
) -> None:
    checks = [
        Parses(problems=[DOUBLE]),
        HasEntryPoint(problems=[DOUBLE]),
        Format(style="fenced", problems=[DOUBLE]),
        Format(style="continuation", problems=[DOUBLE]),
    ]
    found = [check([DOUBLE.prompt], [completion], task_id=[DOUBLE.task_id])[0] for check in checks]
    assert found == [parses, defines, fenced, continues]


def test_methods_are_found_in_their_class() -> None:
    method = replace(DOUBLE, prompt="Double x.", entry_point="Solution.double", continues=False)
    check = HasEntryPoint(problems=[method])
    text = "class Solution:\n    def {}(self, x):\n        return 2 * x\n"
    ids = [method.task_id] * 2
    assert check(["p"] * 2, [text.format("double"), text.format("triple")], task_id=ids) == [1.0, 0.0]


def test_what_a_check_cannot_say_is_an_error() -> None:
    with pytest.raises(CodealignError, match="did you mean 'fenced'"):
        Format(style="fence", problems=[DOUBLE])
    java = replace(DOUBLE, language="java")
    with pytest.raises(CodealignError, match="'parses' reads Python; task 't/double' is in java"):
        Parses(problems=[java])(["p"], ["x"], task_id=[java.task_id])
    whole = replace(DOUBLE, entry_point="")
    with pytest.raises(CodealignError, match="has no entry point"):
        HasEntryPoint(problems=[whole])(["p"], ["x"], task_id=[whole.task_id])
