"""The common interface, by the local pool; and what an executor does whatever runs the programs."""

import asyncio
import os
import shutil
import signal
import threading
import time
from concurrent.futures import wait

import numpy as np
import pytest

from sandbox import (
    CallTest,
    CodeTest,
    InfraError,
    IOTest,
    Limits,
    MatrixJob,
    Program,
    SandboxError,
    TimingJob,
    Verdict,
    languages,
)
from sandbox.executors import Policy, ResultCache, make_executor
from sandbox.executors.keys import content_key
from sandbox.executors.local import LocalExecutor
from sandbox.executors.orders import Script
from sandbox.languages import LanguageUnavailable
from tests.sandbox.executors.common import (
    expected,
    program,
    verdicts,
)

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]
ENDLESS = Program(
    "def f(n):\n    while True: pass",
    "f",
    (CallTest((1,), 1),),
    limits=Limits(cpu_seconds=60, wall_seconds=60),
)


def sleeper(seconds, number=0):
    source = f"import time\ndef f(n):\n    time.sleep({seconds})\n    return n  # {number}"
    return Program(source, "f", (CallTest((1,), 1),), limits=Limits(wall_seconds=60))


@pytest.fixture(scope="module")
def executor():
    with make_executor("local", workers=2) as made:
        yield made


# Streams.


def test_outcomes_come_in_order_and_programs_are_read_lazily(executor):
    read = []

    def source():
        for number in range(200):
            read.append(number)
            yield program(number)

    stream = executor.run(source())
    first = next(stream)
    assert first.id == "0" and len(read) <= executor.window + 1
    rest = list(stream)
    assert [o.id for o in rest] == [str(n) for n in range(1, 200)]
    assert verdicts([first, *rest]) == expected(200)


def test_a_slow_program_does_not_keep_the_others_from_an_unordered_stream(executor):
    programs = [sleeper(1.5), *map(program, range(4))]
    places = [place for place, _ in executor.run_unordered(programs)]
    assert sorted(places) == [0, 1, 2, 3, 4] and places[-1] == 0


def test_a_stream_that_is_left_ends_its_work(executor):
    stream = executor.run([program(0), *[sleeper(20, n) for n in range(4)]])
    assert next(stream).verdict is Verdict.passed
    stream.close()
    began = time.monotonic()
    assert verdicts(executor.run([program(3)])) == ["passed"]
    assert time.monotonic() - began < 10


def test_matrices_timings_and_scripts_are_run(executor):
    codes = ["def f(n): return n * n", "def f(n): return n + 2"]
    (matrix,) = executor.pass_matrices([MatrixJob(codes, [CallTest((k,), k * k) for k in range(4)], "f")])
    assert matrix.passed.tolist() == [[True] * 4, [False, False, True, False]]
    (times,) = executor.time_many([TimingJob(codes, "f", [(3,)], repeats=2)])
    assert times.shape == (2, 1) and np.isfinite(times).all()
    assert executor.execute(Script("print(input())", b"\xc3\xa9\n")).stdout == b"\xc3\xa9\n"


def test_what_no_sandbox_can_run_is_the_askers_error(executor):
    with pytest.raises(TypeError, match="give a Program"):
        executor.submit("def f(): pass")
    with pytest.raises(ValueError, match="cobol"):
        executor.execute(Script("DISPLAY 'HI'", language="cobol"))
    assert verdicts(executor.run([program(0)])) == ["passed"]


def test_programs_on_standard_input_are_run(executor):
    tests = (IOTest("3", "6\n"), IOTest(b"4", "9", checker="floats", tolerance=0.2))
    (found,) = executor.run([Program("print(2 * int(input()))", "", tests)], all_tests=True)
    assert [cell.verdict for cell in found.cells] == ["passed", "passed"]


def test_a_script_has_real_streams(executor):
    code = "import os, sys\nos.write(1, open(0, 'rb').read()[::-1])\nprint('x', file=sys.stderr)\nprint('e')"
    found = executor.execute(Script(code, b"\xffab"))
    assert (found.stdout, found.stderr, found.return_code) == (b"ba\xffe\n", b"x\n", 0)


def test_a_script_leaves_nothing_for_the_next(executor):
    for _ in range(2 * executor.workers):
        found = executor.execute(
            Script("import os\nprint(os.listdir('.'))\nopen('left', 'w').write('x')", fetch=("left",))
        )
        assert (found.stdout, found.files) == (b"[]\n", (("left", b"x"),))


def test_a_script_that_floods_its_output_is_told_so(executor):
    found = executor.execute(Script("while True: print('x' * 1000)"))
    assert found.verdict is Verdict.output_limit and found.return_code is None


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a\0b", ".stream0"])
def test_a_file_outside_the_working_directory_is_refused(executor, path):
    with pytest.raises(ValueError, match="not inside"):
        executor.execute(Script("", files=((path, b""),)))
    with pytest.raises(ValueError, match="not inside"):
        executor.execute(Script("", fetch=(path,)))


def test_a_missing_toolchain_is_no_verdict_and_costs_no_engine(executor, monkeypatch):
    def missing(self):
        raise LanguageUnavailable("language 'cpp' needs 'g++'")

    monkeypatch.setattr(type(languages.get("cpp")), "toolchain", missing)
    engine = executor._pump._sandbox
    cpp = Program("int main() {}", "", (IOTest("", ""),), language="cpp")
    (found,) = executor.run([cpp])
    assert isinstance(found, InfraError) and "needs 'g++'" in found.message and found.tries == 1
    assert executor._pump._sandbox is engine


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_scripts_of_other_languages_are_run(executor):
    code = '#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d", 2 * n); return n; }'
    good, bad, broken = (
        executor.execute(Script(text, stdin, "cpp"))
        for text, stdin in ((code, b"0"), (code, b"3"), ("int main( {}", b""))
    )
    assert (good.stdout, good.return_code) == (b"0", 0)
    assert (bad.verdict, bad.return_code) == ("passed", 3)
    assert broken.verdict is Verdict.syntax_error and b"error" in broken.stderr


# Coroutines and threads.


def test_many_coroutines_share_the_pool_and_the_loop_stays_free(executor):
    async def go():
        gaps = []

        async def heart():
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                gaps.append(time.monotonic() - before)

        beating = asyncio.create_task(heart())
        outcomes = await asyncio.gather(*[executor.arun(program(n)) for n in range(300)])
        beating.cancel()
        return outcomes, sorted(gaps)

    outcomes, gaps = asyncio.run(go())
    assert verdicts(outcomes) == expected(300)
    assert len(gaps) > 5 and gaps[len(gaps) // 2] < 0.1


def test_a_cancelled_coroutine_ends_its_program(executor):
    async def go():
        tasks = [asyncio.create_task(executor.arun(ENDLESS)) for _ in range(3)]
        other = asyncio.create_task(executor.arun(sleeper(8, "kept")))
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(e, asyncio.CancelledError) for e in ended)
        assert (await executor.arun(program(0))).verdict is Verdict.passed
        assert not other.done(), "the worker of the cancelled one was free at once"
        other.cancel()

    asyncio.run(go())


def test_who_cancels_does_not_end_the_work_of_others_that_wait_for_the_same(executor):
    same = sleeper(1.0, "same")
    one, two = executor.submit(same), executor.submit(same)
    assert one.cancel()
    assert two.result(20).verdict is Verdict.passed


def test_an_asynchronous_stream_is_in_order_and_lazy(executor):
    read = []

    async def go():
        source = (read.append(n) or program(n) for n in range(60))
        outcomes = []
        async for outcome in executor.arun_many(source):
            if not outcomes:
                assert len(read) <= executor.window + 1
            outcomes.append(outcome)
        return outcomes

    assert verdicts(asyncio.run(go())) == expected(60)


def test_threads_do_not_wait_for_each_other(executor):
    slow = executor.submit(sleeper(20.0, "thread"))
    waiter = threading.Thread(target=lambda: wait([slow]))
    waiter.start()
    for number in range(20):
        executor.submit(program(number)).result()
    assert not slow.done(), "the slow one was at work all the time"
    assert slow.cancel()
    waiter.join()


# Sharing and cache.


def test_equal_programs_under_way_run_once_and_keep_their_ids(executor):
    before = executor.stats()
    source = sleeper(1.0, "shared")
    futures = [executor.submit(Program(source.source, "f", source.tests, id=str(n))) for n in range(10)]
    assert [future.result().id for future in futures] == [str(n) for n in range(10)]
    after = executor.stats()
    assert after.shared - before.shared == 9 and after.done - before.done == 10


@pytest.mark.parametrize(
    "other",
    [
        Program("def f(n): return n", "f", (CallTest((1,), 1.0),)),
        Program("def f(n): return n", "f", (CallTest((True,), 1),)),
        Program("def f(n): return n", "f", (CallTest((1,), 1, 0.5),)),
        Program("def f(n): return n ", "f", (CallTest((1,), 1),)),
        Program("def f(n): return n", "g", (CallTest((1,), 1),)),
        Program("def f(n): return n", "f", (CallTest((1,), 1),), limits=Limits()),
        Program("def f(n): return n", "f", (CallTest((1,), 1), CallTest((1,), 1))),
        Program("def f(n): return n", "f", (CodeTest("1"),)),
    ],
)
def test_unequal_programs_have_unequal_keys(other):
    this = Program("def f(n): return n", "f", (CallTest((1,), 1),), id="a")
    same = Program("def f(n): return n", "f", (CallTest((1,), 1),), id="b")
    assert content_key(this, False, "e") == content_key(same, False, "e")
    keys = {content_key(this, False, "e"), content_key(this, True, "e"), content_key(this, False, "x")}
    assert len({*keys, content_key(other, False, "e")}) == 4


def test_a_result_is_kept_for_equal_programs_in_an_equal_environment_only(tmp_path):
    programs = [program(n) for n in range(12)]
    path = tmp_path / "results.sqlite"
    with LocalExecutor(2, policy=Policy(cache=ResultCache(path))) as first:
        fresh = list(first.run(programs))
        assert first.stats().cached == 0
    with LocalExecutor(2, policy=Policy(cache=ResultCache(path))) as second:
        kept = list(second.run([Program(p.source, "f", p.tests, id="again") for p in programs]))
        assert second.stats().cached == 12
        assert [k.id for k in kept] == ["again"] * 12
        assert [(k.verdict, k.cells, k.isolation) for k in kept] == [
            (f.verdict, f.cells, f.isolation) for f in fresh
        ]
    with LocalExecutor(2, policy=Policy(cache=ResultCache(path)), limits=Limits(memory_mb=128)) as third:
        list(third.run(programs))
        assert third.stats().cached == 0, "other default limits are another environment"


def test_the_cache_is_bounded_and_keeps_nothing_that_depends_on_load(executor):
    cache = ResultCache(size=3)
    results = list(executor.run([program(3 * n) for n in range(6)]))
    for number, result in enumerate(results):
        cache.put(str(number), result)
    assert len(cache) == 3
    assert cache.get("0") is None and cache.get("5") == results[5]
    limits = Limits(wall_seconds=0.3)
    (late,) = executor.run([Program(sleeper(5).source, "f", (CallTest((1,), 1),), limits=limits)])
    assert (late.verdict, late.cause) == ("timeout", "wall")
    cache.put("late", late)
    assert cache.get("late") is None


def test_a_spoilt_cache_file_costs_a_run_not_a_verdict(tmp_path, executor):
    cache = ResultCache(tmp_path / "c")
    (result,) = executor.run([program(0)])
    cache.put("k", result)
    cache._base.execute("UPDATE results SET body = ?", (b'{"id": "x"',))
    assert cache.get("k") is None


# Failures of the engine.


def test_an_engine_that_is_killed_costs_no_verdict():
    with LocalExecutor(2, policy=Policy(retries=0)) as made:
        outcomes = []
        for outcome in made.run([program(n) for n in range(150)]):
            outcomes.append(outcome)
            if len(outcomes) in (20, 90):
                os.kill(made._pump._sandbox._client.info["pid"], signal.SIGKILL)
        assert verdicts(outcomes) == expected(150)
        assert [o.id for o in outcomes] == [str(n) for n in range(150)]


def test_an_idle_engine_that_is_killed_is_replaced():
    with LocalExecutor(1) as made:
        os.kill(made._pump._sandbox._client.info["pid"], signal.SIGKILL)
        time.sleep(0.3)
        assert verdicts(made.run([program(0)])) == ["passed"]


def test_an_engine_that_cannot_be_had_again_is_an_infrastructure_error():
    def refuse():
        raise SandboxError("no more processes")

    with LocalExecutor(1, policy=Policy(retries=1)) as made:
        made._pump._make = refuse
        os.kill(made._pump._sandbox._client.info["pid"], signal.SIGKILL)
        (found,) = made.run([program(0)])
        assert isinstance(found, InfraError) and found.tries == 2 and "no more processes" in found.message


def test_closing_tells_who_waits_and_takes_no_more():
    made = LocalExecutor(1)
    running = [made.submit(ENDLESS), made.submit(sleeper(9))]
    time.sleep(0.3)
    made.close()
    assert all("closed" in future.result(1).message for future in running)
    with pytest.raises(SandboxError, match="closed"):
        list(made.run([program(0)]))
    made.close()


def test_a_forked_child_is_told_to_make_its_own(executor):
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(program(0))
        except SandboxError as error:
            os._exit(7 if "another process" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert verdicts(executor.run([program(0)])) == ["passed"]
