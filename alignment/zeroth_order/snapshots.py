"""Trained weights on disk now and then, so that a long run need not be replayed from its first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from alignment.health.checkpoints import newest_whole, prune, save_whole, step_of
from alignment.zeroth_order.weights import Weight
from codegen_eval.errors import CodealignError

WEIGHTS = "weights.safetensors"


def save_snapshot(
    folder: Path, weights: Sequence[Weight], step: int, *, hashes: bool = True, writes: bool = True
) -> Path:
    """Writes the weights as they are after `step` steps, whole or not at all, then removes older ones.

    Args:
        folder: The run directory.
        weights: What is trained; all processes come here, for those that are divided are gathered one by one.
        step: Number of steps that they have gone.
        hashes: See `save_whole`.
        writes: Whether this process writes; the others only hand over their shares.
    """
    from safetensors.torch import save_file

    target = folder / f"checkpoint-{step}"
    matrices: dict[str, Tensor] = {}
    for weight in weights:
        if weight.divided is None and not writes:
            continue
        with weight.whole() as matrix:
            if writes:
                matrices[weight.name] = matrix if weight.divided is None else matrix.to("cpu", copy=True)
    if writes:
        save_whole(target, lambda part: save_file(matrices, str(part / WEIGHTS)), hashes=hashes)
        prune(folder, 1)
    return target


def load_snapshot(folder: Path, weights: Sequence[Weight], steps: int) -> int:
    """Takes up the newest snapshot that is whole and no further than the log's `steps`.

    Returns:
        The step it was taken after; 0 where there is none, and the weights are as they were.

    Raises:
        CodealignError: If a snapshot holds other weights.
    """
    from safetensors import safe_open

    path = newest_whole(folder, most=steps)
    if path is None:
        return 0
    with safe_open(str(path / WEIGHTS), framework="pt") as file:
        if set(file.keys()) != {weight.name for weight in weights}:
            raise CodealignError(f"{path} holds other weights than this model trains")
        for weight in weights:
            weight.take(file.get_tensor(weight.name))
    return step_of(path)
