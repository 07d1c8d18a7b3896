"""A run of 200 steps into which faults are thrown: it ends, and its log accounts for each of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from alignment.health.events import FOLDER, read_events
from tests.conftest import REPO

STEPS = 200
KINDS = ("death", "nan", "reward", "disk")

# Each attempt is a fork, so that torch is imported once. A fault happens at its step the first time only.
RUN = """
import json, os, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from transformers import Trainer, TrainingArguments
from alignment.health import attach
from alignment.health.attach import resume_point, seal_checkpoint, watched
from alignment.health.monitor import phase
from alignment.health.options import HealthOptions
from alignment.health.restart import restarting
from tests.alignment.health.test_attach import Line, Notes
from tests.alignment.health.test_faults import STEPS

out, faults = Path(sys.argv[1]), {int(k): v for k, v in json.loads(sys.argv[2]).items()}
out.mkdir(exist_ok=True)
(out / "protocol.json").write_text("{}")

def strikes(step, *kinds):
    mark = out / f"struck_{step}"
    if faults.get(step) in kinds and not mark.exists():
        mark.touch()
        return faults[step]

class Clock:
    ahead = 0.0
    def monotonic(self):
        return time.monotonic() + self.ahead
attach.time = clock = Clock()

class Faulty(Trainer):
    def compute_loss(self, *rest, **more):
        kind = strikes(self.state.global_step + 1, "death", "nan", "reward")
        loss = super().compute_loss(*rest, **more)
        if kind == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "reward":
            with phase("reward"):
                raise RuntimeError("reward: the judge is gone")
        return loss * float("nan") if kind == "nan" else loss

    def _save_checkpoint(self, *rest, **more):
        super()._save_checkpoint(*rest, **more)
        if strikes(self.state.global_step, "disk"):
            clock.ahead += 1000.0

def attempt():
    arguments = TrainingArguments(str(out), max_steps=STEPS, save_steps=8, save_total_limit=2, seed=0,
        per_device_train_batch_size=2, learning_rate=0.01, use_cpu=True, report_to="none", disable_tqdm=True)
    rows = [{"x": 1.0 + i / 100} for i in range(64)]
    trainer = Faulty(Line(), arguments, train_dataset=rows)
    notes = Notes()
    trainer.add_callback(notes)
    point = resume_point(out)
    with watched(trainer, out, HealthOptions(slow_save_seconds=500.0, hang_timeout=0)):
        trainer.train(resume_from_checkpoint=str(point) if point else None)
    (out / "weight").write_text(repr(notes.weights[STEPS]))

def run():
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except Exception:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status

sys.exit(restarting(run, 12, out, sleep=lambda _: None))
"""


def planned() -> dict[int, str]:
    """One step in a hundred for each kind, by a seed; slow disks strike where something is saved."""
    draw = np.random.default_rng(7)
    steps = draw.choice(np.arange(1, STEPS // 8), size=2 * len(KINDS), replace=False) * 8
    return {
        int(step) - (0 if kind == "disk" else 1): kind for step, kind in zip(steps, KINDS * 2, strict=True)
    }


def launch(out: Path, faults: dict[int, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, str(out), json.dumps(faults)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.distributed
@pytest.mark.timeout(600)  # two launches, each of which may take its 280 s
def test_two_hundred_steps_with_faults_end_and_the_log_accounts_for_each(tmp_path: Path) -> None:
    faults = planned()
    assert Counter(faults.values()) == dict.fromkeys(KINDS, 2)
    done = launch(tmp_path / "faulty", faults)
    assert done.returncode == 0, done.stderr[-2000:]
    events = read_events(tmp_path / "faulty" / FOLDER)
    by_kind: dict[str, list[dict[str, object]]] = {}
    for event in events:
        by_kind.setdefault(event.kind, []).append(event.facts)
    struck = {kind: sorted(step for step, k in faults.items() if k == kind) for kind in KINDS}
    assert sorted(e["step"] for e in by_kind["nan"]) == struck["nan"]
    assert sorted(e["step"] for e in by_kind["slow_save"]) == struck["disk"]
    failed = by_kind["failed"]
    assert sorted(int(str(e["step"])) + 1 for e in failed) == struck["reward"]
    assert {(e["error"], e["phase"]) for e in failed} == {
        ("RuntimeError: reward: the judge is gone", "reward")
    }
    # Who dies by SIGKILL says no step: the front tells of the endings in the order in which they were struck.
    statuses = {"death": 137, "reward": 1}
    endings = [statuses[kind] for _, kind in sorted(faults.items()) if kind in statuses]
    assert endings == [e["status"] for e in by_kind["ended"]] == [e["status"] for e in by_kind["restart"]]
    assert len(endings) == 4 and set(by_kind) == {"nan", "slow_save", "failed", "restart", "ended"}
    # What deaths, errors and slow disks left behind is nothing: the weight is that of a run with the two
    # skipped updates alone.
    calm = launch(tmp_path / "calm", {step: kind for step, kind in faults.items() if kind == "nan"})
    assert calm.returncode == 0, calm.stderr[-2000:]
    assert (tmp_path / "faulty/weight").read_text() == (tmp_path / "calm/weight").read_text()
