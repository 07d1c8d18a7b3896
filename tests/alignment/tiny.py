"""A model of a few thousand weights for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from alignment.tiny_coder.model import Architecture, build_model
from alignment.tiny_coder.tokenizer import train_tokenizer
from codegen_eval.benchmarks.minipy.corpus import Mixture, sequences

SMALL = Architecture(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)


@cache
def tokenizer() -> Any:
    return train_tokenizer((s.prompt + s.completion for s in sequences(Mixture(), 0, 1500)), 700)


def model(seed: int = 0) -> Any:
    return build_model(SMALL, tokenizer(), seed)


def save_model(folder: Path, seed: int = 0) -> Path:
    model(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
