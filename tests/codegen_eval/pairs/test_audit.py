"""The audit by hidden tests, and that the pair job cannot reach it or them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.execution import build_rows
from codegen_eval.pairs.audit import own_test_quality, pair_quality
from tests.codegen_eval.made_up_runs import DOUBLE, PROGRAMS, TESTS, FakeSandbox, problems

RIGHT, WRONG = "    return 2 * x\n", "    return x ** 2\n"


def pair(chosen: str, rejected: str, kind: str = "correctness") -> dict[str, Any]:
    row = {"task_id": "made/double", "prompt": DOUBLE, "kind": kind}
    return {**row, "chosen": chosen, "rejected": rejected}


def test_pair_quality_counts_right_and_inverted_pairs_by_kind() -> None:
    rows = [pair(RIGHT, WRONG), pair(RIGHT, RIGHT), pair(WRONG, RIGHT), pair(WRONG, WRONG)]
    found = pair_quality([*rows, pair(RIGHT, RIGHT, "efficiency")], problems(), FakeSandbox())
    assert found["correctness"] == {
        "pairs": 4,
        "chosen_right": 0.5,
        "rejected_wrong": 0.5,
        "both": 0.25,
        "inverted": 0.25,
    }
    assert found["efficiency"]["chosen_right"] == 1.0
    assert pair_quality([], problems(), FakeSandbox()) == {}


def test_own_test_quality_is_the_share_that_the_reference_passes() -> None:
    rows = list(build_rows([p.public() for p in problems()], PROGRAMS, TESTS, FakeSandbox()))
    found = own_test_quality(rows, problems(), FakeSandbox())
    assert found == {"own": {"tests": 5, "right": 0.8}, "example": {"tests": 2, "right": 1.0}}


def test_task_that_the_benchmark_lacks_is_named() -> None:
    with pytest.raises(CodealignError, match="'made/other'"):
        pair_quality([{**pair(RIGHT, WRONG), "task_id": "made/other"}], problems(), FakeSandbox())


def test_pair_job_does_not_import_the_audit() -> None:
    code = (
        "import sys, codegen_eval.commands.execute, codegen_eval.commands.rank, codegen_eval.commands.pairs;"
        "print('codegen_eval.pairs.audit' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
