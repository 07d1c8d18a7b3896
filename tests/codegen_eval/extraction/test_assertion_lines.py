"""Assertion lines: what is kept, what is refused, and the tests they become."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_eval.extraction import assertions, calls_entry_point, parse_statements, to_test
from sandbox import CallTest, CodeTest


def test_assertions_are_normalised_and_kept_once() -> None:
    reasons: Counter[str] = Counter()
    text = "assert f(1)==2\nassert   f( 1 ) == 2, 'no'\nassert f('a') == \"b\"\n"
    assert assertions(text, "f", reasons=reasons) == ["assert f(1) == 2", "assert f('a') == 'b'"]
    assert reasons == {"kept": 2, "repeated": 1}


def test_broken_tail_is_ignored_and_everything_before_it_kept() -> None:
    assert assertions("assert f(1) == 2\nassert f([1, 2", "f") == ["assert f(1) == 2"]
    assert assertions("assert f(1) == 2\nprint('x'\nassert f(2) == 4", "f") == [
        "assert f(1) == 2",
        "assert f(2) == 4",
    ]


def test_assertion_over_several_lines_is_one() -> None:
    assert assertions("assert f([1,\n  2]) == [\n 2, 4]\nassert f(0) == 0", "f") == [
        "assert f([1, 2]) == [2, 4]",
        "assert f(0) == 0",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("assert True", "no_call"),
        ("assert g(1) == 2", "no_call"),
        ("assert 'f(1)' == 2", "no_call"),
        ("assert True, f(1)", "no_call"),
        ("assert x.f(1) == 2", "no_call"),
        ("assert f(x) == 2", "unknown_name"),
        ("assert f(1 == 2", "unparsable"),
        ("assert f(" + "1" * 2000 + ")", "unparsable"),
        ("assert\0 f(1)", "unparsable"),
        ("assert (f(1))\n = 3", "kept"),
    ],
)
def test_reason_is_counted_for_every_assertion(text: str, reason: str) -> None:
    reasons: Counter[str] = Counter()
    kept = assertions(text, "f", reasons=reasons)
    assert reasons == {reason: 1}
    assert len(kept) == (reason == "kept")


def test_assertions_inside_functions_are_not_top_level() -> None:
    assert assertions("def test():\n    assert f(1) == 2\n", "f") == []


def test_comprehensions_and_builtins_are_known_names() -> None:
    kept = assertions("assert all(f(i) == 2 * i for i in range(3))", "f")
    assert kept == ["assert all((f(i) == 2 * i for i in range(3)))"]


def test_number_of_assertions_is_bounded() -> None:
    reasons: Counter[str] = Counter()
    text = "\n".join(f"assert f({i}) == {i}" for i in range(50_000))
    assert len(assertions(text, "f", limit=5, reasons=reasons)) == 5
    assert reasons["over_limit"] == 1 and reasons["text_cut"] == 1


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_assertions_that_are_stable(text: str) -> None:
    for assertion in assertions("assert f(1) == " + text + "\n" + text, "f"):
        assert assertions(assertion, "f") == [assertion]


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(literals, literals)
def test_literal_equalities_become_call_tests_with_the_same_data(argument: object, expected: object) -> None:
    text = f"assert f({argument!r}) == {expected!r}"
    kept = assertions(text, "f")
    if kept:
        assert to_test(kept[0], "f") == CallTest((argument,), expected)


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("assert f(1, [2]) == (3,)", (1, [2]), (3,)),
        ("assert f() == -1", (), -1),
        ("assert 2 == f(1)", (1,), 2),
        ("assert f(1)", (1,), True),
        ("assert not f(1)", (1,), False),
        ("assert f(1) is True", (1,), True),
        ("assert f(1) is False", (1,), False),
        ("assert f(1) is None", (1,), None),
        ("assert f({1: 2}) == {'a'}", ({1: 2},), {"a"}),
    ],
)
def test_plain_assertions_become_call_tests(text: str, args: tuple[object, ...], expected: object) -> None:
    assert to_test(text, "f") == CallTest(args, expected)


@pytest.mark.parametrize(
    "text",
    [
        "assert f(1) != 2",
        "assert f(1) == f(2)",
        "assert f(x=1) == 2",
        "assert f(*[1]) == 2",
        "assert abs(f(1) - 2.0) < 1e-6",
        "assert f(1) is 2",
        "assert 0 < f(1) < 3",
        "assert f(2 * 3) == 1",
        "assert f(__import__('os').getpid()) == 1",
        "assert f(1e999) == 1",
        "assert f(1) == 1j",
        "assert f('\\ud800') == 1",
        "assert f({[]: 1}) == 1",
        "assert f(1)\nassert f(2)",
        "no python (",
    ],
)
def test_everything_else_stays_source(text: str) -> None:
    assert to_test(text, "f") == CodeTest(text)


def test_methods_of_the_same_name_are_no_calls_of_the_entry_point() -> None:
    (node,) = parse_statements("a.f(1)") or []
    assert not calls_entry_point(node, "f")
