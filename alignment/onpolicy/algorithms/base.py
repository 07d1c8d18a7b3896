"""What an algorithm says to the trainer, and what most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from alignment.kl import kl_sequences, kl_tokens
from alignment.onpolicy.advantages import token_advantages
from alignment.onpolicy.batch import Experience, Part
from alignment.onpolicy.losses import ppo_losses, ratio_figures, reinforce_losses
from alignment.onpolicy.options import OnPolicyOptions
from alignment.onpolicy.whitening import Moments, masked_moments, whiten
from codegen_eval.errors import CodealignError

CLIP_OPTIONS = frozenset({"cliprange", "cliprange_high", "dual_clip", "ratio_level", "max_approxkl"})
SPECIAL = frozenset(
    {
        *CLIP_OPTIONS,
        *("kl_form", "gamma", "lam", "advantage_clip", "discounting", "baseline", "scale_rewards"),
        *("group_baseline", "whiten_advantages", "whiten_rewards", "whiten_variance"),
        *("value_model", "value_model_path", "value_learning_rate", "vf_coef", "cliprange_value"),
        *("critic_warmup_steps",),
    }
)
"""Options that only some algorithms read; given to another one they are refused."""


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """Losses of a part's tokens; (rows, tokens), 0 where masked.

    Attributes:
        policy: With gradient.
        value: With gradient; None without a critic.
        figures: Means over the part's tokens to log.
    """

    policy: Tensor
    value: Tensor | None = None
    figures: dict[str, float] = field(default_factory=dict)


class Algorithm(ABC):
    """A strategy: subclasses say how advantages are made, and more where they differ.

    Args:
        options: All of them set (`resolved`).
    """

    name: ClassVar[str]
    needs_greedy: ClassVar[bool] = False
    """Whether each prompt's greedy answer is drawn and scored."""
    needs_value: ClassVar[bool] = False
    """Whether there is a critic."""
    least_generations: ClassVar[int] = 1
    """Fewest samples of a prompt."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Which of `SPECIAL` it reads, those of the clipped loss apart."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """What its options are where nobody set them, beyond `_COMMON`."""

    def __init__(self, options: OnPolicyOptions) -> None:
        self.options = options

    @classmethod
    def defaults_for(cls, options: OnPolicyOptions) -> dict[str, Any]:
        """Values of options that nobody set, given those that somebody did."""
        return {**_COMMON, **cls.defaults}

    @property
    def needs_logps(self) -> bool:
        """Whether the policy's log-probabilities are needed before the update."""
        o = self.options
        several = (o.num_ppo_epochs or 1) > 1 or o.num_mini_batches > 1
        return several or o.kl_coef > 0 or bool(o.importance_correction)

    def check(self, given: Collection[str]) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuses options that do not fit this algorithm.

        Args:
            given: Names that somebody set.

        Raises:
            CodealignError: The option is named.
        """

    def keep(self, e: Experience) -> Tensor:
        """Which rows may teach anything, (rows,): by default those whose reward is known."""
        return e.valid

    @abstractmethod
    def advantages(self, e: Experience) -> Tensor:
        """Advantage of every token, (rows, tokens), no gradient; sets `e.returns` where there is a critic."""

    def loss(self, scores: Mapping[str, Tensor], part: Part) -> TokenLoss:
        """Losses of a part's tokens.

        Args:
            scores: `logps` and what else was asked for under the weights in training, (rows, tokens).
            part: Its rows and all that is known of them.
        """
        e, mask = part.experience, part.of(part.experience.mask)
        logps, advantages = scores["logps"], part.of(e.advantages)
        old = logps.detach() if e.logps is None else part.of(e.logps).to(logps)
        o = self.options
        result = ppo_losses(
            logps,
            old,
            advantages.to(logps),
            mask,
            clip=o.cliprange,
            clip_high=o.cliprange_high,
            dual_clip=o.dual_clip,
            level=o.ratio_level or "token",
        )
        losses, figures = result.losses, ratio_figures(result, logps, old, mask)
        if o.policy_loss == "reinforce":
            losses = reinforce_losses(logps, advantages.to(logps), mask)
        if e.weights is not None:
            losses = losses * part.of(e.weights).to(losses)
        return TokenLoss(losses, figures=figures)

    def kl(self, e: Experience) -> Tensor | None:
        """The rollout's KL by token, (rows, tokens); None without a reference."""
        if e.ref_logps is None or e.logps is None:
            return None
        return kl_tokens(e.logps, e.ref_logps, self.options.kl_estimator or "k1")

    def sequence_kl(self, e: Experience) -> Tensor:
        """The same summed over each answer, (rows,); 0 without a reference."""
        if e.ref_logps is None or e.logps is None:
            return torch.zeros_like(e.rewards)
        estimator = self.options.kl_estimator or "k1"
        return kl_sequences(e.logps, e.ref_logps, e.mask, estimator).to(e.rewards)

    def by_token(self, e: Experience, whole: Tensor, *, kl: bool = True) -> Tensor:
        """An answer's advantage at its tokens, discounted, minus the KL penalty where that belongs there."""
        o = self.options
        return token_advantages(
            whole,
            e.mask,
            self.kl(e) if kl else None,
            beta=e.beta if kl and e.ref_logps is not None else 0.0,
            form=o.kl_form or "return_to_go",
            gamma=o.gamma,
            discounting=o.discounting,
        )

    def whitened(self, e: Experience, values: Tensor, *, shift_mean: bool = True) -> Tensor:
        """Values over the deviation of the global batch's tokens; 0 where one token is all there is."""
        moments = global_moments(e, values)
        if moments.count < 2:
            return torch.zeros_like(values)
        return whiten(values, e.mask, moments, variance=self.options.whiten_variance, shift_mean=shift_mean)


_COMMON: dict[str, Any] = {
    "num_generations": 1,
    "num_ppo_epochs": 1,
    "policy_loss": "reinforce",
    "loss_aggregation": "sequence_sum",
    "ratio_level": "token",
    "kl_estimator": "k1",
    "kl_form": "return_to_go",
    "whiten_advantages": False,
    "scale_rewards": "none",
}


def global_moments(e: Experience, values: Tensor) -> Moments:
    """Moments of the masked values of all processes."""
    own = masked_moments(values, e.mask)
    rows = e.gather(torch.stack([own.count, own.mean, own.squares])[None])
    parts = [Moments(*row) for row in rows]
    return sum(parts[1:], parts[0])


def resolved(kind: type[Algorithm], options: OnPolicyOptions, given: Mapping[str, Any]) -> Algorithm:
    """The algorithm with all its options set.

    Args:
        kind: The algorithm.
        options: As parsed; what is None is set here.
        given: Names that somebody set.

    Raises:
        CodealignError: For options that this algorithm does not read, or that do not fit each other.
    """
    for name, value in kind.defaults_for(options).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    clipped = options.policy_loss == "clipped"
    for name in SPECIAL & set(given):
        if name in kind.reads or (name in CLIP_OPTIONS and clipped):
            continue
        if name in CLIP_OPTIONS:
            raise CodealignError(
                f"--{name} belongs to the clipped loss: set policy_loss clipped, or leave it out"
            )
        raise CodealignError(f"--{name} does nothing in {kind.name}; leave it out")
    n, least = options.num_generations or 1, kind.least_generations
    if n < least:
        raise CodealignError(
            f"num_generations is {n}: {kind.name} compares the samples of a prompt, give {least} or more"
        )
    if not clipped and ((options.num_ppo_epochs or 1) > 1 or options.num_mini_batches > 1):
        raise CodealignError(
            f"several updates on one rollout (num_ppo_epochs {options.num_ppo_epochs}, num_mini_batches "
            f"{options.num_mini_batches}) need the ratio to the policy that sampled: set policy_loss clipped"
        )
    for name in ("kl_target", "kl_horizon", "kl_estimator", "kl_form"):
        if name in given and options.kl_coef == 0:
            raise CodealignError(f"--{name} does nothing while kl_coef is 0")
    if options.importance_correction is None:
        options.importance_correction = options.use_vllm
    _check_vllm(options, given)
    for name in ("importance_cap", "importance_excess"):
        if name in given and not options.importance_correction:
            raise CodealignError(f"--{name} belongs to importance_correction, which is off")
    algorithm = kind(options)
    algorithm.check(given)
    return algorithm


def _check_vllm(options: OnPolicyOptions, given: Collection[str]) -> None:
    """Refuses options of vLLM that would do nothing, and a server without an address."""
    for name in ("vllm_mode", "vllm_engine", "vllm_server_base_url", "vllm_server_timeout"):
        if name in given and not options.use_vllm:
            raise CodealignError(f"--{name} belongs to use_vllm, which is off")
    server = options.vllm_mode == "server"
    if "vllm_engine" in given and server:
        raise CodealignError(
            "--vllm_engine belongs to vllm_mode colocate: a server gets its arguments where it is started"
        )
    for name in ("vllm_server_base_url", "vllm_server_timeout"):
        if name in given and not server:
            raise CodealignError(f"--{name} belongs to vllm_mode server (vllm_mode is {options.vllm_mode})")
    if server and not options.vllm_server_base_url:
        raise CodealignError("vllm_mode server needs --vllm_server_base_url, as http://127.0.0.1:8000")
