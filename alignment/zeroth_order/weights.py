"""The weights that are moved, and how: in place, by noise that is drawn anew from its seed each time.

Noise is drawn in pieces from a generator of its own, so that no step disturbs other random numbers and no
direction is ever held whole. Where weights are divided over processes (ZeRO-3), each draws all of the noise
and moves its share of the weights: a direction is the same on any number of processes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment.divided import gathered, is_divided
from alignment.zeroth_order import masks, zero3
from codegen_eval.errors import CodealignError

PIECE = 1 << 22
"""Entries of noise that exist at once; part of what a seed means, so never changed."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter, as a flat view.

    Attributes:
        name: In the model.
        flat: Its entries, or this process's share of them; writing here changes the model.
        shape: Of the whole.
        decays: Whether weight decay applies: not to biases and norms.
        begin: Where `flat` begins in the whole, flat parameter.
        divided: The parameter, where other processes hold the rest of it.
    """

    name: str
    flat: Tensor
    shape: torch.Size
    decays: bool
    begin: int = 0
    divided: Tensor | None = None

    @contextlib.contextmanager
    def whole(self) -> Iterator[Tensor]:
        """All of its entries in their shape, to be read alone; if it is divided, all processes come here."""
        if self.divided is None:
            yield self.flat.view(self.shape)
            return
        with gathered([self.divided]):
            yield self.divided.data

    def take(self, values: Tensor) -> None:
        """Takes over values of the whole."""
        with torch.no_grad():
            self.flat.copy_(values.flatten()[self.begin : self.begin + len(self.flat)])


def trained_weights(model: torch.nn.Module) -> list[Weight]:
    """The model's parameters that want a gradient, in their order, tied ones once.

    Raises:
        CodealignError: If there is none, one is stored in less than float32 (moving by +eps, -2 eps, +eps
            does not return to the start there), or one is divided over processes by other means than ZeRO-3.
    """
    found = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if hasattr(parameter, "full_tensor"):
            raise CodealignError(
                "zeroth-order training does not know FSDP's shards: launch it with single, ddp or zero3"
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise CodealignError(
                f"{name} is stored as {str(parameter.dtype).removeprefix('torch.')}, where small moves are "
                "rounded away and do not come back: set dtype: float32, or train adapters (use_peft: true), "
                "which stay in float32"
            )
        decays = _decays(name, parameter)
        if is_divided(parameter):
            flat, begin = zero3.share_of(parameter)
            found.append(Weight(name, flat, parameter.ds_shape, decays, begin, parameter))
            continue
        if not parameter.is_contiguous():
            raise CodealignError(f"{name} is not contiguous in memory; save and load the model once")
        # `.data`: in-place moves of leaves that want a gradient.
        found.append(Weight(name, parameter.data.view(-1), parameter.shape, decays))
    if not found:
        raise CodealignError("the model has no trainable parameter")
    return found


def _decays(name: str, parameter: Tensor) -> bool:
    """As transformers' trainer decides: not biases, not norms (vectors)."""
    dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
    return dimensions >= 2 and not name.endswith("bias") and "norm" not in name.lower()


class Mover:
    """Moves weights along directions, all of them or those that a sparse mask leaves.

    Args:
        weights: What to move.
        sparsity: Share of each matrix's entries that stay where they are, see masks.py.
    """

    def __init__(self, weights: Sequence[Weight], sparsity: float = 0.0) -> None:
        self.weights = list(weights)
        self._thresholds: dict[str, float] = {}
        for weight in self.weights if sparsity else ():
            with weight.whole() as matrix:
                if masks.is_masked(matrix):
                    self._thresholds[weight.name] = masks.threshold(matrix, sparsity)
        self._bits: dict[str, Tensor] = {}

    def refresh_masks(self) -> None:
        """Takes the masks from the weights as they are now; they must be unperturbed."""
        for weight in self.weights:
            if weight.name in self._thresholds:
                self._bits[weight.name] = masks.packed(weight.flat, self._thresholds[weight.name])

    def shift(self, seed: int, step: float) -> None:
        """Weights += step * z, z ~ N(0, 1) from the seed."""
        self.round_trip(seed, (step,))

    def round_trip(self, seed: int, shifts: Sequence[float]) -> None:
        """What several shifts along one direction leave: the same roundings, for one draw of the noise."""

        def move(flat: Tensor, noise: Tensor) -> None:
            for step in shifts:
                flat.add_(noise, alpha=step)

        self._along(seed, move)

    def decay(self, factor: float) -> None:
        """Multiplies the weights that decay."""
        with torch.no_grad():
            for weight in self.weights:
                if weight.decays:
                    weight.flat.mul_(factor)

    def _along(self, seed: int, move: Callable[[Tensor, Tensor], None]) -> None:
        """Calls `move` for each piece of the weights with its part of the direction that `seed` means."""
        with torch.no_grad():
            for weight, begin, noise in self._noise(seed):
                move(weight.flat[begin : begin + len(noise)], noise)

    def _noise(self, seed: int) -> Iterator[tuple[Weight, int, Tensor]]:
        """Noise for the entries that this process holds: a weight, where in its `flat`, and the noise."""
        generators: dict[torch.device, torch.Generator] = {}
        for weight in self.weights:
            device = weight.flat.device
            if device not in generators:
                generators[device] = torch.Generator(device).manual_seed(seed)
            bits = self._bits.get(weight.name)
            entries, own = weight.shape.numel(), len(weight.flat)
            for begin in range(0, entries, PIECE):
                count = min(PIECE, entries - begin)
                noise = torch.randn(
                    count, generator=generators[device], device=device, dtype=weight.flat.dtype
                )
                # What lies elsewhere is drawn all the same, for the generator to go on from there.
                first, last = max(0, begin - weight.begin), min(own, begin + count - weight.begin)
                if first >= last:
                    continue
                noise = noise[first + weight.begin - begin : last + weight.begin - begin]
                if bits is not None:
                    noise.mul_(masks.unpacked(bits, first, last - first))
                yield weight, first, noise


def stream(weights: Sequence[Weight]) -> str:
    """What seeds mean on this device: a hash of its first random numbers and of the weights' shapes.

    Processors' vector units round logarithms differently, and GPUs draw other numbers altogether.
    """
    total = hashlib.sha256()
    for device in dict.fromkeys(weight.flat.device for weight in weights):
        generator = torch.Generator(device).manual_seed(0)
        drawn = torch.randn(4099, generator=generator, device=device).cpu()
        total.update(drawn.numpy().tobytes())
    for weight in weights:
        total.update(f"{weight.name} {tuple(weight.shape)} {weight.flat.dtype}\n".encode())
    return total.hexdigest()[:32]
