"""From encoded rows to the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignment.preference.layout import Group, lay_out
from alignment.preference.scoring import tensors_of

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Collator:
    """What pair and KTO batches have in common.

    Attributes:
        pad_id: Token id of the padding.
        multiple: Rows are padded to a multiple of this.
        share: Whether the completions of a prompt lie behind one copy of it.
        pack: Whether rows hold several sequences (TRL's `padding_free`).
        numbers: Columns of one number a row, by their name in the batch.
    """

    pad_id: int
    multiple: int = 1
    share: bool = False
    pack: bool = False
    numbers: tuple[tuple[str, str], ...] = ()

    def tensors(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        """The layout of the groups as tensors."""
        layout = lay_out(groups, share=self.share, pack=self.pack, pad_id=self.pad_id, multiple=self.multiple)
        return tensors_of(layout, masked=self.share or self.pack)

    def columns(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """One number a row each; `label_smoothing` is read from a confidence."""
        found = {}
        for name, column in self.numbers:
            values = torch.tensor([float(row[column]) for row in rows])
            found[name] = 1 - values if name == "label_smoothing" else values
        return found


class PairCollator(Collator):
    """Batches of pairs: completions 0..n-1 are the chosen sides, n..2n-1 the rejected ones."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The batch's tensors: those of a layout, numbers, and per token what the rows hold."""
        batch = self.tensors([(row["prompt_ids"], (row["chosen_ids"], row["rejected_ids"])) for row in rows])
        width = batch["mask"].shape[1]
        for name, key in (("mask", "counted"), ("segments", "segments"), ("logps", "ref_token_logps")):
            prefix = "ref_" if name == "logps" else ""
            if f"{prefix}chosen_{name}" in rows[0]:
                sides = [row[f"{prefix}{side}_{name}"] for side in ("chosen", "rejected") for row in rows]
                batch[key] = ragged(sides, width)
        if "counted" in batch:
            batch["counted"] = batch["counted"].bool()
        return batch | self.columns(rows)


class LabelledCollator(Collator):
    """Batches of labelled completions: 0..n-1 are the rows', n..2n-1 the mismatched ones of the KL term."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The batch's tensors; those of the mismatched completions are called `kl_...`."""
        batch = self.tensors([(row["prompt_ids"], (row["completion_ids"],)) for row in rows])
        if "kl_ids" in rows[0]:
            other = self.tensors([(row["prompt_ids"], (row["kl_ids"],)) for row in rows])
            batch |= {f"kl_{name}": value for name, value in other.items()}
        batch["label"] = torch.tensor([bool(row["label"]) for row in rows])
        for name in ("ref_logps", "ref_kl_logps"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch | self.columns(rows)


def ragged(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    """Rows of numbers, filled with 0 on the right, shape (rows, width)."""
    filled = torch.zeros(len(rows), width, dtype=torch.tensor(rows[0]).dtype)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = torch.tensor(row)
    return filled
