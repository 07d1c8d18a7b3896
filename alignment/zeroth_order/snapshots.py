"""Trained weights on disk now and then, so that a long run need not be replayed from its first step."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from alignment.zeroth_order.weights import Weight
from codegen_eval.errors import CodealignError
from codegen_eval.files import TEMPORARY

_PREFIX, _SUFFIX = "weights-", ".safetensors"


def save_snapshot(folder: Path, weights: Sequence[Weight], step: int) -> Path:
    """Writes the weights as they are after `step` steps, whole or not at all, then removes older ones."""
    from safetensors.torch import save_file

    target = folder / f"{_PREFIX}{step:08d}{_SUFFIX}"
    temporary = folder / f"{TEMPORARY}{target.name}"
    save_file({weight.name: weight.matrix for weight in weights}, str(temporary))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    for older in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if older != target:
            older.unlink()
    return target


def load_snapshot(folder: Path, weights: Sequence[Weight], steps: int) -> int:
    """Takes up the newest snapshot that is whole and no further than the log's `steps`.

    Returns:
        The step it was taken after; 0 where there is none, and the weights are as they were.

    Raises:
        CodealignError: If a snapshot holds other weights.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True):
        step = int(path.name[len(_PREFIX) : -len(_SUFFIX)])
        if step > steps:
            continue
        try:
            with safe_open(str(path), framework="pt") as file:
                found = set(file.keys())
                if found != {weight.name for weight in weights}:
                    raise CodealignError(f"{path} holds other weights than this model trains")
                for weight in weights:
                    weight.matrix.copy_(file.get_tensor(weight.name))
            return step
        except (SafetensorError, OSError, RuntimeError) as error:
            print(f"{path.name} is broken ({error}); the log is replayed without it", file=sys.stderr)
    return 0
