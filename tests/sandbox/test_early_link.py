"""A code test starts while its program still loads: what becomes of the test when the program never does."""

import struct

import pytest

from sandbox import CodeTest, Limits, Program, Sandbox, Verdict
from sandbox.engine import wire

pytestmark = pytest.mark.sandbox
LIMITS = Limits(cpu_seconds=0.4, wall_seconds=0.8, memory_mb=256)
RIGHT = "def f(n): return n * n"
ASKS = "def check(g):\n    assert g(2) == 4\n    assert g(3) == 9"
NEVER_ASKS = "def check(g):\n    assert True"
OUTLIVES = "import time\ndef check(g):\n    time.sleep(0.1)"  # the program's end has been seen when it passes
SLOW = "import time\nend = time.process_time() + 0.25\nwhile time.process_time() < end: pass\n"


def frame(kind: int, body: bytes = b"") -> str:
    return repr(struct.pack("<IBI", len(body), kind, 0) + body)


@pytest.fixture(scope="module")
def box():
    with Sandbox(1, limits=LIMITS) as sandbox:
        yield sandbox


def verdicts(box, trusted, *pairs):
    programs = [Program(source, "f", (CodeTest(test, trusted=trusted),)) for source, test in pairs]
    return [result.verdict for result in box.run(programs)]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("def f(n) return n", Verdict.syntax_error),
        ("1 // 0", Verdict.runtime_error),
        ("import os\nos._exit(0)", Verdict.runtime_error),
        ("while True: pass", Verdict.timeout),
        ("import time\ntime.sleep(99)", Verdict.timeout),
        ("x = bytearray(10**9)", Verdict.memory_limit),
    ],
)
def test_a_test_that_asks_nothing_does_not_pass_a_program_that_never_loads(box, trusted, source, verdict):
    pairs = [(source, NEVER_ASKS), (source, ASKS), (RIGHT, ASKS), ("def f(n): return n", ASKS)]
    assert verdicts(box, trusted, *pairs) == [verdict, verdict, Verdict.passed, Verdict.wrong_answer]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("test", [ASKS, NEVER_ASKS])
def test_a_program_that_loads_slowly_is_waited_for(box, trusted, test):
    assert verdicts(box, trusted, (SLOW + RIGHT, test)) == [Verdict.passed]


@pytest.mark.parametrize("trusted", [True, False])
def test_the_time_of_loading_does_not_count_for_the_test(box, trusted):
    """The limit is of each, though both run in one process and the test was sent before."""
    calls = "def f(n):\n    " + SLOW.replace("\n", "\n    ") + "return n * n"
    assert verdicts(box, trusted, (SLOW + calls, "def check(g):\n    assert g(2) == 4")) == [Verdict.passed]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("test", [ASKS, NEVER_ASKS, OUTLIVES])
@pytest.mark.parametrize(
    "words",
    [
        frame(wire.LOADED) + " * 2",
        frame(wire.BROKEN, b"eX\0"),
        frame(wire.PASSED),
        frame(wire.LOADED) + " + " + frame(wire.VALUE, b"N"),
    ],
)
@pytest.mark.parametrize("then", ["os._exit(0)", "time.sleep(99)"])
def test_a_program_that_speaks_for_the_engine_does_not_pass(box, trusted, test, words, then):
    source = f"import os, time\nos.write(3, {words})\n{then}"
    forged, honest = verdicts(box, trusted, (source, test), (RIGHT, ASKS))
    assert forged is not Verdict.passed
    assert honest is Verdict.passed
