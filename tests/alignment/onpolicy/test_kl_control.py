"""The KL coefficient: towards the target, never by more than a fifth of the error, on from a checkpoint."""

from __future__ import annotations

import math

import pytest

from alignment.onpolicy.kl_control import AdaptiveKL, FixedKL, adapted_beta
from codegen_eval.errors import CodealignError


def test_beta_follows_the_kl_and_stays_at_the_target() -> None:
    assert adapted_beta(0.2, 6.0, 6.0, 100, 10_000) == 0.2
    assert adapted_beta(0.2, 600.0, 6.0, 100, 10_000) == pytest.approx(0.2 * 1.002)
    assert adapted_beta(0.2, -5.0, 6.0, 100, 10_000) == pytest.approx(0.2 * 0.998)
    assert adapted_beta(0.2, 6.6, 6.0, 100, 10_000) == pytest.approx(0.2 * 1.001)
    with pytest.raises(CodealignError, match="lower the learning rate"):
        adapted_beta(0.2, math.nan, 6.0, 100, 10_000)


def test_controllers_go_on_from_their_state() -> None:
    one, other = AdaptiveKL(horizon=1000), AdaptiveKL(horizon=1000)
    for kl in (9.0, 3.0, 30.0):
        one.update(kl, 64)
    other.load_state_dict(one.state_dict())
    one.update(1.0, 64)
    other.update(1.0, 64)
    assert one == other and one.beta != 0.2
    fixed = FixedKL(0.05)
    fixed.update(99.0, 64)
    assert fixed.beta == 0.05
    with pytest.raises(CodealignError, match=r"0\.05, the config 0\.1"):
        FixedKL(0.1).load_state_dict(fixed.state_dict())
    for make in (lambda: FixedKL(-1.0), lambda: AdaptiveKL(target=0.0)):
        with pytest.raises(CodealignError):
            make()
    with pytest.raises(CodealignError, match="more than the horizon"):
        AdaptiveKL(horizon=10).update(1.0, 64)
