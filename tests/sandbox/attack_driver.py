"""Runs one attack program in the sandbox, inside an outer box, and writes what came of it to /tmp/out.json.

    python attack_driver.py REPOSITORY RECORD.json

The record is read after the workers have started. Checks are those of the records' `must_not`.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

OUTSIDE = Path("/tmp/outside")
SECRET = "the-secret-of-the-harness"
CPU_SECONDS, WALL_SECONDS = 1.0, 4.0


def live():
    """Pids of live processes: no zombies."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                found.add(int(entry.name))
    return found


def resident(pids):
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except (OSError, IndexError):
            continue
    return total


class Watch(threading.Thread):
    """Largest memory of all processes but the harness's own."""

    def __init__(self, known):
        super().__init__(daemon=True)
        self.known, self.largest, self.stop = known, 0, False

    def run(self):
        while not self.stop:
            self.largest = max(self.largest, resident(live() - self.known))
            time.sleep(0.03)


def usage(folder):
    files = [p for p in folder.rglob("*") if not p.is_symlink() and p.is_file()]
    return len(files), sum(p.stat().st_size for p in files)


def broken(condition, facts):
    """Whether one `must_not` happened."""
    kind, _, value = condition.partition(":")
    results = facts["results"]
    return {
        "verdict": lambda: any(r["verdict"] == value for r in results),
        "file": lambda: os.path.lexists(value),
        "file_changed": lambda: (
            facts["contents"].get(value) != (Path(value).read_bytes() if Path(value).exists() else None)
        ),
        "process_left": lambda: bool(facts["left"]),
        "sibling_died": lambda: not facts["sibling_alive"],
        "harness_died": lambda: False,  # without a report the test fails
        "slow": lambda: any(r["wall"] > WALL_SECONDS + 2 for r in results),
        "memory_over": lambda: facts["memory"] > float(value),
        "harness_memory": lambda: facts["harness_memory"] > float(value),
        "disk_left": lambda: facts["disk"][1] > float(value),
        "files_left": lambda: facts["disk"][0] > float(value),
        "reported_time_below": lambda: any(r["cpu"] < float(value) for r in results),
    }[kind]()


def main(repository, path):
    sys.path.insert(0, repository)
    from sandbox import CallTest, CodeTest, Limits, Program, Sandbox

    os.environ["SBX_SECRET"] = SECRET
    OUTSIDE.mkdir()
    (OUTSIDE / "secret.txt").write_text(SECRET)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    canary = socket.socket(socket.AF_UNIX)
    canary.bind(f"\0sbx_canary_{port}")
    canary.listen()
    sibling = subprocess.Popen(["sleep", "1000"])
    known = live()
    watch = Watch(known)
    watch.start()
    contents = {str(p): p.read_bytes() for p in OUTSIDE.rglob("*") if p.is_file()}
    before = usage(Path("/tmp"))
    results = []
    with Sandbox(
        1, limits=Limits(cpu_seconds=CPU_SECONDS, wall_seconds=WALL_SECONDS, memory_mb=512)
    ) as sandbox:
        text = Path(path).read_text()
        for name, value in (("OUTSIDE", str(OUTSIDE)), ("PORT", str(port)), ("SIBLING", str(sibling.pid))):
            text = text.replace(f"@@{name}@@", value)
        record = json.loads(text)
        forms = [(CodeTest(record["test"]),)] if record.get("test") else []
        if record.get("calls") is not None:
            forms.append(tuple(CallTest(tuple(args), expected) for args, expected in record["calls"]))
        for tests in forms:
            begin = time.monotonic()
            (result,) = sandbox.run([Program(record["program"], record["entry_point"], tests, record["id"])])
            results.append(
                {
                    "form": type(tests[0]).__name__,
                    "verdict": str(result.verdict),
                    "cause": result.cause,
                    "message": result.message,
                    "wall": time.monotonic() - begin,
                    "cpu": result.cpu_seconds,
                }
            )
    time.sleep(3.5 if "daemon" in record["name"] else 0.3)
    watch.stop = True
    after = usage(Path("/tmp"))
    facts = {
        "results": results,
        "contents": contents,
        "left": sorted(live() - known - {os.getpid()}),
        "sibling_alive": sibling.poll() is None,
        "memory": watch.largest,
        "harness_memory": resident({os.getpid()}),
        "disk": (after[0] - before[0], after[1] - before[1]),
    }
    facts["broken"] = [condition for condition in record["must_not"] if broken(condition, facts)]
    facts["unexpected"] = [r for r in results if r["verdict"] not in record["expected"]]
    del facts["contents"]
    Path("/tmp/out.json").write_text(json.dumps(facts))
    sibling.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
