"""New tasks by the model, from seed functions, as OSS-Instruct does (Wei et al. 2023, arXiv 2312.02120).

Departs from the paper in one point: the model writes a function's head with a docstring, so that the answer
is a prompt of the same form as all others, and no solution; programs are drawn for it as for any prompt.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from codegen_eval.datajob.prompts import Candidate
from codegen_eval.datajob.seeds import seeds_of
from codegen_eval.extraction import extract
from codegen_eval.generation.base import Request
from codegen_eval.records import Prompt

MAX_SEED_CHARS = 4_000
TEMPLATE = """\
Here is a piece of a Python program:

```python
{seed}
```

Inspired by it, invent one new task that stands alone: a Python function that needs nothing but the standard
library. Write its signature with type hints and a docstring that says exactly what it returns, with two
examples as `>>> call` and the result on the next line. Its body is `pass`. Write one code block and nothing
else.
"""


def request(candidate: Candidate, template: str) -> Request:
    """What the model is asked for a seed; long seeds are cut."""
    return Request(
        f"instruct/{candidate.prompt.task_id}",
        template.replace("{seed}", candidate.hidden[:MAX_SEED_CHARS]),
        1,
    )


def invented(seed: Candidate, text: str, counts: Counter[str]) -> Candidate | None:
    """The task that the model wrote for a seed: the last documented function of its answer.

    Args:
        seed: What it was shown; its licence and place stay with the task, and its text stays hidden.
        text: The answer.
        counts: Counts `invented_*`, by what became of the answer.
    """
    code = extract(text).solution
    found = list(seeds_of(code, "", Counter())) if code else []
    if not found:
        counts["invented_without_documented_function"] += 1
        return None
    counts["invented_used"] += 1
    last = found[-1]
    prompt = Prompt(f"{seed.prompt.task_id}/{last.name}", last.prompt, last.name)
    return replace(seed, prompt=prompt, origin=f"{seed.origin} (task by the model)")
