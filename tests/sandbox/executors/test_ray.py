"""Ray: a real cluster of two nodes on this machine (`make test-distributed`)."""

import asyncio
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from sandbox import CallTest, InfraError, Limits, MatrixJob, Program, TimingJob, Verdict

ray = pytest.importorskip("ray", reason="ray is not installed: make test-distributed")
from sandbox.executors.base import Policy  # noqa: E402
from sandbox.executors.orders import Backlog, Execution, Order, Script  # noqa: E402
from sandbox.executors.ray import RayExecutor  # noqa: E402
from sandbox.executors.ray_node import NodeWorker  # noqa: E402
from tests import ray_cluster  # noqa: E402

pytestmark = [pytest.mark.sandbox, pytest.mark.distributed, pytest.mark.timeout(240)]
VERDICTS = ("passed", "wrong_answer", "runtime_error")


@pytest.fixture
def cluster():
    with ray_cluster.running() as made:
        yield made


def program(number):
    body = {0: "return n + {k}", 1: "return n - {k} - 1", 2: "raise KeyError({k})"}[number % 3]
    source = f"def f(n):\n    {body.format(k=number)}"
    return Program(source, "f", (CallTest((1,), 1 + number),), id=str(number))


def test_a_node_killed_in_the_middle_costs_no_verdict(cluster, monkeypatch):
    losses = []
    lost = Backlog.lost

    def noted(self, entries, reason, *, blame):
        losses.append((len(entries), blame))
        lost(self, entries, reason, blame=blame)

    monkeypatch.setattr(Backlog, "lost", noted)
    second = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    count = 2000
    with RayExecutor(policy=Policy(retries=0)) as executor:
        end = time.monotonic() + 60
        while executor._fleet.actors < 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert executor._fleet.actors == 2
        outcomes = []
        for outcome in executor.run(map(program, range(count))):
            outcomes.append(outcome)
            if len(outcomes) == count // 4:
                threading.Thread(target=cluster.remove_node, args=(second,), daemon=True).start()
        assert executor._fleet.actors == 1
        stats = executor.stats()
    assert [outcome.id for outcome in outcomes] == [str(number) for number in range(count)]
    wrong = [o for n, o in enumerate(outcomes) if getattr(o, "verdict", None) != VERDICTS[n % 3]]
    assert not wrong, wrong[:3]
    assert sum(number for number, _ in losses) >= 16, "work was under way in the node that was killed"
    assert stats.done == count and stats.infra_errors == 0 and stats.retried == 0


class Fragile(NodeWorker):
    """An actor whose process dies of programs that say so, as one under the kernel's memory killer would."""

    def run(self, number, orders):
        if any("KILLER" in order.work.source for order in orders):
            time.sleep(0.3)  # neighbours are half done
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(number, orders)


def test_a_program_that_kills_its_worker_twice_is_a_violation_and_its_neighbours_are_judged(
    cluster, monkeypatch
):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actor cannot import this file
    monkeypatch.setattr("sandbox.executors.ray.NodeWorker", Fragile)
    killer = Program("def f(n): return 'KILLER'", "f", (CallTest((1,), 1),), id="killer")
    programs = [program(number) for number in range(60)]
    programs[17:17] = [killer]
    with RayExecutor(policy=Policy(retries=0)) as executor:
        outcomes = list(executor.run(programs))
    assert [o.id for o in outcomes] == [p.id for p in programs]
    dead = outcomes.pop(17)
    assert (dead.verdict, dead.cause) == (Verdict.violation, "worker killed twice")
    assert [o.verdict for o in outcomes] == [VERDICTS[n % 3] for n in range(60)]


def test_matrices_timings_scripts_and_coroutines_go_the_same_way(cluster):
    codes = ["def f(n): return n * n", "def f(n): return n + 2", "def f(n): return n * n"]
    tests = [CallTest((k,), k * k) for k in range(4)]
    with RayExecutor() as executor:
        assert executor.isolation.level == "full"
        (matrix,) = executor.pass_matrices([MatrixJob(codes, tests, "f")])
        assert matrix.code_index.tolist() == [0, 1, 0]
        assert matrix.passed.tolist() == [[True] * 4, [False, False, True, False]]
        (times,) = executor.time_many([TimingJob(codes[:1], "f", [(3,), (4,)], repeats=2)])
        assert times.shape == (1, 2) and np.isfinite(times).all()
        ran = executor.execute(Script("print(input() * 2)", b"ab\n"))
        assert isinstance(ran, Execution) and ran.stdout == b"abab\n" and ran.return_code == 0

        async def rewards():
            return await asyncio.gather(*[executor.arun(program(n)) for n in range(40)])

        assert [o.verdict for o in asyncio.run(rewards())] == [VERDICTS[n % 3] for n in range(40)]


def test_quick_matrices_go_out_together_and_their_arrays_are_ones_own(cluster, monkeypatch):
    sizes = []
    take = Backlog.take

    def noted(self, *given, **named):
        found = take(self, *given, **named)
        sizes.extend([len(found)] if found else [])
        return found

    monkeypatch.setattr(Backlog, "take", noted)
    tests = [CallTest((k,), k * k) for k in range(3)]
    with RayExecutor() as executor:
        jobs = [MatrixJob([f"def f(n): return n * {k}"], tests, "f") for k in range(200)]
        found = list(executor.pass_matrices(jobs))
    right = [[[n * k == n * n for n in range(3)]] for k in range(200)]
    assert [matrix.passed.tolist() for matrix in found] == right
    assert sum(sizes) == 200 and max(sizes) > 4, "a matrix takes milliseconds"
    assert max(sizes) <= 64
    assert found[0].verdicts.flags.writeable and found[-1].code_counts.flags.writeable


def test_what_cannot_leave_the_process_fails_and_takes_no_other_work_with_it(cluster):
    tests = [CallTest((1,), 1)]

    class Local(str):
        def __reduce__(self):
            raise RuntimeError("bound to this process")

    good, bad = (MatrixJob([kind("def f(n): return n")], tests, "f") for kind in (str, Local))
    with RayExecutor(policy=Policy(retries=0)) as executor:
        futures = [executor.submit_order(Order(job)) for job in (good, bad, good)]
        with pytest.raises(TypeError, match="MatrixJob cannot go to another node: RuntimeError: bound to"):
            futures[1].result(60)
        assert [futures[k].result(60).passed.tolist() for k in (0, 2)] == [[[True]]] * 2


def test_a_node_with_another_version_is_refused(cluster, monkeypatch):
    from sandbox import SandboxError

    monkeypatch.setattr("sandbox.executors.ray.engine_version", lambda executors=False: "another")
    with pytest.raises(SandboxError, match=r"another version of this package .* the same on every node"):
        RayExecutor()


def test_a_cancelled_program_frees_its_worker(cluster):
    limits = Limits(cpu_seconds=60, wall_seconds=60)
    endless = Program("def f(n):\n    while True: pass", "f", (CallTest((1,), 1),), limits=limits)
    with RayExecutor(policy=Policy(share_equal=False)) as executor:
        running = [executor.submit(endless) for _ in range(2 * executor.workers)]
        time.sleep(1.0)
        assert all(future.cancel() for future in running)
        began = time.monotonic()
        assert executor.submit(program(0)).result(20).verdict is Verdict.passed
        assert time.monotonic() - began < 10


def test_closing_tells_who_waits(cluster):
    limits = Limits(cpu_seconds=60, wall_seconds=60)
    endless = Program("def f(n):\n    while True: pass", "f", (CallTest((1,), 1),), limits=limits)
    executor = RayExecutor()
    future = executor.submit(endless)
    time.sleep(0.5)
    executor.close()
    outcome = future.result(10)
    assert isinstance(outcome, InfraError) and "closed" in outcome.message


def test_options_that_no_node_can_meet_are_said(cluster):
    from sandbox import SandboxError

    with pytest.raises(SandboxError, match="require is 'fool'"):
        RayExecutor(require="fool")
