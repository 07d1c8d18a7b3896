"""Bad and hostile input on the caller's side: sources, tests, limits, names, and texts that come back."""

import html
import json
import time
import unicodedata

import pytest

from sandbox import CallTest, CodeTest, Limits, MatrixJob, Program, Sandbox, Verdict
from sandbox.program import MAX_SOURCE
from sandbox.verdict import clean_text
from tests.conftest import cpu_bound

pytestmark = pytest.mark.sandbox
NINE = (CallTest((3,), 9),)
SQUARE = "def f(n): return n * n\n"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(1, limits=Limits(cpu_seconds=2.0, wall_seconds=20.0, memory_mb=512)) as made:
        yield made


def run(sandbox, source, tests=NINE, **more):
    (result,) = sandbox.run([Program(source, "f", tests, **more)])
    (after,) = sandbox.run([Program(SQUARE, "f", NINE)])
    assert after.verdict is Verdict.passed
    return result


@pytest.mark.parametrize("source", ["", "\n\n", "# nothing", "pass", '"""text"""'])
def test_an_empty_program_does_not_define_its_entry_point(sandbox, source):
    found = run(sandbox, source)
    assert (found.verdict, found.cause) == (Verdict.runtime_error, "NameError") and "'f'" in found.message


@pytest.mark.parametrize(
    "source",
    [
        "def f(n): return n * n\0",
        "\0",
        "x = '\ud800'\ndef f(n): return 9",
        "\udcff",
        "\ufeff\ufeffdef f(n): return 9",
        "def f(n) return 9",
        "(" * 500 + ")" * 500,
        "def f(n):\n\treturn 9\n        return 9",
        "\x1b[31mdef f(n): return 9",
        "# -*- coding: nonsense -*-\nreturn",
    ],
)
def test_what_cannot_be_compiled_is_a_syntax_error(sandbox, source):
    assert run(sandbox, source).verdict is Verdict.syntax_error


def test_line_ends_of_other_systems_run(sandbox):
    for source in ("def f(n):\r\n    return n * n\r\n", "def f(n):\r    return n * n\r"):
        assert run(sandbox, source).verdict is Verdict.passed


def test_ten_megabytes_of_source_run_or_meet_a_limit(sandbox):
    comment = "#" + "x" * 10_000_000 + "\n"
    assert run(sandbox, comment + SQUARE).verdict is Verdict.passed
    statements = SQUARE + "x = 1\n" * (10_000_000 // 6)
    found = run(sandbox, statements).verdict
    assert found in (Verdict.passed, Verdict.timeout, Verdict.memory_limit)
    with pytest.raises(ValueError, match=f"at most {MAX_SOURCE}"):
        Program("#" * (MAX_SOURCE + 1), "f", NINE)


BOMBS = {
    "recursion": "def r(): r()\nr()",
    "recursion without limit": "import sys\nsys.setrecursionlimit(10**9)\ndef r(): r()\nr()",
    "nested source": "x = " + "[" * 5000 + "]" * 5000,
    "recursion in check": "def check(candidate):\n    check(candidate)",
    "deep value": "x = []\nfor _ in range(10**6): x = [x]\nprint(x)",
    "deep argument": "x = []\nfor _ in range(500): x = [x]\nassert candidate(x) == 9",
    "argument that holds itself": "x = []\nx.append(x)\nassert candidate(x) == 9",
    "endless": "while True: pass",
    "memory": "x = bytearray(10**12)",
    "exit": "import os\nos._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "NUL": "\0",
    "surrogate": "x = '\ud800'",
    "no test at all": "def check(): pass",
}


@pytest.mark.parametrize("trusted", [False, True], ids=["untrusted", "trusted"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_a_test_fails_that_test_and_not_the_harness(sandbox, bomb, trusted):
    begin = time.monotonic()
    tests = (CodeTest(BOMBS[bomb], trusted=trusted),)
    found = run(sandbox, SQUARE, tests)
    assert found.verdict is not Verdict.passed
    assert found.cause.startswith("test:") or bomb == "endless", found
    assert time.monotonic() - begin < 60
    good = (CodeTest("def check(candidate):\n    assert candidate(3) == 9", trusted=trusted),)
    assert run(sandbox, SQUARE, good).verdict is Verdict.passed


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), float("inf"), True, "3", None])
@pytest.mark.parametrize("name", ["cpu_seconds", "wall_seconds", "memory_mb", "output_kb"])
def test_limits_that_are_none_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_limits_above_the_hard_ones_are_lowered_and_said():
    hard = Limits(cpu_seconds=1.0, wall_seconds=5.0, memory_mb=128, output_kb=8)
    with Sandbox(1, hard_limits=hard) as made:
        asked = Limits(cpu_seconds=1e9, wall_seconds=1e9, memory_mb=10**9, output_kb=10**9)
        (found,) = made.run([Program("def f(n): return len(bytearray(2 * 10**8))", "f", NINE, limits=asked)])
    assert found.limits == hard and found.verdict is Verdict.memory_limit
    assert all(
        any(name in note for note in found.notes) for name in ("cpu_seconds", "memory_mb", "output_kb")
    )


@pytest.mark.parametrize("entry", ["", "f g", "f(", "1f", "f\0", "\ud800", "f;import os"])
def test_an_entry_point_that_is_no_name_is_refused(entry):
    with pytest.raises(ValueError, match="entry_point"):
        Program(SQUARE, entry, NINE)


def test_huge_and_hostile_ids_come_back_as_they_are(sandbox):
    for name in ("x" * 10**7, "\0\n\x1b[31m\ud800", "../../etc/passwd", "<script>"):
        assert run(sandbox, SQUARE, id=name).id == name


HOSTILE = "\x1b[2J\x1b]0;title\x07\r\b\0\u202e\u2066\u200b\ufeff\x9b31m\ud800<script>alert(1)</script>'\"&"


def test_error_texts_are_harmless_in_a_terminal_and_in_html(sandbox):
    source = f"class E(Exception): pass\ndef f(n): raise E({HOSTILE!r} * 300)"
    code = (CodeTest("def check(candidate):\n    assert candidate(3) == 9"),)
    for tests in (NINE, code):
        message = run(sandbox, source, tests).message
        assert len(message) < 5100 and "E" not in message[:1]
        assert not {unicodedata.category(c) for c in message if c != "\n"} & {"Cc", "Cf", "Cs", "Co", "Cn"}
        message.encode("utf-8")
        json.loads(json.dumps(message))
        assert "<script>" not in html.escape(message)


@pytest.mark.parametrize(
    "name", ["test:AssertionError", "a\nb", "\x1b[31m", "x" * 5000, "E: x", " ", "SIG KILL"]
)
def test_a_cause_is_a_types_name_and_no_more(sandbox, name):
    source = f"E = type({name!r}, (Exception,), {{}})\ndef f(n): raise E(n)"
    code = (CodeTest("def check(candidate):\n    assert candidate(3) == 9"),)
    for tests in (NINE, code, (CodeTest(code[0].source, trusted=True),)):
        found = run(sandbox, source, tests)
        assert found.verdict is Verdict.runtime_error
        assert found.cause.isidentifier() and len(found.cause) <= 100, found
    assert run(sandbox, f"raise type({name!r}, (Exception,), {{}})").cause.isidentifier()


def test_printed_text_of_the_test_and_of_the_program_is_bounded(sandbox):
    code = CodeTest("while True: print('x' * 10**6)")
    assert run(sandbox, SQUARE, (code,)).verdict is Verdict.output_limit


COLLIDING = """
import sys
codec = next(m for name, m in sys.modules.items() if name.endswith("codec") and hasattr(m, "encode"))
real = codec.encode
def encode(value, *args, **kwargs):
    found = real(value, *args, **kwargs)
    return TAG + found[1:] if type(value) is list else found
codec.encode = encode
V = [i * (2**61 - 1) for i in range(60_000)]
def f(n): return V
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("V = [[] for _ in range(800_000)]\ndef f(n): return V", 9),
        ("V = {str(i): {} for i in range(300_000)}\ndef f(n): return V", [1]),
        (COLLIDING.replace("TAG", repr(b"e")), set(range(60_000))),
        (COLLIDING.replace("TAG", repr(b"d")), dict.fromkeys(range(60_000), 0)),
        ("V = [10 ** 30_000] * 300\ndef f(n): return V", [10**30_000] * 299 + [1]),
    ],
    ids=["lists", "dicts", "colliding set", "colliding keys", "ints"],
)
def test_an_answer_cannot_keep_the_caller_busy(sandbox, source, expected):
    """Building and comparing what came costs no more than the expected value lets one fear."""
    limits = Limits(cpu_seconds=5.0, wall_seconds=60.0, memory_mb=1024)
    test = CallTest((3,), expected)
    with cpu_bound(0.7):
        (found,) = sandbox.run([Program(source, "f", (test,), limits=limits)])
    assert found.verdict is Verdict.wrong_answer, found


def test_a_matrix_refuses_what_a_program_refuses(sandbox):
    with pytest.raises(ValueError, match="entry_point"):
        list(sandbox.pass_matrices([MatrixJob([SQUARE], NINE, "f g")]))
    matrix = sandbox.pass_matrix(["", "\0", SQUARE, "def f(n):\n    " + "x" * 10**6], NINE, "f")
    assert matrix.passed[matrix.code_index[2]].all() and not matrix.passed[matrix.code_index[0]].any()


def test_clean_text_leaves_no_control_characters_and_is_bounded():
    assert clean_text("a\x1b[31m\0\u202e\ud800") == "a\\x1b[31m\\x00\\u202e\\ud800"
    assert len(clean_text("x" * 10**7)) == 503


@pytest.mark.parametrize("mode", ["shared", "checked", "independent"])
def test_many_large_answers_are_no_flood(sandbox, mode):
    tests = [CallTest((n,), str(n) * 10**6) for n in range(1, 7)] * 5
    tests += [CodeTest("assert len(f(9)) == 10**6"), CallTest((9,), "9" * 10**6)]
    matrix = sandbox.pass_matrix(["def f(n): return str(n) * 10**6"], tests, "f", mode=mode)
    assert matrix.passed.all(), matrix.verdicts
