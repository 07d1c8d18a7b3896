"""Updates of a policy: rows of tokens, AdamW, a state that a killed run takes up again.

Dropout stays off, so that an update depends on weights, rows and optimiser state alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from alignment.engines import Stepping, Zero, trained
from alignment.health.monitor import phase
from alignment.mrt.decoding import Ids
from alignment.mrt.summing import Summing
from alignment.ranks import ALONE, Ranks
from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from torch import Tensor

STATE = "state.pt"
"""Of a checkpoint's files the one that all ranks read."""

Loss = Callable[[], "Tensor"]
"""Part of an update's loss, with gradient; computed when called, so that one graph is there at a time."""


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence and the weight of each of its tokens in the loss (0 where it is only read)."""

    ids: Ids
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights) or len(self.ids) < 2:
            raise CodealignError(
                f"a row needs 2 or more tokens with one weight each, got {len(self.ids)} and "
                f"{len(self.weights)}"
            )


@dataclass(frozen=True, slots=True)
class Packed:
    """Some rows as tensors (rows, length), right-padded; `order` are their places in the batch."""

    ids: Tensor
    weights: Tensor
    order: list[int]


def packed(
    rows: Sequence[Row], micro_rows: int, device: Any = "cpu", ranks: Ranks = ALONE
) -> Iterator[Packed]:
    """Rows of similar length, `micro_rows` at a time, of this rank's share of them; padding weighs 0.

    Where the model is divided all ranks pass the same number of parts: one without a row left passes padding.
    """
    order = ranks.share(sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i)))
    most = math.ceil(len(rows) / ranks.world) if ranks.zero else len(order)
    for start in range(0, most, micro_rows):
        of = order[start : start + micro_rows]
        width = len(rows[of[-1]].ids) if of else 2
        ids = torch.zeros((len(of) or 1, width), dtype=torch.long)
        weights = torch.zeros(ids.shape)
        for i, place in enumerate(of):
            row = rows[place]
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            weights[i, : len(row.ids)] = torch.tensor(row.weights)
        yield Packed(ids.to(device), weights.to(device), of)


def token_logps(model: Any, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """The log pi of each token but the first, (rows, length - 1), with gradient.

    Right-padded rows need no mask: under causal attention padding is never seen by what stands before it.
    """
    logits = model(input_ids=ids[:, :-1]).logits.float() / temperature
    return -F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")


def imitation_losses(model: Any, rows: Sequence[Row], micro_rows: int, ranks: Ranks = ALONE) -> list[Loss]:
    """Parts of the mean of -log pi over all tokens of a batch, by their weights; those of all ranks add up.

    Raises:
        CodealignError: If no token counts.
    """
    total = sum(sum(row.weights[1:]) for row in rows)
    if not total > 0:
        raise CodealignError("no token of the batch counts in the loss")
    return weighted_losses(model, packed(rows, micro_rows, model.device, ranks), total)


def weighted_losses(
    model: Any, parts: Iterable[Packed], divisor: float, temperature: float = 1.0
) -> list[Loss]:
    """For each part -sum(weight x log pi) / divisor, computed when it is called."""

    def loss(part: Packed) -> Tensor:
        return -(token_logps(model, part.ids, temperature) * part.weights[:, 1:]).sum() / divisor

    return [partial(loss, part) for part in parts]


class Updates:
    """A model, its optimiser and the number of updates made; `save` and `load` restore all of it.

    Where several ranks train, each makes the losses of its share of the rows and all make the same update.

    Attributes:
        model: For passes with gradients.
        steps: Updates made.
        allows: Whether an update may be made (`health.loops.Watch.allows`); None for every finite one.
    """

    def __init__(
        self,
        model: Any,
        *,
        learning_rate: float,
        warmup_steps: int = 0,
        max_grad_norm: float = 1.0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.module, self.ranks = model.eval(), ranks
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.max_grad_norm = max_grad_norm
        optimizer = torch.optim.AdamW(trained(model).values(), lr=learning_rate, weight_decay=0.0)
        self.stepping: Stepping = (
            Summing(model, optimizer, ranks)
            if ranks.zero is None
            else Zero(model, optimizer, ranks.zero, rows=1)
        )
        self.model = self.stepping.model
        self.model.eval()
        self.steps = 0
        self.allows: Callable[[float, int], bool] | None = None

    @property
    def optimizer(self) -> Any:
        """Has `param_groups` and `state`."""
        return self.stepping.optimizer

    def restart(self) -> None:
        """Forgets the optimiser's state and the updates made; the weights stay."""
        self.optimizer.state.clear()
        self.steps = 0

    def step(self, losses: Sequence[Loss]) -> float:
        """One update from losses that, those of all ranks together, add up to the batch's; returns their sum.

        `allows`, given the loss and the update's number, says whether it may be made; one that may not be is
        none, and counts.

        Raises:
            CodealignError: If the loss is not finite and nobody was asked; the weights are then as they were.
        """
        value = 0.0
        # DeepSpeed takes the mean over processes.
        scale = self.ranks.world if self.stepping.divided else 1
        for place, part in enumerate(losses, 1):
            with self.stepping.accumulating(last=place == len(losses)):
                loss = part()
                self.stepping.backward(loss * scale)
            value += float(loss.detach())
        # From here on every rank has the same loss and gradients, so that all of them decide alike.
        value = self.ranks.total(value, self.module.device)
        norm = self.stepping.clip(self.max_grad_norm)
        if not self._allowed(value, norm):
            self.stepping.drop()
            self.steps += 1
            return value
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (self.steps + 1) / (self.warmup_steps + 1))
        self.stepping.step()
        self.steps += 1
        return value

    def _allowed(self, value: float, norm: float) -> bool:
        finite = math.isfinite(value) and math.isfinite(norm)
        if self.allows is not None:
            return self.allows(value if finite else math.nan, self.steps + 1)
        if not finite:
            self.stepping.drop()
            raise CodealignError(
                f"the loss became {value} (norm of the gradient {norm}) after {self.steps} updates; lower "
                "the learning rate"
            )
        return True

    def whole(self) -> AbstractContextManager[None]:
        """Within, `module` has its whole weights and may be called by this rank alone. All ranks enter it."""
        return self.stepping.whole(self.module)

    def save(self, folder: Path, **more: Any) -> None:
        """Writes trained weights, optimiser, number of updates and `more`, into a folder not yet whole.

        All ranks call it; the first writes all but what is divided.
        """
        weights, optimizer = self.stepping.weights(), self.stepping.state_dict()
        if self.stepping.divided:
            torch.save(optimizer, folder / _share(self.ranks))
        if self.ranks.first:
            state = {"weights": weights, "steps": self.steps, "more": more}
            if not self.stepping.divided:
                state["optimizer"] = optimizer
            torch.save(state, folder / STATE)

    def load(self, folder: Path) -> dict[str, Any]:
        """Takes up what `save` wrote; gives its `more`. All ranks call it.

        Raises:
            CodealignError: For a checkpoint of another model or of another division.
        """
        share, divided = folder / _share(self.ranks), self.stepping.divided
        if share.exists() != divided:
            raise CodealignError(
                f"{folder} was written {'without' if divided else 'under'} ZeRO, which divides the optimiser "
                "over processes: go on with the launch configuration of before"
            )
        # A divided model takes one weight after the other to its device.
        device = "cpu" if divided else self.module.device
        state: dict[str, Any] = torch.load(folder / STATE, weights_only=True, map_location=device)
        self.stepping.load_weights(state["weights"])
        self.stepping.load_state_dict(
            torch.load(share, weights_only=True, map_location="cpu") if divided else state["optimizer"]
        )
        self.steps = int(state["steps"])
        more: dict[str, Any] = state["more"]
        return more


def _share(ranks: Ranks) -> str:
    return f"optimizer-{ranks.rank}.pt"


def epoch_batches(rows: int, batch: int, steps: int, seed: int) -> list[list[int]]:
    """Places of the rows of each update: epoch after epoch, each in an order of its own.

    A batch may run over the end of an epoch, so that all have the same size (that of the data, where they
    hold fewer rows).

    Raises:
        CodealignError: For no rows, or sizes below 1.
    """
    if min(rows, batch, steps) < 1:
        raise CodealignError(f"{steps} updates of {batch} rows from {rows}: each must be 1 or more")
    batch = min(batch, rows)
    generator = torch.Generator().manual_seed(seed)
    places: list[int] = []
    while len(places) < batch * steps:
        places += torch.randperm(rows, generator=generator).tolist()
    return [places[i * batch : (i + 1) * batch] for i in range(steps)]


def finetune(
    updates: Updates,
    rows: Sequence[Row],
    *,
    steps: int,
    batch: int,
    micro_rows: int,
    seed: int,
    after: Callable[[Updates, float | None], None] = lambda updates, loss: None,
    passes_over: Callable[[int], bool] = lambda update: False,
) -> None:
    """Imitates rows: updates from `updates.steps` on, up to `steps`.

    Args:
        updates: Fresh, or loaded.
        rows: The data.
        steps: Updates in all.
        batch: Rows an update.
        micro_rows: Rows at a time.
        seed: Of the order.
        after: Called behind every update with its loss: log, save.
        passes_over: Whether an update, by its number from 1, is left out; `after` gets no loss then.
    """
    for places in epoch_batches(len(rows), batch, steps, seed)[updates.steps :]:
        loss = None
        if passes_over(updates.steps + 1):
            updates.steps += 1
        else:
            of = [rows[place] for place in places]
            with phase("update"):
                loss = updates.step(imitation_losses(updates.model, of, micro_rows, updates.ranks))
        after(updates, loss)
