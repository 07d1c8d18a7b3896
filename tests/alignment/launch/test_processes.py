"""What a process makes of its launch: CPU processes under DeepSpeed, and who trains alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from alignment.processes import check_processes, launch_flags
from codegen_eval.errors import CodealignError
from tests.conftest import REPO

KNOWN = ("use_cpu", "ddp_backend", "dataloader_pin_memory")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_TORCH_DEVICE", "DS_ACCELERATOR", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("DS_LOG_LEVEL", "error")


@pytest.fixture
def deepspeed(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    compatible = {"deepspeed_shm_comm": True}
    parent, ops = ModuleType("deepspeed"), ModuleType("deepspeed.ops")
    ops.__compatible_ops__ = compatible  # type: ignore[attr-defined]
    parent.ops = ops  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deepspeed", parent)
    monkeypatch.setitem(sys.modules, "deepspeed.ops", ops)
    return compatible


def training(world: int, rank: int = 0) -> Any:
    state = SimpleNamespace(distributed_type="MULTI_CPU", backend="gloo", device=SimpleNamespace(type="cpu"))
    return SimpleNamespace(
        world_size=world, process_index=rank, distributed_state=state, deepspeed_plugin=None
    )


# A launcher as torchrun is one: its process gets a session of its own.
TORCHRUN = """
import os, subprocess, sys
trainer = (
    "import os, sys, time; from alignment.processes import end_with_launcher; end_with_launcher();"
    "open(sys.argv[1] + '.new', 'w').write(str(os.getpid())); os.rename(sys.argv[1] + '.new', sys.argv[1]);"
    "time.sleep(60)"
)
environment = {**os.environ, "LOCAL_RANK": "0"}
subprocess.run([sys.executable, "-c", trainer, sys.argv[1]], env=environment, start_new_session=True)
"""


def test_a_process_in_a_session_of_its_own_dies_with_its_launcher(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    launcher = subprocess.Popen([sys.executable, "-c", TORCHRUN, str(note)], cwd=REPO)
    deadline = time.monotonic() + 60
    while not note.exists():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    trainer = Path(f"/proc/{note.read_text()}/stat")
    assert trainer.exists()
    launcher.kill()
    launcher.wait()
    while trainer.exists() and trainer.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


def test_only_deepspeed_on_the_cpu_needs_flags_of_its_own(
    monkeypatch: pytest.MonkeyPatch, deepspeed: dict[str, bool]
) -> None:
    assert launch_flags({"use_cpu": True}, KNOWN) == []
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert launch_flags({}, KNOWN, gpus=2) == []
    assert deepspeed["deepspeed_shm_comm"], "untouched on GPUs"
    for given, gpus in (({"use_cpu": "true"}, 2), ({}, 0)):
        flags = launch_flags(given, KNOWN, gpus=gpus)
        assert flags[:4] == ["--use_cpu", "false", "--ddp_backend", "gloo"] and len(flags) == 6
    assert launch_flags({}, {"ddp_backend"}, gpus=0) == ["--ddp_backend", "gloo"], (
        "the others it does not have"
    )
    assert deepspeed == {"deepspeed_shm_comm": False}, "nothing is compiled"
    import os

    assert (os.environ["DS_ACCELERATOR"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")


def test_a_launch_that_needs_deepspeed_says_so_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(CodealignError, match=r"pip install 'codealign\[deepspeed\]'"):
        launch_flags({"use_cpu": True}, KNOWN)


def test_cpu_processes_of_a_launch_have_a_device_that_checkpoints_can_be_loaded_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    launch_flags({"use_cpu": True}, KNOWN)
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ, "one process needs nothing"
    monkeypatch.setenv("LOCAL_RANK", "1")
    launch_flags({"use_cpu": "true"}, KNOWN)
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == "cpu"


def test_processes_that_would_train_alone_are_refused() -> None:
    with pytest.raises(
        CodealignError, match=r"8 processes were launched, but each would train alone: no GPU"
    ):
        check_processes(training(1), {"WORLD_SIZE": "8"})


def test_how_many_really_run_is_said_by_the_first_one_alone(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    assert check_processes(training(4), environment) == 4
    assert capsys.readouterr().err == "processes: 4 on 2 machines (DDP, gloo, cpu)\n"
    check_processes(training(4, rank=1), environment)
    check_processes(training(1), {})
    assert capsys.readouterr().err == ""


def test_the_trap_of_the_simple_launcher_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_processes(training(1), {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}) == 1
    said = capsys.readouterr().err
    assert "was asked for several processes but started one" in said and "--accelerate ddp" in said
