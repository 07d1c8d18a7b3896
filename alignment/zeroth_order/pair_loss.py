"""The objective of a loss on pairs: any loss of docs/losses.md, worked out by the pair trainer's own step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment.preference.trainer import PairTrainer
from alignment.zeroth_order.estimators import Values
from alignment.zeroth_order.launching import zero3_settings
from alignment.zeroth_order.zero3 import Passes, widen_adapters


class PairLoss:
    """Mean loss of batches of pairs under the model as it is, without gradients and without dropout.

    The trainer tokenises, scores the reference once, and collates, as for `codealign train dpo`; it never
    takes a step itself. Under ZeRO-3 every process must ask for as many batches.

    Args:
        trainer: Made, not trained.
    """

    def __init__(self, trainer: PairTrainer) -> None:
        self.trainer = trainer
        self.model = trainer.model.eval()
        self._passes: Passes | None = None
        settings = zero3_settings(trainer.args)
        if settings is not None:
            widen_adapters(trainer.model)
            self._passes = Passes(trainer.model, settings)
            # The trainer takes a model that nobody wrapped for one that its reference must be wrapped for.
            self.model = trainer.model_wrapped = self._passes.engine

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.trainer.train_dataset)

    def __call__(self, rows: Sequence[int]) -> Values:
        """The loss of these pairs, one value."""
        import torch

        trainer: Any = self.trainer
        with torch.no_grad():
            batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in rows]))
            value = float(trainer.compute_loss(self.model, batch))
        if self._passes is not None:
            self._passes.drop()
        trainer._metrics["eval"].clear()  # averaged by TRL's loop, which does not run here
        return [value]
