"""The architecture of tiny-coder: a small Llama with tied embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codegen_eval.config import Config

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


class Architecture(Config):
    """Sizes of the model."""

    hidden_size: int = 160
    intermediate_size: int = 448
    num_hidden_layers: int = 5
    num_attention_heads: int = 5
    rope_theta: float = 1000.0
    """Base of the rotary frequencies; small, because prompts are short."""


def build_model(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForCausalLM:
    """A freshly initialised model for the tokenizer's vocabulary."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_hidden_layers,
        num_attention_heads=architecture.num_attention_heads,
        num_key_value_heads=architecture.num_attention_heads,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # On a CPU the backward pass of the fused kernel costs four times the plain matrix products here.
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
