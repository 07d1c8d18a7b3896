"""Programs on stdin/stdout and how their outputs are compared."""

import json
import subprocess
import sys

import pytest

from sandbox import CallTest, CodeTest, IOTest, Limits, MatrixJob, Program, Sandbox, Verdict


@pytest.mark.parametrize(
    "bad",
    [
        lambda: IOTest("", "", checker="token"),
        lambda: IOTest("", "", checker="custom"),
        lambda: IOTest("", "", checker_source="def check(a, b, c): return True"),
        lambda: IOTest("", "", tolerance=-1.0),
        lambda: IOTest("", "", tolerance=float("nan")),
        lambda: IOTest("", "", args=["a"]),
        lambda: IOTest("", "", args=("a\0",)),
        lambda: IOTest("", "", args=("a" * 10**6,)),
        lambda: Program("", "", ()),
        lambda: Program("", "f", (IOTest("", ""), CallTest((1,), 1))),
        lambda: Program("", "", (CodeTest("pass"),)),
        lambda: Program("", "", (IOTest("", ""),), language="pyhton"),
        lambda: Program("", "f", (CallTest((1,), 1),), language="cpp"),
        lambda: Program("", "f", (CodeTest("int main() {}"),), language="cpp"),
        lambda: Program("", "f", (CallTest(({1},), 1),), language="javascript"),
        lambda: Program("", "f", (CallTest((2**60,), 1),), language="javascript"),
        lambda: Program("", "f", (CallTest((float("nan"),), 1),), language="javascript"),
        lambda: Program("", "f", (CallTest((1,), 1), CodeTest("1", in_process=True)), language="javascript"),
    ],
)
def test_tests_that_no_one_could_run_are_refused(bad):
    with pytest.raises(ValueError):
        bad()


def test_data_that_are_no_text_are_refused_by_name():
    with pytest.raises(TypeError, match="stdin is a list"):
        IOTest(["1"], "1")
    with pytest.raises(TypeError, match="expected is a int"):
        IOTest("1", 1)


def test_the_expected_output_stays_with_the_caller():
    assert b"unspoken" not in IOTest("1", "unspoken").wire()[1]
    assert b"unspoken" in IOTest("1", "unspoken", "custom", checker_source="def check(a, b, c): 1").wire()[1]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(1, limits=Limits(cpu_seconds=1, wall_seconds=6, memory_mb=256)) as made:
        yield made


def run(sandbox, source, *tests, **options):
    (result,) = sandbox.run([Program(source, "", tests, **options)], all_tests=True)
    return result


CHECK = "def check(stdin, expected, output):\n    "


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("body", "verdict", "cause", "score"),
    [
        ("return output.split() == expected.split()", "passed", "", 1.0),
        ("return int(output) == 2 * int(stdin)", "passed", "", 1.0),
        ("return 1", "passed", "", 1.0),
        ("return 1.0", "passed", "", 1.0),
        ("return False", "wrong_answer", "", 0.0),
        ("return 0.25", "wrong_answer", "", 0.25),
        ("return None", "runtime_error", "test:TypeError", None),
        ("return 'yes'", "runtime_error", "test:TypeError", None),
        ("return float('nan')", "runtime_error", "test:ValueError", None),
        ("return 1.5", "runtime_error", "test:ValueError", None),
        ("raise KeyError('x')", "runtime_error", "test:KeyError", None),
        ("assert False", "runtime_error", "test:AssertionError", None),
        ("import sys; sys.exit(0)", "runtime_error", "test:SystemExit", None),
        ("import os; os._exit(0)", "runtime_error", "test:exit 0", None),
        ("import os; os.kill(os.getpid(), 11)", "runtime_error", "test:SIGSEGV", None),
        ("while True: pass", "timeout", "test:cpu", None),
        ("return 'x' * 10**10 == output", "runtime_error", "test:MemoryError", None),
        ("return open('/etc/passwd')", "runtime_error", "test:FileNotFoundError", None),
    ],
)
def test_a_checker_of_ones_own_decides_and_its_failure_is_no_pass(sandbox, body, verdict, cause, score):
    test = IOTest("21", "42", "custom", checker_source=CHECK + body)
    (cell,) = run(sandbox, "print(2 * int(input()))", test).cells
    assert (cell.verdict, cell.cause, cell.score) == (verdict, cause, score)


@pytest.mark.sandbox
@pytest.mark.parametrize("source", ["def check(", "x = 1", "check = 5", "raise ValueError"])
def test_a_checker_that_is_none_is_the_tests_failure(sandbox, source):
    (cell,) = run(sandbox, "print(42)", IOTest("", "42", "custom", checker_source=source)).cells
    assert cell.verdict is Verdict.runtime_error and cell.cause.startswith("test:")


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\0" * 1000,
        b"\xff\xfe\xed\xa0\x80",
        b"\x1b]0;x\x07\x1b[2J",
        b"x" * 10**5,
        b"'''\"\\",
        b"\r\n",
    ],
)
def test_a_hostile_output_comes_to_the_checker_as_data(sandbox, output):
    """As text with surrogate escapes; it is never part of the checker's source."""
    body = "return output.encode('utf-8', 'surrogateescape') == expected.encode('utf-8', 'surrogateescape')"
    program = "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())"
    result = run(sandbox, program, IOTest(output, output, "custom", checker_source=CHECK + body))
    assert result.verdict is Verdict.passed, result


@pytest.mark.sandbox
def test_a_program_that_fails_never_reaches_its_checker(sandbox):
    test = IOTest("", "", "custom", checker_source=CHECK + "return True")
    assert run(sandbox, "print(42)\n1 / 0", test).cause == "ZeroDivisionError"
    assert run(sandbox, "import os; os._exit(1)", test).cause == "exit 1"
    assert run(sandbox, "while True: print('x' * 9999)", test).verdict is Verdict.output_limit


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("print('\\0' * 10)", "wrong_answer"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", "wrong_answer"),
        ("import sys; sys.stdout.write('x' * 10**8)", "output_limit"),
        ("import sys; sys.stdout.write('42')", "passed"),
        ("print('\\x1b[31m42\\x1b[0m')", "wrong_answer"),
        ("print('42\\r')", "passed"),
        ("print('42' + ' ' * 1000000)", "passed"),
        ("print('\\u202e42')", "wrong_answer"),
        ("print('\\ud800')", "runtime_error"),
    ],
)
def test_hostile_outputs_are_compared_or_refused(sandbox, source, verdict):
    result = run(sandbox, source, IOTest("", "42\n"))
    assert result.verdict == verdict, result
    assert all(c.isprintable() or c == "\n" for c in result.message)


@pytest.mark.sandbox
def test_an_output_of_just_the_limit_passes_and_one_byte_more_does_not(sandbox):
    limits = Limits(cpu_seconds=1, wall_seconds=6, memory_mb=256, output_kb=16)
    for size, verdict in ((16384, "passed"), (16385, "output_limit")):
        result = run(sandbox, f"print('x' * {size}, end='')", IOTest("", "x" * size), limits=limits)
        assert result.verdict == verdict


@pytest.mark.sandbox
def test_every_test_has_a_process_of_its_own(sandbox):
    source = "import os\nprint(os.path.exists('/tmp/mark'))\nopen('/tmp/mark', 'w').close()"
    result = run(sandbox, source, *[IOTest("", "False")] * 3)
    assert result.verdict is Verdict.passed and len(result.cells) == 3


@pytest.mark.sandbox
def test_a_run_stops_at_the_first_failure_unless_all_are_wanted(sandbox):
    tests = tuple(IOTest(str(n), str(n)) for n in (1, 2, 3, 4))
    source = "n = int(input())\nprint(n if n != 2 else 0)"
    (stopped,) = sandbox.run([Program(source, "", tests)])
    assert [str(c.verdict) for c in stopped.cells] == ["passed", "wrong_answer"]
    assert [str(c.verdict) for c in run(sandbox, source, *tests).cells] == [
        "passed",
        "wrong_answer",
        "passed",
        "passed",
    ]


@pytest.mark.sandbox
def test_a_program_that_does_not_compile_fails_every_test(sandbox):
    result = run(sandbox, "print((", *[IOTest("", "")] * 3)
    assert [str(c.verdict) for c in result.cells] == ["syntax_error"] * 3


@pytest.mark.sandbox
def test_arguments_come_to_the_program(sandbox):
    result = run(
        sandbox, "import sys\nprint(sys.argv[1:])", IOTest("", "['a b', '--c']", "exact", args=("a b", "--c"))
    )
    assert result.verdict is Verdict.passed, result


@pytest.mark.sandbox
def test_programs_on_input_and_output_fill_a_matrix(sandbox):
    codes = [
        "print(2 * int(input()))",
        "print(int(input()) ** 2)",
        "1 / 0",
        "print((",
        "print(2 * int(input()))",
    ]
    tests = [IOTest("2", "4"), IOTest("3", "6"), IOTest("3", "9")]
    matrix = next(sandbox.pass_matrices([MatrixJob(codes, tests, "f")]))
    passed = matrix.passed[matrix.code_index][:, matrix.test_index]
    assert passed.tolist() == [
        [True, True, False],
        [True, False, True],
        [False, False, False],
        [False, False, False],
        [True, True, False],
    ]


@pytest.mark.sandbox
def test_megabytes_go_in_and_come_out(sandbox):
    data = "".join(f"{n}\n" for n in range(10**5))
    result = run(sandbox, "import sys\nfor line in sys.stdin: print(int(line))", IOTest(data, data, "exact"))
    assert result.verdict is Verdict.passed, result


@pytest.mark.sandbox
def test_the_weaker_level_runs_programs_too():
    code = """
import json
from sandbox import *
with Sandbox(1, require="process") as box:
    tests = (IOTest("21", "42"), IOTest("1", "3"))
    (result,) = box.run([Program("print(2 * int(input()))", "", tests)], all_tests=True)
    print(json.dumps([result.isolation.level, [str(c.verdict) for c in result.cells]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == ["process", ["passed", "wrong_answer"]], done.stderr
