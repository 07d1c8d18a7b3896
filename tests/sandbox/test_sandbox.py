"""The engine at work: verdicts, order, independence, limits."""

import itertools
import math
import time

import numpy as np
import pytest

from sandbox import CallTest, CodeTest, Limits, MatrixJob, Program, Sandbox, SandboxError, TimingJob, Verdict

pytestmark = pytest.mark.sandbox
LIMITS = Limits(cpu_seconds=0.4, wall_seconds=2.0, memory_mb=256, output_kb=64)
SQUARE = (CallTest((2,), 4), CallTest((3,), 9), CallTest((10,), 100))


@pytest.fixture(scope="module")
def box():
    with Sandbox(2, limits=LIMITS) as sandbox:
        yield sandbox


def run(box, source, *tests, **options):
    (result,) = box.run([Program(source, "f", tests or SQUARE)], **options)
    return result


@pytest.mark.parametrize(
    ("source", "verdict", "cause"),
    [
        ("def f(n): return n * n", "passed", ""),
        ("def f(n): return n", "wrong_answer", ""),
        ("def f(n) return n", "syntax_error", "SyntaxError"),
        ("x = 'a\0b'", "syntax_error", "SyntaxError"),
        ("x = '\ud800'", "syntax_error", "UnicodeEncodeError"),
        ("def g(n): return n", "runtime_error", "NameError"),
        ("", "runtime_error", "NameError"),
        ("f = 3", "runtime_error", "TypeError"),
        ("def f(n): return 1 // 0", "runtime_error", "ZeroDivisionError"),
        ("import sys\nsys.exit(0)", "runtime_error", "SystemExit"),
        ("def f(n): raise KeyboardInterrupt", "runtime_error", "KeyboardInterrupt"),
        ("import os\nos._exit(0)", "runtime_error", "exit 0"),
        ("import os\ndef f(n): os.kill(os.getpid(), 11)", "runtime_error", "SIGSEGV"),
        ("def f(n): return f(n)", "runtime_error", "RecursionError"),
        ("def f(n): return object()", "wrong_answer", "not plain data"),
        ("def f(n): return (i for i in range(n))", "wrong_answer", ""),
        ("while True: pass", "timeout", "cpu"),
        ("import time\ndef f(n): time.sleep(99)", "timeout", "wall"),
        ("def f(n): return bytearray(10**9)", "memory_limit", "MemoryError"),
        ("def f(n): print('x' * 10**6)", "output_limit", "output"),
        ("import os\ndef f(n): os.write(3, b'\\xff' * 100)", "violation", "protocol"),
    ],
)
@pytest.mark.parametrize("form", ["calls", "code"])
def test_verdicts_say_what_happened(box, source, verdict, cause, form):
    tests = (
        SQUARE
        if form == "calls"
        else (CodeTest("def check(g):\n    assert g(2) == 4\n    assert g(3) == 9"),)
    )
    result = run(box, source, *tests)
    if form == "code" and cause == "not plain data":
        cause = ""  # an object by handle, which never equals data
    assert (str(result.verdict), result.cause) == (verdict, cause), result
    assert result.isolation.level == "full" and len(result.cells) <= len(tests)


def test_results_come_in_order_and_programs_are_read_lazily(box):
    read = itertools.count()

    def programs():
        for i in range(200):
            next(read)
            yield Program(f"def f(n): return {i}", "f", (CallTest((0,), i),), str(i))

    results = box.run(programs())
    first = [next(results) for _ in range(5)]
    assert next(read) < 30
    results.close()
    assert [r.id for r in first] == list("01234") and all(r.verdict is Verdict.passed for r in first)
    assert run(box, "def f(n): return n * n").verdict is Verdict.passed


def test_two_streams_may_be_read_in_turn(box):
    a = box.run(Program("def f(n): return n", "f", (CallTest((i,), i),), f"a{i}") for i in range(20))
    b = box.run(Program("def f(n): return n", "f", (CallTest((i,), i + 1),), f"b{i}") for i in range(20))
    pairs = list(zip(a, b, strict=True))
    assert [(x.id, y.id) for x, y in pairs] == [(f"a{i}", f"b{i}") for i in range(20)]
    assert all(x.verdict is Verdict.passed and y.verdict is Verdict.wrong_answer for x, y in pairs)


def test_a_run_stops_at_the_first_failure_unless_all_tests_are_wanted(box):
    tests = (CallTest((1,), 1), CallTest((2,), 0), CallTest((3,), 3))
    assert [str(c.verdict) for c in run(box, "def f(n): return n", *tests).cells] == [
        "passed",
        "wrong_answer",
    ]
    cells = run(box, "def f(n): return n", *tests, all_tests=True).cells
    assert [str(c.verdict) for c in cells] == ["passed", "wrong_answer", "passed"]


def test_after_a_crash_or_timeout_the_next_test_has_a_fresh_process(box):
    source = (
        "import os\nseen = []\ndef f(n):\n    seen.append(n)\n    if n == 1: os._exit(3)\n"
        "    while n == 2: pass\n    return seen"
    )
    tests = tuple(CallTest((n,), [n]) for n in (0, 1, 3, 2, 4))
    cells = run(box, source, *tests, all_tests=True).cells
    assert [str(c.verdict) for c in cells] == ["passed", "runtime_error", "passed", "timeout", "passed"]


def test_calls_and_code_tests_may_be_mixed(box):
    tests = (
        CallTest((1,), 1),
        CodeTest("assert f(2) == 4"),
        CallTest((3,), 9),
        CodeTest("assert f(2) == 5"),
        CallTest((4,), 16),
    )
    cells = run(box, "def f(n): return n * n", *tests, all_tests=True).cells
    assert [str(c.verdict) for c in cells] == ["passed", "passed", "passed", "wrong_answer", "passed"]


@pytest.mark.parametrize(
    ("test", "verdict", "cause"),
    [
        ("assert f(2) == 4\nassert f(x=3) == 9", "passed", ""),
        ("try:\n    f('a')\nexcept TypeError: pass\nelse: assert False", "passed", ""),
        ("assert g(2) == 3", "passed", ""),
        ("import os\nos._exit(0)", "runtime_error", "test:exit 0"),
        ("import sys\nsys.exit()", "runtime_error", "test:SystemExit"),
        ("assert undefined(2)", "runtime_error", "NameError"),
        ("assert f(2) ==", "runtime_error", "test:SyntaxError"),
        ("f(lambda: 1)", "runtime_error", "test:CodecError"),
        ("while True: pass", "timeout", "test:cpu"),
        ("f('a')", "runtime_error", "TypeError"),
        ("h()", "runtime_error", "Own"),
        ("def check(c):\n    x = [1]\n    k(x)\n    assert x == [1]", "passed", ""),
        (
            "import os\nfor fd in range(3, 9):\n    try: os.write(fd, b'p' * 50)\n    except OSError: pass",
            "violation",
            "test:protocol",
        ),
    ],
)
def test_code_tests_run_apart_and_call_by_proxy(box, test, verdict, cause):
    source = (
        "def f(x): return x ** 2\ndef g(x): return x + 1\ndef k(x): x.clear()\n"
        "class Own(Exception): pass\ndef h(): raise Own('text')"
    )
    result = run(box, source, CodeTest(test))
    assert (str(result.verdict), result.cause) == (verdict, cause), result


def test_no_program_sees_what_another_left(box):
    write = (
        "import os\ndef f(n):\n    os.makedirs('a/b'); open('c', 'w').close()\n"
        "    try: os.chmod('.', 0o700)\n    except OSError: pass\n    return os.listdir('.')"
    )
    look = (
        "import os, stat\n"
        "def f(n): return [os.listdir('.'), oct(stat.S_IMODE(os.stat('.').st_mode)), dict(os.environ)]"
    )
    for _ in range(3):
        assert run(box, write, CallTest((0,), 0)).verdict is Verdict.wrong_answer
        assert run(box, look, CallTest((0,), [[], "0o1777", {}])).verdict is Verdict.passed


def test_every_time_limit_is_by_cpu_time_of_one_test(box):
    source = (
        "import time\ndef f(n):\n    end = time.process_time() + 0.25\n"
        "    while time.process_time() < end: pass\n    return n"
    )
    result = run(box, source, *(CallTest((i,), i) for i in range(4)))
    assert result.verdict is Verdict.passed and result.cpu_seconds > 1.0


def test_a_matrix_folds_duplicates_and_gives_up_after_three_timeouts(box):
    loop = "def f(n):\n    while n < 5: pass\n    return n"
    good, wrong = "def f(n): return n", "def f(n): return n + 1"
    tests = [CallTest((i,), i) for i in (1, 2, 3, 4, 6)] + [CallTest((1,), 1), CodeTest("assert f(6) == 6")]
    codes = [good, loop, wrong, good, "def f(n) return"]
    checked = box.pass_matrix(codes, tests, "f")
    assert checked.known[1].sum() in (3, 4) and not checked.passed[1][:4].any() and not checked.stateful.any()
    matrix = box.pass_matrix(codes, tests, "f", mode="shared")
    assert matrix.verdicts.shape == (4, 6)
    assert matrix.code_index.tolist() == [0, 1, 2, 0, 3] and matrix.code_counts.tolist() == [2, 1, 1, 1]
    assert matrix.test_index.tolist() == [0, 1, 2, 3, 4, 0, 5] and matrix.test_counts.tolist() == [
        2,
        1,
        1,
        1,
        1,
        1,
    ]
    assert matrix.passed[0].all() and not matrix.passed[1:].any()
    assert (
        matrix.known.tolist()[1] == [True, True, True, False, False, False] and matrix.known[[0, 2, 3]].all()
    )


def test_equal_numbers_of_different_types_are_different_tests(box):
    matrix = box.pass_matrix(
        ["def f(n): return str(n)"], [CallTest((1,), "1"), CallTest((True,), "1"), CallTest((1.0,), "1")], "f"
    )
    assert matrix.passed.tolist() == [[True, False, False]]


def test_matrices_stream_in_order_and_do_not_depend_on_the_number_of_workers(box):
    jobs = [
        MatrixJob(
            [f"def f(n): return n % {k}" for k in range(j, j + 4)],
            [CallTest((n,), n % 3) for n in range(9)],
            "f",
        )
        for j in range(6)
    ]
    many = [m.verdicts.tolist() for m in box.pass_matrices(iter(jobs))]
    with Sandbox(1, limits=LIMITS) as single:
        assert [m.verdicts.tolist() for m in single.pass_matrices(jobs)] == many
    empty = box.pass_matrix([], [], "f")
    assert empty.verdicts.shape == (0, 0)


def test_times_are_of_the_call_alone_and_say_failed_or_timed_out(box):
    busy = "def f(xs):\n    t = 0\n    for _ in range(200): t += sum(xs)\n    return t"
    light = "def f(xs): return 0"
    loop = "def f(xs):\n    while len(xs) > 10: pass"
    fails = "def f(xs): return xs[1]"
    calls = [([1],), (list(range(20000)),)]
    times = box.time_calls([busy, light, loop, fails, "syntax error"], "f", calls, repeats=2)
    assert times.shape == (5, 2) and times.dtype == np.float64
    assert times[0, 1] > 20 * times[1, 1] and times[1].max() < 0.002
    assert math.isinf(times[2, 1]) and times[2, 0] < 0.002
    assert math.isnan(times[3, 0]) and times[3, 1] < 0.002 and np.isnan(times[4]).all()
    assert [t.shape for t in box.time_many([TimingJob([light], "f", calls), TimingJob([], "f", [])])] == [
        (1, 2),
        (0, 0),
    ]


def test_patched_clocks_change_no_measurement(box):
    liar = (
        "import time\ntime.process_time = time.perf_counter = time.time = lambda: 0\n"
        "def f(n):\n    while n: n -= 1"
    )
    honest = "def f(n):\n    while n: n -= 1"
    times = box.time_calls([liar, honest], "f", [(300_000,)], repeats=3)
    assert 0.3 < times[0, 0] / times[1, 0] < 3


def test_a_lost_zygote_costs_no_verdict():
    import os

    with Sandbox(1, limits=LIMITS) as box:
        results = box.run(
            Program("import time\ndef f(n):\n    time.sleep(0.01)\n    return n", "f", (CallTest((i,), i),))
            for i in range(60)
        )
        first = next(results)
        for pid in box._client.info["zygotes"]:
            os.kill(pid, 9)
        assert all(r.verdict is Verdict.passed for r in [first, *results])


def test_a_lost_engine_is_an_error_and_not_a_verdict():
    import os

    with Sandbox(1, limits=LIMITS) as box:
        os.kill(box._client.info["pid"], 9)
        with pytest.raises(SandboxError, match="engine"):
            run(box, "def f(n): return n * n")


def test_a_closed_sandbox_and_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="workers"):
        Sandbox(0)
    with pytest.raises(ValueError, match="full, filter, seccomp, process, none"):
        Sandbox(1, require="docker")
    box = Sandbox(1)
    box.close()
    with pytest.raises(SandboxError, match="closed"):
        run(box, "x = 1")


def test_the_weak_level_runs_only_on_request_and_says_so():
    with Sandbox(1, limits=LIMITS, require="process") as box:
        assert box.isolation.level == "process" and "system call filter" in box.isolation.missing
        result = run(
            box,
            (
                "import os\ndef f(n):\n    if os.fork() == 0:\n        os.setsid()\n"
                "        while True: pass\n    return n * n"
            ),
        )
        assert (result.isolation.level, result.verdict) == ("process", Verdict.passed)
        assert run(box, "def f(n):\n    while True: pass").verdict is Verdict.timeout


def test_a_program_without_tests_passes_when_it_loads(box):
    (good, bad) = box.run([Program("def f(): pass", "f", ()), Program("1/0", "f", ())])
    assert good.verdict is Verdict.passed and bad.verdict is Verdict.runtime_error


def test_large_arguments_cross_and_large_values_are_refused(box):
    big = list(range(500_000))
    assert run(box, "def f(xs): return len(xs)", CallTest((big,), 500_000)).verdict is Verdict.passed
    assert run(box, "def f(n): return [0] * n", CallTest((10**6,), [0])).verdict is Verdict.wrong_answer


def test_start_is_quick_and_the_engine_is_small(box):
    begin = time.monotonic()
    with Sandbox(1) as other:
        assert time.monotonic() - begin < 5
        info = other._client.info
    for pid in (box._client.info["pid"],):
        with open(f"/proc/{pid}/status") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        assert resident < 30_000, f"{resident} kB"
    assert info["zygotes"]
