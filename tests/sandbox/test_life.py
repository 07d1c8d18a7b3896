"""Whatever ends the caller ends everything that it started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.sandbox
REPO = Path(__file__).resolve().parents[2]
CALLER = f"""
import sys; sys.path.insert(0, {str(REPO)!r})
from sandbox import *
import os
box = Sandbox(2, limits=Limits(cpu_seconds=60, wall_seconds=60))
if sys.argv[1] == "child":  # a child that outlives the caller and holds its descriptors
    if os.fork() == 0:
        import time; time.sleep(20); os._exit(0)
print(box._client.info["pid"], flush=True)
try:
    list(box.run([Program("def f():\\n    while True: pass", "f", (CallTest((), 0), CodeTest("f()")))] * 9))
except KeyboardInterrupt:
    box.close()
    print("clean", flush=True)
"""


def descendants(pid):
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            queue += [int(child) for child in path.read_text().split()]
        found.append(parent)
    return found


def alive(pids):
    left = []
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                left.append(pid)
        except OSError:
            continue
    return left


@pytest.mark.parametrize(
    ("how", "number"), [("kill", signal.SIGKILL), ("interrupt", signal.SIGINT), ("child", signal.SIGKILL)]
)
def test_no_process_outlives_its_caller(how, number):
    caller = subprocess.Popen([sys.executable, "-c", CALLER, how], stdout=subprocess.PIPE, text=True)
    engine = int(caller.stdout.readline())
    time.sleep(0.5)
    pids = descendants(engine)
    assert len(pids) >= 6, "supervisor, nursery, four zygotes"
    os.kill(caller.pid, number)
    if how == "interrupt":
        assert caller.stdout.readline() == "clean\n"
    caller.wait(20)
    end = time.monotonic() + 10
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive(pids) == []
    caller.stdout.close()
