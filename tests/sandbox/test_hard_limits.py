"""Limits above the hard ones, of the sandbox or of the session, are lowered, and results say so."""

import json
import subprocess
import sys

import pytest

from sandbox import CallTest, Limits, Program, Sandbox, Verdict

pytestmark = pytest.mark.sandbox
SQUARE = Program("def f(n): return n * n", "f", (CallTest((3,), 9),))
SESSION = """
import json, resource, sys
from sandbox import CallTest, Limits, Program, Sandbox
kind = getattr(resource, "RLIMIT_" + sys.argv[1])
resource.setrlimit(kind, (int(sys.argv[2]), int(sys.argv[2])))
with Sandbox(1, limits=Limits(cpu_seconds=10, memory_mb=1024)) as box:
    programs = [Program(source, "f", (CallTest((3,), 9),)) for source in json.loads(sys.argv[3])]
    print(json.dumps([[str(r.verdict), list(r.notes)] for r in box.run(programs)]))
"""
KINDS = [
    ("AS", 700 * 2**20, "memory_mb"),
    ("CPU", 5, "cpu_seconds"),
    ("NOFILE", 40, ""),
    ("FSIZE", 2**20, ""),
]


def test_the_sandboxs_hard_limits_hold_for_defaults_and_for_what_a_program_asks():
    hard = Limits(cpu_seconds=0.3, wall_seconds=3, memory_mb=128, output_kb=16)
    with Sandbox(1, hard_limits=hard) as box:
        loop = Program("def f(n):\n    while True: pass", "f", SQUARE.tests, limits=Limits(cpu_seconds=60))
        plain, asked = box.run([SQUARE, loop])
        assert plain.verdict is Verdict.passed and plain.limits == hard
        assert asked.verdict is Verdict.timeout and asked.cpu_seconds < 3
        assert any("cpu_seconds lowered from 60 to the hard limit 0.3" in note for note in asked.notes)
        low = Program(SQUARE.source, "f", SQUARE.tests, limits=Limits(0.1, 1.0, 64, 8))
        (result,) = box.run([low])
        assert result.limits == low.limits and result.notes == ()


@pytest.mark.parametrize(("kind", "most", "named"), KINDS)
def test_the_sessions_hard_limits_are_no_failure_and_are_said(kind, most, named):
    sources = [SQUARE.source, "def f(n): return len(bytearray(900 * 2**20))"]
    command = [sys.executable, "-c", SESSION, kind, str(most), json.dumps(sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (first, notes), (second, _) = json.loads(done.stdout)
    assert first == "passed" and second == ("memory_limit" if kind == "AS" else "wrong_answer")
    assert any(named in note for note in notes) if named else not notes
