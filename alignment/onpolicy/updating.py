"""Updates on one experience: epochs, mini-batches, passes that add up to the global batch's loss."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignment.engines import Engine
from alignment.health.loops import Watch
from alignment.onpolicy import health
from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.batch import Experience, Part, mini_batches
from alignment.onpolicy.losses import aggregate, batch_size
from alignment.onpolicy.options import OnPolicyConfig
from alignment.onpolicy.policy import ActorCritic
from codegen_eval.errors import CodealignError


class Updater:
    """Makes optimiser steps.

    Args:
        engine: Of the module; its optimiser's groups say whether they are the policy's or the critic's.
        module: Policy and critic.
        algorithm: Gives the losses.
        accelerator: Of the processes.
        config: Batch sizes, seed, the norm of gradients.
        tally: Gets the figures.
    """

    def __init__(
        self,
        engine: Engine,
        module: ActorCritic,
        algorithm: Algorithm,
        accelerator: Any,
        config: OnPolicyConfig,
        tally: health.Tally,
    ) -> None:
        self.engine, self.module = engine, module
        self.algorithm, self.accelerator, self.config, self.tally = algorithm, accelerator, config, tally
        if engine.divided and algorithm.options.gradient_variance_steps:
            raise CodealignError(
                "gradient_variance_steps needs the whole gradient of each pass, of which a process has a "
                "share under ZeRO: take --accelerate single"
            )
        self.watch: Watch | None = None
        self.aggregation = algorithm.options.loss_aggregation or "token_mean"

    def learn(self, e: Experience, number: int) -> int:
        """All updates of step `number`; returns how many optimiser steps were made.

        Raises:
            CodealignError: If a gradient is not finite and nobody watches; as `Watch.allows`.
        """
        o, size = self.algorithm.options, self.config.per_device_train_batch_size
        warming = self.algorithm.needs_value and number < o.critic_warmup_steps
        updates = 0
        with self._policy_held(warming):
            for epoch in range(o.num_ppo_epochs or 1):
                order = self._order(len(e.rewards), number, epoch)
                for passes in mini_batches(len(e.rewards), size, o.num_mini_batches, order):
                    made = self.update([Part(rows, e) for rows in passes], number, warming=warming)
                    if made is None:
                        return updates
                    updates += made
        return updates

    def update(self, parts: Sequence[Part], number: int, *, warming: bool = False) -> int | None:
        """One optimiser step: 1; 0 where nothing can or may be learned; None where the policy moved too far.

        Args:
            parts: The passes; together this process's share of a mini-batch.
            number: Of the step, for messages.
            warming: The critic alone learns.
        """
        e = parts[0].experience
        kept = torch.cat([part.of(e.mask) for part in parts])
        counts = torch.stack([batch_size(kept, self.aggregation), kept.sum()]).double()
        total, tokens = self.accelerator.reduce(counts, "sum").tolist()
        if not tokens:
            return 0
        every = self.algorithm.options.gradient_variance_steps
        shares = _Shares(self.module) if every and number % every == 0 else None
        moved, sums = 0.0, (0.0, 0.0)
        for place, part in enumerate(parts):
            with self.engine.accumulating(last=place + 1 == len(parts)):
                policy, value, approxkl = self.part_loss(part, total, tokens, warming=warming)
                self.engine.backward(policy + value)
            moved += approxkl
            sums = (sums[0] + float(policy.detach()), sums[1] + float(value.detach()))
            if shares is not None:
                shares.add()
        if self._too_far(moved, tokens):
            self.engine.drop()
            return None
        norm = self.engine.clip(self.config.max_grad_norm)
        if not self._allowed(sum(sums), norm, number):
            self.engine.drop()
            return 0
        self.engine.step()
        self._note(norm, sums, shares)
        return 1

    def _allowed(self, loss: float, norm: float, number: int) -> bool:
        """Whether the update may be made: the loss guard's word, or an error where nobody watches."""
        finite = math.isfinite(norm)
        if self.watch is not None:
            judged = torch.tensor(loss if finite else math.nan, device=self.accelerator.device)
            # Each process's passes weigh `world` times (see part_loss): the mean is the global batch's loss.
            return self.watch.allows(float(self.accelerator.reduce(judged, "mean")), number + 1)
        if not finite:
            raise CodealignError(
                f"the gradient of step {number} is not finite: lower learning_rate or kl_coef; the last "
                "checkpoint is kept"
            )
        return True

    def part_loss(
        self, part: Part, total: float, tokens: float, *, warming: bool = False
    ) -> tuple[Tensor, Tensor, float]:
        """A pass's share of the global batch's policy loss and weighted value loss, and its summed approxkl.

        Args:
            part: Its rows.
            total: What the policy loss of the global mini-batch is divided by.
            tokens: Its tokens.
            warming: The policy's loss counts nothing and the value's gradient stops at a shared trunk.
        """
        e, mask = part.experience, part.of(part.experience.mask)
        flat = self.engine.model(
            **e.tokens.inputs(part.rows),
            values=self.algorithm.needs_value,
            statistics=True,
            detach_trunk=warming,
        )
        scores = {name: e.tokens.spread(values, part.rows) for name, values in flat.items()}
        result = self.algorithm.loss(scores, part)
        o = self.algorithm.options
        length = o.max_completion_length if self.aggregation == "constant" else None
        world = self.accelerator.num_processes  # DDP and ZeRO average the processes' gradients
        policy = world * aggregate(result.policy, mask, self.aggregation, total, max_length=length)
        value = torch.zeros_like(policy)
        if result.value is not None:
            value = world * o.vf_coef * aggregate(result.value, mask, "token_mean", tokens)
        health.note_pass(self.tally, result.figures, scores, mask)
        learned = int(mask.sum())
        moved = result.figures.get("approxkl", 0.0) * learned if learned else 0.0
        return 0.0 * policy if warming else policy, value, moved

    def _order(self, rows: int, number: int, epoch: int) -> list[int] | None:
        """The first epoch takes the rollout's order, others one of their own."""
        if epoch == 0:
            return None
        seeds = [self.config.seed, number, epoch, self.accelerator.process_index]
        return [int(row) for row in np.random.default_rng(seeds).permutation(rows)]

    @contextlib.contextmanager
    def _policy_held(self, warming: bool) -> Any:
        """While the critic warms up the policy's rate is 0: no weight decay moves it either."""
        groups = self.engine.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            if warming and group["part"] == "policy":
                group["lr"] = 0.0
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    def _too_far(self, moved: float, tokens: float) -> bool:
        limit = self.algorithm.options.max_approxkl
        if limit is None:
            return False
        whole = torch.tensor(moved, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(whole, "sum")) / tokens > limit

    def _note(self, norm: float, sums: tuple[float, float], shares: _Shares | None) -> None:
        self.tally.add("grad_norm", norm)
        self.tally.add("loss/policy_avg", sums[0])
        weight = self.algorithm.options.vf_coef
        if self.algorithm.needs_value and weight:
            self.tally.add("loss/value_avg", sums[1] / weight)
        if shares is not None:
            variance, relative = health.gradient_variance(shares.squares, norm)
            self.tally.add("grad_variance", variance)
            self.tally.add("grad_variance_share", relative)


class _Shares:
    """Norms of each pass's share of a gradient, from what the accumulated gradient grew by."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.before: list[Tensor | None] = [None] * len(self.parameters)
        self.squares: list[float] = []

    def add(self) -> None:
        """Notes the growth since the last call."""
        square = 0.0
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            before = self.before[i]
            grown = parameter.grad if before is None else parameter.grad - before
            square += float((grown.double() ** 2).sum())
            self.before[i] = parameter.grad.clone()
        self.squares.append(square)
