"""What the pair and the KTO trainer share: scores of the policy and of the reference, stored or live.

A mixin over TRL's trainers, which keep the loop, the launchers, checkpoints and adapters. It replaces how
completions are scored (scoring.py), where reference values are kept (reference.py) and how metrics are added
up over processes.
"""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alignment.preference import reference as stored
from alignment.preference.metrics import Sums, means
from alignment.preference.options import PreferenceOptions
from alignment.preference.scoring import install, score
from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from datasets import Dataset


def prepared(args: Any, *, reference: bool) -> Any:
    """TRL's arguments with those changed that our trainers take over; the caller's stay as they are.

    Without need of a reference TRL must not load one: it does not where it believes in precomputed values.
    """
    args = copy.copy(args)
    if not reference:
        args.precompute_ref_log_probs = True
    if hasattr(args, "padding_free"):
        args.padding_free = False  # TRL warns and pads; our collator packs
    return args


def reference_for(model: Any, given: Any, args: Any, *, needed: bool, adapters: bool) -> Any:
    """The reference model to hand to TRL: the given one, or a copy of the model where one must live.

    Raises:
        CodealignError: For weights that are not finite, or another vocabulary.
    """
    stored.check_finite(model, "the model")
    if given is not None:
        stored.check_finite(given, "the reference")
        stored.check_pair(model, given)
        return given
    if not needed or adapters or args.precompute_ref_log_probs:
        return None
    return stored.frozen_copy(model)


class Scored(ABC):
    """Mixin for TRL's DPOTrainer and KTOTrainer."""

    # Of TRL's and transformers' trainers.
    accelerator: Any
    args: Any
    model: Any
    ref_model: Any
    data_collator: Any
    _metrics: Any
    _total_train_tokens: int
    aux_loss_enabled: bool
    processing_class: Any
    _signature_columns: list[str] | None
    is_deepspeed_enabled: bool
    model_wrapped: Any
    _precompute_engine: Any

    options: PreferenceOptions
    dropped = 0
    installed = False

    def _install(self) -> None:
        """Makes policy and reference answer `score`; after TRL's own patches."""
        self.installed = True
        inner = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        install(inner)
        if self.ref_model is not None:
            install(self.accelerator.unwrap_model(self.ref_model))

    def _score(self, model: Any, batch: Mapping[str, Tensor], **asked: bool) -> dict[str, Tensor]:
        if self.aux_loss_enabled:
            raise CodealignError(
                "the router's auxiliary loss is not part of this objective: set router_aux_loss_coef: 0"
            )
        with self.accelerator.autocast():
            return score(model, batch, **asked)

    def _reference_model(self) -> Any:
        """The copy where there is one, else the policy: with its adapter off, or before its first step."""
        return self._placed_model() if self.ref_model is None else self.ref_model

    def _placed_model(self) -> Any:
        """The policy, ready for a pass at any time; before training DeepSpeed needs an engine for it."""
        if not (self.is_deepspeed_enabled and self.model_wrapped is self.model):
            return self.model
        # Before training the weights are not placed yet (ZeRO-1/2) or spread (ZeRO-3).
        if self._precompute_engine is None:
            from trl.models import prepare_deepspeed

            self._precompute_engine = prepare_deepspeed(self.model, self.accelerator)
        return self._precompute_engine

    @contextlib.contextmanager
    def _as_reference(self) -> Iterator[Any]:
        """The reference model, without gradients: the copy, or the policy with its adapter off."""
        with torch.no_grad():
            model = self._reference_model()
            if self.ref_model is None and hasattr(self.model, "peft_config"):
                with stored.reference_adapter(self.accelerator.unwrap_model(self.model)):
                    yield model
            else:
                yield model

    @abstractmethod
    def _reference_columns(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reference values of a batch, one row an example, by the column they are stored in."""

    def _reference_lengths(self, row: Mapping[str, Any], column: str) -> int:
        """Number of values of a column of `_reference_columns` that holds a row of them an example.

        Raises:
            TypeError: Here: a trainer that stores one value an example has no such column.
        """
        raise TypeError(f"{type(self).__name__} stores one value an example, but {column} holds rows")

    @abstractmethod
    def _reference_kind(self) -> str | None:
        """What the stored values are, part of their fingerprint; None where nothing is to be stored."""

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """The dataset with the reference's values, from disk where they lie there."""
        kind = self._reference_kind()
        if kind is None:
            return dataset
        from accelerate.utils import broadcast_object_list

        # Each process must look for the same file.
        key = [
            stored.fingerprint(
                kind=kind,
                weights=stored.weights_hash(self.ref_model if self.ref_model is not None else self.model),
                rows=stored.rows_hash(dataset),
                tokenizer=len(self.processing_class),
                max_length=self.args.max_length,
            )
        ]
        broadcast_object_list(key, from_process=0)
        folder = self.options.reference_cache or str(Path(self.args.output_dir) / "reference")
        path = Path(folder) / f"{key[0]}.npz"
        columns = stored.load(path, len(dataset))
        self.accelerator.wait_for_everyone()  # nobody writes while another one still looks
        if columns is None:
            columns = self._computed(dataset, batch_size)
            if self.accelerator.is_main_process:
                stored.save(path, columns)
            self.accelerator.wait_for_everyone()
        self._release_engine()
        return stored.joined(dataset, columns)

    def _release_engine(self) -> None:
        """Takes the scoring engine's hooks off the model: training makes an engine of its own on it.

        Under ZeRO-3 both would fetch and count each module, and the first step would fail.
        """
        if self._precompute_engine is not None:
            self._precompute_engine.destroy()
            self._precompute_engine = None

    def _computed(self, dataset: Dataset, batch_size: int) -> dict[str, stored.Column]:
        """The reference's values of all rows, worked out by all processes together."""
        from torch.utils.data import DataLoader

        loader = DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        found: dict[str, list[Any]] = {}
        for batch in self.accelerator.prepare(loader):
            with self.accelerator.autocast():
                columns = self._reference_columns(batch)
            wide = {
                name: self.accelerator.pad_across_processes(values, dim=1) if values.ndim > 1 else values
                for name, values in columns.items()
            }
            for name, values in self.accelerator.gather_for_metrics(wide).items():
                found.setdefault(name, []).extend(values.float().cpu().tolist())
        for name, values in found.items():
            if values and isinstance(values[0], list):
                lengths = [self._reference_lengths(row, name) for row in dataset]
                found[name] = stored.cut(values, lengths)
        return found

    def _report(self, sums: Sums, batch: Mapping[str, Tensor]) -> None:
        """Adds a step's metrics to those that TRL's `log` averages."""
        mode = "train" if self.model.training else "eval"
        found = means(sums, lambda total: self.accelerator.reduce(total, "sum"))
        if "rewards/chosen" in found and "rewards/rejected" in found:
            found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
        for name, value in found.items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            tokens = self.accelerator.reduce((batch["units"] > 0).sum(), "sum").item()
            self._total_train_tokens += int(tokens)
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
