"""Two processes, data parallel on the CPU, against one: the same answers, the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.health.beats import read_beats
from alignment.health.events import FOLDER, read_events
from alignment.health.loops import watching
from alignment.health.options import HealthOptions
from tests.alignment.onpolicy.small import trainer
from tests.conftest import REPO

PROMPTS = [(1, 2), (2,), (2, 2, 1, 1, 1), (1,), (1, 1), (2, 1), (2, 1, 1), (1, 2, 2)]


class Letters:
    """A tokenizer of one letter a token."""

    pad_token_id = eos_token_id = 0
    chat_template = None

    def batch_decode(self, rows: list[list[int]], **options: Any) -> list[str]:
        return ["".join("_ab"[token] for token in row) for row in rows]


def reward(completions: list[str], number: list[int], **columns: Any) -> list[float | None]:
    """Counts a letter; the sixth prompt has no reward, which lies with one process alone."""
    return [None if n == 5 else float(c.count("b")) for c, n in zip(completions, number, strict=True)]


def train(name: str, rows: int, folder: Path | None = None) -> Any:
    t = trainer(
        name,
        reward,
        rows=rows,
        passes=2,
        prompts=PROMPTS,
        tokenizer=Letters(),
        num_generations=2,
        kl_coef=0.1,
        kl_target=0.01,
        kl_horizon=100,
        max_failed_rewards=1.0,
        folder=folder,
        loop={"max_steps": 3, "max_grad_norm": 1.0, "save_steps": 3},
    )
    if folder is None:
        t.train()
        return t
    rank, world = t.accelerator.process_index, t.accelerator.num_processes
    with watching(folder, HealthOptions(straggler_steps=1), rank=rank, world=world) as watch:
        t.train(None, watch)
    return t


def train_spoiled(folder: Path, rows: int, rank: int | None) -> Any:
    """REINFORCE whose second step has no finite loss in one process, or in the only one."""
    t = trainer(
        "reinforce", reward, rows=rows, passes=1, prompts=PROMPTS, tokenizer=Letters(), folder=folder,
        max_failed_rewards=1.0, loop={"max_steps": 3, "max_grad_norm": 1.0, "save_steps": 3},
    )  # fmt: skip
    original = t.updater.part_loss

    def part_loss(*rest: Any, **more: Any) -> Any:
        policy, value, moved = original(*rest, **more)
        bad = t.state.global_step == 1 and t.accelerator.process_index == (rank or 0)
        return (policy * float("nan") if bad else policy), value, moved

    t.updater.part_loss = part_loss
    own, world = t.accelerator.process_index, t.accelerator.num_processes
    with watching(folder, rank=own, world=world) as watch:
        t.train(None, watch)
    return t


NAMES = ("remax", "reinforce", "reinforce_pp", "ppo")
_WORKER = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tests.alignment.onpolicy.test_two_processes import NAMES, train, train_spoiled
for name in NAMES:
    train(name, 4, Path(sys.argv[1]) / name)
train_spoiled(Path(sys.argv[1]) / "spoiled", 2, 1)
"""


@pytest.mark.distributed
@pytest.mark.timeout(1500)  # two processes, on machines that may be busy
def test_two_processes_end_in_the_weights_of_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name in (*NAMES, "spoiled"):
        (tmp_path / name).mkdir()
    (tmp_path / "worker.py").write_text(_WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, str(tmp_path / "worker.py"), str(tmp_path)],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in NAMES:
        alone = train(name, 8)
        found = load_file(tmp_path / name / "checkpoint-3/weights.safetensors")
        assert len(list((tmp_path / name / "checkpoint-3").glob("random-*.pt"))) == 2, "two processes trained"
        for key, parameter in alone.module.named_parameters():
            torch.testing.assert_close(
                found[key], parameter.detach(), atol=1e-7, rtol=1e-6, msg=f"{name}: {key}"
            )
        beats = read_beats(tmp_path / name / FOLDER)
        assert [(beat.rank, beat.world, beat.state, beat.step) for beat in beats] == [
            (0, 2, "finished", 3),
            (1, 2, "finished", 3),
        ]
        assert all(
            {"rollout", "reward", "prepare", "forward", "update"} <= set(beat.phases) for beat in beats
        )
    alone = train_spoiled(tmp_path / "alone", 4, None)
    found = load_file(tmp_path / "spoiled/checkpoint-3/weights.safetensors")
    for key, parameter in alone.module.named_parameters():
        torch.testing.assert_close(found[key], parameter.detach(), atol=1e-7, rtol=1e-6)
    events = read_events(tmp_path / "spoiled" / FOLDER)
    assert [(event.kind, event.writer, event.facts["step"]) for event in events] == [("nan", "rank_0", 2)]
