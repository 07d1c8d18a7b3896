"""A model of a few weights with what a language model has: a matrix, a norm, a bias, a tied head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Small(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Parameter(torch.randn(6, 4, generator=generator))
        self.norm = nn.Parameter(torch.ones(4))
        self.bias = nn.Parameter(torch.zeros(6))
        self.head = self.embed  # tied
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return (self.embed[ids] * self.norm) @ self.head.T + self.bias


IDS = torch.tensor([0, 1, 2, 3, 4, 5])
NEXT = torch.tensor([1, 2, 3, 4, 5, 0])


def loss(model: nn.Module) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(IDS), NEXT))


def state(model: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in model.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
