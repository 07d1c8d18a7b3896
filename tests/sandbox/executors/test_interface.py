"""What an executor does whatever runs the programs."""

import asyncio
from concurrent.futures import CancelledError, Future

import pytest

from sandbox import (
    CallTest,
    InfraError,
    Isolation,
    Limits,
    MatrixJob,
    Result,
    SandboxError,
    TimingJob,
    Verdict,
)
from sandbox.executors import Executor, Policy, ResultCache, make_executor
from sandbox.executors.orders import Backlog, Entry, Order, Script
from tests.sandbox.executors.common import (
    program,
    verdicts,
)

pytestmark = pytest.mark.timeout(120)


# The interface itself, over a backend that does as it is told.


class Told(Executor):
    """A backend without an engine: `behave` says what becomes of each order."""

    workers = 2
    isolation = Isolation("full")
    environment = "told"

    def __init__(self, behave, **policy):
        super().__init__(Policy(**policy))
        self.behave = behave
        self.orders = []

    def _submit(self, order):
        self.orders.append(order)
        future = Future()
        answer = self.behave(order, len(self.orders))
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future

    def close(self):
        pass


def passed(order):
    return Result(order.work.id, Verdict.passed, "", "", (), 0.0, 0.0, Isolation("full"), Limits())


def lost(order, number):
    return SandboxError("lost")


def test_an_infrastructure_error_is_tried_again_and_then_told():
    told = Told(lambda o, n: passed(o) if n == 3 else SandboxError("lost"), retries=2, max_infra_rate=1)
    assert verdicts(told.run([program(0)])) == ["passed"]
    assert told.stats().retried == 2 and told.stats().infra_errors == 0
    told = Told(lambda o, n: InfraError("", "lost", 3), retries=1, max_infra_rate=1)
    (found,) = told.run([program(0)])
    assert found == InfraError("0", "lost", 3) and len(told.orders) == 2


def test_a_run_ends_when_too_many_programs_cannot_be_run():
    told = Told(lambda o, n: SandboxError("lost") if n % 10 == 0 else passed(o), retries=0)
    with pytest.raises(SandboxError, match=r"2 of 20 programs \(10%\) could not be run.*last one: lost"):
        list(told.run(program(n) for n in range(100)))
    few = Told(lambda o, n: SandboxError("lost") if n == 30 else passed(o), retries=0)
    assert sum(isinstance(o, InfraError) for o in few.run(program(n) for n in range(100))) == 1


def test_coroutines_are_told_too_when_too_many_programs_cannot_be_run():
    told = Told(lost, retries=0)

    async def go():
        return await asyncio.gather(*[told.arun(program(n)) for n in range(30)], return_exceptions=True)

    found = asyncio.run(go())
    assert sum(isinstance(o, InfraError) for o in found) == 19
    assert sum(isinstance(o, SandboxError) for o in found) == 11


def test_an_infrastructure_error_is_never_kept():
    cache = ResultCache()
    told = Told(lambda o, n: SandboxError("lost") if n == 1 else passed(o), retries=0, cache=cache)
    assert isinstance(next(told.run([program(0)])), InfraError)
    assert len(cache) == 0
    assert verdicts(told.run([program(0)])) == ["passed"] and len(cache) == 1


def test_a_matrix_that_cannot_be_run_is_an_exception():
    with pytest.raises(SandboxError, match="lost"):
        list(Told(lost, retries=0).pass_matrices([MatrixJob(["x"], [], "f")]))


def test_every_order_is_counted_once():
    told = Told(lambda order, n: None, retries=0)
    futures = [told.submit(program(n // 2)) for n in range(10)]
    assert told.stats().submitted == 10 and told.stats().shared == 5 and told.stats().waiting == 10
    for future in futures[:4]:
        assert future.cancel()
    stats = told.stats()
    assert stats.cancelled == 4 and stats.waiting == 6
    with pytest.raises(CancelledError):
        futures[0].result()


def test_policies_that_make_no_sense_are_refused():
    for wrong in ({"retries": -1}, {"max_infra_rate": 1.5}, {"infra_minimum": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Policy(**wrong)


# Work that was lost with its worker.


def entries(count):
    return [Entry(Order(program(n))) for n in range(count)]


def test_of_work_lost_together_each_runs_alone_and_only_the_one_that_kills_again_is_blamed():
    backlog = Backlog()
    together = entries(3)
    backlog.lost(together, "died", blame=True)
    assert backlog.take(5) == [] and backlog.suspects == 3
    first = backlog.take_suspect()
    backlog.lost([first], "died", blame=True)
    assert not first.future.done(), "once alone is not enough"
    assert [backlog.take_suspect() for _ in range(3)] == [together[1], together[2], first]
    backlog.lost([first], "died", blame=True)
    found = first.future.result(0)
    assert (found.verdict, found.cause, found.id) == (Verdict.violation, "worker killed twice", "0")
    assert not together[1].future.done() and not together[2].future.done()


def test_a_machine_that_goes_away_is_nobodys_fault():
    backlog = Backlog()
    (one,) = entries(1)
    for _ in range(5):
        backlog.lost([one], "node died", blame=False)
        assert not one.future.done() and (backlog.take(1) or [backlog.take_suspect()]) == [one]
    backlog.lost([one], "node died", blame=False)
    with pytest.raises(SandboxError, match="lost 6 times"):
        one.future.result(0)


def test_what_goes_out_together_is_of_one_kind():
    tests = (CallTest((1,), 1),)
    matrix, timing = MatrixJob(["x = 1"], tests, "f"), TimingJob(["x = 1"], "f", [(1,)])
    works = [program(0), Script("1"), program(1), matrix, matrix, matrix, timing, timing, program(2)]
    backlog = Backlog()
    for work in works:
        backlog.add(Entry(Order(work)))
    taken = []
    while found := backlog.take(2, matrices=2):
        taken.append([entry.order.work for entry in found])
    assert taken == [works[:2], works[2:3], works[3:5], works[5:6], works[6:7], works[7:8], works[8:]]
    backlog.add(Entry(Order(matrix)))
    backlog.add(Entry(Order(matrix)))
    assert len(backlog.take(5)) == 1, "matrices come one at a time unless more are asked for"


# Names.


def test_an_unknown_executor_is_answered_with_the_names():
    with pytest.raises(ValueError, match=r"did you mean 'local'.*local, ray, http"):
        make_executor("lokal")


def test_an_outsider_joins_by_entry_point(monkeypatch):
    class Point:
        name = "told"

        def load(self):
            return Told

    def points(group, name=None):
        return [Point()] if name in (None, "told") else []

    monkeypatch.setattr("sandbox.executors.registry.entry_points", points)
    monkeypatch.setattr("sandbox.executors.registry._made", {})
    assert isinstance(make_executor("told", behave=lambda order, n: passed(order)), Told)
