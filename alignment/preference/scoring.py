"""Models that score completions: a batch of `layout.Layout` in, log-probabilities of its tokens out.

Everything goes through the model's own `forward`, so that the wrappers of DDP, FSDP, DeepSpeed and PEFT see
it; the head is applied there by chunks (logprobs.py).
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alignment.preference.layout import Layout, attention_mask
from alignment.preference.logprobs import token_scores
from codegen_eval.errors import CodealignError

MASKED = ("sdpa", "eager")
"""Attention implementations that take a mask of their own: what `shared_prompt` and `padding_free` need."""

_LAYOUT = ("input_ids", "units", "position_ids", "branches")


def install(model: Any) -> None:
    """Gives a Hugging Face causal language model a second way to be called, for `score`; the first one stays.

    Raises:
        CodealignError: For a model without a plain linear head.
    """
    head = model.get_output_embeddings()
    if head is None or getattr(head, "weight", None) is None:
        raise CodealignError(f"{type(model).__name__} has no output head to take log-probabilities from")
    original = model.forward
    config = model.config.get_text_config()
    scale, softcap = head_scale(config), getattr(config, "final_logit_softcapping", None)

    # `generate` and the Trainer read the signature.
    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        *args: Any,
        sources: Tensor | None = None,
        targets: Tensor | None = None,
        statistics: bool = False,
        squares: bool = False,
        states: bool = False,
        layout: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        if layout is None or sources is None or targets is None:
            return original(*args, **kwargs)
        # The mask's form is this model's affair: a reference may attend by another implementation.
        attention = self.config.get_text_config()._attn_implementation
        # PEFT's model for causal language models hands on every argument that it knows, absent ones as None.
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        outputs = self.base_model(**model_inputs(layout, attention, self.dtype), **kwargs, use_cache=False)
        hidden = outputs.last_hidden_state.flatten(0, 1)[sources]
        head = self.get_output_embeddings()  # looked up here: FSDP and PEFT replace modules
        weight, bias = (_local(part) for part in (head.weight, getattr(head, "bias", None)))
        scores = token_scores(
            hidden.to(weight.device),
            weight,
            targets.to(weight.device),
            bias,
            scale=scale,
            softcap=softcap,
            statistics=statistics,
            squares=squares,
        )
        return scores | ({"hidden": hidden} if states else {})

    model.forward = types.MethodType(forward, model)


def head_scale(config: Any) -> float:
    """The factor that a model puts on its logits; 1 for most."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling if config.model_type == "hyperclovax" else 1 / scaling)


def _local(part: Any) -> Any:
    """FSDP2 holds the head as a sharded tensor; the chunks need it whole."""
    return part.full_tensor() if hasattr(part, "full_tensor") else part


def model_inputs(layout: Mapping[str, Tensor], attention: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's arguments for a batch.

    Args:
        layout: `input_ids`, and `position_ids`, `units`, `branches` of `Layout`; `branches` and
            `position_ids` are absent where every completion has a row of its own.
        attention: The model's attention implementation.
        dtype: Of the mask for eager attention, which adds it.
    """
    if "branches" not in layout:
        return {"input_ids": layout["input_ids"], "attention_mask": (layout["units"] > 0).long()}
    mask = attention_mask(layout["units"], layout["branches"])
    if attention == "eager":
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~mask, torch.finfo(dtype).min
        )
    return {
        "input_ids": layout["input_ids"],
        "position_ids": layout["position_ids"],
        "attention_mask": mask,
    }


def score(model: Any, batch: Mapping[str, Tensor], **asked: bool) -> dict[str, Tensor]:
    """Scores of every completion token of a batch.

    Args:
        model: What `install` was called on, perhaps wrapped.
        batch: The tensors of a `Layout`.
        asked: `statistics`, `squares`, `states`, see `install`.

    Returns:
        A dict of `logps` and what was asked for, each of shape (completions, tokens) and 0 where the mask is
        False; `hidden` stays flat, one row a token.
    """
    mask = batch["mask"]
    flat = model(
        layout={name: batch[name] for name in _LAYOUT if name in batch},
        sources=batch["sources"][mask],
        targets=batch["targets"][mask],
        **asked,
    )
    return {
        name: values
        if name == "hidden"
        else values.new_zeros(mask.shape).masked_scatter(mask, values.to(mask.device))
        for name, values in flat.items()
    }


def tensors_of(layout: Layout, *, masked: bool) -> dict[str, Tensor]:
    """A layout as the tensors of a batch; `masked` where rows hold more than one sequence."""
    names = [*_LAYOUT, "sources", "targets", "mask"]
    if not masked:
        names = [name for name in names if name not in ("position_ids", "branches")]
    return {name: getattr(layout, name) for name in names}


def check_masked(config: Any, asked: str) -> None:
    """Refuses layouts with a mask of their own for models that would not obey it.

    Args:
        config: The model's configuration.
        asked: The option that asks for it, for the message.

    Raises:
        CodealignError: For another attention implementation than `MASKED`, or layers that are not full
            attention (sliding windows, recurrences), which replace the mask by theirs or ignore it.
    """
    config = config.get_text_config()
    if config._attn_implementation not in MASKED:
        raise CodealignError(
            f"{asked} needs attn_implementation sdpa or eager (given: {config._attn_implementation}); "
            f"those take a mask of their own. Set one of them, or {asked}: false"
        )
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if not hasattr(config, "layer_types") else None
    if layers != {"full_attention"} or window:
        raise CodealignError(
            f"{asked} needs full attention in every layer; this model has "
            f"{', '.join(sorted(layers))}{f' with a window of {window}' if window else ''}. "
            f"Set {asked}: false"
        )


def check_same_scores(model: Any, dtype: torch.dtype, plain: Any, masked: Any) -> None:
    """Proves on one batch that the model obeys the masked layout; architectures are too many to list.

    Args:
        model: What `install` was called on.
        dtype: Of its weights, which decides how near the scores must be.
        plain: A batch with a row for each completion.
        masked: The same completions in the other layout.

    Raises:
        CodealignError: If its log-probabilities differ from those of separate rows.
    """
    with torch.no_grad():
        apart = score(model, plain)["logps"]
        together = score(model, masked)["logps"]
    worst = float((apart - together).abs().max())
    allowed = 1e-3 if dtype in (torch.float32, torch.float64) else 0.5
    if not worst <= allowed:
        raise CodealignError(
            f"this model gives other log-probabilities when sequences share a row (they differ by "
            f"{worst:.3g} nats): set shared_prompt: false and padding_free: false"
        )
