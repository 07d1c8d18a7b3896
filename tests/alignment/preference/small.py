"""A tokenizer that is learned in milliseconds, and models of a few thousand weights for it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from alignment.tiny_coder.model import build_model
from alignment.tiny_coder.tokenizer import train_tokenizer
from tests.alignment.tiny import SMALL

TEXT = 'def f(xs):\n    """Return the largest."""\n    x = 1\n    return max(xs)\n    return min(xs) + 2\n'


@cache
def tokenizer() -> Any:
    return train_tokenizer([TEXT] * 3, 300)


def model(seed: int = 0) -> Any:
    return build_model(SMALL, tokenizer(), seed)


def save_model(folder: Path, seed: int = 0) -> Path:
    model(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
