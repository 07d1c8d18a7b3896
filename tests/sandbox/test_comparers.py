"""How outputs are compared: what each comparer forgives, and that hostile outputs cost no more than their
length."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import IOTest, Program, Sandbox, Verdict
from sandbox.comparers import (
    COMPARE,
    compare_apps,
    compare_decimal_lines,
    compare_exact,
    compare_float_lines,
    compare_floats,
    compare_line_set,
    compare_lines,
    compare_set,
    compare_tokens,
    compare_tokens_casefold,
)
from tests.conftest import cpu_bound

EXACT = [
    (b"42\n", b"42\n", True),
    (b"42", b"42\n", True),
    (b"42\n", b"42", True),
    (b"42\n\n", b"42\n", False),
    (b"42 \n", b"42\n", False),
    (b"42\r\n", b"42\n", False),
    (b"\n42\n", b"42\n", False),
    (b"", b"", True),
    (b"\n", b"", True),
    (b" ", b"", False),
    (b"a\0b", b"a\0b", True),
    (b"a\0b", b"a\0c", False),
    (b"\xff\xfe", b"\xff\xfe", True),
    (b"4", b"42", False),
]
TOKENS = [
    (b"42", b"42\n", True),
    (b" 1\t2\r\n3 \n\n", b"1 2 3", True),
    (b"1 2", b"12", False),
    (b"12", b"1 2", False),
    (b"1 2 3", b"1 2", False),
    (b"1 2", b"1 2 3", False),
    (b"", b"  \n", True),
    (b"", b"1", False),
    (b"Yes", b"YES", False),
    (b"1.0", b"1", False),
    (b"1\x0b2\x0c3", b"1 2 3", True),
    (b"1\xc2\xa02", b"1 2", False),  # a no-break space is none
    (b"1\0002", b"1 2", False),
    (b"\x1b[31m42", b"42", False),
    ("é".encode(), "é".encode(), True),
]
FLOATS = [
    (b"0.3333333", b"0.33333333333", 1e-6, True),
    (b"0.3334", b"0.3333333", 1e-6, False),
    (b"1000000.5", b"1000000", 1e-6, True),
    (b"1000001.5", b"1000000", 1e-6, False),
    (b"1e-9", b"0", 1e-6, True),
    (b"1", b"1.0", 0.0, True),
    (b"1e3", b"1000", 0.0, True),
    (b"-0.0", b"0", 0.0, True),
    (b"nan", b"NaN", 1e-6, True),
    (b"-nan", b"nan", 1e-6, True),
    (b"nan", b"1", 1e-6, False),
    (b"1", b"nan", 1e9, False),
    (b"inf", b"Infinity", 1e-6, True),
    (b"inf", b"-inf", 1e9, False),
    (b"inf", b"1e308", 1e9, False),
    (b"1e999", b"inf", 1e-6, True),  # both are the same number
    (b"1_0", b"10", 1e-6, False),
    (b"0x10", b"16", 1e-6, False),
    (b"1e", b"1", 1e-6, False),
    (b"+.5", b"0.5", 1e-6, True),
    (b"5.", b"5", 1e-6, True),
    (b"abc", b"abc", 1e-6, True),
    (b"abc", b"abd", 1e-6, False),
    (b"1 yes 2.0000001", b"1.0 yes 2", 1e-6, True),
    (b"1 2", b"1 2 3", 1e-6, False),
    ("١".encode(), b"1", 1e-6, False),  # a digit, but not ours
    (b"9" * 5000, b"9" * 5000 + b"1", 1e-6, False),
    (b"", b"", 1e-6, True),
]


@pytest.mark.parametrize(("output", "expected", "same"), EXACT)
def test_exact_forgives_one_newline_at_the_end_only(output, expected, same):
    assert (compare_exact(output, expected) == "") is same


@pytest.mark.parametrize(("output", "expected", "same"), TOKENS)
def test_tokens_forgive_white_space_only(output, expected, same):
    assert (compare_tokens(output, expected) == "") is same


@pytest.mark.parametrize(("output", "expected", "tolerance", "same"), FLOATS)
def test_floats_forgive_what_the_tolerance_says(output, expected, tolerance, same):
    assert (compare_floats(output, expected, tolerance) == "") is same


LINES = [
    (b"1 2\n3", b"1 2\n3\n", True),
    (b"  1 2  \r\n3\n\n\n", b"1 2\n3", True),
    (b"\n\n1", b"1", True),
    (b"1\n\n2", b"1\n2", False),
    (b"1  2", b"1 2", False),
    (b"1 2 3", b"1\n2\n3", False),
    (b"YES", b"Yes", False),
    (b"1.0", b"1", False),
    (b"", b"\n \n", True),
]
DECIMALS = [
    (b"1.50", b"1.5", True),
    (b"1", b"1.0", True),
    (b"1 2.0\n3e2", b"1.0 2\n300", True),
    (b"+5", b"5", True),
    (b"-0", b"0", True),
    (b"0.30000000000000004", b"0.3", False),  # no tolerance
    (b"50000000000000001", b"50000000000000000", False),  # where floats are equal
    (b"YES 1.0", b"YES 1", False),  # all of a line must be numbers
    (b"Yes", b"YES", False),
    (b"YES", b"YES", True),
    (b"1 2", b"1\n2", False),
    (b"1\n2", b"1 2", False),
    (b"inf", b"Infinity", True),
    (b"-inf", b"inf", False),
    (b"nan", b"NaN", False),
    (b"nan", b"nan", True),  # the same text
    (b"1_0", b"10", False),
    (b".", b"0", False),
    (b"e5", b"0", False),
    (b"1.", b"1", True),
    (b".5", b"0.5", True),
    (b"1E999999999", b"1e999999999.", False),
    (b"1E999999999", b"10e999999998", True),
    (b"1e99999999999999999999", b"1", False),
    ("١".encode(), b"1", False),
    (b"\x0c1 ", b"1.0", True),
]
FLOAT_LINES = [
    (b"0.33333", b"0.33366", 1e-3, True),
    (b"0.33333", b"0.33566", 1e-3, False),
    (b"1000000.5", b"1000000", 1e-3, False),  # absolutely, never relatively
    (b"1.0001 2", b"1 2", 1e-3, False),  # a line of two numbers is a text
    (b"a\n1.0001", b"a\n1", 1e-3, True),
    (b"1", b"1\n1", 1e-3, False),
    (b"inf", b"Infinity", 1e9, False),
    (b"inf", b"inf", 0.0, True),
    (b"nan", b"NaN", 1e9, False),
    (b"x", b"1", 1e9, False),
]
FOLDED = [
    (b"YES no", b"yes No", True),
    (b"STRASSE", "straße".encode(), True),
    (b"\xff", b"\xff", True),
    (b"\xff", b"\xfe", False),
    (b"yes", b"yes no", False),
    (b"1.0", b"1", False),
]
SETS = [
    (b"3 1 2", b"1\n2\n3", True),
    (b"1 1 2", b"1 2 2", True),
    (b"1 2", b"1 2 3", False),
    (b"1 2 4", b"1 2 3", False),
    (b"", b" ", True),
]
LINE_SETS = [
    (b"a b\nc", b"c\n\na  b\nc", True),
    (b"b a\nc", b"a b\nc", False),
    (b"a", b"a\nb", False),
    (b"a\nb\nc", b"a\nb", False),
]
APPS = [
    (b"1 2 3\n", b"1 2 3", True),
    (b"a\n\nb", b"a\nb", True),
    (b"3 2 1", b"1 2 3", True),  # wrong order in a line
    (b"b\na", b"a\nb", True),  # and of lines
    (b"1 1 1 2", b"1 2", True),  # and repetitions
    (b"1 2", b"1\n2", False),
    (b"0.333333", b"0.3333333333", True),
    (b"100000.5", b"100001", True),  # relative 1e-5
    (b"1.001 x", b"1.002 x", False),
    (b"1.0001 2", b"1.0002 2.0", True),  # three digits
    (b"1.001 2", b"1.002 2", False),
    (b"-0.0 1", b"0 1.0", True),
    (b"Yes", b"YES", False),
    (b"nan", b"NaN", False),
    (b"nan", b"nan", True),
    (b"inf 1", b"Infinity 1.0", True),
    (b"", b"\n\n", True),
    (b"", b"0", False),
]


@pytest.mark.parametrize(
    ("compare", "output", "expected", "same"),
    [
        (compare, *case)
        for compare, cases in (
            (compare_lines, LINES),
            (compare_decimal_lines, DECIMALS),
            (compare_tokens_casefold, FOLDED),
            (compare_set, SETS),
            (compare_line_set, LINE_SETS),
            (compare_apps, APPS),
        )
        for case in cases
    ],
)
def test_each_comparer_forgives_what_it_says_and_no_more(compare, output, expected, same):
    assert (compare(output, expected) == "") is same


@pytest.mark.parametrize(("output", "expected", "tolerance", "same"), FLOAT_LINES)
def test_float_lines_forgive_a_number_a_line_what_the_tolerance_says(output, expected, tolerance, same):
    assert (compare_float_lines(output, expected, tolerance) == "") is same


DECIMAL_TEXTS = st.one_of(
    st.decimals(allow_nan=False).map(str),
    st.from_regex(r"[+-]?(0{0,3}\d{1,4}\.?\d{0,3}|\.\d{1,3})([eE][+-]?\d{1,3})?", fullmatch=True),
    st.from_regex(r"[+-.eE0-9infty_ ]{0,6}", fullmatch=True),
).filter(lambda text: text.isascii())


def as_livecodebench(output: str, expected: str) -> bool:
    """Whether two lines are equal, by the rule of the benchmark in other words: through `decimal`."""
    output, expected = output.strip(), expected.strip()
    if output == expected:
        return True
    try:
        return [Decimal(x) for x in output.split()] == [Decimal(x) for x in expected.split()]
    except ArithmeticError:
        return False


@pytest.mark.slow
@given(DECIMAL_TEXTS, DECIMAL_TEXTS)
def test_decimal_lines_agree_with_the_decimal_module(a, b):
    if "_" not in a + b and "n" not in (a + b).lower().replace("inf", ""):
        assert (compare_decimal_lines(a.encode(), b.encode()) == "") is as_livecodebench(a, b)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 30))
def test_a_decimal_written_in_two_ways_is_one_number(number, zeros):
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    other = f"{'-' if sign else ''}000{''.join(map(str, digits))}{'0' * zeros}e{exponent - zeros}"
    assert compare_decimal_lines(str(number).encode(), other.encode()) == ""


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=4), st.data())
def test_apps_takes_numbers_a_line_for_close_as_numpy_does(numbers, data):
    others = [
        data.draw(st.sampled_from([x, x * (1 + 1e-6), x * (1 + 3e-5), x + 1e-9, x + 1])) for x in numbers
    ]
    texts = ["\n".join(map(repr, side)).encode() for side in (others, numbers)]
    if np.allclose(others, numbers):
        assert compare_apps(*texts) == ""


TEXTS = st.one_of(st.binary(max_size=60), st.text("01 .\n-eE9aAß\r\t", max_size=40).map(str.encode))


@given(TEXTS)
@pytest.mark.parametrize("name", COMPARE)
def test_every_comparer_takes_an_output_for_itself(name, text):
    assert COMPARE[name](text, text, 0.0) == ""


# From the strictest to the loosest: what one accepts, the next accepts too.
CHAINS = [
    ("exact", "lines", "decimal_lines"),
    ("exact", "lines", "tokens", "tokens_casefold"),
    ("exact", "lines", "float_lines"),
    ("tokens", "floats"),
    ("tokens", "set"),
    ("lines", "line_set"),
    ("exact", "apps"),
]


@given(TEXTS, TEXTS)
def test_a_looser_comparer_accepts_what_a_stricter_one_does(a, b):
    for chain in CHAINS:
        accepts = [COMPARE[name](a, b, 0.0) == "" for name in chain]
        assert accepts == sorted(accepts), chain


@pytest.mark.parametrize("name", COMPARE)
@pytest.mark.parametrize(
    "hostile",
    [
        b"9" * 500_000,
        b"1" * 499_999 + b"x",
        b"1e" + b"9" * 500_000,
        b"1E999999999999999999 " * 20_000,
        b"0." + b"0" * 500_000 + b"1",
        (b"1" * 999 + b"x ") * 500,
        b"\n" * 500_000 + b"1",
        b" " * 500_000 + b"1",
        b"\xff" * 500_000,
        b"nan " * 100_000,
        b"-" * 500_000,
        b" ".join(b"%d" % (k << 61) for k in range(20_000)),  # numbers of few hashes
        "ŉ".encode() * 150_000,  # grows when folded
    ],
    ids=lambda text: f"{text[:4]!r}x{len(text)}",
)
def test_a_hostile_output_costs_no_more_than_its_length(name, hostile):
    with cpu_bound(3):
        differs = COMPARE[name](hostile, b"1 2.5 nan", 1e-6)
        COMPARE[name](hostile, hostile[:-1] + b"2", 1e-6)
    assert 0 < len(differs) < 500


def test_the_first_difference_is_named_and_short():
    assert compare_lines(b"1\n2\n3", b"1\n5\n3") == "line 1 differs: b'5' expected, got b'2'"
    assert compare_lines(b"1", b"1\n2") == "1 lines instead of 2"
    assert "1 of 3 tokens are missing, as b'3'" in compare_set(b"1 2", b"1 2 3")
    assert "1 lines are not expected, as b'x'" in compare_line_set(b"x\ny", b"y")
    for name, compare in COMPARE.items():
        assert 0 < len(compare(b"x" * 10**6, b"y" * 10**6, 0.0)) < 300, name


@pytest.mark.sandbox
def test_every_comparer_judges_programs_by_its_name():
    right = {"lines": "1\n2", "decimal_lines": "1.0\n2", "set": "2\n1\n1", "line_set": "2\n1", "apps": "2\n1"}
    programs = []
    for name in COMPARE:
        test = IOTest("", "1\n2\n", checker=name)
        printed = right.get(name, "1\n2")
        programs += [Program(f"print({text!r})", "", (test,)) for text in (printed, "1\n3")]
    with Sandbox(1) as sandbox:
        verdicts = [result.verdict for result in sandbox.run(programs)]
    assert verdicts == [Verdict.passed, Verdict.wrong_answer] * len(COMPARE)
