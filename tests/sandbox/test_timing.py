"""Timing: what is measured, on which core, how steadily; the counter of another process."""

import io
import math
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from sandbox import Limits, Sandbox, SandboxError, TimingJob
from sandbox.engine import counters, session
from sandbox.engine.timejob import variation

LOOP = "def f(n):\n    while n: n -= 1"
TRIES = 4


def misses(box, job, holds):
    """What was measured while `holds(timing)` was not so, in `TRIES` measurements; empty once it is so.

    A shared host may change a core's speed by half between two calls and so spoil one measurement; what is
    wrong with the engine spoils them all.
    """
    seen = []
    for _ in range(TRIES):
        (timing,) = box.measure([job])
        if holds(timing):
            return []
        seen.append(timing.seconds.tolist())
    return seen


@pytest.fixture(scope="module")
def box():
    with Sandbox(2, limits=Limits(cpu_seconds=1.0, wall_seconds=20.0, memory_mb=256)) as sandbox:
        yield sandbox


@pytest.mark.sandbox
@pytest.mark.parametrize("abreast", [1, 2, 5])
def test_a_timing_says_how_often_how_steadily_and_where(box, abreast):
    sources = [LOOP, "def f(n): raise ValueError", "x = 1"]
    job = TimingJob(sources, "f", [(20_000,), (200_000,)], 4, spread=math.inf, abreast=abreast)
    (timing,) = box.measure([job])
    assert timing.repeats.tolist() == [[4, 4], [0, 0], [0, 0]]
    assert np.isnan(timing.seconds[1:]).all() and np.isnan(timing.spread[1:]).all()
    assert (timing.median[0] >= timing.seconds[0]).all() and (timing.spread[0] >= 0).all()
    assert len(timing.calibration) == 4 and all(0 < t < 1 for t in timing.calibration)
    assert np.isnan(timing.relative[1:]).all()
    assert (timing.relative[0] >= timing.seconds[0] / max(timing.calibration)).all()
    assert timing.noise >= 0 and timing.core in os.sched_getaffinity(0)
    assert timing.rounds.shape == (3, 2, 4) and np.isnan(timing.rounds[1:]).all()
    np.testing.assert_array_equal(timing.rounds[0].min(axis=1), timing.seconds[0])


@pytest.mark.sandbox
@pytest.mark.parametrize("figure", ["seconds", "relative"])
def test_ten_times_the_work_takes_ten_times_as_long(box, figure):
    def ten_times(timing):
        short, long = getattr(timing, figure)[0]
        return 7 < long / short < 14

    assert misses(box, TimingJob([LOOP], "f", [(20_000,), (200_000,)], 4, spread=math.inf), ten_times) == []


@pytest.mark.sandbox
def test_a_timed_program_runs_on_the_core_that_is_named(box):
    # The program tells by its time how many cores it may use.
    where = "import os\ndef f(n):\n    for _ in range(n * len(os.sched_getaffinity(0))): pass"
    one = "def f(n):\n    for _ in range(n): pass"
    job = TimingJob([where, one], "f", [(2_000_000,)], 3)
    # With two cores the ratio is 2.
    assert misses(box, job, lambda timing: 0.7 < timing.seconds[0, 0] / timing.seconds[1, 0] < 1.4) == []


@pytest.mark.sandbox
def test_unsteady_calls_are_timed_again(box):
    import_time = "import os\nn = os.urandom(1)[0] % 2\ndef f(k):\n    for _ in range(k * (1 + 9 * n)): pass"
    (timing,) = box.measure([TimingJob([import_time], "f", [(100_000,)], 5, spread=0.05)])
    assert timing.repeats[0, 0] in (5, 10)
    assert timing.repeats[0, 0] == 10 or timing.spread[0, 0] <= 0.05
    (once,) = box.measure([TimingJob([LOOP], "f", [(1000,)], 1)])
    assert once.repeats.tolist() == [[1]] and np.isnan(once.spread).all()


@pytest.mark.sandbox
@pytest.mark.parametrize("abreast", [1, 2])
def test_timeouts_are_infinite_and_times_do_not_depend_on_who_else_is_timed(box, abreast):
    slow = "def f(n):\n    while n > 5: pass"
    jobs = [TimingJob([slow, LOOP], "f", [(3,), (9,)], 2, abreast=abreast) for _ in range(3)]
    for timing in box.measure(jobs):
        assert math.isinf(timing.seconds[0, 1]) and timing.seconds[0, 0] < 0.01
        assert (timing.seconds[1] < 0.01).all()


def test_variation_is_the_standard_deviation_over_the_mean():
    assert variation([1.0, 3.0]) == pytest.approx(0.5)
    assert variation([]) == variation([2.0]) == variation([2.0, 2.0]) == 0.0


WORK = "def work(n):\n    t = 0\n    for i in range(n): t += i % 7\n    return t\n"
PLAIN = "def f(n): return work(n)"
SAY = (
    "import os, struct\ndef say(number, n):\n    body = b'i' + struct.pack('<q', n)\n"
    "    os.write(3, struct.pack('<IBI', len(body), ord('v'), number) + body)\n"
)
CHEATS = {
    "answers in advance": SAY + WORK + "for k in range(64): say(k, 0)\ndef f(n): return work(n)",
    "answers early with a guess": (
        "import sys\n" + SAY + WORK + "def f(n):\n    frame = sys._getframe()\n"
        "    while 'number' not in frame.f_locals: frame = frame.f_back\n"
        "    say(frame.f_locals['number'], 1)\n    return work(n)"
    ),
    "looks for a harness that times": (
        "import sys\n" + WORK + "def f(n):\n    frame = sys._getframe()\n    while frame:\n"
        "        if 'tim' in frame.f_code.co_name: return 0\n        frame = frame.f_back\n    return work(n)"
    ),
    "skips the work": "def f(n): return 0",
    "says that it is done before it works": (
        "import os, struct, sys\n" + WORK + "def f(n):\n    frame = sys._getframe()\n"
        "    while 'number' not in frame.f_locals: frame = frame.f_back\n"
        "    os.write(3, struct.pack('<IBI', 0, ord('d'), frame.f_locals['number']))\n    return work(n)"
    ),
    "works while its value is packed": (
        "import sys\n"
        + WORK
        + "engine = sys.modules['sandbox.engine.solution']\npack = engine.codec.encode\n"
        "def late(value, *rest): return pack(work(-value) if value < 0 else value, *rest)\n"
        "engine.codec.encode = late\ndef f(n): return -n"
    ),
    "remembers": ("import functools\n" + WORK + "@functools.cache\ndef f(n): return work(n)"),
    "works while nothing is asked of it": (
        "import threading\n" + WORK + "guess, kept = [300_000], {}\n"
        "def ahead():\n    for n in guess: kept[n] = work(n)\n"
        "thread = threading.Thread(target=ahead)\nthread.start()\n"
        "def f(n): return kept[n] if n in kept else work(n)"
    ),
    "works while its arguments are decoded": (
        "import sys\n" + WORK + "engine = sys.modules['sandbox.engine.solution']\nplain = engine._arguments\n"
        "kept = []\ndef early(*given):\n    found = plain(*given)\n    kept.append(work(*found[0]))\n"
        "    return found\nengine._arguments = early\ndef f(n): return kept[-1]"
    ),
}


@pytest.mark.sandbox
@pytest.mark.parametrize("abreast", [1, 2])
@pytest.mark.parametrize("name", CHEATS)
def test_a_program_that_cheats_the_clock_is_not_fast(box, name, abreast):
    n = 300_000
    honest = WORK + PLAIN
    right = sum(i % 7 for i in range(n))

    def not_fast(timing):
        assert timing.seconds[0, 0] > 0.001
        return math.isnan(timing.seconds[1, 0]) or timing.seconds[1, 0] > 0.75 * timing.seconds[0, 0]

    job = TimingJob([honest, CHEATS[name]], "f", [(n,)], 3, expected=[right], abreast=abreast)
    assert misses(box, job, not_fast) == []


@pytest.mark.sandbox
def test_what_threads_do_while_a_program_is_loaded_counts_to_its_first_call(box):
    # Half of it is done before the program is loaded, and no call that is not counted comes before the first.
    ahead = (
        "import threading\n" + WORK + "def ahead():\n    work(200_000)\n    half.set()\n    work(200_000)\n"
        "half = threading.Event()\nthreading.Thread(target=ahead).start()\nhalf.wait()\n" + PLAIN
    )
    job = TimingJob([WORK + PLAIN, ahead], "f", [(200_000,), (200_001,)], 2)

    def first_bears_it(timing):
        plain, threaded = timing.seconds
        return threaded[0] > 2.25 * plain[0] and threaded[1] < 1.75 * plain[1]

    assert misses(box, job, first_bears_it) == []


@pytest.mark.sandbox
def test_short_calls_are_timed_in_rows_and_nothing_is_gained_by_remembering(box):
    work = "def f(n):\n    for _ in range(n): pass\n"
    cached = "import functools\n" + work + "f = functools.cache(f)"

    def frames_are_no_part_of_a_call(timing):
        per_step = timing.seconds[0] / [40, 400, 20_000]
        return per_step.max() < 3 * per_step.min()

    job = TimingJob([work, cached], "f", [(40,), (400,), (20_000,)], 6)
    assert misses(box, job, frames_are_no_part_of_a_call) == []
    assert misses(box, job, lambda timing: timing.seconds[1, 2] > 0.75 * timing.seconds[0, 2]) == []


@pytest.mark.sandbox
def test_every_call_of_a_row_gets_a_fresh_copy(box):
    spoils = "def f(xs):\n    xs.append(1)\n    return len(xs)"
    (timing,) = box.measure([TimingJob([spoils], "f", [([1, 2],)], 2, expected=[3])])
    assert np.isfinite(timing.seconds).all()


@pytest.mark.sandbox
def test_a_call_that_gives_something_else_now_and_then_has_failed(box):
    moody = "import os\ndef f(n): return n if os.urandom(1)[0] % 2 else -1"
    job = TimingJob([moody, "def f(n): return n", "def f(n): return object()"], "f", [(3,)], 12, expected=[3])
    (timing,) = box.measure([job])
    assert np.isnan(timing.seconds[:, 0]).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="expected has 1 values for 2 calls"):
        TimingJob([], "f", [(1,), (2,)], expected=[1])


@pytest.mark.sandbox
def test_what_arguments_take_to_cross_is_no_part_of_the_time(box):
    job = TimingJob(["def f(xs): return 0"], "f", [(list(range(200_000)),), ([],)], 3)
    assert misses(box, job, lambda timing: timing.seconds.max() < 0.002) == []


@pytest.mark.parametrize(
    "change",
    [
        {"spread": -1},
        {"spread": math.nan},
        {"repeats": 0},
        {"row_seconds": 2},
        {"abreast": 0},
        {"abreast": 17},
    ],
)
def test_a_job_that_cannot_be_meant_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TimingJob([], "f", [], **change)


def test_a_counter_counts_another_process():
    source = "import sys\nsys.stdin.read(1)\nfor _ in range(10**6): pass\n"
    source += "print('done', flush=True)\nsys.stdin.read(1)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", source], **pipes) as child:
        try:
            # The task clock stands in for instructions, which most virtual machines do not count.
            counter = counters.Instructions(child.pid, counters.SOFTWARE, counters.TASK_CLOCK)
        except OSError as error:
            child.kill()
            pytest.skip(f"this machine lets nobody count events of another process: {error}")
        before = counter.read()
        child.stdin.write(b"ab")
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"
        assert counter.read() - before > 1_000_000, "nanoseconds"
        counter.close()
        with pytest.raises(OSError):
            counter.read()


def test_where_no_instructions_are_counted_there_is_no_counter(monkeypatch):
    def refuse(attributes, pid):
        assert struct.unpack_from("<II", attributes) == (0, 128)
        raise FileNotFoundError

    monkeypatch.setattr(counters, "_unavailable", [])
    monkeypatch.setattr(counters.libc, "perf_event_open", refuse)
    assert counters.Instructions.of(1) is None and counters._unavailable


def test_the_first_thread_of_a_process_has_a_clock_of_its_own(monkeypatch):
    other = "import sys, threading\nthread = threading.Thread(target=lambda: sum(range(10**7)))\n"
    other += "thread.start()\nthread.join()\nprint('done', flush=True)\nsys.stdin.read(1)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", other], **pipes) as child:
        watched = session.Session(1, (1.0, 1.0, 2**30, 1), 1)
        watched.clock = (~child.pid << 3) | 2
        assert child.stdout.readline() == b"done\n"
        assert 0 < watched.first_thread() < watched.cpu() - 0.05
        # A kernel that keeps no account: nothing is known, and no thread is suspected.
        monkeypatch.setattr(session, "open", lambda path: io.StringIO("0 0 0\n"), raising=False)
        assert watched.first_thread() == math.inf
        child.stdin.close()
    monkeypatch.undo()
    assert watched.first_thread() == math.inf, "gone"


@pytest.mark.sandbox
def test_a_timing_that_could_not_be_made_is_an_error():
    with Sandbox(1) as box:
        run = box._start_timing(TimingJob([LOOP], "f", [(1,)]))
        run(("infra", run.number, "gone"))
        with pytest.raises(SandboxError, match="gone"):
            run.timing()
