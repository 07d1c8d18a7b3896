"""The benchmarks measure what they say: every way does its work, and figures are counted right. No times."""

import time

import pytest

from benchmarks import measuring, sandbox_speed


@pytest.mark.sandbox
@pytest.mark.parametrize("section", ["forms", "matrix"])
def test_every_way_of_a_section_does_its_work(section):
    _, ways, base, _, _ = sandbox_speed.SECTIONS[section](None)
    assert base in {way.name for way in ways}
    for way in ways:
        with way.open() as run:
            run(2)


@pytest.mark.sandbox
def test_a_program_that_fails_ends_the_benchmark():
    with (
        sandbox_speed._sandboxed(sandbox_speed.CALL_TESTS, "def f(n): return n\n") as run,
        pytest.raises(RuntimeError, match="must pass"),
    ):
        run(1)


def _spinning(count):
    end = time.process_time() + 0.05 * count
    while time.process_time() < end:
        pass


class _Spin:
    def __enter__(self):
        return _spinning

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("grouped", [True, False])
def test_cpu_time_is_counted_per_unit_whatever_it_is_read_from(grouped):
    meter = measuring.Meter()
    if grouped and meter._home is None:
        pytest.skip("no control group can be made here")
    if not grouped:
        meter._home = None
    found = meter.rounds([measuring.Way("spin", _Spin, 4, 2)], 3)["spin"]
    assert len(found.cpu) == 3
    assert min(found.cpu) == pytest.approx(0.025, rel=0.3)


def test_a_ratio_is_the_median_of_the_rounds_and_a_bar_says_whether_it_held():
    assert measuring.paired([2, 9, 8], [1, 3, 2]) == 3
    assert measuring.Bar("x", 6.0, most=6).held
    assert not measuring.Bar("x", 1.9, least=2).held
