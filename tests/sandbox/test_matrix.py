"""Cells that must not depend on what ran before them."""

import json

import numpy as np
import pytest

from sandbox import CallTest, CodeTest, Limits, MatrixJob, PassMatrix, Sandbox

pytestmark = pytest.mark.sandbox
LIMITS = Limits(cpu_seconds=0.4, wall_seconds=3.0, memory_mb=256, output_kb=64)
TESTS = [CallTest((i,), i * i) for i in range(12)]
HONEST = "def f(n): return n * n"
# What each of these would answer if it ran a test and nothing else.
STATEFUL = {
    "wrong from the second call on": (
        "c = []\ndef f(n):\n    c.append(n)\n    return n * n if len(c) == 1 else -1",
        True,
    ),
    "wrong in the first call only": (
        "c = []\ndef f(n):\n    c.append(n)\n    return -1 if len(c) == 1 else n * n",
        False,
    ),
    "a default that is changed": ("def f(n, seen=[]):\n    seen.append(n * n)\n    return seen[0]", True),
    "a wrong answer that poisons the rest": (
        "bad = []\ndef f(n):\n    if n == 5: bad.append(1); return 0\n    return 0 if bad else n * n",
        None,
    ),
    "gives up after a few calls": (
        "left = [4]\ndef f(n):\n    left[0] -= 1\n"
        "    if left[0] < 0: raise ValueError('used up')\n    return n * n",
        True,
    ),
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(2, limits=LIMITS) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("seed", range(3))
def test_stateful_programs_are_marked_and_judged_test_by_test(box, name, seed):
    source, right = STATEFUL[name]
    wrong = "def f(n): return n * n if n % 3 else 7"
    job = MatrixJob([HONEST, source, wrong, "def f(n): return 1 // n"], TESTS, "f", seed=seed)
    matrix = next(iter(box.pass_matrices([job])))
    assert matrix.stateful.tolist() == [False, True, False, False]
    wanted = [n != 5 for n in range(12)] if right is None else [right] * 12
    assert matrix.passed[1].tolist() == wanted
    assert matrix.passed[0].all() and matrix.passed[2].tolist() == [n % 3 != 0 for n in range(12)]
    alone = next(iter(box.pass_matrices([MatrixJob(job.codes, TESTS, "f", mode="independent")])))
    assert np.array_equal(alone.verdicts, matrix.verdicts) and not alone.stateful.any()


def test_code_tests_are_checked_too(box):
    source = "c = []\ndef f(n):\n    c.append(n)\n    return n * n if len(c) < 3 else -1"
    tests = [CodeTest(f"assert f({i}) == {i * i}", trusted=i % 2 == 0) for i in range(6)]
    matrix = box.pass_matrix([source, HONEST], tests, "f")
    assert matrix.stateful.tolist() == [True, False] and matrix.passed.all()


def test_the_audit_finds_a_program_that_only_the_order_breaks(box):
    # Passes in every order that has 0 before 1, which half of the drawn ones have: then nothing fails.
    source = "seen = set()\ndef f(n):\n    seen.add(n)\n    return -1 if n == 0 and 1 in seen else n * n"
    tests = [CallTest((i,), i * i) for i in range(2)]
    for seed in range(6):
        job = MatrixJob([source], tests, "f", audit=1.0, seed=seed)
        matrix = next(iter(box.pass_matrices([job])))
        assert matrix.stateful.all() and matrix.passed.all()


@pytest.mark.parametrize("thread", [False, True], ids=["branches", "processes"])
def test_independent_cells_share_a_load_and_nothing_else(box, thread):
    source = (
        "import time, os\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass\nseen = []\n"
        + ("import threading\n" if thread else "")
        + "def f(n):\n    seen.append(n)\n    if n == 1: os._exit(3)\n    while n == 2: pass\n"
        "    return seen"
    )
    tests = [
        CallTest((0,), [0]),
        CallTest((1,), 1),
        CallTest((5,), [5]),
        CallTest((2,), 2),
        CallTest((6,), [6]),
    ]
    matrix = box.pass_matrix([source], tests, "f", mode="independent")
    assert [str(v) for v in verdicts(matrix)] == ["passed", "runtime_error", "passed", "timeout", "passed"]


def verdicts(matrix):
    from sandbox import Verdict

    return [tuple(Verdict)[v] for v in matrix.verdicts[0]]


def test_a_program_that_forks_in_a_branch_is_held(box):
    source = (
        "import os\ndef f(n):\n    made = 0\n    for _ in range(50):\n        try: pid = os.fork()\n"
        "        except OSError:\n            break\n        if pid == 0:\n            while True: pass\n"
        "        made += 1\n    return made < 5"
    )
    tests = [CallTest((0,), True), CallTest((1,), True)]
    matrix = box.pass_matrix([source], tests, "f", mode="independent")
    assert matrix.passed.all(), "few processes could be made, and each test had a fresh start"
    assert box.pass_matrix([HONEST], TESTS, "f").passed.all()


def test_marks_survive_json_and_old_files_have_none():
    one = np.ones(2, int)
    index = np.arange(2)
    marks = np.asarray([False, True])
    matrix = PassMatrix(np.zeros((2, 2), np.uint8), one, one, index, index, marks, ~marks)
    data = json.loads(json.dumps(matrix.to_json()))
    again = PassMatrix.from_json(data)
    assert again.stateful.tolist() == [False, True] and again.forgeable.tolist() == [True, False]
    del data["stateful"], data["forgeable"]
    assert not PassMatrix.from_json(data).stateful.any()
    with pytest.raises(ValueError, match="marks"):
        PassMatrix.from_json({**data, "stateful": [2]})


@pytest.mark.parametrize("change", [{"mode": "fast"}, {"audit": 1.5}, {"audit": -0.1}])
def test_a_job_that_cannot_be_meant_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        MatrixJob([], [], "f", **change)
