"""A base model of a few thousand weights with the embedded model's tokenizer, which need not be trained."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from alignment.tiny_coder.model import Architecture, build_model
from tests.conftest import REPO

SMALL = Architecture(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(REPO / "models" / "tiny-coder"))


def save_model(folder: Path, seed: int = 0) -> Path:
    build_model(SMALL, tokenizer(), seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_pairs(path: Path, count: int) -> Path:
    """Pairs that a reward model can learn: the better side returns the number that the prompt asks for."""
    rows = [
        {
            "prompt": f'def f(xs):\n    """Return {i}."""\n',
            "chosen": f"    return {i}\n",
            "rejected": f"    return {i + 1} + xs\n",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
