"""Quotients of times that were taken in the same rounds."""

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.paired_times import quotient


def test_a_quotient_is_the_median_over_rounds():
    found = quotient([1.0, 2.0, 4.0], [3.0, 4.0, 8.0])
    assert found.value == pytest.approx(2.0)
    # Logarithms: log 3, log 2, log 2; the median absolute deviation is 0.
    assert found.error == 0.0


def test_the_error_is_that_of_a_median():
    logs = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    found = quotient(np.ones(5), np.exp(logs))
    assert found.value == pytest.approx(1.0)
    assert found.error == pytest.approx(1.2533141 * 1.4826022 * 0.1 / np.sqrt(5))


def test_a_drift_that_both_share_changes_nothing_and_a_wild_round_little():
    drift = np.exp(np.linspace(0, 3, 9))
    theirs = 1.5 * drift
    theirs[4] *= 40
    found = quotient(drift, theirs)
    assert found.value == pytest.approx(1.5) and found.error == pytest.approx(0.0, abs=1e-12)


def test_the_error_covers_what_a_simulation_gives():
    rng = np.random.default_rng(0)
    ours, theirs = np.exp(rng.normal(0, 0.1, (2, 4000, 30)))
    found = quotient(ours, theirs)
    assert found.value.shape == (4000,)
    inside = np.abs(np.log(found.value)) <= 2 * found.error
    assert 0.9 < inside.mean() < 0.98  # 0.954 for a normal estimate; the median of 30 is nearly one
    assert np.std(np.log(found.value)) == pytest.approx(np.median(found.error), rel=0.1)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([], [], "same rounds"),
        ([1.0], [1.0, 2.0], "same rounds"),
        (1.0, 1.0, "same rounds"),
        ([1.0, 0.0], [1.0, 1.0], "more than 0"),
        ([1.0, 1.0], [1.0, np.nan], "finite"),
        ([1.0, 1.0], [np.inf, 1.0], "finite"),
    ],
)
def test_times_that_make_no_quotient_are_refused(ours, theirs, said):
    with pytest.raises(CodealignError, match=said):
        quotient(ours, theirs)
