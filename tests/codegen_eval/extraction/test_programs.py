"""A completion as a program: where it is cut."""

from __future__ import annotations

from collections import Counter

from codegen_eval.extraction import program

PROMPT = 'def f(x):\n    """Twice x.\n\n    >>> f(1)\n    2\n    """\n'


def test_program_is_cut_at_the_end_of_the_body() -> None:
    body = "    y = 2 * x\n\n    return y\n"
    for tail in (
        "def g():\n    pass",
        "class A: pass",
        "if __name__ == '__main__':",
        "assert f(1)",
        "print(1)",
    ):
        reasons: Counter[str] = Counter()
        assert program(PROMPT, body + "\n" + tail, "f", reasons=reasons) == PROMPT + body
        assert reasons == {"cut": 1}
    assert program(PROMPT, body + "```\nSo this works", "f") == PROMPT + body
    assert program(PROMPT, body + "\n\n\n", "f") == PROMPT + body
    assert program(PROMPT, "    definitely = printed = 1\n", "f").endswith("definitely = printed = 1\n")


def test_program_that_defines_the_function_anew_keeps_the_new_definition() -> None:
    again = "def f(x):\n    return 2 * x\n"
    assert program(PROMPT, again + "\ndef g():\n    pass\n", "f") == PROMPT + again


def test_program_continues_a_prompt_without_newline() -> None:
    assert program("def f(x): return", " x\nprint(f(1))", "f") == "def f(x): return x\n"
    assert program("def f(x): ", "print(x)", "f") == "def f(x): print(x)\n"


def test_empty_and_overlong_completions_have_a_reason() -> None:
    reasons: Counter[str] = Counter()
    assert program(PROMPT, " \n\n", "f", reasons=reasons) == PROMPT
    assert len(program(PROMPT, "    x = 1\n" * 100_000, "f", reasons=reasons)) < 200_000
    assert reasons == {"whole": 2, "empty": 1, "too_long": 1}
