"""`codealign train METHOD`: one call of `accelerate launch` with this interpreter.

The same as `accelerate launch --config_file recipes/accelerate/NAME.yaml -m alignment.METHOD --config FILE`,
plus what a launcher leaves open: signals reach every process of the job, and none of them outlives this one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from alignment.health.restart import restarting
from alignment.launch_options import launcher_flags, run_directory
from alignment.resources import recipe_path
from codegen_eval.errors import CodealignError, unknown

METHODS: dict[str, str] = {
    "dpo": "direct preference optimisation and its family on pairs.jsonl (any loss by --loss_type)",
    "kto": "KTO on single programs with a label, kto.jsonl",
    "rrhf": "RRHF on answers with rewards (scored.jsonl of `codealign score`): rank them, imitate the best",
    "raft": "RAFT, or rejection-sampling fine-tuning, on the same data: imitate the best of each prompt",
    "mrt-star": "MRT (STaR): fine-tuning on traces of thinking chosen and cut by their progress",
    "mrt-rl": "MRT (RL): on-policy updates rewarded by outcome and progress",
    "reward": "reward models on pairs.jsonl: k members with own seeds, their scales and what they are worth",
    "mezo": "MeZO, sparse or not: forward passes alone, on a loss of pairs or on what programs are worth",
    "remax": "ReMax: by a reward, against the greedy answer's (any on-policy algorithm by --algorithm)",
    "rloo": "RLOO: by a reward, against the prompt's other samples (GRPO by --algorithm grpo)",
    "ppo": "PPO: by a reward, with a critic",
}

LAUNCH_OPTIONS: tuple[tuple[str, type, str], ...] = (
    ("num_processes", int, "processes of the whole job, all machines together"),
    ("num_machines", int, "machines of the job; start the same command on each"),
    ("machine_rank", int, "this machine's number, from 0"),
    ("main_process_ip", str, "address of machine 0, which the others reach"),
    ("main_process_port", int, "a free port of machine 0"),
)
"""Options that go to Accelerate's launcher: name, type, help."""

STATUS_FILE = "CODEALIGN_STATUS_FILE"
"""Environment variable: the file to which a trainer writes its exit status."""

# Kills the job's process group when our end of the pipe closes before we said that the job is done, which is
# what happens when this process is killed. A trainer left alone would disturb the run that follows.
_WATCHDOG = """
import os, signal, sys
if sys.stdin.read() != "done":
    try:
        os.killpg(int(sys.argv[1]), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""

# Accelerate's launcher would answer Ctrl-C with a traceback of its own; the trainer below it has to stop.
# A handler (unlike SIG_IGN) is not inherited by the trainer.
_LAUNCHER = """
import signal
signal.signal(signal.SIGINT, lambda *_: None)
from accelerate.commands.launch import main
main()
"""


def main(argv: Sequence[str]) -> int:
    """Parses the command line of `codealign train` and runs the job; returns its exit status."""
    table = "\n".join(f"  {name:<8} {text}" for name, text in METHODS.items())
    parser = argparse.ArgumentParser(
        prog="codealign train",
        description=f"Trains by accelerate launch. Methods:\n{table}",
        epilog="All other options override the recipe's keys, e.g. --learning_rate 1e-5.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("method", help="what to train by")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the recipe (YAML)")
    parser.add_argument(
        "--accelerate", default="single", metavar="NAME|FILE", help="launch configuration (default: single)"
    )
    for name, kind, text in LAUNCH_OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument(
        "--max-restarts",
        "--max_restarts",
        type=int,
        default=0,
        metavar="N",
        help="start the job again up to N times when it fails for a reason that a restart can mend",
    )
    methods = [word for word in argv if word in METHODS]
    if methods and {"-h", "--help"} & set(argv):
        parser.print_help()
        return _method_help(methods[0])
    arguments, overrides = parser.parse_known_args(argv)
    options = {name: getattr(arguments, name) for name, *_ in LAUNCH_OPTIONS}
    return launch(
        arguments.method,
        arguments.config,
        overrides,
        accelerate=arguments.accelerate,
        options={name: value for name, value in options.items() if value is not None},
        max_restarts=arguments.max_restarts,
    )


def _method_help(method: str) -> int:
    """Says what a method is and which options it takes, in this process."""
    print(f"\n{method}:", flush=True)
    try:
        importlib.import_module(_module(method)).main(["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _module(method: str) -> str:
    return f"alignment.{method.replace('-', '_')}"


def launch(
    method: str,
    config: Path,
    overrides: Sequence[str] = (),
    *,
    accelerate: str = "single",
    options: Mapping[str, int | str] | None = None,
    max_restarts: int = 0,
) -> int:
    """Trains in processes of its own and waits for them.

    Args:
        method: A key of `METHODS`.
        config: The recipe's YAML file.
        overrides: Command-line options that win over the recipe's keys.
        accelerate: Name of a file in `recipes/accelerate`, or the path of an Accelerate configuration.
        options: Values of `LAUNCH_OPTIONS` that win over the launch configuration's.
        max_restarts: How often a job that failed is started again (see `health.restart`).

    Returns:
        The trainer's exit status, or the launcher's where the trainer left none; 128 + n if signal n ended
        it.

    Raises:
        CodealignError: For an unknown method, a missing recipe or launch configuration, numbers of processes
            and machines that do not fit each other.
        KeyboardInterrupt: If this process was interrupted; the job has ended by then.
    """
    if method not in METHODS:
        raise unknown("training method", method, METHODS)
    if not config.is_file():
        raise CodealignError(f"no such recipe: {config}")
    if max_restarts < 0:
        raise CodealignError(f"--max-restarts must be 0 or more (given: {max_restarts})")
    given = Path(accelerate)
    launcher = given if given.suffix == ".yaml" else recipe_path(f"accelerate/{accelerate}.yaml")
    if not launcher.is_file():
        raise CodealignError(f"no such Accelerate configuration: {launcher}")
    flags = launcher_flags(launcher, options or {})
    command = [sys.executable, "-c", _LAUNCHER, "--quiet", "--config_file", str(launcher), *flags]
    command += ["-m", _module(method), "--config", str(config), *overrides]
    # A restart goes on; it must not start anew.
    again = [word for word in command if word != "--overwrite"]
    commands = itertools.chain([command], itertools.repeat(again))
    return restarting(lambda: _run(next(commands)), max_restarts, run_directory(config, overrides))


def _run(command: Sequence[str]) -> int:
    """Runs the launcher once; returns the job's exit status."""
    with tempfile.TemporaryDirectory(prefix="codealign-") as folder:
        note = Path(folder) / "status"
        with _group(command, {**os.environ, STATUS_FILE: str(note)}) as process:
            _ended(process)
        status = process.returncode
        if status > 0 and note.exists():
            status = int(note.read_text() or status) or status
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _group(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a process group of its own that ends with this block, however the block or we end."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    watchdog = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _WATCHDOG, str(process.pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        yield process
    except KeyboardInterrupt:
        _stop(process)
        raise
    finally:
        # Whatever the launcher left of its group ends here.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        watchdog.communicate("done")


def _stop(process: subprocess.Popen[bytes], grace: float = 15.0) -> None:
    """Asks the whole group to stop, as Ctrl-C on a terminal would, and waits a while for it."""
    os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and not _ended(process, os.WNOHANG):
        time.sleep(0.05)


def _ended(process: subprocess.Popen[bytes], flags: int = 0) -> bool:
    """Waits for the process (or asks, with WNOHANG), unreaped: so its group's number stays taken."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | flags) is not None


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
