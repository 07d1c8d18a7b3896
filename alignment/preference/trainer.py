"""Training on pairs: TRL's DPOTrainer with its step replaced.

Why a subclass and not a loop of our own: measured on a model of 5 M parameters (benchmarks/dpo_step.py
--loop), all that the Trainer does around a step (loading, clipping, logging) is 2 % of its CPU time, so a
loop of our own would win next to nothing, and would have to bring back launchers (DDP, FSDP, DeepSpeed),
adapters, trackers, checkpoints and resume. What decides speed and memory is the step, and the step is ours:
any loss by name, extra columns, log-probabilities by chunks, shared prompts, packed rows.

Plain DPO (`sigmoid` with nothing else asked for) still runs TRL's own step, so that it stays, bit for bit,
what it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl import DPOTrainer

from alignment.losses.tokens import summed
from alignment.preference.collate import PairCollator
from alignment.preference.logprobs import token_kl
from alignment.preference.metrics import pair_sums
from alignment.preference.objective import objective_of, token_tensors
from alignment.preference.options import PairOptions
from alignment.preference.scored import Scored, prepared, reference_for
from alignment.preference.scoring import check_masked, check_same_scores, head_scale
from alignment.preference.tokens import encode_pairs
from codegen_eval.errors import CodealignError

CARRY = "loss_carry.json"
"""File of a checkpoint: moving averages that a loss carries from batch to batch."""

_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
_EXTRA = tuple(f"{side}_{what}" for what in ("mask", "segments") for side in ("chosen", "rejected"))
_CARRIED = ("reference_margin", "delta")  # options that `LossResult.carry` moves
_STORED = ("ref_chosen_logps", "ref_rejected_logps")


class PairTrainer(Scored, DPOTrainer):  # type: ignore[misc]
    """Trains on rows of `data.load_pairs`.

    Args:
        model: A causal language model, in memory.
        args: TRL's DPOConfig; `loss_type` may name any loss of docs/losses.md.
        train_dataset: Checked pairs.
        processing_class: The tokenizer.
        options: Ours.
        ref_model: The reference; None takes a copy of the model as it is now, where the loss needs one.
        peft_config: Adapters to train instead of the model; without them the model is the reference.
        more: What else DPOTrainer takes.

    Raises:
        CodealignError: For options that do not fit each other, the model or the data.
    """

    def __init__(
        self,
        model: Any,
        args: Any,
        train_dataset: Any,
        processing_class: Any,
        *,
        options: PairOptions | None = None,
        ref_model: Any = None,
        peft_config: Any = None,
        **more: Any,
    ) -> None:
        self.options: PairOptions = options or PairOptions()
        self.objective = objective_of(args, self.options)
        self._check(args, train_dataset)
        self.installed = False
        self.packed = bool(args.padding_free)
        self.plain = self._is_plain(args, train_dataset)
        needed = self.objective.needs_reference
        adapters = peft_config is not None or hasattr(model, "peft_config")
        if self.objective.needs_kl and args.precompute_ref_log_probs:
            raise CodealignError(
                f"{self.objective.losses[0].name} needs the reference's whole distribution at every step: "
                "set precompute_ref_log_probs: false"
            )
        ref_model = reference_for(model, ref_model, args, needed=needed, adapters=adapters)
        if not self.plain:
            more["data_collator"] = self._collator(args, processing_class)
        if self.options.shared_prompt or self.packed:
            for used in (model, ref_model):
                if used is not None:
                    check_masked(
                        used.config, "shared_prompt" if self.options.shared_prompt else "padding_free"
                    )
        super().__init__(
            model=model,
            ref_model=ref_model if needed else None,
            args=prepared(args, reference=needed),
            train_dataset=train_dataset,
            processing_class=processing_class,
            peft_config=peft_config,
            **more,
        )
        self._ready()

    def _check(self, args: Any, dataset: Any) -> None:
        if args.sync_ref_model and not self.objective.needs_reference:
            raise CodealignError(f"sync_ref_model: the loss {', '.join(args.loss_type)!r} has no reference")
        wanted = self.options.confidence_as
        if wanted != "none" and not self.objective.reads(wanted):
            raise CodealignError(
                f"confidence_as: {wanted} does nothing in the loss {', '.join(args.loss_type)!r}; "
                f"{'cdpo' if wanted == 'label_smoothing' else 'sppo'} reads it"
            )
        for column, option in ((self.options.weight_column, "weight_column"), *self._confidence()):
            if column is not None and column not in dataset.column_names:
                raise CodealignError(
                    f"{option} wants the column {column!r}; found: {', '.join(dataset.column_names)}"
                )
        if wanted == "label_smoothing":
            low = min(dataset["confidence"])
            if low < 0.5 or max(dataset["confidence"]) > 1:
                raise CodealignError(
                    f"confidence must lie in [0.5, 1] (found: {low}): below, the sides should be swapped"
                )
        if self.options.weight_column and any(loss.name.startswith("aot") for loss in self.objective.losses):
            raise CodealignError("the aot losses sort the batch: weights of pairs do not fit them")

    def _confidence(self) -> list[tuple[str, str]]:
        return [] if self.options.confidence_as == "none" else [("confidence", "confidence_as")]

    def _is_plain(self, args: Any, dataset: Any) -> bool:
        """Whether TRL's own step does all that is asked for."""
        asked: list[Any] = [self.options.shared_prompt, self.packed, self.options.weight_column]
        asked += [self.options.confidence_as != "none", self.options.loss_options, args.loss_weights]
        asked += [name in dataset.column_names for name in _EXTRA]
        names = [loss.name for loss in self.objective.losses]
        return names == ["dpo"] and not self.objective.wpo and not any(asked)

    def _collator(self, args: Any, tokenizer: Any) -> PairCollator:
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        multiple = args.pad_to_multiple_of
        numbers = [("weight", self.options.weight_column)] if self.options.weight_column else []
        if self.options.confidence_as != "none":
            numbers.append((self.options.confidence_as, "confidence"))
        return PairCollator(
            pad_id=pad,
            multiple=multiple if isinstance(multiple, int) else 1,
            share=self.options.shared_prompt,
            pack=self.packed,
            numbers=tuple(numbers),
        )

    def _ready(self) -> None:
        """After TRL's patches of the models and before anything is scored: once."""
        if self.plain or self.installed:
            return
        self._install()
        if self.options.shared_prompt or self.packed:
            collator = self.data_collator
            rows = [self.train_dataset[i] for i in range(min(2, len(self.train_dataset)))]
            plain = PairCollator(pad_id=collator.pad_id)
            batches = [self._prepare_inputs(make(rows)) for make in (plain, collator)]
            check_same_scores(self._placed_model(), self.model.dtype, *batches)
            self._release_engine()

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        # TRL tokenises prompt and completion jointly and cuts long rows; see tokens.py for why we do not.
        with args.main_process_first(desc="tokenizing"):
            encoded, dropped = encode_pairs(
                dataset,
                processing_class,
                args.max_length,
                append_eos=self.options.append_eos,
                segments=self.objective.needs_segments,
            )
        if dataset_name == "train":
            self.dropped = dropped
        return encoded

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            numbers = [column for _, column in getattr(self.data_collator, "numbers", ())]
            self._signature_columns = [*_COLUMNS, *_EXTRA, *_STORED, *numbers]

    def _reference_kind(self) -> str | None:
        if not self.objective.needs_reference:
            return None
        return "sums of TRL's step" if self.plain else "tokens"

    def _reference_lengths(self, row: Mapping[str, Any], column: str) -> int:
        return len(row[f"{column.split('_')[1]}_ids"])

    def _reference_columns(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.plain:
            logps = self.compute_ref_log_probs(self._reference_model(), batch)
            return dict(zip(_STORED, logps, strict=True))
        self._ready()
        with self._as_reference() as model:
            logps = self._score(model, batch)["logps"]
        return dict(zip(_STORED, logps.chunk(2), strict=True))

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        if self.plain:
            return super()._compute_loss(model, inputs, return_outputs)
        if return_outputs:
            raise CodealignError("logits are never built here, so compute_metrics cannot have them")
        mask = inputs["mask"]
        scores = self._score(
            model,
            inputs,
            statistics=True,
            squares=self.objective.needs_squares,
            states=self.objective.needs_kl,
        )
        tensors = self._tensors(inputs, scores)
        if self.objective.needs_reference:
            tensors |= self._reference_tensors(inputs, scores, tensors)
        loss, result, carry = self.objective(tensors, inputs.get("weight"))
        if self.model.training and any(carry):
            self.objective = self.objective.carried([self._averaged(part) for part in carry])
        self._report(pair_sums(scores, mask, tensors, result), inputs)
        return loss

    def _tensors(self, inputs: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the losses read of the policy and of the batch, by their inputs' names."""
        mask = inputs["mask"]
        counted = mask & inputs["counted"] if "counted" in inputs else mask
        tensors = {name: inputs[name] for name in ("label_smoothing", "win_prob") if name in inputs}
        for side, rows in _sides(mask):
            tensors |= token_tensors(side, scores, rows, counted)
            tensors[f"{side}_ids"] = inputs["targets"][rows]
            if "segments" in inputs:
                tensors[f"{side}_segments"] = inputs["segments"][rows]
        return tensors

    def _reference_tensors(
        self, inputs: Mapping[str, Tensor], scores: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The same of the reference, stored or live."""
        mask, found = inputs["mask"], {}
        if "ref_token_logps" in inputs:
            logps = inputs["ref_token_logps"]
        else:
            with self._as_reference() as model:
                live = self._score(model, inputs, states=self.objective.needs_kl)
            logps = live["logps"]
        for side, rows in _sides(mask):
            found[f"ref_{side}_token_logps"] = logps[rows]
            found[f"ref_{side}_logps"] = summed(logps[rows], tensors[f"{side}_mask"])
        if self.objective.needs_kl:
            flat = self._divergence(scores["hidden"], live["hidden"])
            kl = flat.new_zeros(mask.shape).masked_scatter(mask, flat)
            for side, rows in _sides(mask):
                found[f"{side}_seq_kl"] = summed(kl[rows], tensors[f"{side}_mask"])
        return found

    def _divergence(self, hidden: Tensor, ref_hidden: Tensor) -> Tensor:
        """KL(reference || policy) at each completion token; for tdpo1 and tdpo2."""
        policy = self.accelerator.unwrap_model(self.model)
        other = policy if self.ref_model is None else self.accelerator.unwrap_model(self.ref_model)
        heads = [model.get_output_embeddings() for model in (policy, other)]
        if any(hasattr(head.weight, "ds_id") or hasattr(head.weight, "full_tensor") for head in heads):
            raise CodealignError("tdpo1 and tdpo2 need the whole head in each process: no ZeRO-3, no FSDP2")
        if any(getattr(head, "bias", None) is not None for head in heads):
            raise CodealignError("tdpo1 and tdpo2 are not made for a head with a bias")
        config = policy.config.get_text_config()
        return token_kl(
            hidden,
            heads[0].weight,
            ref_hidden,
            heads[1].weight,
            scale=head_scale(config),
            softcap=getattr(config, "final_logit_softcapping", None),
        )

    def _averaged(self, carry: Mapping[str, float]) -> dict[str, float]:
        """Moving averages over all processes."""
        values = torch.tensor(list(carry.values()), dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(carry, self.accelerator.reduce(values, "mean").tolist(), strict=True))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            options = [dict(loss.options) for loss in self.objective.losses]
            kept = [{k: v for k, v in o.items() if k in _CARRIED} for o in options]
            (folder / CARRY).write_text(json.dumps(kept))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        kept = Path(resume_from_checkpoint) / CARRY
        if kept.exists():
            self.objective = self.objective.carried(json.loads(kept.read_text()))


def _sides(mask: Tensor) -> tuple[tuple[str, slice], tuple[str, slice]]:
    """The rows of a batch's completions that belong to each side."""
    half = len(mask) // 2
    return ("chosen", slice(None, half)), ("rejected", slice(half, None))
