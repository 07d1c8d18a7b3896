"""Runs one attack program under one executor, inside an outer box, and writes what came of it to
/tmp/out.json.

    python attack_driver.py REPOSITORY OPTIONS < RECORD

OPTIONS is JSON: `executor` (`ours`, or one of benchmarks/peers/runner.py), `level` (of ours), `seconds` (CPU
limit), `python` (the peers' interpreter). The record is read after all workers have started. Ours runs it in
every form that it has, and an honest program after each.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import attack_records

OUTSIDE = Path("/tmp/outside")
SECRET = "the-secret-of-the-harness"
KEPT_BUSY = 25.0  # seconds after which a peer that has not answered counts as hung
# Where others keep the machine busy, a second of CPU time takes so many seconds more.
LOAD = os.getloadavg()[0] / (os.cpu_count() or 1)

FOLLOWER = """
import os
def f(n):
    if n == "left":
        return sorted(os.listdir(".")) + sorted(os.environ)
    return n * n
"""


def live():
    """Pids of live processes: no zombies."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                found.add(int(entry))
    return found


def resident(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return total


def peak(pid):
    """Largest memory that a process has had."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


class Watch(threading.Thread):
    """Largest memory of all processes but those known."""

    def __init__(self, known):
        super().__init__(daemon=True)
        self.known, self.largest, self.stop = known, 0, False

    def run(self):
        while not self.stop:
            self.largest = max(self.largest, resident(live() - self.known))
            time.sleep(0.03)


def usage():
    """Files and bytes in the shared temporary folders, other mounts left out."""
    files = size = 0
    for top in ("/tmp", "/dev/shm"):
        device = os.stat(top).st_dev
        folders = [top]  # not os.walk, which follows folders by recursion
        while folders:
            with contextlib.suppress(OSError):
                for entry in os.scandir(folders.pop()):
                    found = entry.stat(follow_symlinks=False)
                    if not entry.is_dir(follow_symlinks=False):
                        size += min(found.st_size, 512 * found.st_blocks)  # a sparse file takes little
                        files += 1
                    elif found.st_dev == device:
                        folders.append(entry.path)
    return files, size


def contents(paths):
    """What the files hold; None where there is none."""
    found = {}
    for path in paths:
        if not os.path.lexists(path):
            found[path] = None
            continue
        try:
            found[path] = Path(path).read_bytes().decode("latin-1")
        except OSError as error:
            found[path] = f"unreadable: {error.errno}"
    return found


class Ours:
    """Our sandbox: every form of a record, an honest program after each."""

    def __init__(self, options):
        from sandbox import Sandbox

        self.level, self.seconds = options["level"], options["seconds"]
        self.sandbox = Sandbox(1, require=self.level)
        found = self.sandbox.isolation.level
        if found != self.level:
            raise RuntimeError(f"level {self.level!r} was asked for, {found!r} is in force")
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        self.pids = [os.getpid(), *map(int, children)]
        self.follow = []

    def alive(self):
        return True  # or nobody is here to say so

    def close(self):
        self.sandbox.close()

    def run(self, record):
        """A dict for each form."""
        from sandbox import CallTest, CodeTest

        forms = []
        if record.get("test"):
            forms.append(("code", (CodeTest(record["test"]),)))
            forms.append(("trusted", (CodeTest(record["test"], trusted=True),)))
        calls = tuple(CallTest(tuple(args), expected) for args, expected in record.get("calls") or [])
        if calls:
            forms.append(("calls", calls))
        results = []
        for name, tests in forms:
            results.append(self._program(name, record, tests))
            self._honest(name)
        results.append(self._matrix(record, calls or forms[0][1]))
        self._honest("matrix")
        return results

    def _limits(self, record, share=1.0):
        from sandbox import Limits

        patient = attack_records.is_patient(record)
        seconds = max(self.seconds, 2.0) if patient else self.seconds * share
        return Limits(cpu_seconds=seconds, wall_seconds=10.0 if patient else 3 * seconds, memory_mb=512)

    def _program(self, form, record, tests):
        from sandbox import Program

        limits = self._limits(record)
        program = Program(record["program"], record["entry_point"], tests, "attack", limits)
        begin = time.monotonic()
        (result,) = self.sandbox.run([program])
        if not hasattr(result, "verdict"):
            raise RuntimeError(f"form {form}: {result}")
        return {
            "form": form,
            "verdict": str(result.verdict),
            "cause": result.cause,
            "message": result.message,
            "wall": time.monotonic() - begin,
            "limit": limits.wall_seconds + LOAD * limits.cpu_seconds,
            "cpu": result.cpu_seconds,
        }

    def _matrix(self, record, tests):
        """The program beside an honest neighbour."""
        from sandbox import CodeTest, Verdict

        limits = self._limits(record, 0.5)
        codes = [record["program"], attack_records.neighbour(record)]
        begin = time.monotonic()
        matrix = self.sandbox.pass_matrix(
            codes, [*tests, CodeTest(attack_records.NEIGHBOUR_TEST)], record["entry_point"], limits=limits
        )
        wall = time.monotonic() - begin
        attack, honest = (matrix.verdicts[i][matrix.test_index] for i in matrix.code_index)
        answers = [call[1] for call in record.get("calls") or []]
        hers = honest[[i for i, answer in enumerate(answers) if answer == answer] + [-1]]
        if set(hers.tolist()) != {0}:
            self.follow.append(f"the honest neighbour in the matrix got {honest.tolist()}")
        failing = [int(cell) for cell in attack[:-1] if cell != 0]
        verdicts = [str(verdict) for verdict in Verdict]
        return {
            "form": "matrix",
            "verdict": "passed" if not failing else verdicts[failing[0]] if failing[0] != 255 else "timeout",
            "cause": "",
            "message": str(attack.tolist()),
            "wall": wall,
            "limit": (limits.wall_seconds + LOAD * limits.cpu_seconds) * 4 * len(attack),
            "cpu": float("inf"),
        }

    def _honest(self, form):
        """The next program must find the place clean and pass."""
        from sandbox import CallTest, CodeTest, Limits, Program

        source = "def check(candidate):\n    assert candidate(4) == 16\n"
        tests = (
            CallTest((3,), 9),
            CallTest(("left",), []),
            CodeTest(source),
            CodeTest(source, trusted=True),
        )
        program = Program(FOLLOWER, "f", tests, "honest", Limits(cpu_seconds=3.0, wall_seconds=20.0))
        (result,) = self.sandbox.run([program])
        if str(getattr(result, "verdict", "")) != "passed":
            self.follow.append(f"an honest program after form {form}: {result}")


class Peer:
    """Another evaluator, in a process of its own."""

    def __init__(self, options, repository):
        self.seconds = options["seconds"]
        self.out = Path("/tmp/peer.jsonl")
        command = [options["python"], f"{repository}/benchmarks/peers/runner.py", options["executor"]]
        command += ["--seconds", str(self.seconds), "--out", str(self.out)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        control = {
            "id": "control",
            "program": "def f(n): return n\n",
            "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(1) == 1\n",
            "calls": [[[1], 1]],
        }
        if not self._ask(control, 60)["passed"]:
            raise RuntimeError(f"{options['executor']} does not run programs")
        self.pids = [self.process.pid]
        self.executor, self.follow = options["executor"], []

    def _ask(self, record, patience):
        have = len(self._lines())
        self.process.stdin.write((json.dumps(record) + "\n").encode())
        self.process.stdin.flush()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            lines = self._lines()
            if len(lines) > have:
                return json.loads(lines[-1])
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        return None

    def _lines(self):
        text = self.out.read_text() if self.out.exists() else ""
        return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]

    def alive(self):
        return self.process.poll() is None

    def run(self, record):
        """One result, or none when it does not answer."""
        seconds = limit = 10.0 if attack_records.is_patient(record) else self.seconds
        if self.executor == "evalplus":  # its limit is for each call, and a second for all
            limit = seconds * len(record.get("calls") or []) + 1
        limit += LOAD * self.seconds
        begin = time.monotonic()
        found = self._ask({**record, "seconds": seconds}, KEPT_BUSY + limit)
        wall = time.monotonic() - begin
        if found is None:
            verdict = "hung" if self.alive() else "died"
            return [{"form": "peer", "verdict": verdict, "wall": wall, "limit": limit, "cpu": 0.0}]
        return [{"form": "peer", "limit": limit, **found}]

    def close(self):
        self.process.kill()
        self.process.wait()


def _places():
    """What the placeholders stand for; all of it stays until the driver ends."""
    os.environ["SBX_SECRET"] = SECRET
    OUTSIDE.mkdir()
    (OUTSIDE / "secret.txt").write_text(SECRET)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    canary = socket.socket(socket.AF_UNIX)
    canary.bind(f"\0sbx_canary_{port}")
    canary.listen()
    sibling = subprocess.Popen(["sleep", "1000"])
    names = {"OUTSIDE": str(OUTSIDE), "PORT": str(port), "SIBLING": str(sibling.pid)}
    return names, sibling, (listener, canary)


def main(repository, options):
    sys.path.insert(0, repository)
    names, sibling, _sockets = _places()
    harness = Ours(options) if options["executor"] == "ours" else Peer(options, repository)
    known = live()
    watch = Watch(known)
    watch.start()
    used = usage()
    record = attack_records.with_plain_entry(attack_records.fill(json.load(sys.stdin), names))
    files = sorted(set(attack_records.files_named(record)))
    facts = {"before": contents(files), "infra": ""}
    try:
        facts["results"] = harness.run(record)
    except Exception as error:  # the engine gave up: for an attack that is a success
        facts["results"] = []
        facts["infra"] = f"{type(error).__name__}: {error}"[:2000]
    facts["harness_memory"] = sum(map(peak, harness.pids))
    facts["harness_alive"] = harness.alive()
    harness.close()
    facts["left"] = _wait_for_the_end(known)
    watch.stop = True
    now = usage()
    facts |= {
        "after": contents(files),
        "sibling_alive": sibling.poll() is None,
        "memory": watch.largest,
        "disk": (now[0] - used[0], now[1] - used[1]),
        "follow": harness.follow,
    }
    facts["broken"] = [c for c in record["must_not"] if attack_records.happened(c, facts)]
    facts["unexpected"] = [r for r in facts["results"] if r["verdict"] not in record["expected"]]
    del facts["before"], facts["after"]
    Path("/tmp/out.json").write_text(json.dumps(facts))
    sibling.kill()


def _wait_for_the_end(known):
    """Processes of the run that are still alive; where there are some, they get the time to do harm."""
    time.sleep(0.2)
    left = sorted(live() - known)
    if left:
        time.sleep(3.5)
    return left


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
