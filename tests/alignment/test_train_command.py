"""`codealign train`: what it starts, and that nothing of it is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignment import train_command
from codegen_eval.errors import CodealignError

REPO = Path(__file__).resolve().parents[2]

# A launcher that starts a trainer which writes its number and then sleeps, as accelerate launch would.
LAUNCHER = (
    "import subprocess, sys\n"
    "trainer = \"import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)\"\n"
    "sys.exit(subprocess.call([sys.executable, '-c', trainer, sys.argv[1]]))"
)
OURS = (
    "import sys\nfrom pathlib import Path\nfrom alignment.cli import guarded\n"
    "from alignment.train_command import _ended, _group\n"
    "def job(argv):\n"
    f"    with _group([sys.executable, '-c', {LAUNCHER!r}, argv[0]]) as process:\n"
    "        _ended(process)\n"
    "    return process.returncode\n"
    "sys.exit(guarded(job, sys.argv[1:]))"
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "dpo.yaml"
    path.write_text("seed: 1\n")
    return path


def test_unknown_method_and_missing_files_are_errors(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="unknown training method 'dpoo'; did you mean 'dpo'"):
        train_command.launch("dpoo", recipe)
    with pytest.raises(CodealignError, match="no such recipe"):
        train_command.launch("dpo", tmp_path / "none.yaml")
    with pytest.raises(CodealignError, match="among the shipped recipes"):
        train_command.launch("dpo", recipe, accelerate="none")
    with pytest.raises(CodealignError, match="no such Accelerate configuration"):
        train_command.launch("dpo", recipe, accelerate=str(tmp_path / "none.yaml"))


def test_the_command_line_is_handed_on(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(train_command, "_LAUNCHER", "import sys; print(sys.argv[1:]); sys.exit(7)")
    real = train_command._group

    def spy(command: list[str], *rest: object) -> object:
        seen.append(command)
        return real(command, *rest)

    monkeypatch.setattr(train_command, "_group", spy)
    assert train_command.main(["dpo", "--config", str(recipe), "--beta", "0.1", "--seed=3"]) == 7
    assert seen[0][0] == sys.executable
    assert seen[0][-7:] == ["-m", "alignment.dpo", "--config", str(recipe), "--beta", "0.1", "--seed=3"]
    assert str(REPO / "recipes" / "accelerate" / "single.yaml") in seen[0]


def test_the_trainers_own_status_wins_over_the_launchers(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = f"open(os.environ[{train_command.STATUS_FILE!r}], 'w').write('2')"
    monkeypatch.setattr(train_command, "_LAUNCHER", f"import os, sys; {note}; sys.exit(1)")
    assert train_command.launch("dpo", recipe) == 2


def test_a_restart_goes_on_and_does_not_start_anew(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The first time it crashes, the second time it ends well.
    mark = tmp_path / "mark"
    script = (
        f"import os, sys; print('RUN', '--overwrite' in sys.argv)\nif not os.path.exists({str(mark)!r}):\n"
        f"    open({str(mark)!r}, 'w'); os.kill(os.getpid(), 9)"
    )
    monkeypatch.setattr(train_command, "_LAUNCHER", script)
    words = ["dpo", "--config", str(recipe), "--overwrite", "--max-restarts", "2", "--max_steps", "3"]
    assert train_command.main(words) == 0
    said = capfd.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("RUN")] == ["RUN True", "RUN False"]
    assert "the job ended (status 137); restart 1 of 2" in said.err
    with pytest.raises(CodealignError, match=r"--max-restarts must be 0 or more"):
        train_command.launch("dpo", recipe, max_restarts=-1)


def test_options_of_the_launcher_reach_it_and_the_trainers_do_not_get_them(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_command, "_LAUNCHER", "import sys; print(sys.argv[1:])")
    words = ["dpo", "--config", str(recipe), "--accelerate", "zero2", "--num_processes", "2", "--seed", "1"]
    assert train_command.main(words) == 0
    said = capfd.readouterr()
    launcher, _, trainer = said.out.partition("'-m'")
    assert "'--num_processes', '2'" in launcher and "num_processes" not in trainer
    assert "'--seed', '1'" in trainer and "launching 2 processes (zero2)" in said.err
    with pytest.raises(CodealignError, match="a launch of one process, 2 were asked for"):
        train_command.main(["dpo", "--config", str(recipe), "--num_processes", "2"])


def test_a_launcher_ended_by_a_signal_has_the_shells_status(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_command, "_LAUNCHER", "import os; os.kill(os.getpid(), 9)")
    assert train_command.launch("dpo", recipe) == 137


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_no_trainer_outlives_the_command(tmp_path: Path, number: signal.Signals, status: int) -> None:
    note = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", OURS, str(note)], cwd=REPO, stderr=subprocess.DEVNULL)
    trainer = int(_wait_for(lambda: note.read_text() if note.exists() else ""))
    process.send_signal(number)
    assert process.wait(40) == status
    _wait_for(lambda: "gone" if not _alive(trainer) else "")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(probe: object, seconds: float = 20.0) -> str:
    assert callable(probe)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return str(found)
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def test_accelerate_launches_our_module(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate")
    package = tmp_path / "site" / "alignment"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "dpo.py").write_text("import sys\nprint('TRAINER', sys.argv[1:])\nsys.exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    assert train_command.launch("dpo", recipe, ["--seed", "3"]) == 1, "accelerate says 1 for any failure"
    out, err = capfd.readouterr()
    assert f"TRAINER ['--config', '{recipe}', '--seed', '3']" in out
    assert "Traceback" not in err
