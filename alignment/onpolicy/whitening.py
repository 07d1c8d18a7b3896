"""Whitening over the tokens of a global batch: moments that add up over micro-batches and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from alignment.onpolicy.rows import check_same
from codegen_eval.errors import CodealignError, unknown

Variance = Literal["sample", "population"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Number of values, their mean, and the sum of squared deviations from it; scalars, float64.

    `a + b` are the moments of both sets together (Chan, Golub and LeVeque 1979), to rounding the same in any
    order: add those of all micro-batches, gather and add those of all processes, then whiten.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        apart = other.mean - self.mean
        share = other.count / count.clamp(min=1)
        return Moments(
            count,
            self.mean + apart * share,
            self.squares + other.squares + apart**2 * self.count * share,
        )

    def variance(self, kind: Variance = "sample") -> Tensor:
        """Divided by n - 1 ("sample", as TRL and verl do) or by n ("population", as OpenRLHF does)."""
        if kind not in get_args(Variance):
            raise unknown("variance", kind, get_args(Variance))
        return self.squares / (self.count - int(kind == "sample")).clamp(min=1)


def masked_moments(values: Tensor, mask: Tensor) -> Moments:
    """Moments of the values under the mask, of equal shapes; 0, 0, 0 where it is empty."""
    check_same(values=values, mask=mask)
    kept = values[mask.bool()].double()
    if not len(kept):
        zero = torch.zeros((), dtype=torch.float64, device=values.device)
        return Moments(zero, zero, zero)
    mean = kept.mean()
    return Moments(
        torch.tensor(len(kept), dtype=torch.float64, device=values.device), mean, ((kept - mean) ** 2).sum()
    )


def whiten(
    values: Tensor,
    mask: Tensor,
    moments: Moments | None = None,
    *,
    variance: Variance = "sample",
    shift_mean: bool = True,
    eps: float = 1e-8,
) -> Tensor:
    """Values over their standard deviation, mean taken off; 0 where masked; the values' shape.

    Args:
        values: Any shape, detached.
        mask: Of the same shape.
        moments: Of the global batch; None takes these values alone.
        variance: See `Moments.variance`.
        shift_mean: False keeps the mean, as is usual for whitened rewards.
        eps: Added to the variance under the root.

    Raises:
        CodealignError: For unequal shapes, or fewer than 2 values: they have no variance.
    """
    check_same(values=values, mask=mask)
    moments = masked_moments(values, mask) if moments is None else moments
    if moments.count < 2:
        raise CodealignError(
            f"whitening needs 2 or more values, the batch has {int(moments.count)}: raise the batch size"
        )
    centred = values - moments.mean.to(values)
    scaled = centred * torch.rsqrt(moments.variance(variance) + eps).to(values)
    return torch.where(mask.bool(), scaled if shift_mean else scaled + moments.mean.to(values), 0.0)
