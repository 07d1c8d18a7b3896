"""The console script: cheap help, clear errors, clean stops."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alignment import __version__, cli
from codegen_eval.errors import CodealignError

REPO = Path(__file__).resolve().parents[2]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def cpu_of(*arguments: str) -> float:
    """CPU seconds of a Python process, the least of three runs."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python(*arguments).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def test_help_costs_little_cpu() -> None:
    assert cpu_of("-m", "alignment.cli", "--help") < 0.4


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from alignment.cli import main; main(['--help'])\n"
        "heavy = {'numpy', 'tyro', 'pydantic', 'rich', 'yaml', 'torch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "modules", ["codegen_eval, sandbox", "codegen_eval.commands.eval, codegen_eval.runs"]
)
def test_importing_loads_no_torch(modules: str) -> None:
    code = (
        f"import sys, {modules}\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_every_module_of_codegen_eval_imports_without_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, codegen_eval, sandbox\n"
        "for package in (codegen_eval, sandbox):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if module.name != 'sandbox.engine.boot':\n"
        "            importlib.import_module(module.name)\n"
        "            heavy = {'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)\n"
        "            assert not heavy, (module.name, heavy)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_table_has_a_module_with_main() -> None:
    for name, (module, text) in cli.COMMANDS.items():
        path = REPO / (module.replace(".", "/") + ".py")
        assert path.exists(), f"{name}: {path}"
        assert "def main(" in path.read_text() and text


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"codealign {__version__}\n"
    assert cli.main([]) == cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


def test_unknown_command_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evla"]) == 2
    assert "unknown command 'evla'; did you mean 'eval'?" in capsys.readouterr().err


def failing(error: BaseException) -> int:
    def entry(arguments: object) -> int:
        raise error

    return cli.guarded(entry, [])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CodealignError("k=100 needs at least 100 samples"), "codealign: k=100 needs at least 100 samples\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "pip install 'codealign[train]'"),
    ],
)
def test_what_a_user_can_mend_has_no_traceback(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err


def test_sandbox_trouble_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    from sandbox import IsolationUnavailable, SandboxError

    assert issubclass(IsolationUnavailable, SandboxError)
    assert failing(SandboxError("no user namespaces")) == 2
    assert "no user namespaces" in capsys.readouterr().err


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEALIGN_DEBUG", "1")
    assert failing(CodealignError("no")) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [RuntimeError("bug"), ModuleNotFoundError("x", name="codegen_eval.nothing")]
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(error)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_cleanly_and_say_how_to_go_on(number: signal.Signals, status: int) -> None:
    code = (
        "import sys, time\nfrom alignment.cli import guarded\n"
        # Short sleeps: a signal that comes right before the system call of a sleep is seen after it.
        "def job(_):\n    print('ready', flush=True)\n"
        "    for _ in range(600): time.sleep(0.1)\n    return 0\n"
        "sys.exit(guarded(job, []))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert err == "stopped; run the same command again to go on\n"


@pytest.mark.parametrize("flush", [True, False])
def test_a_closed_output_is_no_error(flush: bool) -> None:
    code = (
        "import sys\nfrom alignment.cli import guarded\n"
        f"def job(_):\n    print('x' * 1000, flush={flush})\n    return 0\n"
        "sys.exit(guarded(job, []))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(20) == 1


def test_another_broken_pipe_is_not_taken_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(BrokenPipeError(errno.EPIPE, "Broken pipe")) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_unknown_option_of_a_command_gets_the_nearest_name() -> None:
    done = python("-m", "alignment.cli", "eval", "--benchmrk", "minipy")
    assert done.returncode == 2
    assert done.stderr.startswith("codealign: unknown option '--benchmrk'; did you mean '--benchmark'?")
