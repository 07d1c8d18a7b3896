"""Model-flops utilisation against PaLM's own figure."""

from __future__ import annotations

import pytest

from alignment.health.mfu import model_flops_utilisation, peak_flops, token_flops
from codegen_eval.errors import CodealignError


def test_palm_540b_has_the_papers_utilisation() -> None:
    flops = token_flops(540_350_000_000, 118, 48 * 256, 2048)
    assert model_flops_utilisation(238_300, flops, 275e12, 6144) == pytest.approx(0.462, abs=5e-4)


def test_devices_are_known_by_name_and_nothing_is_guessed() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA L40S") == 362e12 and peak_flops("NVIDIA L4") == 121e12
    assert peak_flops("Somebody's card") is None


@pytest.mark.parametrize(("peak", "devices"), [(0.0, 1), (float("nan"), 1), (1e12, 0)])
def test_a_peak_of_nothing_is_refused(peak: float, devices: int) -> None:
    with pytest.raises(CodealignError, match="above 0"):
        model_flops_utilisation(1.0, 1.0, peak, devices)
