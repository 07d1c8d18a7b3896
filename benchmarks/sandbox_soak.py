"""Thousands of mixed programs, a third of them hostile, while the engine's processes are killed at random.

    python -m benchmarks.sandbox_soak --programs 10000 --seed 0 --workers 2 --kill workers
    python -m benchmarks.sandbox_soak --programs 400 --kill caller-kill9 --times 50

Everything runs inside an outer box (tests/sandbox/outer_box.py), whose process table and file systems are
empty but for this, so that what is left over is seen exactly. `--kill`:

- `none`, `workers` (programs' processes, zygotes, the nursery), `supervisor`: every program must get its one
  right verdict, once, in order; a supervisor that dies is replaced by this script, as a user would.
- `caller-int`, `caller-kill9`: the whole run, as a process of its own, is interrupted or killed at a random
  moment, `--times` times; nothing may be left of it.

The exit status is 0 when all held. Two minutes without a result are a hang.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.soak_programs import Case, cases
from sandbox import CallTest, CodeTest, Result, Sandbox, SandboxError

REPO = Path(__file__).resolve().parents[1]
OUTER_BOX = REPO / "tests/sandbox/outer_box.py"
KILLS = ("none", "workers", "supervisor", "caller-int", "caller-kill9")
HANG_SECONDS = 120
APART = 12  # results between two kills: more than are under way, so that no program is hit twice
_INSIDE = "--inside"
_BOX_SECONDS = "7200"


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def alive() -> set[int]:
    """All processes of this process table that are no zombies."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.add(int(path.parent.name))
    return found


def resident(pid: int | str = "self") -> float:
    """Resident size in MiB; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def traces() -> dict[str, set[str]]:
    """What a sandbox could leave behind on this machine, by kind."""
    # A sandbox names its control groups after the process table that it is in (sandbox/isolation).
    mark = str(Path("/proc/self/ns/pid").stat().st_ino)
    groups = {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if mark in folder.rpartition("/")[2]}
    return {
        "process": {str(pid) for pid in alive()},
        "mount": set(Path("/proc/self/mounts").read_text().splitlines()),
        "group": groups,
        "file": {str(path) for top in (tempfile.gettempdir(), "/dev/shm") for path in Path(top).glob("*")},
    }


def left_over(before: dict[str, set[str]], seconds: float = 10.0) -> dict[str, list[str]]:
    """What is there now and was not before; what is going gets time to go."""
    end = time.monotonic() + seconds
    while True:
        found = {kind: sorted(now - before[kind]) for kind, now in traces().items()}
        if not any(found.values()) or time.monotonic() > end:
            return {kind: names for kind, names in found.items() if names}
        time.sleep(0.1)


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def _describe(pid: str) -> str:
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        command = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
        )
        kept = [line for line in status.splitlines() if line.startswith(("State", "PPid", "NSpid"))]
        return f"{pid} {command!r} {kept}"
    return pid


class Killer(threading.Thread):
    """Kills processes of the engine at random moments, none of them in the lives of programs hit before: a
    program whose process is killed again and again cannot be told from one that kills itself.

    Attributes:
        killed: How many of each kind.
        done: How many results the caller has.
    """

    def __init__(self, rng: random.Random, supervisor: bool, pause: float) -> None:
        super().__init__(daemon=True)
        self._rng = rng
        self._supervisor = supervisor
        self._pause = pause
        self._engine = 0
        self.done = 0
        self._last = -APART
        self._over = threading.Event()
        self.killed: collections.Counter[str] = collections.Counter()

    def aim(self, engine: int) -> None:
        """Which engine to shoot at, by its supervisor's process number."""
        self._engine = engine

    def run(self) -> None:
        """Kill until told to stop."""
        while not self._over.wait(self._rng.expovariate(1 / self._pause)):
            if self.done < self._last + APART:
                continue
            with contextlib.suppress(OSError, IndexError):
                kind, pid = self._choose()
                os.kill(pid, signal.SIGKILL)
                self.killed[kind] += 1
                self._last = self.done

    def _choose(self) -> tuple[str, int]:
        if self._supervisor and self._rng.random() < 0.2:
            return "supervisor", self._engine
        nursery = self._rng.choice(children(self._engine))
        zygotes = children(nursery)
        forked = [pid for zygote in zygotes for pid in children(zygote)]
        kind = self._rng.choice(["nursery", "zygote", "zygote", "zygote", "program", "program", "program"])
        pool = {"nursery": [nursery], "zygote": zygotes, "program": forked}[kind]
        return kind, self._rng.choice(pool)

    def stop(self) -> None:
        """No more kills."""
        self._over.set()
        self.join()


class Watchdog(threading.Thread):
    """Ends the run, with all stacks and processes, when nothing moves."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.last = time.monotonic()

    def run(self) -> None:
        """Watch."""
        while True:
            time.sleep(1)
            if time.monotonic() - self.last > HANG_SECONDS:
                print(f"HANG: no result for {HANG_SECONDS} s", flush=True)
                faulthandler.dump_traceback(all_threads=True)
                print(*(_describe(str(pid)) for pid in sorted(alive())), sep="\n", flush=True)
                os._exit(3)


def _form(case: Case) -> str:
    test = case.program.tests[0]
    if isinstance(test, CallTest):
        return "CallTest"
    return "trusted CodeTest" if isinstance(test, CodeTest) and test.trusted else "CodeTest"


class Tally:
    """Counts verdicts and notes what is wrong."""

    def __init__(self) -> None:
        self.verdicts: collections.Counter[str] = collections.Counter()
        self.hostile = 0
        self.infra: list[str] = []
        self.wrong: list[dict[str, Any]] = []
        self.engine_deaths: list[str] = []

    def take(self, case: Case, result: Any) -> None:
        """One result."""
        self.hostile += case.hostile
        if result.id != case.program.id:
            self.wrong.append({"shape": case.shape, "id": case.program.id, "got": f"result of {result.id}"})
        elif not isinstance(result, Result):
            self.infra.append(f"{case.shape}: {result.message}")
        else:
            self.verdicts[str(result.verdict)] += 1
            right = str(result.verdict) == case.verdict and case.cause in (None, result.cause)
            if not right:
                got = f"{result.verdict} {result.cause} {result.message}"[:300]
                form = _form(case)
                wanted = f"{case.verdict} {case.cause or ''}"
                self.wrong.append(
                    {"shape": case.shape, "id": result.id, "form": form, "wanted": wanted, "got": got}
                )
                print(f"WRONG: {self.wrong[-1]}", flush=True)


def feed(
    work: list[Case], arguments: argparse.Namespace, tally: Tally, killer: Killer | None
) -> Iterator[int]:
    """Run all cases; yields how many are done after each."""
    rng = random.Random(f"chunks {arguments.seed}")
    done = 0
    while done < len(work):
        try:
            with Sandbox(arguments.workers) as box:
                if killer is not None:
                    killer.aim(box._client.info["pid"])
                while done < len(work):
                    for result in _chunk(box, work[done:], rng):
                        tally.take(work[done], result)
                        done += 1
                        yield done
        except SandboxError as error:
            tally.engine_deaths.append(str(error)[:300])
            if len(tally.engine_deaths) > 1000:
                raise


def _chunk(box: Sandbox, work: list[Case], rng: random.Random) -> Iterator[Any]:
    """Some results of the front of the work; now and then the stream is dropped midway, as users do."""
    size = rng.randrange(1, 500)
    stream = box.run(case.program for case in work[:size])
    take = rng.randrange(size) + 1 if rng.random() < 0.3 else size
    for result, _ in zip(stream, range(take), strict=False):
        yield result


def run_inside(arguments: argparse.Namespace) -> dict[str, Any]:
    """The run with `none`, `workers` or `supervisor`; a report."""
    watchdog = Watchdog()
    watchdog.start()
    work = list(cases(arguments.programs, arguments.seed))
    with Sandbox(arguments.workers) as box:  # whatever is made once is made before the first look
        list(box.run(case.program for case in work[:20]))
    gc.collect()
    before, descriptors = traces(), _descriptors()
    tally, killer = Tally(), None
    if arguments.kill != "none":
        killer = Killer(random.Random(arguments.seed), arguments.kill == "supervisor", arguments.pause)
        killer.start()
    begin, sizes = time.monotonic(), {}
    for done in feed(work, arguments, tally, killer):
        watchdog.last = time.monotonic()
        if killer is not None:
            killer.done = done
        if done % 1000 == 0 or done == len(work):
            sizes[done] = round(resident(), 1)
            print(
                f"{done} done, {time.monotonic() - begin:.0f} s, {sizes[done]} MiB, {len(tally.wrong)} wrong",
                flush=True,
            )
    wall = time.monotonic() - begin
    if killer is not None:
        killer.stop()
    gc.collect()
    return {
        "programs": sum(tally.verdicts.values()) + len(tally.infra),
        "hostile": tally.hostile,
        "seconds": round(wall, 1),
        "verdicts": dict(tally.verdicts),
        "wrong": tally.wrong,
        "infra": tally.infra,
        "engine_deaths": tally.engine_deaths,
        "killed": dict(killer.killed) if killer else {},
        "resident_mib": sizes,
        "descriptors_left": sorted(_descriptors() - descriptors),
        "left": left_over(before),
    }


def run_callers(arguments: argparse.Namespace) -> dict[str, Any]:
    """A caller that is interrupted or killed, again and again; a report."""
    number = signal.SIGINT if arguments.kill == "caller-int" else signal.SIGKILL
    rng = random.Random(arguments.seed)
    before, left, statuses, slow = traces(), [], collections.Counter(), 0.0
    for turn in range(arguments.times):
        command = [*_command(arguments), _INSIDE, "--kill", "none", "--seed", str(arguments.seed + turn)]
        command += ["--out", os.devnull]
        delay = rng.uniform(0, 4)  # after its imports: numpy's takes Ctrl-C for a defect of the installation
        with tempfile.TemporaryFile() as output:
            caller = subprocess.Popen(command, stdout=output, stderr=output)
            while os.fstat(output.fileno()).st_size == 0 and caller.poll() is None:
                time.sleep(0.01)
            time.sleep(delay)
            caller.send_signal(number)
            try:
                statuses[str(caller.wait(30))] += 1
            except subprocess.TimeoutExpired:
                statuses["hung"] += 1
                caller.kill()
                caller.wait()
            if caller.returncode != -number:
                output.seek(0)
                print(f"ended with {caller.returncode}:", output.read().decode(errors="replace")[-3000:])
        begin = time.monotonic()
        found = left_over(before)
        slow = max(slow, time.monotonic() - begin)
        if found:
            found["process"] = [_describe(pid) for pid in found.get("process", [])]
            left.append({"turn": turn, "delay": round(delay, 3), **found})
            before = traces()
        print(
            f"{turn + 1} of {arguments.times}: {'left: ' + str(found) if found else 'nothing left'}",
            flush=True,
        )
    return {
        "kill": arguments.kill,
        "times": arguments.times,
        "statuses": dict(statuses),
        "longest_until_clean": round(slow, 2),
        "left": left,
    }


def judge(report: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """What did not hold."""
    found = []
    if report["left"]:
        found.append(f"left behind: {report['left']}")
    if "statuses" in report:
        ended = {"caller-int": "-2", "caller-kill9": "-9"}[arguments.kill]
        others = {status: count for status, count in report["statuses"].items() if status != ended}
        return found + ([f"callers that ended otherwise than by the signal: {others}"] if others else [])
    if report["programs"] != arguments.programs:
        found.append(f"{report['programs']} results for {arguments.programs} programs")
    if report["wrong"]:
        found.append(f"{len(report['wrong'])} wrong verdicts")
    if report["infra"] or (report["engine_deaths"] and arguments.kill != "supervisor"):
        found.append(f"{len(report['infra'])} infra errors, {len(report['engine_deaths'])} engine deaths")
    if report["descriptors_left"]:
        found.append(f"descriptors left open: {report['descriptors_left']}")
    sizes = list(report["resident_mib"].values())
    if sizes[-1] > sizes[0] + 8:
        found.append(f"the caller grew from {sizes[0]} to {sizes[-1]} MiB")
    return found


def _command(arguments: argparse.Namespace) -> list[str]:
    found = [sys.executable, "-m", "benchmarks.sandbox_soak"]
    for name in ("programs", "seed", "workers", "kill", "times", "pause"):
        found += [f"--{name}", str(getattr(arguments, name))]
    return found


def _in_outer_box(arguments: argparse.Namespace) -> int:
    mode = arguments.mode or ("root" if os.geteuid() == 0 else "nested")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "report.json")
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        command = [
            sys.executable,
            str(OUTER_BOX),
            mode,
            str(output),
            _BOX_SECONDS,
            *_command(arguments),
            _INSIDE,
        ]
        status = subprocess.run(command, env=environment, cwd="/", check=False).returncode
        if arguments.out is not None and output.exists():
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_bytes(output.read_bytes())
    return status


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", choices=KILLS, default="workers")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two kills, on average")
    parser.add_argument("--times", type=int, default=50, help="how often a caller is interrupted or killed")
    parser.add_argument("--mode", choices=("root", "user", "nested"), help="as whom (see outer_box.py)")
    parser.add_argument("--out", type=Path, help="write the report as JSON")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return _in_outer_box(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    print("started", flush=True)
    report = run_callers(arguments) if arguments.kill.startswith("caller") else run_inside(arguments)
    report["failed"] = judge(report, arguments)
    text = json.dumps(report, indent=1)
    (arguments.out or Path("/tmp/out.json")).write_text(text)  # the latter is where the outer box looks
    print(text)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
