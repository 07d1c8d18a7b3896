"""Tests in the solution's own process: only on request, marked, and apart from the other tests."""

import pytest

from sandbox import CallTest, CodeTest, Limits, Program, Sandbox, Verdict

pytestmark = pytest.mark.sandbox
LIMITS = Limits(cpu_seconds=0.4, wall_seconds=2.0, memory_mb=256, output_kb=64)


@pytest.fixture(scope="module")
def box():
    with Sandbox(1, limits=LIMITS) as sandbox:
        yield sandbox


def inside(source):
    return CodeTest(source, in_process=True)


def run(box, source, *tests, entry="f", **options):
    (result,) = box.run([Program(source, entry, tests)], **options)
    return result


@pytest.mark.parametrize(
    ("source", "test", "verdict", "cause"),
    [
        ("def f(n): return n * n", "def check(g):\n    assert g(3) == 9", "passed", ""),
        ("def f(n): return n * n", "assert f(3) == 9 and candidate is f", "passed", ""),
        ("def f(n): return n", "def check(g):\n    assert g(3) == 9", "wrong_answer", ""),
        ("def f(n): return n", "assert f(3) == ", "runtime_error", "test:SyntaxError"),
        ("def f(n): return n", "def check(g): return 1 // 0", "runtime_error", "ZeroDivisionError"),
        ("def f(n): return 1 // 0", "f(1)", "runtime_error", "ZeroDivisionError"),
        ("def f(n) return", "f(1)", "syntax_error", "SyntaxError"),
        ("def g(n): pass", "f(1)", "runtime_error", "NameError"),
        ("def f(n):\n    while True: pass", "f(1)", "timeout", "cpu"),
        ("import time\ndef f(n): time.sleep(9)", "f(1)", "timeout", "wall"),
        ("def f(n): return bytearray(10**9)", "f(1)", "memory_limit", "MemoryError"),
        ("import os\ndef f(n): os._exit(0)", "f(1)", "runtime_error", "exit 0"),
        ("import os\ndef f(n): os.kill(os.getpid(), 11)", "f(1)", "runtime_error", "SIGSEGV"),
        ("def f(n): print('x' * 10**6)", "f(1)", "output_limit", "output"),
        ("import os\ndef f(n): os.write(3, b'\\xff' * 100)", "f(1)", "violation", "protocol"),
        ("def f(n): raise SystemExit(0)", "f(1)", "runtime_error", "SystemExit"),
        ("def f(xs): xs.sort()", "xs = [2, 1]\nf(xs)\nassert xs == [1, 2]", "passed", ""),
        ("def check(n): return n\ndef f(n): return check(n)", "assert f(2) == 2", "passed", ""),
        ("def f(g): return g(2)", "assert f(lambda x: x + 1) == 3", "passed", ""),
        ("class A:\n    def m(self): return 4", "class B(A): pass\nassert B().m() == 4", "passed", ""),
    ],
)  # fmt: skip
def test_verdicts_say_what_happened_and_that_they_can_be_forged(box, source, test, verdict, cause):
    result = run(box, source, inside(test), entry="A" if "class A" in source else "f")
    assert (str(result.verdict), result.cause) == (verdict, cause), result
    assert result.verdict_trust == "forgeable"


def test_other_programs_are_not_marked(box):
    assert run(box, "def f(n): return n", CodeTest("assert f(1) == 1")).verdict_trust == "isolated"
    assert run(box, "def f(n): return n", CallTest((1,), 1)).verdict_trust == "isolated"


def test_a_program_can_forge_it_which_is_why_it_is_marked(box):
    source = (
        "import os, struct\ndef f(n):\n    os.write(3, struct.pack('<IBI', 0, ord('p'), 0))\n    os._exit(0)"
    )
    result = run(box, source, inside("assert f(3) == 9"))
    assert (result.verdict, result.verdict_trust) == (Verdict.passed, "forgeable")
    assert run(box, source, CodeTest("assert f(3) == 9")).verdict is not Verdict.passed


def test_it_shares_its_process_with_no_other_test(box):
    source = "seen = []\ndef f(n):\n    seen.append(n)\n    return list(seen)"
    tests = (
        CallTest((1,), [1]),
        inside("assert f(2) == [2]\nsecret = 42"),
        CallTest((3,), [3]),
        CodeTest("assert f(4) == [3, 4]"),
        inside("assert 'secret' not in globals() and f(5) == [5]"),
        inside("assert f(6) == [6]"),
    )
    result = run(box, source, *tests, all_tests=True)
    assert [str(c.verdict) for c in result.cells] == ["passed"] * 6, result


def test_no_later_test_can_learn_from_its_text(box):
    source = (
        "import gc\ndef f(n):\n    dicts = [o for o in gc.get_objects() if isinstance(o, dict)]\n"
        "    hits = [o for o in dicts if 'the_answer' in o]\n"
        "    return 42 if hits else 0"
    )
    tests = (inside("the_answer = 42\nassert True"), CallTest((1,), 42))
    cells = run(box, source, *tests, all_tests=True).cells
    assert [str(c.verdict) for c in cells] == ["passed", "wrong_answer"]


def test_a_run_goes_on_after_a_crash_and_stops_at_a_failure_unless_told(box):
    source = "import os\ndef f(n):\n    if n == 1: os._exit(3)\n    while n == 2: pass\n    return n"
    tests = [inside(f"assert f({n}) == {n}") for n in (1, 0, 2, 3)] + [CallTest((4,), 4)]
    cells = run(box, source, *tests, all_tests=True).cells
    assert [str(c.verdict) for c in cells] == ["runtime_error", "passed", "timeout", "passed", "passed"]
    assert len(run(box, source, *tests).cells) == 1


def test_a_matrix_takes_such_tests_and_keeps_them_apart_from_equal_ones(box):
    tests = [CodeTest("assert f(1) == 1"), inside("assert f(1) == 1"), CallTest((1,), 1)]
    matrix = box.pass_matrix(["def f(n): return n", "def f(n): return 2"], tests, "f")
    assert matrix.passed.tolist() == [[True] * 3, [False] * 3]


def test_three_timeouts_end_it_too(box):
    tests = [inside(f"f({n})") for n in range(5)]
    cells = run(box, "def f(n):\n    while True: pass", *tests, all_tests=True).cells
    assert len(cells) == 3


def test_a_test_is_trusted_or_in_process_but_not_both():
    with pytest.raises(ValueError, match="trusted"):
        CodeTest("", trusted=True, in_process=True)
