"""Two hosts, really (`make test-distributed`): two network namespaces and a cable that is pulled."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from alignment.health.events import FOLDER, read_events
from alignment.health.hang import REPORT
from tests.alignment.launch import two_hosts
from tests.conftest import REPO

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    reason = two_hosts.allowed()
    if reason:
        pytest.skip(reason)


def test_a_host_is_lost_the_other_one_says_so_and_ends_and_the_job_goes_on_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    pytest.importorskip("trl")
    from tests.alignment.reward_modeling import small

    small.save_model(tmp_path / "model")
    small.write_pairs(tmp_path / "pairs.jsonl", 64)
    changes = {
        "model_name_or_path": tmp_path / "model",
        "dataset_name": tmp_path / "pairs.jsonl",
        "max_steps": 60,
        "save_steps": 5,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
    }
    recipe = (REPO / "recipes/tiny-coder/dpo.yaml").read_text().splitlines()
    kept = [line for line in recipe if line.partition(":")[0] not in changes]
    lines = [*kept, *(f"{name}: {value}" for name, value in changes.items())]
    (tmp_path / "dpo.yaml").write_text("\n".join(lines))
    done = subprocess.run(
        two_hosts.inside("tests.alignment.launch.two_host_training", str(tmp_path)),
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    logs = {path.stem: path.read_text(errors="replace") for path in sorted(tmp_path.glob("*.log"))}
    assert done.returncode == 0, (done.stdout, done.stderr[-2000:], {k: v[-1500:] for k, v in logs.items()})
    assert "survivor: status 75 after" in done.stdout and "again: [0, 0]" in done.stdout
    said = logs["first_host0"]
    assert "processes: 2 on 2 machines (DDP, gloo, cpu)" in said
    assert "hang: rank 0 made no progress for" in said and "[rank 1] no stacks within" in said
    assert "its process or machine is gone, or cut off" in said
    assert (tmp_path / "run" / FOLDER / REPORT).exists()
    assert "hang" in {event.kind for event in read_events(tmp_path / "run" / FOLDER)}
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "loss" in row and "step" in row]
    # A cable that is pulled before step 11 is logged leaves no step to repeat.
    repeated = [now for before, now in pairwise(steps) if now <= before]
    assert len(repeated) <= 1 and all(step > 10 and step % 5 == 1 for step in repeated), steps
    assert steps[:10] == list(range(1, 11)) and set(steps) == set(range(1, 61)), "nothing is lost"
    assert steps[-1] == 60 and (tmp_path / "run/finished.json").exists()


@pytest.mark.sandbox
def test_the_data_job_makes_its_dataset_though_a_ray_host_is_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: make test-distributed")
    # Told outright: else a head asks for a token as soon as an earlier cluster has left one in the home.
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = subprocess.run(
        two_hosts.inside("tests.alignment.launch.two_host_ray", str(tmp_path)),
        cwd=REPO,
        env={**os.environ, **secret, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    logs = {path.stem: path.read_text(errors="replace")[-1500:] for path in sorted(tmp_path.glob("*.log"))}
    assert done.returncode == 0, (done.stdout, done.stderr[-3000:], logs)
    assert "nodes: ['10.77.0.1', '10.77.0.2']" in done.stdout
    assert "equal: True" in done.stdout and "alive: ['10.77.0.1']" in done.stdout
