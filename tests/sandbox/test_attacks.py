"""Every attack program of the shared set and of our own, one test each, inside an outer box.

`ATTACKS_FILE=<file>` runs any file of that format instead; `ATTACKS_AS=root,user,nested` chooses as whom.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
SHARED = Path(os.environ.get("CODEALIGN_SHARED") or REPO.parent / "shared") / "data" / "attacks.jsonl"


def _records():
    chosen = os.environ.get("ATTACKS_FILE")
    files = (
        [Path(chosen)] if chosen else [path for path in (SHARED, HERE / "attacks_own.jsonl") if path.exists()]
    )
    for path in files:
        for line in path.read_text().splitlines():
            if line.strip():
                record = json.loads(line)
                yield pytest.param(record, id=f"{record['id']}-{record['name']}")


def _modes():
    if "ATTACKS_AS" in os.environ:
        return os.environ["ATTACKS_AS"].split(",")
    return ["root"] if os.geteuid() == 0 else ["nested"]


def outer_box_works(mode):
    command = [sys.executable, str(HERE / "outer_box.py"), mode, os.devnull, "true"]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.fixture(scope="session", params=_modes())
def mode(request):
    if not outer_box_works(request.param):
        pytest.skip(
            f"this machine gives no outer box as {request.param}: attack programs do not run without one"
        )
    return request.param


def attack(record, mode, tmp_path):
    """What became of one attack program."""
    tmp_path.chmod(0o755)
    # The outer box has a /tmp of its own, so the record is handed over where it can be read.
    text, output = json.dumps(record), tmp_path / "out.json"
    script = (
        "import sys,pathlib; pathlib.Path('/tmp/record.json').write_text(sys.argv[3]); "
        "sys.path.insert(0, sys.argv[1]); import attack_driver; "
        "attack_driver.main(sys.argv[2], '/tmp/record.json')"
    )
    command = [sys.executable, str(HERE / "outer_box.py"), mode, str(output)]
    command += [sys.executable, "-c", script, str(HERE), str(REPO), text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
    assert output.exists() and output.stat().st_size, (
        f"the harness died:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    )
    return json.loads(output.read_text())


@pytest.mark.sandbox
@pytest.mark.parametrize("record", list(_records()))
def test_attack_is_contained(record, mode, tmp_path):
    facts = attack(record, mode, tmp_path)
    assert facts["broken"] == [], facts
    assert facts["unexpected"] == [], facts
    assert facts["left"] == [], facts


@pytest.mark.sandbox
@pytest.mark.skipif(not SHARED.exists(), reason=f"shared attack programs not found at {SHARED}")
def test_the_shared_set_is_there_and_complete():
    assert len(SHARED.read_text().splitlines()) >= 15
