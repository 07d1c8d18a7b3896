"""Tasks out of a model's answers."""

from __future__ import annotations

from collections import Counter

import pytest

from codegen_eval.datajob.instruct import MAX_SEED_CHARS, TEMPLATE, invented, request
from codegen_eval.datajob.prompts import Candidate
from codegen_eval.records import Prompt

SEED = Candidate(Prompt("seed/m.py:1/f", "def f(x):\n", "f"), "m.py:1", "mit", hidden="def f(x): ...")
ANSWER = """Sure, here is a task:

```python
from collections.abc import Sequence


def longest(words: Sequence[str]) -> str:
    \"\"\"The longest of words.\"\"\"
    pass
```
"""


def test_the_model_is_shown_the_seed_and_long_ones_are_cut() -> None:
    asked = request(SEED, TEMPLATE)
    assert asked.key == "instruct/seed/m.py:1/f" and "def f(x): ..." in asked.prompt
    long = Candidate(SEED.prompt, "", "", hidden="x" * (MAX_SEED_CHARS + 5))
    assert request(long, "{seed}").prompt == "x" * MAX_SEED_CHARS


def test_the_answers_function_takes_the_seeds_place_and_its_text_stays_hidden() -> None:
    counts: Counter[str] = Counter()
    task = invented(SEED, ANSWER, counts)
    assert task is not None and counts == {"invented_used": 1}
    assert task.prompt.entry_point == "longest" and task.prompt.task_id == "seed/m.py:1/f/longest"
    assert task.prompt.prompt.startswith("from collections.abc import Sequence\n")
    assert task.prompt.prompt.endswith('"""The longest of words."""\n')
    assert (task.hidden, task.licence) == (SEED.hidden, "mit") and task.origin.startswith("m.py:1 ")


@pytest.mark.parametrize("text", ["", "I would rather not.", "```python\ndef f(x):\n    return x\n```"])
def test_an_answer_without_a_documented_function_is_counted(text: str) -> None:
    counts: Counter[str] = Counter()
    assert invented(SEED, text, counts) is None
    assert counts == {"invented_without_documented_function": 1}
