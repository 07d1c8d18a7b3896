"""Whatever ends the caller ends everything that it started; what is killed in between is replaced."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sandbox import CallTest, Limits, Program, Sandbox, Verdict
from sandbox.isolation import cgroup, names

pytestmark = pytest.mark.sandbox
REPO = Path(__file__).resolve().parents[2]
CALLER = f"""
import sys; sys.path.insert(0, {str(REPO)!r})
from sandbox import *
import os
box = Sandbox(2, require=sys.argv[2], limits=Limits(cpu_seconds=60, wall_seconds=60))
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


def until(condition, seconds=10.0):
    """Wait for it; whether it came."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def left_behind(nursery):
    """Directories and groups named after a nursery."""
    own = names.own().split("-")[1]
    places = {tempfile.gettempdir()}
    for _, homes in cgroup.candidates():
        places |= set(homes.values())
    return [path for place in places for path in Path(place).glob(f"sandbox-{own}-{nursery}-*")]


def caller_of(how, level):
    """A caller at work, and the numbers of all processes that it started: engine first, then the nursery."""
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, how, level], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    engine = int(caller.stdout.readline())
    assert until(lambda: len(descendants(engine)) >= 8), "supervisor, nursery, four zygotes, two programs"
    return caller, descendants(engine)


def finish(caller):
    caller.wait(20)
    caller.stdout.close()
    caller.stderr.close()


@pytest.mark.parametrize("level", ["full", "process"])
@pytest.mark.parametrize(
    ("how", "number"), [("kill", signal.SIGKILL), ("interrupt", signal.SIGINT), ("child", signal.SIGKILL)]
)
def test_nothing_outlives_its_caller(how, number, level):
    caller, pids = caller_of(how, level)
    nursery = pids[1]
    assert left_behind(nursery) or (level == "full" and not left_behind(nursery))
    os.kill(caller.pid, number)
    if how == "interrupt":
        assert caller.stdout.readline() == "clean\n"
    assert until(lambda: not alive(pids)), alive(pids)
    assert left_behind(nursery) == []
    finish(caller)


@pytest.mark.parametrize("level", ["full", "process"])
def test_nothing_outlives_a_killed_supervisor(level):
    caller, pids = caller_of("kill", level)
    os.kill(pids[0], signal.SIGKILL)
    assert until(lambda: not alive(pids)), alive(pids)
    assert left_behind(pids[1]) == []
    caller.kill()
    finish(caller)


@pytest.mark.parametrize("level", ["full", "process"])
def test_what_a_killed_nursery_left_goes_with_the_next_one(level):
    caller, pids = caller_of("kill", level)
    os.kill(pids[1], signal.SIGKILL)
    os.kill(pids[0], signal.SIGKILL)
    caller.kill()
    finish(caller)
    assert until(lambda: not alive(pids)), alive(pids)
    was = left_behind(pids[1])
    assert was or level == "full", "nobody was there to take it away"
    Sandbox(1, require=level).close()
    assert left_behind(pids[1]) == []


@pytest.mark.parametrize("level", ["full", "process"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_nursery_left_goes_with_its_sandbox_though_nobody_took_its_place(level, number):
    box = Sandbox(1, require=level)
    pids = descendants(box._client.info["pid"])
    nursery = box._client.info["nursery"]
    assert left_behind(nursery) or level == "full"
    os.kill(nursery, number)
    box.close()
    assert until(lambda: alive(pids) == []), alive(pids)
    assert until(lambda: left_behind(nursery) == [], 3.0), left_behind(nursery)


def fresh_nurseries(box, old):
    """A nursery that took the place of the first one, and its zygotes."""
    first = set(box._client.info["zygotes"]) | {old}
    found = descendants(box._client.info["pid"])
    return [pid for pid in found if "nursery" in command_line(pid) and pid not in first]


DIRTY = "import os\ndef f(n):\n    os.makedirs(f'd/{n}', exist_ok=True)\n    return n"


@pytest.mark.parametrize("level", ["full", "process"])
def test_a_killed_nursery_is_replaced_by_one_that_never_held_a_test(level):
    secret = "answer-" + os.urandom(8).hex()
    programs = [Program(DIRTY, "f", (CallTest((f"{secret}{i}",), f"{secret}{i}"),)) for i in range(12)]
    with Sandbox(1, require=level) as box:
        (first,) = box.run(programs[:1])
        nursery = box._client.info["nursery"]
        os.kill(nursery, signal.SIGKILL)
        (still,) = box.run(programs[:1])
        assert not fresh_nurseries(box, nursery), "zygotes work on without it"
        os.kill(box._client.info["zygotes"][0], signal.SIGKILL)
        results = [still, *box.run(programs)]
        engine = box._client.info["pid"]
        fresh = fresh_nurseries(box, nursery)
        assert fresh, "a nursery is there again"
        if os.geteuid() == 0:
            assert all(secret.encode() not in memory(pid) for pid in fresh)
            assert secret.encode() in memory(engine), "the search finds what is there"
    assert [r.verdict for r in (first, *results)] == [Verdict.passed] * 14
    assert until(lambda: not left_behind(nursery)), "the new one swept when it ended"


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def memory(pid):
    """All that a process may write to, as bytes."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                begin, end = (int(part, 16) for part in span.split("-"))
                file.seek(begin)
                found.append(file.read(end - begin))
    return b"".join(found)


BURN = "import time\ndef f(n):\n    while time.process_time() < n: pass\n    return n"


def test_all_cpu_time_is_counted_where_it_is_due_when_the_sandbox_is_closed():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Sandbox(2, limits=Limits(cpu_seconds=10, wall_seconds=60)) as box:
        list(box.run([Program(BURN, "f", (CallTest((0.3,), 0.3),))] * 4))
        run = box.run([Program(BURN, "f", (CallTest((60.0,), 60.0),))])
        job = iter(run)
        box._client.pump(0)
        del job, run
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used > 4 * 0.3, f"four programs of 0.3 s each, {used:.2f} s seen"


def test_a_zygote_that_does_not_end_is_killed_at_the_end():
    box = Sandbox(1)
    pids = descendants(box._client.info["pid"])
    os.kill(box._client.info["zygotes"][0], signal.SIGSTOP)
    begin = time.monotonic()
    box.close()
    assert time.monotonic() - begin < 4.5 and alive(pids) == []


def test_a_stopped_nursery_does_not_keep_the_caller():
    box = Sandbox(1)
    pids = descendants(box._client.info["pid"])
    os.kill(box._client.info["nursery"], signal.SIGSTOP)
    box.close()
    assert until(lambda: alive(pids) == []), alive(pids)
