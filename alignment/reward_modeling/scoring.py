"""Reward models as members of an ensemble: they score prompts and completions, in TRL's form.

A member is opened on its first call, so that the object itself is small and pickles (TRL's AsyncGRPO sends
it to another process). Adapters of one base model share it: one backbone in memory, k adapters and heads.

A text is read as in training: prompt and completion tokenised apart, the end token after the completion, also
where a trainer hands over completions without it. (The paper's authors left it out in PPO and trained with
it; so does TRL 1.16, which trains with the end token and scores without.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.reward_modeling.members import load_base, member_folders, read_note
from alignment.rewards.aggregation import Calibration
from codegen_eval.errors import CodealignError
from codegen_eval.generation.hf import load_tokenizer


def row_ids(tokenizer: Any, prompt: str, completion: str) -> list[int]:
    """Token ids of a text as a reward model reads it, in training and after."""
    return [
        *tokenizer.encode(prompt),
        *tokenizer.encode(completion, add_special_tokens=False),
        tokenizer.eos_token_id,
    ]


def score_rows(model: Any, rows: Sequence[Sequence[int]], *, pad: int, batch_size: int) -> list[float]:
    """Scores of token rows, in their order; the model is asked with rows of like length together.

    Args:
        model: A sequence classification model with one output.
        rows: Token ids, none empty.
        pad: Id of the padding token.
        batch_size: Rows a forward pass.
    """
    import torch

    device = next(model.parameters()).device
    scores = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = max(len(rows[i]) for i in part)
        ids = torch.tensor([[*rows[i], *[pad] * (width - len(rows[i]))] for i in part], device=device)
        lengths = torch.tensor([len(rows[i]) for i in part], device=device)
        mask = (torch.arange(width, device=device) < lengths[:, None]).long()
        with torch.inference_mode():
            found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for i, value in zip(part, found.float().reshape(len(part)).tolist(), strict=True):
            scores[i] = value
    return scores


class Backbone:
    """One base model for several adapters, loaded when the first of them is asked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._model: Any = None
        self._loaded: dict[str, str] = {}

    def with_adapter(self, folder: Path, device: str | None) -> Any:
        """The model with one member's adapter and head switched on."""
        from peft import PeftModel

        if self._model is None:
            base = load_base(self.path)[0]
            self._model = base.to(device or _device())
        name = self._loaded.get(str(folder), f"member{len(self._loaded)}")
        if str(folder) not in self._loaded:
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(str(folder), adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, str(folder), adapter_name=name)
            self._loaded[str(folder)] = name
            self._model.eval()
        self._model.set_adapter(name)
        self._model.requires_grad_(False)  # PEFT makes an adapter trainable that is switched on
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_model": None, "_loaded": {}}


class RewardModel:
    """A trained member; `score` (or a call) gives its raw scores, `calibration` its scale.

    Args:
        folder: A full model or an adapter, as `codealign train reward` leaves it in `members/0`; a reward
            model from elsewhere works, without a scale.
        backbone: The base model that adapters share; None loads the one that the adapter names.
        batch_size: Rows a forward pass.
        device: torch device; the current GPU if there is one, else the CPU.

    Raises:
        CodealignError: If the folder holds no model, or its note is broken.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        backbone: Backbone | None = None,
        batch_size: int = 16,
        device: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        base = base_of(self.folder)
        if base is None and not (self.folder / "config.json").is_file():
            raise CodealignError(
                f"{folder} holds no reward model: neither config.json nor adapter_config.json"
            )
        if batch_size < 1:
            raise CodealignError(f"batch_size must be 1 or more (given: {batch_size})")
        note = read_note(self.folder)
        self.max_length = None if note is None else note.max_length
        self.calibration: Calibration | None = None if note is None else note.calibration
        self.batch_size = batch_size
        self.device = device
        self.backbone = backbone if base is None or backbone is not None else Backbone(base)
        self._adapter = base is not None
        self._model: Any = None
        self._tokenizer: Any = None

    def score(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        """One raw score a completion; None for a row longer than those that the member was trained on.

        Raises:
            CodealignError: For a prompt or completion that is no text.
        """
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            if not isinstance(prompt, str) or not isinstance(completion, str):
                raise CodealignError(
                    f"sample {i}: a reward model of plain prompts cannot read messages; use a data set whose "
                    "prompts are texts"
                )
        model, tokenizer = self._open()
        rows = [row_ids(tokenizer, p, c) for p, c in zip(prompts, completions, strict=True)]
        limit = self.max_length or getattr(model.config, "max_position_embeddings", None)
        fitting = [i for i, row in enumerate(rows) if limit is None or len(row) <= limit]
        found = score_rows(
            model, [rows[i] for i in fitting], pad=model.config.pad_token_id, batch_size=self.batch_size
        )
        scores: list[float | None] = [None] * len(rows)
        for i, value in zip(fitting, found, strict=True):
            scores[i] = value
        return scores

    __call__ = score

    @property
    def tokenizer(self) -> Any:
        """The member's tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(str(self.folder))
        return self._tokenizer

    def _open(self) -> tuple[Any, Any]:
        if self._adapter:
            assert self.backbone is not None
            return self.backbone.with_adapter(self.folder, self.device), self.tokenizer
        if self._model is None:
            model, self._tokenizer, headless = load_base(str(self.folder))
            if headless:
                raise CodealignError(
                    f"{self.folder} has no reward head: it is a language model; train one first"
                )
            self._model = model.to(self.device or _device()).eval()
        return self._model, self._tokenizer

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_tokenizer": None}


def load_members(
    folder: Path | str, *, batch_size: int = 16, device: str | None = None
) -> dict[str, RewardModel]:
    """The members of a folder that `codealign train reward` made, by name; adapters share their base model.

    Raises:
        CodealignError: If there is none, or not all are there.
    """
    return open_members(member_folders(Path(folder)), batch_size=batch_size, device=device)


def open_members(
    folders: Mapping[str, Path], *, batch_size: int = 16, device: str | None = None
) -> dict[str, RewardModel]:
    """The members in these folders, by name; adapters of one base model share it."""
    shared: dict[str, Backbone] = {}
    members = {}
    for name, path in folders.items():
        base = base_of(path)
        backbone = None if base is None else shared.setdefault(base, Backbone(base))
        members[name] = RewardModel(path, backbone=backbone, batch_size=batch_size, device=device)
    return members


def base_of(folder: Path) -> str | None:
    """The base model that an adapter names; None for a full model."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise CodealignError(f"{path} names no base model: {error!r}") from None


def _device() -> str:
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
