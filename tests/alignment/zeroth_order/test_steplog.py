"""The log: numbers that read back as they were, torn and broken lines, other settings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from alignment.zeroth_order.estimators import rounded
from alignment.zeroth_order.steplog import Step, StepLog, read
from codegen_eval.errors import CodealignError

HEADER = {"eps": 1e-3, "stream": "a"}


def steps(count: int) -> list[Step]:
    rng = np.random.default_rng(0)
    return [
        Step(
            rounded(1e-6 / (i + 1)),
            rounded(rng.normal(), 6),
            ((int(rng.integers(2**31)), rounded(rng.normal())),),
        )
        for i in range(count)
    ]


def test_every_number_reads_back_as_the_very_same(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl", HEADER)
    assert log.open() == []
    odd = Step(0.1 + 0.2, math.nan, ((2**31 - 1, 1e-38), (5, None)))
    log.append([*steps(200), odd])
    again = StepLog(tmp_path / "steps.jsonl", HEADER).open()
    assert again[:200] == steps(200)
    assert again[200].rate == odd.rate and again[200].moves == odd.moves and math.isnan(again[200].loss)
    assert again[200].skipped == 1


def test_twenty_thousand_steps_take_less_than_a_megabyte() -> None:
    lines = [step.line() for step in steps(2000)]
    assert sum(len(line) + 1 for line in lines) * 10 < 1_000_000


def test_a_torn_line_is_cut_off_and_what_came_before_stays(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl", HEADER)
    log.open()
    log.append(steps(3))
    content = log.path.read_bytes()
    for torn in range(1, len(steps(3)[2].line()) + 1):
        log.path.write_bytes(content[:-torn])
        assert log.open() == steps(3)[:2]
        assert log.path.read_bytes().endswith(b"\n")
        log.append(steps(3)[2:])
        assert log.open() == steps(3)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    StepLog(tmp_path / "steps.jsonl", HEADER).open()
    with pytest.raises(CodealignError, match=r"eps: 0\.001, now 0\.01.*--overwrite"):
        StepLog(tmp_path / "steps.jsonl", {**HEADER, "eps": 1e-2}).open()
    with pytest.raises(CodealignError, match="draws other random numbers"):
        StepLog(tmp_path / "steps.jsonl", {**HEADER, "stream": "b"}).open()


@pytest.mark.parametrize(
    "line", ["[1,2,3", "{}", "[1,2,3]", "[1,2,-3,4]", "[1,2,3.5,4]", '[1,2,"a",4]', "[1,2,3,4,5]", "null"]
)
def test_a_broken_line_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    log = StepLog(tmp_path / "steps.jsonl", HEADER)
    log.open()
    log.append(steps(1))
    with log.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CodealignError, match=r"steps\.jsonl:3: broken"):
        log.open()


def test_what_is_no_log_is_an_error(tmp_path: Path) -> None:
    for content in ("", "x\n", '{"format": "other"}\n', "[]\n"):
        (tmp_path / "steps.jsonl").write_text(content)
        with pytest.raises(CodealignError, match="is no log"):
            read(tmp_path / "steps.jsonl")
    with pytest.raises(CodealignError, match="no such log"):
        read(tmp_path / "nowhere")
