"""The pretraining loop: Muon for matrices, AdamW for the rest, a trapezoid schedule, exact resume.

Muon (Jordan et al. 2024, `torch.optim.Muon`) learns this corpus clearly faster than AdamW at equal cost;
embeddings and norms stay with AdamW. The drop of the learning rate in the last half brings most of the
accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from alignment.tiny_coder.data import Batch, Rows

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning-rate factor by tokens seen: linear warm-up, constant, linear to `final` from `hold` on.

    Attributes:
        total: Tokens of the whole run.
        warmup: Tokens of the warm-up.
        hold: Share of the run after which the rate falls.
        final: Factor at the end.
    """

    total: int
    warmup: int
    hold: float = 0.5
    final: float = 0.02

    def factor(self, seen: int) -> float:
        """The factor after `seen` tokens."""
        if seen < self.warmup:
            return (seen + 1) / (self.warmup + 1)
        start = self.hold * self.total
        if seen <= start:
            return 1.0
        return max(self.final, 1 - (1 - self.final) * (seen - start) / (self.total - start))


def weighted_sum(model: LlamaForCausalLM, rows: Rows, *, bf16: bool) -> torch.Tensor:
    """Sum of next-token cross-entropies, each counted by its token's weight."""
    tokens = torch.from_numpy(rows.tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = model(input_ids=tokens[:, :-1]).logits
    losses = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none")
    return (losses * torch.from_numpy(rows.weights)[:, 1:]).sum()


def optimizers(model: LlamaForCausalLM, matrix_lr: float, other_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=0.01),
        torch.optim.AdamW(others, lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


class Pretrainer:
    """Model, optimisers and position in the stream; `state_dict` restores all of it."""

    def __init__(
        self, model: LlamaForCausalLM, schedule: Schedule, *, matrix_lr: float, other_lr: float, bf16: bool
    ) -> None:
        self.model = model
        self.schedule = schedule
        self.bf16 = bf16
        self.optimizers = optimizers(model, matrix_lr, other_lr)
        self.rates = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]
        self.seen = 0
        self.chunk = 0
        self.position = 0

    def step(self, batch: Batch) -> float:
        """One update; returns the weighted mean loss before it.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        factor = self.schedule.factor(self.seen)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * factor
        total = sum(float(rows.weights[:, 1:].sum()) for rows in batch.parts)
        value = 0.0
        for rows in batch.parts:
            loss = weighted_sum(self.model, rows, bf16=self.bf16) / total
            loss.backward()
            value += float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            raise FloatingPointError(
                f"the loss became {value} after {self.seen} tokens; lower the learning rates"
            )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.seen += batch.size
        return value

    def save(self, path: Path) -> None:
        """Writes all of the state, for a checkpoint folder that is made whole."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "stream": [self.seen, self.chunk, self.position],
        }
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Takes up a checkpoint that `save` wrote."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.seen, self.chunk, self.position = state["stream"]
