"""What a loss is: a pure function on log-probabilities, filed under a name.

The signature of the function is the whole contract. Its positional parameters are tensors that the trainer
has to bring (`chosen_logps`, `ref_chosen_logps`, ...; one with a default may be absent), its keyword-only
parameters are options with their defaults. Another distribution adds a loss by the entry point group
`codealign.losses`: a function of that form that returns a `LossResult`.

Names of inputs: `*_logps` are sums over the completion's tokens, shape (batch,), nats; `*_lengths` numbers of
completion tokens; `*_token_logps` the same per token, shape (batch, tokens), with `*_mask` true on completion
tokens. `ref_` stands before what the reference says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from codegen_eval.errors import CodealignError, unknown
from codegen_eval.registry import Registry

LOSSES: Registry[Callable[..., LossResult]] = Registry("loss", "codealign.losses", "alignment.losses")

ALIASES = {
    "sigmoid": "dpo",
    "sigmoid_norm": "dpo_norm",
    "exo": "exo_pair",
    "nca": "nca_pair",
    "bco": "bco_pair",
    "sppo_hard": "sppo",
    "segment_weighted": "segment_weighted_dpo",
    "tdpo": "tdpo2",
}
"""Other names of the same losses, most of them TRL's. TRL's `ipo` is not here: it is our `ipo_avg`."""


PER_PAIR = ("label_smoothing", "win_prob")
"""Options to which a batch may give a value per pair, by a tensor of that name."""


@dataclass(frozen=True, slots=True)
class LossResult:
    """What a loss says of one batch.

    Attributes:
        losses: One loss an example, shape (examples,).
        chosen_rewards: Implicit rewards of the chosen side, detached; None where there are none.
        rejected_rewards: Of the rejected side.
        shares: How much of the batch's loss each example is, mean 1; None for equal parts.
        extras: Other figures worth logging, by name, detached.
        carry: Option values for the next batch (moving averages); with several processes, average them.
    """

    losses: Tensor
    chosen_rewards: Tensor | None = None
    rejected_rewards: Tensor | None = None
    shares: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    carry: dict[str, float] = field(default_factory=dict)

    def loss(self, weights: Tensor | None = None) -> Tensor:
        """The batch's loss, a scalar: the mean over examples of weight x share x loss.

        Args:
            weights: One weight an example, not negative; they are not normalised, so that 1 changes nothing.

        Raises:
            CodealignError: For an empty batch, or weights of another number, negative or not finite.
        """
        values = self.losses if self.shares is None else self.losses * self.shares
        if not values.numel():
            raise CodealignError("the batch is empty: there is no loss")
        if weights is None:
            return values.mean()
        if weights.shape != values.shape:
            raise CodealignError(
                f"{values.numel()} examples need as many weights, got shape {list(weights.shape)}"
            )
        bad = ~(weights.isfinite() & (weights >= 0))
        if bad.any():
            row = int(bad.nonzero()[0])
            raise CodealignError(
                f"weights must be finite and not negative: example {row} has {weights[row].item()}"
            )
        return (values * weights.to(values)).mean()


@dataclass(frozen=True, slots=True)
class Loss:
    """A named loss with its options set; made by `make_loss`.

    Attributes:
        name: The registered name.
        function: The pure function.
        inputs: Tensors that every batch must bring.
        optional: Tensors that it may bring.
        options: All options with their values.
    """

    name: str
    function: Callable[..., LossResult]
    inputs: tuple[str, ...]
    optional: tuple[str, ...]
    options: dict[str, Any]

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities under a reference model are among the inputs."""
        return any(name.startswith("ref_") for name in self.inputs)

    @property
    def needs_tokens(self) -> bool:
        """Whether it wants log-probabilities by token instead of their sums."""
        return any(name.endswith("_token_logps") for name in self.inputs)

    def with_options(self, **options: Any) -> Loss:
        """The same loss with some options changed, e.g. by `LossResult.carry`.

        Raises:
            CodealignError: For an unknown option, with the nearest name.
        """
        for name in options:
            if name not in self.options:
                raise unknown(f"option of the loss {self.name!r}", name, self.options)
        return replace(self, options=self.options | options)

    def __call__(self, tensors: Mapping[str, Tensor]) -> LossResult:
        """Computes the loss; a tensor named as an option of `PER_PAIR` gives that option a value per pair.

        Raises:
            CodealignError: If an input is missing, shapes differ, an option is out of its range, or the
                inputs hold NaN or infinities (input and row are named).
        """
        absent = [name for name in self.inputs if tensors.get(name) is None]
        if absent:
            raise CodealignError(
                f"the loss {self.name!r} needs {', '.join(absent)}; the batch has: {', '.join(tensors)}"
            )
        given = {name: tensors[name] for name in (*self.inputs, *self.optional) if name in tensors}
        options = self.options | {
            name: tensors[name] for name in PER_PAIR if name in self.options and name in tensors
        }
        result = self.function(**given, **options)
        # Padding of inputs by token may hold anything; what counts of them is in the results.
        parts = [value for value in given.values() if value.ndim == 1]
        parts += [result.losses, result.chosen_rewards, result.rejected_rewards]
        finite = [part.isfinite().all() for part in parts if part is not None]
        if not torch.stack(finite).all():  # one wait for the device
            raise _not_finite(self.name, given)
        return result


def make_loss(name: str, **options: Any) -> Loss:
    """The loss of that name (or alias) with these options.

    Raises:
        CodealignError: For an unknown loss or option, with the nearest name.
    """
    known = LOSSES.names()
    name = ALIASES.get(name, name)
    if name not in known:
        raise unknown("loss", name, [*known, *ALIASES])
    function = LOSSES.get(name)
    parameters = inspect.signature(function).parameters.values()
    tensors = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    loss = Loss(
        name=name,
        function=function,
        inputs=tuple(p.name for p in tensors if p.default is p.empty),
        optional=tuple(p.name for p in tensors if p.default is not p.empty),
        options={p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
    )
    return loss.with_options(**options)


def _not_finite(name: str, given: Mapping[str, Tensor]) -> CodealignError:
    """Says which input is to blame for a loss or reward that is no number."""
    for key, tensor in given.items():
        bad = ~tensor.isfinite()
        mask = given.get(key.removeprefix("ref_").replace("_token_logps", "_mask"))
        if mask is not None and mask.shape == bad.shape:
            bad = bad & mask.bool()
        if bad.any():
            row = int(bad.nonzero()[0][0])
            return CodealignError(
                f"the loss {name!r} is not finite: {key} of example {row} holds {tensor[row][bad[row]][0]}"
                if tensor.ndim > 1
                else f"the loss {name!r} is not finite: {key} of example {row} is {tensor[row]}"
            )
    return CodealignError(
        f"the loss {name!r} is not finite although its inputs are; use float32 or a smaller beta"
    )


def positive(**values: float) -> None:
    """Raises a CodealignError for a value that is not a finite number above 0."""
    for name, value in values.items():
        if not (0 < value < float("inf")):
            raise CodealignError(f"{name} must be a finite number above 0 (given: {value})")


def not_negative(**values: float) -> None:
    """Raises a CodealignError for a value that is not a finite number of at least 0."""
    for name, value in values.items():
        if not (0 <= value < float("inf")):
            raise CodealignError(f"{name} must be a finite number, 0 or more (given: {value})")


def probability(
    name: str, value: float | Tensor, like: Tensor, highest: float, *, excluded: bool = False
) -> Tensor:
    """An option that is a probability, as a tensor that fits the batch: a scalar or one value a pair.

    Args:
        name: The option, for the message.
        value: The number, or a tensor of shape (batch,).
        like: The batch's log-probabilities.
        highest: The largest value that makes sense.
        excluded: Whether `highest` itself is refused.

    Raises:
        CodealignError: For another number of values, or one outside [0, highest].
    """
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if tensor.ndim and tensor.shape != like.shape:
        raise CodealignError(
            f"{name} must be one number or one a pair ({like.numel()}), got shape {list(tensor.shape)}"
        )
    fits = (tensor >= 0) & ((tensor < highest) if excluded else (tensor <= highest))
    if not fits.all():
        wrong = tensor[~fits].flatten()[0].item()
        raise CodealignError(
            f"{name} must lie in [0, {highest}{')' if excluded else ']'} (given: {wrong:.6g})"
        )
    return tensor


def log_ratio(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """The log ratio of one side, log pi - log ref, shape (batch,); nothing is ever broadcast."""
    return minus(logps, ref_logps)


def minus(first: Tensor, second: Tensor) -> Tensor:
    """The difference of two tensors of the same shape; another shape is a CodealignError."""
    same_shape(first, second)
    return first - second


def same_shape(*tensors: Tensor) -> None:
    """Raises a CodealignError unless all tensors have one shape."""
    shapes = [list(tensor.shape) for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise CodealignError(f"the tensors of a loss must have the same shape, got {shapes}")


def mean_logps(logps: Tensor, lengths: Tensor) -> Tensor:
    """Log-probability per token; both (batch,).

    Raises:
        CodealignError: For an empty completion (length 0), or unequal shapes.
    """
    same_shape(logps, lengths)
    if (lengths < 1).any():
        row = int((lengths < 1).nonzero()[0])
        raise CodealignError(f"the completion of example {row} is empty: it has no log-probability per token")
    return logps / lengths
