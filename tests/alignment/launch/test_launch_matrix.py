"""Trainer x launch mode: the losses of one process on two; a hang and a spoiled loss in a real launch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import launch_matrix
from tests.conftest import REPO


@pytest.mark.parametrize(
    ("result", "state"),
    [
        ({"losses": [1.0, 0.5 + 1e-6], "processes": 2}, "equal"),
        ({"losses": [1.0, 0.5 + 1e-4], "processes": 2}, "differs"),
        ({"losses": [1.0], "processes": 2}, "failed"),
        ({"losses": [1.0, 0.5], "processes": 1}, "failed"),
        ({"error": "RuntimeError: no"}, "failed"),
    ],
)
def test_a_cell_says_what_happened(result: dict[str, Any], state: str) -> None:
    assert launch_matrix.cell(result, {"losses": [1.0, 0.5], "processes": 1}, 2)["state"] == state


def test_what_must_be_refused_is_refused_with_a_message_of_ours() -> None:
    base = {"losses": [1.0], "processes": 1}
    for result, state in (
        ({"error": "CodealignError: does not fit"}, "refused"),
        ({"error": "RuntimeError: shape mismatch"}, "failed"),
        ({"losses": [1.0], "processes": 2}, "failed"),
    ):
        assert launch_matrix.cell(result, base, 2, refuses=True)["state"] == state
    table = {"mezo": {"zero3": launch_matrix.cell({"error": "CodealignError: no"}, base, 2, refuses=True)}}
    assert "| mezo | refused |" in launch_matrix.markdown({"table": table})


def test_the_table_names_failures_and_what_was_only_parsed() -> None:
    base = {"losses": [1.0], "processes": 1}
    table = {
        "dpo": {
            "single": launch_matrix.cell(base, base, 1),
            "ddp": launch_matrix.cell({"losses": [1.0 + 1e-7], "processes": 2}, base, 2),
            "zero3": launch_matrix.cell({"error": "RuntimeError: deepspeed\nmore"}, base, 2),
            "fsdp2": {"state": "parsed only", "why": "no GPU"},
        }
    }
    text = launch_matrix.markdown({"table": table})
    assert text.splitlines()[0] == "| trainer | single | ddp | zero3 | fsdp2 |"
    assert "| dpo | tried | equal, 1e-07 | failed: RuntimeError: deepspeed | parsed only |" in text


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_the_preference_trainers_on_two_processes_learn_what_one_process_does(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-zero")
    table = _check(["dpo", "kto", "reward"], ["ddp", "zero2", "zero3"], tmp_path)
    losses = table["dpo"]["ddp"]["losses"]
    assert len(losses) == launch_matrix.STEPS and losses[-1] < losses[0] - 0.01, "and it learns"
    assert "processes: 2 on 1 machine (DDP, gloo, cpu)" in (tmp_path / "ddp.log").read_text()


@pytest.mark.distributed
@pytest.mark.timeout(3000)
def test_every_trainer_in_every_mode_learns_what_one_process_does(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-distributed")
    modes = [mode for mode, reason in launch_matrix.MODES.items() if reason is None]
    _check(list(launch_matrix.METHODS), modes, tmp_path)


@pytest.mark.distributed
def test_what_would_be_offloaded_is_refused_in_a_launch(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-distributed")
    table = _check(["remax", "mrt-rl"], ["zero3-offload"], tmp_path)
    assert all("does not offload" in row["zero3-offload"]["why"] for row in table.values())


def _check(methods: list[str], modes: list[str], folder: Path) -> dict[str, Any]:
    found = launch_matrix.matrix(methods, modes, 1200, folder)
    bad = {
        (name, mode): cell
        for name, row in found["table"].items()
        for mode, cell in row.items()
        if cell["state"] != ("refused" if mode in launch_matrix.METHODS[name].refuses else "equal")
    }
    assert not bad and list(found["table"]) == methods, launch_matrix.markdown(found)
    return dict(found["table"])


def faulty(folder: Path, mode: str, fault: str, *more: str) -> subprocess.CompletedProcess[str]:
    launch_matrix.make_data(folder)
    method = launch_matrix.METHODS["dpo"]
    configuration = launch_matrix.recipe_path(f"accelerate/{mode}.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
    command += ["--num_processes", "2", "--main_process_port", "0", "-m", "tests.alignment.launch.faulty"]
    command += [*launch_matrix.arguments_of(method, folder, folder / "run", 2), *more]
    environment = {**os.environ, "FAULT": fault, "PYTHONPATH": str(REPO)}
    return subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.distributed
@pytest.mark.timeout(700)
def test_a_rank_asleep_in_its_reward_function_ends_the_launch_with_the_stacks_of_all(tmp_path: Path) -> None:
    done = faulty(tmp_path, "ddp", "hang:1:3", "--hang_timeout", "10")
    assert done.returncode != 0
    assert "the stacks of all 2 ranks follow" in done.stderr
    assert "[rank 1]   File" in done.stderr and "in reward_that_never_returns" in done.stderr
    assert "--- rank 1: step 2, reward" in done.stderr and "[rank 0]   File" in done.stderr


@pytest.mark.distributed
@pytest.mark.timeout(700)
@pytest.mark.parametrize("mode", ["ddp", "zero2", "zero3"])
def test_a_loss_that_is_nan_on_one_rank_is_skipped_by_all(tmp_path: Path, mode: str) -> None:
    if mode != "ddp":
        pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-distributed")
    done = faulty(tmp_path, mode, "nan:1:2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("step 2: the loss is not finite; the update is skipped") == 1
    losses = launch_matrix.losses_of(tmp_path / "run")
    assert len(losses) == launch_matrix.STEPS and all(loss == loss for loss in losses)
    # The rate of step 1 is 0 (warm-up): with step 2 skipped, step 3 sees the first weights.
    assert losses[2] == pytest.approx(0.6931472, abs=1e-6) and losses[3] < 0.69
