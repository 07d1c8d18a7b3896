"""`extract`: what is found in answers of any shape, why, and that no text breaks it."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen_eval.errors import CodealignError
from codegen_eval.extraction import Extracted, extract, extract_samples
from codegen_eval.records import Problem, Sample
from tests.codegen_eval.extraction.shapes import (
    BODY,
    HEAD,
    PROMPT,
    SHAPES,
    WITH_HELPER,
    WITH_IMPORT,
    F,
    G,
    fenced,
)
from tests.conftest import cpu_bound


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


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("entry_point", ["f", ""])
def test_hostile_text_takes_bounded_time(name: str, entry_point: str) -> None:
    with cpu_bound(20):
        found = extract(HOSTILE[name], prompt=PROMPT, entry_point=entry_point)
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
