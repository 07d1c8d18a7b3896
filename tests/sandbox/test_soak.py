"""A small soak: mixed programs of known verdicts while the engine's processes are killed. `make soak` is the
long one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MODE = "root" if os.geteuid() == 0 else "nested"


def soak(tmp_path, *options):
    """Report of a run in the outer box."""
    box = [sys.executable, str(HERE / "outer_box.py"), MODE, os.devnull, "60", "true"]
    if subprocess.run(box, capture_output=True, timeout=60).returncode:
        pytest.skip(f"this machine gives no outer box as {MODE}: hostile programs do not run without one")
    output = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.sandbox_soak", "--out", str(output), *options]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=280)
    assert output.exists() and output.stat().st_size, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return json.loads(output.read_text())


@pytest.mark.sandbox
@pytest.mark.slow
def test_every_program_gets_its_verdict_while_processes_are_killed_and_nothing_is_left(tmp_path):
    report = soak(tmp_path, "--programs", "300", "--kill", "workers")
    assert report["failed"] == [], report
    assert sum(report["verdicts"].values()) == 300
    assert report["hostile"] > 60
    assert sum(report["killed"].values()) > 0, "nothing was tried"


@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.parametrize("how", ["caller-kill9", "caller-int"])
def test_nothing_is_left_of_a_caller_that_is_killed_or_interrupted_at_a_random_moment(how, tmp_path):
    report = soak(tmp_path, "--programs", "300", "--kill", how, "--times", "4")
    assert report["failed"] == [], report
    assert sum(report["statuses"].values()) == 4
