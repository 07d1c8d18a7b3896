"""Several ranks: shares, errors that reach all, and the losses and weights of one process on two."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import mrt_rl, mrt_star
from alignment.health.beats import read_beats
from alignment.health.events import FOLDER
from alignment.launch_options import launcher_flags
from alignment.ranks import ALONE, Ranks, joined
from alignment.resources import recipe_path
from codegen_eval.errors import CodealignError
from codegen_eval.runs import read_jsonl
from tests.alignment.mrt.made_up import trained
from tests.alignment.mrt.two_ranks import learn, model
from tests.conftest import REPO


def launched(part: str, folder: Path, mode: str = "ddp") -> subprocess.CompletedProcess[str]:
    """Two processes over gloo."""
    configuration = recipe_path(f"accelerate/{mode}.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
    command += launcher_flags(configuration, {"num_processes": 2, "main_process_port": 0})
    command += ["-m", "tests.alignment.mrt.two_ranks", part, str(folder)]
    path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def assert_alike(found: dict[str, Any], expected: dict[str, Any], atol: float) -> None:
    """Weights, but the keys' bias: softmax makes its gradient 0, and Adam steps of what rounding leaves."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        kept = torch.ones(len(value), dtype=torch.bool)
        if name.endswith("c_attn.bias"):
            kept[len(value) // 3 : 2 * len(value) // 3] = False
        torch.testing.assert_close(
            found[name][kept], value[kept], atol=atol, rtol=1e-5, msg=lambda said, n=name: f"{n}: {said}"
        )


def test_shares_are_every_item_once() -> None:
    shares = [Ranks(rank, 3).share(range(8)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8)) and [
        len(s) for s in shares
    ] == [3, 3, 2]
    assert ALONE.share("abc") == ["a", "b", "c"] and ALONE.first
    assert ALONE.spread([1, 2], lambda items: [2 * item for item in items]) == [2, 4]


def test_a_launch_under_fsdp_or_without_gpus_enough_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert joined("mrt-rl").world == 1 and joined("mrt-rl", cpu=True).device == "cpu"
    with monkeypatch.context() as patched:
        patched.setenv("ACCELERATE_USE_FSDP", "true")
        with pytest.raises(CodealignError, match="mrt-rl does not know FSDP's shards"):
            joined("mrt-rl")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(CodealignError, match="2 processes on a machine with 1 GPU; give --num_processes 1"):
        joined("mrt-rl")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_learn_what_one_learns_and_end_with_one_anothers_errors(tmp_path: Path) -> None:
    done = launched("basics", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("processes: 2 on 1 machine (DDP, gloo, cpu)") == 1
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    weights = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in (0, 1)]
    losses, expected = learn(ALONE)
    for rank, one in enumerate(seen):
        assert one["place"] == [rank, 2]
        assert one["spread"] == [[], [0], [0, 1, 4, 9, 16]]
        assert one["fault"] == "rank 1 does not like 13", "in both"
        assert one["led"] == 0 and one["told"] == 7
        assert one["failed"] == "the first has no disk"
        assert one["losses"] == pytest.approx(losses, abs=1e-6, nan_ok=True)
        assert [math.isnan(loss) for loss in one["losses"]] == [False, False, True, False]
    assert [one["broken"] for one in seen] == ["own cable", "rank 0: OSError: cable"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in expected), "bit for bit"
    assert_alike(weights[0], expected, 1e-5)


@pytest.mark.distributed
@pytest.mark.parametrize("mode", ["zero2", "zero3"])
def test_a_divided_model_learns_what_one_process_learns(tmp_path: Path, mode: str) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: make test-distributed")
    done = launched("divided", tmp_path, mode)
    assert done.returncode == 0, done.stderr[-3000:]
    losses, expected = learn(ALONE)
    whole = sum(p.numel() for p in model().parameters())
    for rank in (0, 1):
        seen = json.loads((tmp_path / f"seen-{rank}.json").read_text())
        assert seen["losses"] == pytest.approx(losses, abs=1e-6, nan_ok=True)
        assert seen["held"] == [whole if mode == "zero2" else 0, whole], "ZeRO-3 leaves empty shells"
    assert_alike(torch.load(tmp_path / "weights.pt"), expected, 1e-5)


SMALL: dict[str, dict[str, Any]] = {
    "mrt_rl": {
        "questions": 10,
        "num_generations": 2,
        "max_steps": 6,
        "prompts_per_step": 3,
        "prefix_steps": 4,
    },
    "mrt_star": {
        "questions": 13,
        "rounds": 2,
        "num_generations": 3,
        "max_steps": 4,
        "questions_at_once": 5,
        "per_device_train_batch_size": 8,
    },
}
COMMON = {
    "dataset_name": "episodes",
    "stops": 2,
    "max_thinking_length": 40,
    "learning_rate": 1e-3,
    "save_steps": 2,
    "logging_steps": 1,
}


def job(name: str, base: Path, out: Path, die: int = 0, **changes: Any) -> dict[str, Any]:
    given = {**COMMON, **SMALL[name], **changes, "model_name_or_path": base, "output_dir": out}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    words += ["--use_cpu", *(["--no-right_only"] if name == "mrt_star" else [])]
    return {"module": f"alignment.{name}", "words": words, "die": die}


@pytest.mark.distributed
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["ddp", "zero2", "zero3"])
def test_two_ranks_end_in_the_weights_of_one_and_go_on_after_one_was_killed(
    tmp_path: Path, mode: str
) -> None:
    from safetensors.torch import load_file

    if mode != "ddp":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: make test-distributed")
    base = tmp_path / "base"
    for part in trained():
        part.save_pretrained(base)
    half = {"mrt_rl": {}, "mrt_star": {"per_device_train_batch_size": 4}}
    runs = {
        f"{name}-{kind}": job(name, base, tmp_path / f"{name}-{kind}", **half[name])
        for name in SMALL
        for kind in ("killed", "whole")
    }
    # Inside a block of prefixes; in the second round, behind its first checkpoint.
    for name, die in (("mrt_rl", 4), ("mrt_star", 7)):
        (tmp_path / "jobs.json").write_text(json.dumps([{**runs[f"{name}-killed"], "die": die}]))
        assert launched("runs", tmp_path, mode).returncode != 0
        out = tmp_path / f"{name}-killed"
        assert list(out.glob("checkpoint-*")) and not (out / "model").exists()
    (tmp_path / "jobs.json").write_text(json.dumps(list(runs.values())))
    done = launched("runs", tmp_path, mode)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("going on ") == 2, "each resumed run says so once"

    for module in (mrt_rl, mrt_star):
        name = module.__name__.rpartition(".")[2]
        alone = module.run(job(name, base, tmp_path / f"{name}-alone")["words"]).path
        whole, killed = tmp_path / f"{name}-whole", tmp_path / f"{name}-killed"
        for file in ("metrics.jsonl", "model/model.safetensors"):
            assert (whole / file).read_bytes() == (killed / file).read_bytes(), (name, file)
        rows, expected = (list(read_jsonl(folder / "metrics.jsonl")) for folder in (whole, alone))
        assert len(rows) == len(expected) > 6 and any(row.get("loss") for row in rows)
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other, abs=1e-5), name
        assert_alike(*(load_file(out / "model/model.safetensors") for out in (whole, alone)), atol=1e-5)
        with pytest.raises(CodealignError, match="processes: 2, now None"):
            module.run(runs[f"{name}-whole"]["words"])
        beats = read_beats(whole / FOLDER)
        assert [(beat.rank, beat.world, beat.state) for beat in beats] == [
            (rank, 2, "finished") for rank in (0, 1)
        ]
