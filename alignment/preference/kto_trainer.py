"""KTO (Ethayarajh et al. 2024, arXiv 2402.01306): single completions with a label, not pairs.

TRL's KTOTrainer with its step replaced: the loss is `kto` or `apo_zero_unpaired` of alignment/losses.

The KL baseline z0 is the mean over the batch of log pi(y'|x) - log ref(y'|x), where y' is a completion to
another prompt (section 4.1). The paper takes y' from within the batch; here each row has a fixed y', the next
row's completion to another prompt, so that its reference value can be stored and batches may be drawn in any
order. TRL pairs within fixed batches. Rows are shuffled once, by the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trl import KTOTrainer

from alignment.losses.base import make_loss
from alignment.losses.tokens import summed
from alignment.preference.collate import LabelledCollator
from alignment.preference.metrics import mean_of, over, reward_sums
from alignment.preference.objective import UNPAIRED, resolve
from alignment.preference.options import PreferenceOptions
from alignment.preference.scored import Scored, prepared, reference_for
from alignment.preference.tokens import encode_labelled
from codegen_eval.errors import CodealignError

_COLUMNS = ("prompt_ids", "completion_ids", "kl_ids", "label", "ref_logps", "ref_kl_logps")


class LabelledTrainer(Scored, KTOTrainer):  # type: ignore[misc]
    """Trains on rows of `data.load_labelled`.

    Args:
        model: A causal language model, in memory.
        args: TRL's KTOConfig.
        train_dataset: Checked rows.
        processing_class: The tokenizer.
        options: Ours.
        ref_model: The reference; None takes a copy of the model as it is now.
        peft_config: Adapters to train instead of the model; without them the model is the reference.
        more: What else KTOTrainer takes.

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
        options: PreferenceOptions | None = None,
        ref_model: Any = None,
        peft_config: Any = None,
        **more: Any,
    ) -> None:
        self.options = options or PreferenceOptions()
        name = resolve(args.loss_type)
        if name not in UNPAIRED:
            raise CodealignError(f"the loss {name!r} is for pairs: use `codealign train dpo`")
        self.loss = make_loss(name).with_options(
            **{
                "beta": args.beta,
                "desirable_weight": args.desirable_weight,
                "undesirable_weight": args.undesirable_weight,
                **self.options.loss_options,  # type: ignore[dict-item]
            }
        )
        self.with_kl = name == "kto"
        if self.with_kl and args.per_device_train_batch_size < 2:
            raise CodealignError(
                "KTO estimates a mean over the batch: per_device_train_batch_size must be 2 or more, better "
                f"8 (given: {args.per_device_train_batch_size}); or take loss_type: apo_zero_unpaired"
            )
        weight = self.options.weight_column
        if weight and weight not in train_dataset.column_names:
            raise CodealignError(
                f"weight_column wants the column {weight!r}; found: {', '.join(train_dataset.column_names)}"
            )
        adapters = peft_config is not None or hasattr(model, "peft_config")
        ref_model = reference_for(model, ref_model, args, needed=True, adapters=adapters)
        tokenizer, multiple = processing_class, args.pad_to_multiple_of
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        more["data_collator"] = LabelledCollator(
            pad_id=pad,
            multiple=multiple if isinstance(multiple, int) else 1,
            numbers=(("weight", weight),) if weight else (),
        )
        args = prepared(args, reference=True)
        args.loss_type = name
        super().__init__(
            model=model,
            ref_model=ref_model,
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            peft_config=peft_config,
            **more,
        )
        if not self.installed:
            self._install()

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if "kl_ids" in dataset.column_names:
            return dataset
        with args.main_process_first(desc="tokenizing"):
            encoded, dropped = encode_labelled(
                dataset, processing_class, args.max_length, append_eos=self.options.append_eos
            )
        encoded = encoded.shuffle(seed=args.seed)
        if self.with_kl:
            partners = mismatched(encoded["prompt_ids"], encoded["completion_ids"], args.max_length)
            kept = [i for i, partner in enumerate(partners) if partner is not None]
            if not kept:
                raise CodealignError(
                    "KTO needs completions to at least two prompts, short enough to follow one another: its "
                    "KL term is taken on completions that belong to another prompt"
                )
            completions = encoded["completion_ids"]
            kl_ids = [list(completions[partners[i]]) for i in kept]
            dropped += len(encoded) - len(kept)
            encoded = encoded.select(kept).add_column("kl_ids", kl_ids)
        if dataset_name == "train":
            self.dropped = dropped
        return encoded

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            weight = self.options.weight_column
            self._signature_columns = [*_COLUMNS, *([weight] if weight else [])]

    def _reference_kind(self) -> str | None:
        return f"completions{' and mismatched ones' if self.with_kl else ''}"

    def _reference_columns(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.installed:
            self._install()
        with self._as_reference() as model:
            return {f"ref_{name}": values for name, values in self._sums(model, batch).items()}

    def _sums(self, model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Log-probabilities of the batch's completions and, where there are any, the mismatched ones."""
        found = {"logps": summed(self._score(model, batch)["logps"], batch["mask"])}
        if self.with_kl:
            found["kl_logps"] = self._kl_logps(model, batch)
        return found

    def _kl_logps(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        other = {name.removeprefix("kl_"): batch[name] for name in batch if name.startswith("kl_")}
        with torch.no_grad():
            return summed(self._score(model, other)["logps"], other["mask"])

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        if return_outputs:
            raise CodealignError("logits are never built here, so compute_metrics cannot have them")
        # Before the policy's own pass: DDP wants the backward pass right after the forward one.
        kl_logps = self._kl_logps(model, inputs) if self.with_kl else None
        if "ref_logps" in inputs:
            reference = {
                name: inputs[f"ref_{name}"] for name in ("logps", "kl_logps") if f"ref_{name}" in inputs
            }
        else:
            with self._as_reference() as frozen:
                reference = self._sums(frozen, inputs)
        scores = self._score(model, inputs, statistics=True)
        logps = summed(scores["logps"], inputs["mask"])
        sides = {"chosen": inputs["label"], "rejected": ~inputs["label"]}
        tensors = {f"{side}_logps": logps[rows] for side, rows in sides.items()}
        tensors |= {f"ref_{side}_logps": reference["logps"][rows] for side, rows in sides.items()}
        if kl_logps is not None:
            tensors["kl_logps"] = self.accelerator.gather(kl_logps)
            tensors["ref_kl_logps"] = self.accelerator.gather(reference["kl_logps"])
        result = self.loss(tensors)
        weights = inputs.get("weight")
        if weights is not None:
            weights = torch.cat([weights[rows] for rows in sides.values()])
        self._report(self._step_sums(scores, inputs, tensors, result), inputs)
        return result.loss(weights)

    def _step_sums(self, scores: Any, inputs: Any, tensors: Mapping[str, Tensor], result: Any) -> Any:
        mask, label = inputs["mask"], inputs["label"]
        found = {"entropy": over(scores["entropy"], mask)} | reward_sums(
            result.chosen_rewards, result.rejected_rewards
        )
        for side, rows in (("chosen", label), ("rejected", ~label)):
            found[f"logits/{side}"] = over(scores["mean_logits"][rows], mask[rows])
            found[f"logps/{side}"] = mean_of(tensors[f"{side}_logps"])
            found[f"log_ratios/{side}"] = mean_of(tensors[f"{side}_logps"] - tensors[f"ref_{side}_logps"])
        return found | {name: mean_of(value) for name, value in result.extras.items()}


def mismatched(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], max_length: int | None = None
) -> list[int | None]:
    """For each row the next one (in a circle) that answers another prompt and fits behind this one's.

    Args:
        prompts: Token ids of each row's prompt.
        completions: Token ids of each row's completion.
        max_length: The most tokens of prompt and completion together.

    Returns:
        The row whose completion is taken; None where there is none.
    """
    keys = [tuple(prompt) for prompt in prompts]
    lengths = [len(completion) for completion in completions]
    count, found = len(keys), []
    for i, key in enumerate(keys):
        room = None if max_length is None else max_length - len(key)
        candidates = ((i + step) % count for step in range(1, count))
        fits = (j for j in candidates if keys[j] != key and (room is None or lengths[j] <= room))
        found.append(next(fits, None))
    return found
