import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import CallTest, CodeTest, Limits, PassMatrix, Program, TimingJob, Verdict
from sandbox.verdict import clean_text


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_seconds": 0},
        {"wall_seconds": -1},
        {"memory_mb": float("nan")},
        {"output_kb": 0},
        {"cpu_seconds": float("inf")},
        {"cpu_seconds": True},
        {"memory_mb": "9"},
        {"memory_mb": 1},
    ],
)
def test_limits_that_are_no_limits_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Limits(**change)


def test_tests_and_programs_refuse_what_cannot_be_run():
    for bad in (
        lambda: CallTest([1], 2),
        lambda: CallTest((object(),), 2),
        lambda: CallTest((1,), [object()]),
        lambda: CallTest((1,), 2, -1.0),
        lambda: Program("x", "not a name", ()),
        lambda: TimingJob([], "f", [[1]]),
        lambda: TimingJob([], "f", [], 0),
    ):
        with pytest.raises(ValueError):
            bad()
    with pytest.raises(TypeError):
        CodeTest(b"bytes")
    with pytest.raises(TypeError):
        Program("x", "f", ("assert f(1)",))


def test_error_text_is_bounded_and_holds_no_control_characters():
    text = clean_text("\x1b[31mred\r\n\x00 \ud800 \u202e" + "x" * 10**6)
    assert len(text) < 600 and "\x1b" not in text and "\r" not in text and "\u202e" not in text
    text.encode()


@given(st.integers(0, 9), st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_matrix_survives_json(rows, columns, random):
    verdicts = np.asarray(
        [[random.choice([0, 1, 4, 255]) for _ in range(columns)] for _ in range(rows)], np.uint8
    )
    index = np.arange(rows).repeat(2)
    matrix = PassMatrix(
        verdicts.reshape(rows, columns), np.full(rows, 2), np.ones(columns, int), index, np.arange(columns)
    )
    again = PassMatrix.from_json(json.loads(json.dumps(matrix.to_json())))
    for name in ("verdicts", "code_counts", "test_counts", "code_index", "test_index", "passed", "known"):
        assert np.array_equal(getattr(again, name), getattr(matrix, name)), name


def test_a_broken_matrix_is_refused():
    one = np.ones(1, int)
    good = PassMatrix(np.zeros((1, 1), np.uint8), one, one, one - 1, one - 1).to_json()
    for change in (
        {"passed": ""},
        {"known": "00"},
        {"shape": [2, 2]},
        {"other": "01"},
        {"code_index": [0, 4]},
        {"passed": "zz"},
    ):
        with pytest.raises(ValueError):
            PassMatrix.from_json({**good, **change})
    with pytest.raises(ValueError):
        PassMatrix.from_json({})


def test_importing_the_package_loads_neither_numpy_nor_torch():
    code = "import sandbox, sys; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert str(Verdict.passed) == "passed"
