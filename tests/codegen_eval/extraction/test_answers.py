"""`extract`: what is found in answers of any shape, why, and that no text breaks it."""

from __future__ import annotations

import ast
import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen_eval.errors import CodealignError
from codegen_eval.extraction import Extracted, extract, extract_samples
from codegen_eval.records import Problem, Sample

HEAD = 'def f(x: int) -> int:\n    """Twice x."""\n'
PROMPT = HEAD
WITH_IMPORT = "from typing import List\n\n\n" + HEAD
WITH_HELPER = "import math\n\n\ndef half(x):\n    return math.floor(x / 2)\n\n\n" + HEAD
BODY = "    return 2 * x\n"
F = "def f(x):\n    return 2 * x\n"
G = "def g(x):\n    return x\n"

PREPARED = """import sys
sys.setrecursionlimit(9999)
T = []
for i in range(3):
    T.append(i)


def f(x):
    return T[x]
"""


def fenced(code: str, info: str = "python", fence: str = "```") -> str:
    return f"{fence}{info}\n{code}{fence}\n"


# name: (text, expected solution, reason, notes), all for the prompt HEAD and the entry point f.
SHAPES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # Continuations.
    "a body": (BODY, HEAD + BODY, "continuation", ()),
    "a body after a line end": ("\n" + BODY, HEAD + "\n" + BODY, "continuation", ()),
    "a body whose first line lost its spaces": (
        "y = 2\n    return y * x\n",
        HEAD + "    y = 2\n    return y * x\n",
        "continuation",
        ("repaired_indent",),
    ),
    "a body at column 0": (
        "y = 2\nreturn y * x\n",
        HEAD + "    y = 2\n    return y * x\n",
        "continuation",
        ("repaired_indent",),
    ),
    "a body with eight spaces": ("        return 2 * x\n", HEAD + BODY, "continuation", ("repaired_indent",)),
    "a body with tabs": ("\treturn 2 * x\n", HEAD + BODY, "continuation", ("repaired_indent",)),
    "a body with tabs and spaces": (
        "    y = 2\n\treturn y * x\n",
        HEAD + "    y = 2\n    return y * x\n",
        "continuation",
        ("repaired_tabs",),
    ),
    "a body with Windows line ends": (
        "    y = 2\r\n    return y\r\n",
        HEAD + "    y = 2\n    return y\n",
        "continuation",
        (),
    ),
    "a body and a print": (BODY + "\nprint(f(1))\n", HEAD + BODY, "continuation", ("cut",)),
    "a body and tests": (BODY + "\nassert f(1) == 2\n", HEAD + BODY, "continuation", ("cut",)),
    "a body and a main": (
        BODY + "\nif __name__ == '__main__':\n    f(1)\n",
        HEAD + BODY,
        "continuation",
        ("cut",),
    ),
    "a body and another function": (BODY + "\n" + G, HEAD + BODY, "continuation", ("cut",)),
    "a body and the function that it calls": (
        "    return g(x)\n\n\n" + G,
        HEAD + "    return g(x)\n\n\n" + G,
        "continuation",
        (),
    ),
    "a body and the function again": (
        BODY + "\ndef f(x):\n    return 0\n",
        HEAD + BODY,
        "continuation",
        ("cut",),
    ),
    "a body and prose": (BODY + "\nThis doubles x, as asked.\n", HEAD + BODY, "continuation", ("cut",)),
    "a body and a closing fence": (BODY + "```\nThis doubles x.\n", HEAD + BODY, "continuation", ()),
    "a body and a block of tests": (
        BODY + "\n" + fenced("assert f(1) == 2\n"),
        HEAD + BODY,
        "continuation",
        (),
    ),
    "a body that breaks off": (
        "    y = 2\n    return (y",
        HEAD + "    y = 2\n",
        "continuation",
        ("cut",),
    ),
    "a body that never parses": ("    if x\n", HEAD + "    if x\n", "continuation", ("unparsable",)),
    # Whole programs without fences.
    "the function": (F, F, "program", ()),
    "the prompt and a body": (HEAD + BODY, HEAD + BODY, "program", ()),
    "the prompt twice": (HEAD + HEAD + BODY, HEAD + HEAD + BODY, "program", ()),
    "the function and tests": (F + "\n\nassert f(1) == 2\nprint('ok')\n", F, "program", ("cut",)),
    "a byte order mark": ("\ufeff" + F, F, "program", ()),
    "NULs": ("\0def f(x):\0\n    return 2 * x\n", F, "program", ()),
    "spaces that are not ASCII": ("def f(x):\n\u00a0\u00a0\u00a0\u00a0return 2 * x\n", F, "program", ()),
    "a lone surrogate": ("def f(x):\n    return '\ud800'\n", "def f(x):\n    return '?'\n", "program", ()),
    "a broken function": ("def f(x)\n    return x\n", "def f(x)\n    return x\n", "program", ("unparsable",)),
    "an async function": (
        "async def f(x):\n    return x\n",
        "async def f(x):\n    return x\n",
        "program",
        (),
    ),
    "a lambda": ("f = lambda x: 2 * x\n", "f = lambda x: 2 * x\n", "program", ()),
    # Fences.
    "a fence": (fenced(F), F, "fenced", ()),
    "a fence in prose": (f"Sure!\n\n{fenced(F)}\nIt works.\n", F, "fenced", ()),
    "a fence without a language": (fenced(F, ""), F, "fenced", ()),
    "tildes": (fenced(F, "python", "~~~"), F, "fenced", ()),
    "four backticks": (fenced(F, "python", "````"), F, "fenced", ()),
    "Windows line ends in a fence": (fenced(F).replace("\n", "\r\n"), F, "fenced", ()),
    "an info string with attributes": (fenced(F, 'Python3 title="f.py"'), F, "fenced", ()),
    "an info string in braces": (fenced(F, "{.python .numberLines}"), F, "fenced", ()),
    "a file name as info": (fenced(F, "src/answer.py"), F, "fenced", ()),
    "an unclosed fence": (f"Sure!\n```python\n{F}", F, "fenced_unclosed", ()),
    "an unclosed fence that breaks off": (
        f"```python\n{F}\ndef g(x):\n    retu",
        F,
        "fenced_unclosed",
        ("cut",),
    ),
    "an unclosed fence before another": (
        f"```python\n{F}\n```python\nprint(f(1))\n```\n",
        F,
        "fenced_unclosed",
        (),
    ),
    "a fence in a list": (
        "1. Code:\n\n   ```python\n   def f(x):\n       return 2 * x\n   ```\n\n2. Done.\n",
        F,
        "fenced",
        (),
    ),
    "a fence behind a list mark": ("- ```python\n  def f(x):\n      return 2 * x\n  ```\n", F, "fenced", ()),
    "a fence in a quotation": ("> ```python\n> def f(x):\n>     return 2 * x\n> ```\n", F, "fenced", ()),
    "a fence in a docstring": (
        fenced('def f(x):\n    """Twice.\n\n    ```\n    f(1)\n    ```\n    """\n    return 2 * x\n'),
        'def f(x):\n    """Twice.\n\n    ```\n    f(1)\n    ```\n    """\n    return 2 * x\n',
        "fenced",
        (),
    ),
    "a fence that the prompt opened": (F + "```\n\nThis doubles x.\n", F, "prefilled", ()),
    "only a body in a fence": (fenced(BODY), HEAD + BODY, "fenced", ("repaired_body",)),
    "only a body at column 0 in a fence": (
        fenced("return 2 * x\n"),
        HEAD + BODY,
        "fenced",
        ("repaired_indent", "repaired_body"),
    ),
    "the last of two versions": (
        fenced("def f(x):\n    return x\n") + "Better:\n" + fenced(F),
        F,
        "fenced",
        (),
    ),
    "a usage block after it": (fenced(F) + "Usage:\n" + fenced("print(f(1))\n"), F, "fenced", ()),
    "an output block after it": (fenced(F) + fenced("2\n", ""), F, "fenced", ()),
    "a last version that is broken": (fenced(F) + fenced("def f(x:\n    return\n"), F, "fenced", ()),
    "a shell block before it": (fenced("pip install numpy\n", "bash") + fenced(F), F, "fenced", ()),
    "another language as well": (
        fenced(F) + fenced("function f(x) { return 2 * x }\n", "js"),
        F,
        "fenced",
        (),
    ),
    "a wrong language tag": (fenced(F, "javascript"), F, "fenced", ("other_language",)),
    "helpers in a block of their own": (
        fenced(G) + fenced("def f(x):\n    return g(x)\n"),
        G + "\n\ndef f(x):\n    return g(x)\n",
        "fenced",
        ("joined_blocks",),
    ),
    "tests in the block": (
        fenced(F + "\n\ndef test_f():\n    assert f(1) == 2\n\n\ntest_f()\n"),
        F,
        "fenced",
        ("cut",),
    ),
    "a main in the block": (
        fenced(F + "\nif __name__ == '__main__':\n    print(f(int(input())))\n"),
        F,
        "fenced",
        ("cut",),
    ),
    "a block with what prepares": (
        fenced(PREPARED + "\n\nsys.exit(0)\n"),
        PREPARED,
        "fenced",
        ("cut",),
    ),
    "a block that is indented": (
        fenced("    def f(x):\n        return 2 * x\n"),
        F,
        "fenced",
        ("repaired_indent",),
    ),
    "a block that is broken": (
        fenced("def f(x):\n    return (2\n"),
        "def f(x):\n    return (2\n",
        "fenced",
        ("unparsable",),
    ),
    "a block with prose in it": (fenced(F + "\nThis is the answer.\n"), F, "fenced", ("salvaged",)),
    "a block without the function": (fenced(G), G, "fenced", ("no_entry_point",)),
    "only a shell block": (fenced("pip install numpy\n", "bash"), "", "no_code", ()),
    "inline fences": ("Use ```f(x)``` here.\n", "", "no_code", ()),
    # Prose.
    "code in prose": ("Here is the function:\n\n" + F + "\nIt doubles x.\n", F, "chat_code", ()),
    "code in prose, indented": (
        "The function:\n\n    def f(x):\n        return 2 * x\n\nDone.\n",
        F,
        "chat_code",
        (),
    ),
    "words": ("I cannot help with that.\n", "", "no_code", ()),
    "one word": ("Sure", "", "no_code", ()),
    "words that parse": ("Answer: 42\n", "", "no_code", ()),
    "empty": ("", "", "empty", ()),
    "white space": (" \n\t\r\n ", "", "empty", ()),
    # Tags.
    "the tags of Code Llama": (f"[PYTHON]\n{F}[/PYTHON]\nDone.\n", F, "tagged", ()),
    "the tags of MBPP": (f"[BEGIN]\n{F}[DONE]\n", F, "tagged", ()),
    "an answer tag without an end": (f"My answer.\n<answer>\n{F}", F, "tagged", ()),
    # Thinking.
    "thinking": (f"<think>\ndef f(x): return 0\n</think>\n\n{fenced(F)}", F, "fenced", ()),
    "thinking that the template opened": (f"def f(x): return 0\n</think>\n{F}", F, "program", ()),
    "thinking twice": (f"<think>a</think>\nSo:\n<think>b</think>\n{fenced(F)}", F, "fenced", ()),
    "thinking that mentions its tag": (f"<think>a <think> b</think> c</think>\n{F}", F, "program", ()),
    "thinking without an end": ("<think>\n" + fenced(F), "", "thinking_unclosed", ()),
    "thinking without an end after an answer": (fenced(F) + "<think>Is it", F, "fenced", ()),
    "thinking alone": ("<think>What now?</think>\n", "", "empty", ()),
    "thinking in brackets": (f"[THINK]hm[/THINK]{F}", F, "program", ()),
    "channels": (
        f"<|channel|>analysis<|message|>{fenced(G)}<|end|><|start|>assistant<|channel|>final<|message|>{fenced(F)}<|return|>",
        F,
        "fenced",
        (),
    ),
    "channels without an answer": (f"<|channel|>analysis<|message|>{fenced(F)}", "", "thinking_unclosed", ()),
    "a quoted thinking tag": (
        "def f(x):\n    return '<think>'\n",
        "def f(x):\n    return '<think>'\n",
        "program",
        (),
    ),
    # Special tokens.
    "an end of text": (BODY + "<|endoftext|>import os\n", HEAD + BODY, "continuation", ()),
    "an end of turn": (fenced(F) + "<|im_end|>\n<|im_start|>user\nThanks", F, "fenced", ()),
    "Llama's end": (F + "<|eot_id|>", F, "program", ()),
    "an end of sentence": (F + "</s>", F, "program", ()),
    "a DeepSeek end": (F + "<｜end▁of▁sentence｜>", F, "program", ()),
    "fill-in-the-middle tokens": (BODY + "<|fim_pad|>x<fim_suffix>", HEAD + BODY, "continuation", ()),
    "a header": ("<|start_header_id|>assistant<|end_header_id|>\n\n" + F, F, "program", ()),
    "a ChatML header": ("<|im_start|>assistant\n" + F, F, "program", ()),
    "HTML that looks like a token": (
        "def f(x):\n    return '<s>' + x + '</s>'\n",
        "def f(x):\n    return '<s>' + x + '</s>'\n",
        "program",
        (),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_gives_its_program_and_its_reason(name: str) -> None:
    text, solution, reason, notes = SHAPES[name]
    assert extract(text, prompt=PROMPT, entry_point="f") == Extracted(solution, reason, notes)


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_extracted_is_extracted_as_it_is(name: str) -> None:
    _, solution, _, notes = SHAPES[name]
    if solution and not {"unparsable", "no_entry_point"} & set(notes):
        again = extract(solution, prompt=PROMPT, entry_point="f")
        assert again == Extracted(solution, "program", ())


def test_names_that_the_answer_lacks_come_from_the_prompt() -> None:
    found = extract(fenced("def f(xs: List[int]):\n    return xs\n"), prompt=WITH_IMPORT, entry_point="f")
    assert found == Extracted(
        "from typing import List\n\ndef f(xs: List[int]):\n    return xs\n", "fenced", ("repaired_imports",)
    )
    found = extract(fenced("def f(x):\n    return half(4 * x)\n"), prompt=WITH_HELPER, entry_point="f")
    assert found.notes == ("repaired_helpers",)
    assert found.solution.startswith("import math\n\n\ndef half(x):") and found.solution.endswith(
        "half(4 * x)\n"
    )


def test_the_prompts_code_stays_for_the_tests_even_where_the_answer_does_not_read_it() -> None:
    found = extract(fenced(F), prompt=WITH_HELPER, entry_point="f")
    assert "def half" in found.solution and found.notes == ("prompt_code",)
    own = fenced("import math\n\n\ndef half(x):\n    return 7\n\n\n" + F)
    assert extract(own, prompt=WITH_HELPER, entry_point="f").solution.count("def half") == 1
    assert "return 7" in extract(own, prompt=WITH_HELPER, entry_point="f").solution


def test_a_future_import_stays_in_front() -> None:
    text = fenced("from __future__ import annotations\n\ndef f(xs: List[int]):\n    return xs\n")
    found = extract(text, prompt=WITH_IMPORT, entry_point="f")
    assert found.solution.startswith("from __future__ import annotations\nfrom typing import List\n")
    compile(found.solution, "answer", "exec")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("first", "a = 1\n"), ("last", "2\n"), ("longest", "ccc = 3333\n"), ("auto", "ccc = 3333\n")],
)
def test_the_rule_takes_the_block(rule: Any, expected: str) -> None:
    text = fenced("a = 1\n") + "then\n" + fenced("ccc = 3333\n") + "which prints\n" + fenced("2\n", "text")
    assert extract(text, rule=rule).solution == expected


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(CodealignError, match="did you mean 'first'"):
        extract("x", rule="frist")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "solution", "reason"),
    [
        (fenced("n = int(input())\nprint(n)\n"), "n = int(input())\nprint(n)\n", "fenced"),
        ("n = int(input())\nprint(n)", "n = int(input())\nprint(n)\n", "program"),
        (
            "Here:\n\nn = int(input())\nprint(n)\n\nIt prints n.\n",
            "n = int(input())\nprint(n)\n",
            "chat_code",
        ),
        (
            fenced("def main():\n    print(1)\n\n\nif __name__ == '__main__':\n    main()\n"),
            "def main():\n    print(1)\n\n\nif __name__ == '__main__':\n    main()\n",
            "fenced",
        ),
        (fenced("print(1\n"), "print(1\n", "fenced"),
    ],
)
def test_of_whole_programs_nothing_is_cut(text: str, solution: str, reason: str) -> None:
    found = extract(text, prompt="Read n and print it.")
    assert (found.solution, found.reason) == (solution, reason)


TWO_CLASSES = """class Node:
    pass


class Solution:
    def go(self, x):
        return Node()
"""
CLASS = "class Solution:\n    def go(self, x: int) -> int:\n        "


@pytest.mark.parametrize(
    ("text", "solution", "reason"),
    [
        ("return x\n", CLASS + "return x\n", "continuation"),
        ("return x\n\nprint(Solution().go(1))\n", CLASS + "return x\n", "continuation"),
        (
            fenced(TWO_CLASSES + "\n\ns = Solution()\n"),
            TWO_CLASSES,
            "fenced",
        ),
    ],
)
def test_classes_are_kept_for_a_method(text: str, solution: str, reason: str) -> None:
    found = extract(text, prompt=CLASS, entry_point="Solution.go")
    assert (found.solution, found.reason) == (solution, reason)


def test_a_prompt_that_ends_within_a_line_is_continued_there() -> None:
    assert (
        extract(" x\nprint(f(1))", prompt="def f(x): return", entry_point="f").solution
        == "def f(x): return x\n"
    )


def test_prose_as_a_prompt_changes_nothing() -> None:
    assert extract(F, prompt="Write a function f that doubles x.", entry_point="f") == Extracted(F, "program")
    incoder = '"""Double x.\nassert f(1) == 2\n"""\n'
    assert extract(F + "\nassert f(1) == 2\n", prompt=incoder, entry_point="f") == Extracted(
        F, "program", ("cut",)
    )


CPP = "#include <vector>\nint f(int x) {\n"


@pytest.mark.parametrize(
    ("text", "solution", "reason", "notes"),
    [
        ("    return 2 * x;\n}\n", CPP + "    return 2 * x;\n}\n", "continuation", ()),
        (
            fenced("    return 2 * x;\n}\n", "cpp"),
            CPP + "    return 2 * x;\n}\n",
            "fenced",
            ("repaired_body",),
        ),
        (
            fenced("int f(int x) { return 2 * x; }\n", "C++"),
            "#include <vector>\nint f(int x) { return 2 * x; }\n",
            "fenced",
            ("repaired_imports",),
        ),
        (
            fenced("def f(x): return 2 * x\n") + fenced(CPP + "return 1;}\n", "cpp"),
            CPP + "return 1;}\n",
            "fenced",
            (),
        ),
        (CPP + "return 1;}\n", CPP + "return 1;}\n", "program", ()),
        (fenced("make\n", "bash"), "", "no_code", ()),
    ],
)
def test_other_languages_are_taken_as_they_stand(
    text: str, solution: str, reason: str, notes: tuple[str, ...]
) -> None:
    assert extract(text, prompt=CPP, entry_point="f", language="cpp") == Extracted(solution, reason, notes)


def test_humanevals_references_survive_every_wrapping(shared: Path) -> None:
    rows = gzip.decompress((shared / "data/humaneval/HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
    for row in map(json.loads, rows):
        prompt, name = row["prompt"], row["entry_point"]
        whole = prompt + row["canonical_solution"]
        assert (
            extract(row["canonical_solution"], prompt=prompt, entry_point=name).solution.rstrip()
            == whole.rstrip()
        )
        body = ast.unparse(ast.parse(whole)) + "\n"
        chat = extract(f"Sure!\n\n{fenced(body)}\nDone.", prompt=prompt, entry_point=name)
        assert chat.reason == "fenced"
        alone = next(n for n in ast.parse(whole).body if getattr(n, "name", "") == name)
        bare = extract(fenced(ast.unparse(alone) + "\n"), prompt=prompt, entry_point=name)
        for solution in (chat.solution, bare.solution):
            namespace: dict[str, Any] = {}
            if row["task_id"] != "HumanEval/32":  # its test takes seconds
                exec(f"{solution}\n{row['test']}\ncheck({name})", namespace)  # OpenAI's own solutions
            else:
                exec(solution, namespace)
                assert "poly" in namespace


# Bounds against blow-up, not speeds.
HOSTILE = {
    "50 MB of spaces": " " * 50_000_000,
    "50 MB of code": "    x = 1\n" * 5_000_000,
    "50 MB of prose": "Here is the code that you want. " * 1_600_000,
    "fences": "```\n" * 1_000_000,
    "blocks": "```python\ndef f(x):\n```\n" * 200_000,
    "thinking": "<think>" * 1_000_000,
    "tags": "[PYTHON]" * 1_000_000,
    "list marks": ("- " * 400 + "```x```\n") * 5_000,
    "quotation marks": ("> " * 400 + "```x```\n") * 5_000,
    "open brackets": "(\n" * 200_000,
    "decorators": "@a\n" * 200_000,
    "broken functions": "def f(x):\n    return (\n" * 20_000,
    "quotes": '"""\n' * 200_000,
    "depth": "def f(x):\n    return " + "(" * 90_000,
    "a chain of helpers": "".join(fenced(f"def g{i}():\n    return g{i + 1}()\n") for i in range(300))
    + fenced("def f(x):\n    return g0()\n"),
    "broken bodies": "```\n    return (x\n```\n" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("entry_point", ["f", ""])
def test_hostile_text_takes_bounded_time(name: str, entry_point: str) -> None:
    start = time.process_time()
    found = extract(HOSTILE[name], prompt=PROMPT, entry_point=entry_point)
    assert time.process_time() - start < 20.0
    assert len(found.solution) < 250_000


FRAGMENTS = ["def f(x):\n", "    return x\n", "return 1\n", "```", "```python\n", "~~~\n", "\n", "<think>"]
FRAGMENTS += ["</think>", HEAD, F, G, "print(f(1))\n", "\t", "  ", "(", ")", '"""', "'''", "<|im_end|>", "\r"]
FRAGMENTS += [
    "\0",
    "\ud800",
    "class f:\n",
    "@d\n",
    "#",
    "\\",
    "yield x\n",
    "global f\n",
    "f = 1\n",
    "if x:\n",
]
FRAGMENTS += ["import f\n", "from __future__ import annotations\n", "Sure: yes\n", "[BEGIN]", "[DONE]"]
pieces = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=14).map("".join)


@settings(max_examples=400, deadline=None)
@given(
    pieces,
    st.sampled_from(["", HEAD, WITH_HELPER, CLASS, "def f(x): return", "Write f."]),
    st.sampled_from(["f", "", "Solution.go", "half"]),
    st.sampled_from(["auto", "first", "last", "longest"]),
)
@example("from __future__ import annotations\ndef f(x):\n    return x\n", WITH_HELPER, "f", "auto")
def test_any_text_gives_text_that_is_stable(text: str, prompt: str, entry_point: str, rule: Any) -> None:
    found = extract(text, prompt=prompt, entry_point=entry_point, rule=rule)
    found.solution.encode("utf-8")
    assert found.reason in REASONS and set(found.notes) <= NOTES
    if found.solution and not {"unparsable", "no_entry_point"} & set(found.notes):
        ast.parse(found.solution)
        again = extract(found.solution, prompt=prompt, entry_point=entry_point, rule=rule)
        assert again.solution == found.solution


@settings(max_examples=60, deadline=None)
@given(pieces, st.sampled_from(["cpp", "java", "javascript", "c", "rust"]))
def test_any_text_is_taken_in_any_language(text: str, language: str) -> None:
    found = extract(text, prompt="int f(int x) {\n", entry_point="f", language=language)
    assert found.reason in REASONS and set(found.notes) <= NOTES


def _table(heading: str) -> set[str]:
    page = (Path(__file__).resolve().parents[3] / "docs" / "extraction.md").read_text(encoding="utf-8")
    rows = page.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}


REASONS = _table("Reasons")
NOTES = _table("Notes")


def test_the_documented_reasons_and_notes_are_those_of_the_shapes() -> None:
    assert {reason for _, _, reason, _ in SHAPES.values()} == REASONS
    elsewhere = {"too_long", "prompt_code", "repaired_imports", "repaired_helpers"}
    assert {note for *_, notes in SHAPES.values() for note in notes} | elsewhere == NOTES


def test_samples_keep_their_raw_text_and_gain_a_solution_and_a_reason() -> None:
    problem = Problem("t/0", PROMPT, "f", (), "")
    prose = Problem("t/1", "Write f.", "f", (), "", continues=False)
    raw = [
        Sample("t/0", BODY, None, 0, {"model": "m"}),
        Sample("t/1", None, fenced(F), 1),
        Sample("t/0", "no", None, 2),
    ]
    found = list(extract_samples(raw, {"t/0": problem, "t/1": prose}))
    assert [s.solution for s in found] == [HEAD + BODY, F, ""]
    assert [s.completion for s in found] == [BODY, fenced(F), "no"]
    assert found[0].meta == {"model": "m", "reason": "continuation", "notes": []}
    assert [(s.task_id, s.sample) for s in found] == [("t/0", 0), ("t/1", 1), ("t/0", 2)]
    with pytest.raises(CodealignError, match="unknown task id 't/9'"):
        list(extract_samples([Sample("t/9", "x", None, 0)], {"t/0": problem}))
