"""Checkpoints: what was torn or changed is never taken, and the one before is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alignment.health import checkpoints
from alignment.health.checkpoints import WHOLE, fault, newest_whole, prune, save_whole, seal, set_aside
from alignment.health.events import FOLDER, read_events
from codegen_eval.errors import CodealignError
from tests.conftest import REPO


def write(root: Path, step: int, *, sealed: bool = True) -> Path:
    folder = root / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * step)
    (folder / "global_step" / "shard").write_text(f"of step {step}")
    if sealed:
        seal(folder)
    return folder


def test_a_whole_checkpoint_has_no_fault_and_the_newest_one_by_number_is_taken(tmp_path: Path) -> None:
    for step in (20, 100, 3):
        assert fault(write(tmp_path, step)) is None
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-100"
    assert set(json.loads((tmp_path / "checkpoint-3" / WHOLE).read_text())["files"]) == {
        "model.safetensors",
        "global_step/shard",
    }
    assert newest_whole(tmp_path / "nowhere") is None


def _truncate(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def _flip(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[50] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def _remove(folder: Path) -> None:
    (folder / "global_step" / "shard").unlink()


def _manifest_cut(folder: Path) -> None:
    os.truncate(folder / WHOLE, 30)


def _manifest_of_others(folder: Path) -> None:
    (folder / WHOLE).write_text('["files"]')


def _unmarked(folder: Path) -> None:
    (folder / WHOLE).unlink()


@pytest.mark.parametrize(
    ("tear", "reason"),
    [
        (_truncate, "model.safetensors: 100 bytes, 2560 were written"),
        (_flip, "model.safetensors: its content is not what was written"),
        (_remove, "global_step/shard: it is missing"),
        (_manifest_cut, "complete is no manifest"),
        (_manifest_of_others, "complete is no manifest"),
        (_unmarked, "it was never finished"),
    ],
)
def test_a_torn_checkpoint_is_said_with_its_reason_and_the_one_before_is_taken(
    tmp_path: Path, tear: object, reason: str
) -> None:
    assert callable(tear)
    write(tmp_path, 9)
    torn = write(tmp_path, 10)
    tear(torn)
    told: list[tuple[Path, str]] = []
    assert newest_whole(tmp_path, told=lambda *row: told.append(row)) == tmp_path / "checkpoint-9"
    assert [path for path, _ in told] == [torn] and told[0][1].startswith(reason)


def test_without_hashes_sizes_still_count(tmp_path: Path) -> None:
    folder = write(tmp_path, 10, sealed=False)
    seal(folder, hashes=False)
    _flip(folder)
    assert fault(folder) is None, "the price of not hashing"
    _truncate(folder)
    assert fault(folder) is not None


def test_a_torn_checkpoint_is_set_aside_so_that_retention_does_not_count_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, unfinished = write(tmp_path, 2), write(tmp_path, 4, sealed=False)
    _flip(changed)
    for folder in (changed, unfinished):
        set_aside(folder, str(fault(folder)), tmp_path / "checkpoint-1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["torn-checkpoint-2"]
    assert "checkpoint-4 is torn (it was never finished); checkpoint-1 is used" in capsys.readouterr().err


def test_saving_leaves_either_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint-1"

    def first(folder: Path) -> None:
        (folder / "weights").write_text("1")
        assert not target.exists()

    def broken(folder: Path) -> None:
        (folder / "weights").write_text("2")
        raise OSError(28, "No space left on device")

    save_whole(target, first)
    with pytest.raises(OSError, match="No space"):
        save_whole(target, broken)
    assert (target / "weights").read_text() == "1" and fault(target) is None
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


KILLED = """
import os, signal, sys
from pathlib import Path
from alignment.health import checkpoints
moment, root = sys.argv[1], Path(sys.argv[2])
def write(folder):
    (folder / "a").write_bytes(b"x" * 100000)
    if moment == "writing": os.kill(os.getpid(), signal.SIGKILL)
real = checkpoints.seal
def seal(folder, **more):
    if moment == "sealing": os.kill(os.getpid(), signal.SIGKILL)
    real(folder, **more)
    if moment == "renaming": os.kill(os.getpid(), signal.SIGKILL)
checkpoints.seal = seal
checkpoints.save_whole(root / "checkpoint-2", write)
"""


@pytest.mark.parametrize("moment", ["writing", "sealing", "renaming"])
def test_a_kill_at_any_moment_of_saving_leaves_the_checkpoint_before(tmp_path: Path, moment: str) -> None:
    before = write(tmp_path, 1)
    ended = subprocess.run([sys.executable, "-c", KILLED, moment, str(tmp_path)], cwd=REPO, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert newest_whole(tmp_path) == before
    save_whole(tmp_path / "checkpoint-2", lambda folder: (folder / "a").touch())
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]


def test_torn_checkpoints_are_said_noted_and_gone_and_those_of_later_steps_are_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "protocol.json").write_text("{}")
    for step in (1, 2, 3):
        _flip(write(tmp_path / "member", step)) if step > 1 else write(tmp_path / "member", step)
    assert checkpoints.newest_usable(tmp_path / "member", most=2) == tmp_path / "member/checkpoint-1"
    said = capsys.readouterr().err
    assert (
        "checkpoint-2 is torn (model.safetensors: its content is not" in said and "checkpoint-3" not in said
    )
    (event,) = read_events(tmp_path / FOLDER)
    assert (event.kind, event.facts["checkpoint"]) == ("torn_checkpoint", "checkpoint-2")
    assert sorted(p.name for p in (tmp_path / "member").iterdir()) == [
        "checkpoint-1", "checkpoint-3", "torn-checkpoint-2",
    ]  # fmt: skip
    _unmarked(tmp_path / "member/checkpoint-1")
    assert checkpoints.newest_usable(tmp_path / "member") is None
    assert "checkpoint-1 is torn (it was never finished); there is none before it" in capsys.readouterr().err


def test_pruning_keeps_the_newest_whole_ones_and_never_all(tmp_path: Path) -> None:
    for step in (1, 2, 30, 4):
        write(tmp_path, step)
    write(tmp_path, 50, sealed=False)
    assert [p.name for p in prune(tmp_path, 2)] == ["checkpoint-1", "checkpoint-2"]
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-30"
    assert (tmp_path / "checkpoint-50").exists(), "somebody may be writing it"
    with pytest.raises(CodealignError, match="at least one"):
        prune(tmp_path, 0)


def test_names_of_others_are_not_checkpoints(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for name in ("checkpoint-", "checkpoint-2b", "torn-checkpoint-7", "checkpoint-best"):
        (tmp_path / name).mkdir()
        seal(tmp_path / name)
    (tmp_path / "checkpoint-9").write_text("a file")
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-1"
    with pytest.raises(CodealignError, match="checkpoint-STEP"):
        checkpoints.step_of(tmp_path / "checkpoint-best")
