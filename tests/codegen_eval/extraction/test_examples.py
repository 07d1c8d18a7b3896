"""Examples of docstrings: which are read, and that HumanEval's are right."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from codegen_eval.extraction import docstring, docstring_examples, program

PROMPT = 'def f(x):\n    """Twice x.\n\n    >>> f(1)\n    2\n    """\n'


def test_docstring_examples_of_both_styles_are_read() -> None:
    prompt = '''def f(x, y=0):
    """Adds.

    >>> f(1, 2)
    3
    >>> f([1,
    ...    2])
    [1, 2]
    f(4) == 5, since one is added. f(5) ➞ 6
    f("a, b") -> "x."
    f(7) => 34.
    f(8) returns true
    f(9) -> something
    f(x) == 3
    >>> g(1)
    2
    >>> f(1) + 1
    2
    """
'''
    assert docstring_examples(prompt, "f") == [
        "assert f(1, 2) == 3",
        "assert f([1, 2]) == [1, 2]",
        "assert f(1) + 1 == 2",
        "assert f(4) == 5",
        "assert f(5) == 6",
        "assert f('a, b') == 'x.'",
        "assert f(7) == 34",
        "assert f(8) == True",
    ]


def test_examples_come_from_the_entry_points_docstring_only() -> None:
    prompt = 'def g(x):\n    """\n    >>> f(1)\n    7\n    """\n    return x\n\n\n' + PROMPT
    assert docstring_examples(prompt, "f") == ["assert f(1) == 2"]
    assert docstring_examples("def f(x):\n", "f") == []
    assert docstring_examples("not python (", "f") == []
    assert docstring("def f(x):\n    pass\n", "f") == ""


def test_most_humaneval_prompts_give_examples_and_their_solutions_pass_them(shared: Path) -> None:
    rows = gzip.decompress((shared / "data/humaneval/HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
    found, wrong, prompts = 0, 0, 0
    for row in map(json.loads, rows):
        examples = docstring_examples(row["prompt"], row["entry_point"])
        prompts += bool(examples)
        namespace: dict[str, object] = {}
        exec(row["prompt"] + row["canonical_solution"], namespace)  # OpenAI's own solutions
        for example in examples:
            found += 1
            try:
                exec(example, namespace)
            except AssertionError:
                wrong += 1
        whole = program(row["prompt"], row["canonical_solution"], row["entry_point"])
        assert whole.rstrip() == (row["prompt"] + row["canonical_solution"]).rstrip()
    # Four of HumanEval's own examples contradict its solutions (tasks 47, 116 twice, 148).
    assert prompts >= 130 and found >= 370 and wrong <= 4
