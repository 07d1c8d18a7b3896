"""Hostile text neither crashes the readers of assertions, examples and programs nor takes long."""

from __future__ import annotations

import pytest

from codegen_eval.extraction import assertions, docstring_examples, parse_statements, program, to_test
from sandbox import CallTest, CodeTest
from tests.conftest import cpu_bound

PROMPT = 'def f(x):\n    """Twice x.\n\n    >>> f(1)\n    2\n    """\n'

HOSTILE = {
    "ten megabytes": "assert f(1) == 1\n" * 600_000,
    "one long line": "assert f(" + "1," * 5_000_000 + ")",
    "NULs": "assert f(1) == '\0'\n" * 1000,
    "deep brackets": "assert f(" + "[" * 50_000 + "]" * 50_000 + ")",
    "deep brackets, short": "assert f(" + "[" * 450 + "]" * 450 + ") == 1",
    "minus signs": "assert f(" + "-" * 900 + "1)",
    "long sum": "assert f(" + "+".join("1" * 400) + ") == 1",
    "attributes": "assert f" + ".a" * 400 + " == f(1)",
    "huge decimal": "assert f(" + "9" * 900 + ") == 1",
    "huge hex": "assert f(0x" + "f" * 900 + ") == 1",
    "power tower": "assert f(9**9**9**9) == 1",
    "surrogates": "assert f('\ud800') == 1",
    "escaped surrogate": "assert f('\\ud800') == 1",
    "unclosed quotes": 'assert f("""' * 20_000,
    "backslashes": "assert f(1) == \\\n" * 20_000,
    "many broken": "assert f((\n" * 8000,
    "bad escape": "assert f('\\d') == 1",
    "bidi": "assert f('\u202e') == '\u2066'",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_neither_crashes_nor_takes_long(name: str) -> None:
    with cpu_bound(5):
        for assertion in assertions(HOSTILE[name], "f"):
            assert isinstance(to_test(assertion, "f"), CallTest | CodeTest)
            assertion.encode("utf-8")
        to_test(HOSTILE[name], "f")
        docstring_examples('def f(x):\n    """\n    >>> ' + HOSTILE[name][:300_000], "f")
        docstring_examples(f'def f(x):\n    """\n    >>> f(1)\n    {HOSTILE[name][:1000]}\n    """\n', "f")
        program(PROMPT, HOSTILE[name], "f")


def test_deep_programs_do_not_crash_the_parser() -> None:
    for text in ("-" * 90_000 + "1", "(" * 90_000, "a" + ".a" * 40_000, "1" + "+1" * 40_000, "x=" * 40_000):
        parse_statements(text)
    assert parse_statements("x = 1") is not None
