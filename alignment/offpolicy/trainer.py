"""One trainer for losses on the answers of a prompt: transformers' Trainer with its step replaced.

A batch is `per_device_train_batch_size` prompts with all their answers, a row each. The loss is a sum over
prompts (RRHF) or tokens (RAFT) divided by their number in the whole step, over all micro-batches and
processes, so that accumulation and processes change nothing. Log-probabilities come by chunks of rows, as in
preference training (preference/scoring.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer

from alignment.losses.tokens import summed
from alignment.offpolicy.data import Candidates
from alignment.onpolicy.rrhf import rrhf_loss
from alignment.preference.collate import Collator
from alignment.preference.metrics import Sums, mean_of, means, over
from alignment.preference.scoring import install, score
from alignment.preference.tokens import completion_ids
from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMNS = ("prompt_ids", "completion_ids", "lengths", "rewards")


class Objective(ABC):
    """A loss as a sum over items, and how many items a batch holds."""

    @abstractmethod
    def items(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Number of items."""

    @abstractmethod
    def __call__(self, batch: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> tuple[Tensor, Sums]:
        """The sum over items, with gradient, and what to report.

        Args:
            batch: `mask` (answers, tokens), `rewards` (answers,), `group` (answers,): numbers of prompts.
            scores: As `scoring.score` gives them with statistics.
        """


@dataclass(frozen=True)
class Ranking(Objective):
    """RRHF's loss of each prompt; see `onpolicy.rrhf`."""

    rank_weight: float
    length_penalty: float
    imitation: str

    def items(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Prompts."""
        return batch["group"].max() + 1

    def __call__(self, batch: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> tuple[Tensor, Sums]:
        """The sum over prompts."""
        logps, lengths = summed(scores["logps"], batch["mask"]), batch["mask"].sum(1)
        found = [
            rrhf_loss(
                logps[rows],
                lengths[rows],
                batch["rewards"][rows],
                length_penalty=self.length_penalty,
                rank_weight=self.rank_weight,
                imitation=self.imitation,  # type: ignore[arg-type]
            )
            for rows in (batch["group"] == number for number in range(int(self.items(batch))))
        ]
        values = logps.detach() / lengths**self.length_penalty
        worse = (batch["group"][:, None] == batch["group"]) & (
            batch["rewards"][:, None] < batch["rewards"][None, :]
        )
        ordered = (values[:, None] < values[None, :])[worse]
        sums = {
            "rank_loss": mean_of(torch.stack([part.rank_loss for part in found])),
            "sft_loss": mean_of(torch.stack([part.sft_loss for part in found])),
            "rewards/accuracies": mean_of(ordered.double()),
        }
        return torch.stack([part.loss for part in found]).sum(), sums


class Imitation(Objective):
    """RAFT: the negative log-likelihood of the kept answers, by token."""

    def items(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Tokens."""
        return batch["mask"].sum()

    def __call__(self, batch: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> tuple[Tensor, Sums]:
        """The sum over tokens."""
        return -summed(scores["logps"], batch["mask"]).sum(), {}


class CandidateCollator(Collator):
    """Batches of prompts with their answers: one row of the layout an answer, in order."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch's tensors: those of a layout, `rewards` and `group`."""
        groups, rewards, numbers = [], [], []
        for number, row in enumerate(rows):
            start = 0
            for length, reward in zip(row["lengths"], row["rewards"], strict=True):
                groups.append((row["prompt_ids"], (row["completion_ids"][start : start + length],)))
                rewards.append(float(reward))
                numbers.append(number)
                start += length
        # float64: rewards that differ in the seventh digit must not become equal.
        return self.tensors(groups) | {
            "rewards": torch.tensor(rewards, dtype=torch.float64),
            "group": torch.tensor(numbers),
        }


class CandidateTrainer(Trainer):  # type: ignore[misc]
    """Trains on scored answers.

    Args:
        model: A causal language model, in memory.
        args: TRL's SFTConfig.
        candidates: Prompts with their answers.
        tokenizer: The model's.
        objective: The loss.
        append_eos: Whether answers end with the end token.
        peft_config: Adapters to train instead of the model.

    Raises:
        CodealignError: For a model without a head, or data of which nothing fits `max_length`.
    """

    def __init__(
        self,
        model: Any,
        args: Any,
        candidates: Sequence[Candidates],
        tokenizer: Any,
        *,
        objective: Objective,
        append_eos: bool = True,
        peft_config: Any = None,
    ) -> None:
        self.objective = objective
        self._sums: list[Sums] = []
        with args.main_process_first(desc="tokenizing"):
            dataset, self.dropped = encode_candidates(
                candidates, tokenizer, args.max_length, append_eos=append_eos
            )
        if args.gradient_checkpointing:
            model.config.use_cache = False
        if peft_config is not None:
            from peft import get_peft_model

            if args.gradient_checkpointing:
                model.enable_input_require_grads()
            model = get_peft_model(model, peft_config)
        install(model.get_base_model() if hasattr(model, "peft_config") else model)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        super().__init__(
            model=model,
            args=args,
            train_dataset=dataset,
            processing_class=tokenizer,
            data_collator=CandidateCollator(pad_id=pad),
        )
        # So that the Trainer asks for the number of items and does not divide by the micro-batches itself.
        self.model_accepts_loss_kwargs = True

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(_COLUMNS)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """Items of a whole step: all micro-batches of all processes."""
        if not batch_samples:
            return None
        count = torch.stack([self.objective.items(batch).to(device) for batch in batch_samples]).sum()
        return self.accelerator.reduce(count, "sum")

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """The micro-batch's share of the step's loss.

        Raises:
            CodealignError: If outputs are wanted: logits are never built here.
        """
        if return_outputs:
            raise CodealignError("logits are never built here, so there is no evaluation by compute_metrics")
        with self.accelerator.autocast():
            scores = score(model, inputs, statistics=True)
        total, sums = self.objective(inputs, scores)
        mask = inputs["mask"]
        logps = summed(scores["logps"].detach(), mask)
        sums |= {
            "nll": over(-scores["logps"], mask),
            "entropy": over(scores["entropy"], mask),
            "mean_token_accuracy": over(scores["top1"].double(), mask),
            "logps": mean_of(logps),
            "reward": mean_of(inputs["rewards"]),
        }
        self._sums.append(sums)
        if num_items_in_batch is None:
            num_items_in_batch = self.objective.items(inputs)
        # DDP and its like take the mean over processes; the sum is wanted.
        return total * self.accelerator.num_processes / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last row, over all processes."""
        if self._sums and "loss" in logs:
            added = {
                name: (
                    torch.stack([sums[name][0] for sums in self._sums]).sum(),
                    torch.stack([sums[name][1] for sums in self._sums]).sum(),
                )
                for name in self._sums[0]
            }
            logs = {**logs, **means(added, lambda total: self.accelerator.reduce(total, "sum"))}
            self._sums = []
        super().log(logs, start_time)


def encode_candidates(
    candidates: Sequence[Candidates], tokenizer: Any, max_length: int | None, *, append_eos: bool
) -> tuple[Dataset, int]:
    """Token ids by prompt; the answers lie one behind the other, `lengths` tells them apart.

    Answers longer than `max_length` with their prompt are left out whole: a cut one would teach to stop, or
    to go on, in the wrong place.

    Returns:
        The data set, and the number of answers that were left out.

    Raises:
        CodealignError: If nothing is short enough, a prompt has no token, or an answer has none.
    """
    from datasets import Dataset

    rows: list[dict[str, Any]] = []
    dropped = 0
    for number, entry in enumerate(candidates):
        prompt = list(tokenizer.encode(entry.prompt))
        if not prompt:
            raise CodealignError(f"prompt {number} has no token, so nothing predicts an answer's first one")
        answers = [completion_ids(text, tokenizer, append_eos) for text in entry.completions]
        if not all(answers):
            raise CodealignError(
                f"an answer to prompt {number} has no token; set append_eos: true, or leave empty answers out"
            )
        fits = [max_length is None or len(prompt) + len(ids) <= max_length for ids in answers]
        dropped += fits.count(False)
        kept = [(ids, reward) for ids, reward, ok in zip(answers, entry.rewards, fits, strict=True) if ok]
        if kept:
            rows.append(
                {
                    "prompt_ids": prompt,
                    "completion_ids": [token for ids, _ in kept for token in ids],
                    "lengths": [len(ids) for ids, _ in kept],
                    "rewards": [reward for _, reward in kept],
                }
            )
    if not rows:
        raise CodealignError(f"all {dropped} answers are longer than max_length={max_length}; raise it")
    return Dataset.from_list(rows), dropped
