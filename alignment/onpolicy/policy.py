"""Policy, critic and reference as one module: one forward pass serves log-probabilities and values.

One module and not two engines, so that one backward pass (DDP's hooks, one optimiser) serves both. The
reference is a frozen copy, or the policy with its adapters off; a critic is a head on the policy's trunk, a
model of its own, or, with adapters, a second adapter on the one trunk.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignment.onpolicy.options import ValueModel
from alignment.preference.logprobs import token_scores
from alignment.preference.scoring import head_scale

CRITIC = "critic"
"""Name of the critic's adapter."""


class ActorCritic(nn.Module):  # type: ignore[misc]
    """Scores tokens by the policy and, where there is a critic, the states in which they were chosen.

    Args:
        policy: A causal language model, perhaps with PEFT adapters.
        temperature: Divides the logits in every log-probability.
        value_model: "head" or "critic"; None for no values.
        critic: The critic's trunk where it has one of its own, and the weights of its head, or None.
    """

    def __init__(
        self,
        policy: Any,
        temperature: float,
        value_model: ValueModel | None = None,
        critic: tuple[Any, Tensor | None] | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.temperature = temperature
        self.value_model = value_model
        self.adapted = hasattr(policy, "peft_config")
        self.critic: Any = None
        self.value_head: Any = None
        if value_model is None:
            return
        start: Tensor | None = None
        if critic is not None:
            self.critic, start = critic
        elif value_model == "critic" and not self.adapted:
            self.critic = copy.deepcopy(plain(policy).base_model)
        trunk = plain(policy) if self.critic is None else self.critic
        reference = next(trunk.parameters())
        width = int(trunk.config.get_text_config().hidden_size)
        dtype = torch.promote_types(reference.dtype, torch.float32)
        self.value_head = nn.Linear(width, 1, device=reference.device, dtype=dtype)
        # Values of 0 say nothing yet; random ones would be noise in the first advantages.
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        if start is not None:
            with torch.no_grad():
                self.value_head.weight.copy_(start)

    @property
    def config(self) -> Any:
        """The policy's; Accelerate sizes DeepSpeed's buckets by it where they are "auto"."""
        return plain(self.policy).config.get_text_config()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        sources: Tensor,
        targets: Tensor,
        *,
        logps: bool = True,
        values: bool = False,
        statistics: bool = False,
        detach_trunk: bool = False,
    ) -> dict[str, Tensor]:
        """What is asked for, of the chosen tokens alone; all flat, (tokens,).

        Args:
            input_ids: (rows, length), right-padded.
            attention_mask: Of the same shape.
            sources: Positions in the flattened batch from which the tokens are predicted.
            targets: The tokens.
            logps: Whether to give `logps`.
            values: Whether to give `values`, of the state in which each token is chosen.
            statistics: Whether to give `entropy` (of the distribution at the temperature, no gradient).
            detach_trunk: The value head's gradient stops at the trunk that it shares with the policy.
        """
        found: dict[str, Tensor] = {}
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        inner = plain(self.policy)
        shared = values and self.value_model == "head"
        if logps or shared:
            hidden = inner.base_model(**inputs).last_hidden_state.flatten(0, 1)[sources]
            if logps:
                found |= self._scores(inner, hidden, targets, statistics)
            if shared:
                found["values"] = self._values(hidden.detach() if detach_trunk else hidden)
        if values and self.value_model == "critic":
            if self.critic is not None:
                states = self.critic(**inputs).last_hidden_state
            else:
                with adapter(self.policy, CRITIC):
                    states = inner.base_model(**inputs).last_hidden_state
            found["values"] = self._values(states.flatten(0, 1)[sources])
        return found

    def _scores(self, inner: Any, hidden: Tensor, targets: Tensor, statistics: bool) -> dict[str, Tensor]:
        head = inner.get_output_embeddings()
        config = inner.config.get_text_config()
        softcap = getattr(config, "final_logit_softcapping", None)
        # c tanh(s x / c) / T is (c/T) tanh((s/T) x / (c/T)): the temperature goes into both factors.
        scores = token_scores(
            hidden,
            head.weight,
            targets,
            getattr(head, "bias", None),
            scale=head_scale(config) / self.temperature,
            softcap=None if softcap is None else softcap / self.temperature,
            statistics=statistics,
        )
        return {name: scores[name] for name in ("logps", "entropy") if name in scores}

    def _values(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1)

    def groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The trained parameters of the policy, and those of the critic alone."""
        critic = {id(p) for p in self._critic_parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        return [p for p in trained if id(p) not in critic], [p for p in trained if id(p) in critic]

    def _critic_parameters(self) -> Iterator[nn.Parameter]:
        if self.value_head is not None:
            yield from self.value_head.parameters()
        if self.critic is not None:
            yield from self.critic.parameters()
        for name, parameter in self.policy.named_parameters():
            if f".{CRITIC}." in name:
                yield parameter


def plain(policy: Any) -> Any:
    """The causal language model itself: PEFT puts its layers into it and wraps it."""
    return policy.get_base_model() if hasattr(policy, "peft_config") else policy


@contextlib.contextmanager
def adapter(policy: Any, name: str) -> Iterator[None]:
    """Computes with another adapter for a while."""
    active = policy.active_adapter
    with _trained_as_before(policy):
        policy.set_adapter(name)
    try:
        yield
    finally:
        with _trained_as_before(policy):
            policy.set_adapter(active)


@contextlib.contextmanager
def without_adapters(policy: Any) -> Iterator[None]:
    """Computes with all adapters off for a while, without gradients."""
    with _trained_as_before(policy), policy.disable_adapter():
        yield


@contextlib.contextmanager
def _trained_as_before(policy: Any) -> Iterator[None]:
    """PEFT trains the adapter that it switches to and no other; here switching decides nothing."""
    trained = [(parameter, parameter.requires_grad) for parameter in policy.parameters()]
    try:
        yield
    finally:
        for parameter, required in trained:
            parameter.requires_grad_(required)


class Reference:
    """Log-probabilities of the model that training started from.

    Args:
        module: The policy's module before training; its adapters are new ones.
    """

    def __init__(self, module: ActorCritic) -> None:
        self._module: Any = None
        if not module.adapted:
            frozen = copy.deepcopy(module.policy).requires_grad_(False).eval()
            self._module = ActorCritic(frozen, module.temperature)

    def divide(self, frozen: Callable[[ActorCritic], Any]) -> None:
        """Gives the copy, where there is one, to an engine's `frozen`."""
        if self._module is not None:
            self._module = frozen(self._module)

    @contextlib.contextmanager
    def of(self, module: ActorCritic) -> Iterator[Any]:
        """A module whose `logps` are the reference's."""
        if self._module is not None:
            yield self._module
            return
        with without_adapters(module.policy):
            yield module


def save_policy(policy: Any, tokenizer: Any, folder: Path) -> None:
    """Writes policy (or its adapter) and tokenizer as transformers and PEFT read them."""
    if hasattr(policy, "peft_config"):
        policy.save_pretrained(folder, selected_adapters=["default"])
    else:
        policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
