"""MeZO under ZeRO-3 in real launches: divided weights, the steps of one process, a rank that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alignment import mezo
from alignment.zeroth_order.steplog import read
from alignment.zeroth_order.trainer import replay_log
from benchmarks import launch_matrix
from tests.alignment.launch.mezo_runs import RUNS, arguments
from tests.conftest import REPO

# In bfloat16 a batch of another size rounds in another way.
BARS = {"lora-bfloat16": 1e-3}


def launch(folder: Path, *runs: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs on two processes; a layer's weights are fetched when it is due, dropped behind it."""
    zero = {"stage": 3, "stage3_prefetch_bucket_size": 0, "stage3_max_live_parameters": 0}
    settings = {"zero_optimization": zero | {"reduce_bucket_size": "auto"}, "train_batch_size": "auto"}
    (folder / "deepspeed.json").write_text(json.dumps(settings))
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(folder / "deepspeed.json"),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.run(
        [*command, "-m", "tests.alignment.launch.mezo_runs", str(folder), *runs],
        cwd=REPO,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


def saved(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = (run / "model").glob("*.safetensors")
    return load_file(file)


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_zero3_takes_the_steps_of_one_process_on_weights_that_no_process_holds(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-distributed")
    launch_matrix.make_data(tmp_path)
    done = launch(tmp_path, *RUNS)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "processes: 2 on 1 machine (DeepSpeed ZeRO-3, gloo, cpu)" in done.stderr
    for run in RUNS:
        bar = BARS.get(run, 1e-5)
        alone = mezo.run(arguments(run, tmp_path, tmp_path / "alone" / run, 1)).path
        (_, steps), (_, expected) = (read(path / "steps.jsonl") for path in (tmp_path / run, alone))
        assert len(steps) == launch_matrix.STEPS and any(f for step in steps for _, f in step.moves)
        for step, other in zip(steps, expected, strict=True):
            assert step.loss == pytest.approx(other.loss, abs=bar), run
            assert [seed for seed, _ in step.moves] == [seed for seed, _ in other.moves]
        weights, others = saved(tmp_path / run), saved(alone)
        assert weights.keys() == others.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, others[name], atol=bar, rtol=0, msg=f"{run}: {name}")
        for rank in range(2):
            held = json.loads((tmp_path / f"{run}-{rank}.json").read_text())
            assert held["between"] == 0, "between passes nothing is whole"
            assert held["all"] <= 2 * held["share"] <= held["all"] + 100, "half, and padding"
            assert (held["most"] == held["all"]) == run.startswith("reward"), "programs need the whole"
    _same_as_replayed(tmp_path, "plain")
    _same_as_replayed(tmp_path, "sparse")


def _same_as_replayed(folder: Path, run: str) -> None:
    """One process, by the log alone, ends with the very weights that two processes saved."""
    from codegen_eval.generation.hf import load_model

    model, _ = load_model(str(folder / "model"), dtype="float32", device="cpu")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    replay_log(model, folder / run / "steps.jsonl")
    for name, weight in saved(folder / run).items():
        assert torch.equal(weight, model.state_dict()[name]), f"{run}: {name}"
        assert not torch.equal(weight, start[name])


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_a_rank_killed_under_zero3_goes_on_to_the_weights_of_a_run_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-distributed")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        launch_matrix.make_data(folder)
    done = launch(whole, "sparse")
    assert done.returncode == 0, done.stderr[-5000:]
    # 2 directions x 2 sides x 2 batches a step: the 30th evaluation is in the fourth, the snapshot is of two.
    done = launch(killed, "sparse", FAULT="kill:1:30")
    assert done.returncode != 0 and "SIGKILL" in done.stderr
    _, steps = read(killed / "sparse/steps.jsonl")
    assert len(steps) == 3 and (killed / "sparse/checkpoint-2").exists()
    done = launch(killed, "sparse")
    assert done.returncode == 0, done.stderr[-5000:]
    assert "going on after 3 steps: a snapshot and 1 replayed" in done.stderr
    for name in ("steps.jsonl", "model/model.safetensors"):
        assert (killed / "sparse" / name).read_bytes() == (whole / "sparse" / name).read_bytes()


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_a_loss_that_is_nan_on_one_rank_sends_all_back_to_the_snapshot(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: make test-distributed")
    launch_matrix.make_data(tmp_path)
    # 2 sides x 2 batches a step: the tenth evaluation is in the third.
    done = launch(tmp_path, "rewind", FAULT="nan:1:10")
    assert done.returncode != 0 and "back to step 2; the batches up to that of step 3" in done.stderr
    done = launch(tmp_path, "rewind")
    assert done.returncode == 0, done.stderr[-5000:]
    _, steps = read(tmp_path / "rewind/steps.jsonl")
    assert [step.skipped for step in steps] == [0, 0, 1, 0], "step 3 is passed over"
    _same_as_replayed(tmp_path, "rewind")
