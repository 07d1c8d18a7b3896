"""Which weights Sparse-MeZO moves (Liu et al. 2024, arXiv 2402.15751): the small ones of each matrix.

A weight is moved where |w| <= h, with h a percentile of its matrix's |w| before training. Masks are taken
from unperturbed weights and held as bits: taken anew after a perturbation they would differ. Departs from
the paper: vectors (norms, biases) are moved whole, for their entries are equal at the start, so that a
threshold would freeze whatever moved first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codegen_eval.errors import CodealignError


def threshold(weight: Tensor, sparsity: float) -> float:
    """The value h for which a share 1 - sparsity of the entries has |w| <= h (at least one entry does).

    Args:
        weight: A matrix.
        sparsity: Share of the entries that stay, in [0, 1).

    Raises:
        CodealignError: For a sparsity outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise CodealignError(f"sparsity must lie in [0, 1), 0 moves every weight (given: {sparsity})")
    count = max(1, math.ceil(round((1 - sparsity) * weight.numel(), 6)))
    return float(weight.detach().abs().flatten().kthvalue(count).values)


def is_masked(weight: Tensor) -> bool:
    """Whether a parameter is masked at all: matrices are, vectors and what is zero throughout are not."""
    return weight.ndim >= 2 and bool((weight != 0).any())


def packed(weight: Tensor, h: float) -> Tensor:
    """|w| <= h as bits, eight entries a byte, lowest bit first; shape (ceil(entries / 8),)."""
    kept = (weight.detach().flatten().abs() <= h).to(torch.uint8)
    kept = torch.nn.functional.pad(kept, (0, -len(kept) % 8)).view(-1, 8)
    return (kept << _places(weight.device)).sum(1, dtype=torch.uint8)


def unpacked(bits: Tensor, begin: int, count: int) -> Tensor:
    """Entries begin to begin + count of a mask as booleans."""
    part = bits[begin // 8 : -(-(begin + count) // 8)]
    return ((part[:, None] >> _places(bits.device)) & 1).flatten()[begin % 8 :][:count].bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
