"""Model-flops utilisation: the share of the devices' peak that the model's own arithmetic takes.

PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): a trained token costs 6N + 12 L H Q T
floating-point operations, with N parameters, L layers, H heads of size Q and rows of T tokens; recomputed
activations and reference models are not counted. 540 B parameters with 118 layers, 48 heads of 256 and rows
of 2,048 tokens at 238,300 tokens/s on 6,144 chips of 275e12 give 46.2 %.
"""

from __future__ import annotations

from codegen_eval.errors import CodealignError

PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "MI300X": 1307e12,
}
"""Dense bf16 (V100: fp16) operations a second, by the makers' data sheets; the first that is in the name."""


def peak_flops(device_name: str) -> float | None:
    """The device's peak; None for one that is not in `PEAKS`: nothing is guessed."""
    return next((peak for name, peak in PEAKS.items() if name in device_name), None)


def token_flops(parameters: int, layers: int, hidden: int, length: float) -> float:
    """Operations that a trained token costs (forward and backward pass); hidden = heads x head size."""
    return 6.0 * parameters + 12.0 * layers * hidden * length


def model_flops_utilisation(
    tokens_per_second: float, flops_per_token: float, peak: float, devices: int
) -> float:
    """The share of the devices' peak.

    Raises:
        CodealignError: For a peak or a number of devices that is not above 0.
    """
    if not peak > 0 or devices < 1:
        raise CodealignError(f"a peak and a number of devices above 0 are needed (given: {peak}, {devices})")
    return tokens_per_second * flops_per_token / (peak * devices)
