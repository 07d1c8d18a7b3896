"""Members of a reward ensemble: how they are drawn, and how they lie on the disk.

Members share data and hyper-parameters; what differs is the head they begin with and the order in which they
see the pairs (Coste et al. 2023, section 4.3). Both come from seeds that depend on the base seed and on the
member's number alone, so members 0 to 2 of five are those of three.

The trap with adapters: LoRA's B begins at zero and PEFT clones one head into every adapter, so that members
put onto one model are equal at the start, and the paper's main source of diversity is gone. Here each member
is drawn from its own seed, head and A alike (a test holds that).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignment.rewards.aggregation import Calibration
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole
from codegen_eval.generation.hf import check_folder, load_tokenizer

NOTE = "member.json"
"""File in a member's folder that is written last: a folder without it was torn by a kill."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Where a member's random numbers come from: its head (and LoRA's A), and the order of its pairs."""

    head: int
    order: int


def member_seeds(
    seed: int, members: int, *, vary_head: bool = True, vary_order: bool = True
) -> tuple[Seeds, ...]:
    """Seeds of each member.

    Args:
        seed: Of the whole ensemble.
        members: k.
        vary_head: Whether every member draws a head of its own; else all take member 0's.
        vary_order: Whether every member shuffles the pairs its own way; else all take member 0's.

    Raises:
        CodealignError: For fewer than one member, a negative seed, or several members that would be equal.
    """
    if members < 1:
        raise CodealignError(f"an ensemble needs at least one member (given: {members})")
    if seed < 0:
        raise CodealignError(f"--seed must be 0 or more (given: {seed})")
    if members > 1 and not (vary_head or vary_order):
        raise CodealignError(
            f"{members} members with equal heads and equal order would be one model {members} times: "
            "set --vary_head true or --vary_order true, or --members 1"
        )
    drawn = [np.random.SeedSequence([seed, j]).generate_state(2) >> 1 for j in range(members)]
    return tuple(
        Seeds(int(drawn[j if vary_head else 0][0]), int(drawn[j if vary_order else 0][1]))
        for j in range(members)
    )


def load_base(path: str, *, dtype: str = "float32", attention: str = "sdpa") -> tuple[Any, Any, bool]:
    """A model with a scalar head instead of its unembedding, its tokenizer, and whether the head is new.

    A new head is drawn from the process's random numbers: seed them first (`draw_member` does).

    Raises:
        CodealignError: If nothing is there, or no model or tokenizer that can score.
    """
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    check_folder(path)
    tokenizer = load_tokenizer(path)
    try:
        with _quiet(logging):
            model, found = AutoModelForSequenceClassification.from_pretrained(
                path, num_labels=1, dtype=dtype, attn_implementation=attention, output_loading_info=True
            )
    except ImportError:
        raise
    except Exception as error:  # the libraries' own errors have no common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CodealignError(f"cannot make a reward model of {path}: {reason}") from None
    if tokenizer.eos_token_id is None:
        raise CodealignError(f"the tokenizer of {path} has no end token; a reward model reads the last token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    missing = sorted(found["missing_keys"])
    if any(not key.startswith(("score.", "classifier.")) for key in missing):
        raise CodealignError(f"{path} lacks weights: {', '.join(missing[:5])}")
    return model, tokenizer, bool(missing)


class _quiet:
    """Silences transformers' report of the head that is new and of the unembedding that is not used."""

    def __init__(self, logging: Any) -> None:
        self.logging = logging

    def __enter__(self) -> None:
        self.level = self.logging.get_verbosity()
        self.logging.set_verbosity_error()

    def __exit__(self, *_: object) -> None:
        self.logging.set_verbosity(self.level)


def draw_member(
    path: str,
    seeds: Seeds,
    *,
    dtype: str = "float32",
    attention: str = "sdpa",
    peft_config: Any = None,
    own_head: bool = True,
    autocast_adapter: bool = True,
) -> tuple[Any, Any]:
    """A member before training: head and adapter from its own seed.

    Args:
        path: Folder or hub id of a causal language model (or of a reward model, see `own_head`).
        seeds: The member's.
        dtype: torch dtype's name.
        attention: transformers' attention implementation.
        peft_config: A LoRA configuration for a member that is an adapter; None for a full copy.
        own_head: The member must get a head of its own; refused where the model brings one.
        autocast_adapter: False keeps the adapter in the model's dtype (ZeRO-3 needs one dtype).

    Returns:
        Model and tokenizer, on the CPU (or where DeepSpeed puts it).

    Raises:
        CodealignError: As `load_base`; for a model that already has a head where each member needs its own.
    """
    from transformers import set_seed

    set_seed(seeds.head)
    model, tokenizer, new = load_base(path, dtype=dtype, attention=attention)
    if own_head and not new:
        raise CodealignError(
            f"{path} is a reward model already: all members would begin with its head. Give a language "
            "model, or --vary_head false (members then differ by the order of the pairs alone)"
        )
    if peft_config is not None:
        from peft import get_peft_model

        set_seed(seeds.head)
        peft_config.task_type = "SEQ_CLS"  # so that PEFT trains and saves the head with the adapter
        model = get_peft_model(model, peft_config, autocast_adapter_dtype=autocast_adapter)
    return model, tokenizer


@dataclass(frozen=True, slots=True)
class MemberNote:
    """What lies beside a member's weights.

    Attributes:
        max_length: Longest row, in tokens, that it was trained on; longer ones have no score.
        seeds: The member's; None where it was not trained here.
        calibration: Its scale; None before it was measured.
    """

    max_length: int | None
    seeds: Seeds | None = None
    calibration: Calibration | None = None

    def write(self, folder: Path) -> None:
        """Writes the note in one step."""
        text = json.dumps({"format": 1, **asdict(self)}, indent=1, sort_keys=True, allow_nan=False)
        write_whole(folder / NOTE, [text.encode() + b"\n"])


def read_note(folder: Path) -> MemberNote | None:
    """The note of a member's folder; None where there is none.

    Raises:
        CodealignError: For a note that is not ours or whose numbers make no sense.
    """
    path = folder / NOTE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        seeds, scale, length = found["seeds"], found["calibration"], found["max_length"]
        note = MemberNote(
            max_length=None if length is None else int(length),
            seeds=None if seeds is None else Seeds(int(seeds["head"]), int(seeds["order"])),
            calibration=None
            if scale is None
            else Calibration(float(scale["mean"]), float(scale["std"]), int(scale["samples"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CodealignError(f"{path} is no member's note: {error!r}") from None
    scale = note.calibration
    if scale is not None and not (np.isfinite(scale.mean) and np.isfinite(scale.std) and scale.std > 0):
        raise CodealignError(
            f"{path}: a scale needs a finite mean and a deviation above 0, got {scale.mean}, {scale.std}; "
            "calibrate the member again"
        )
    return note


def member_folders(folder: Path) -> dict[str, Path]:
    """The members' folders by name: of a run of `codealign train reward`, or a single model's own folder.

    Raises:
        CodealignError: If there is none, or the run is not complete: no member is ever left out.
    """
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        return {"member0": folder}
    found = [p for p in (folder / "members").glob("*") if p.name.isdigit()]
    if not found:
        raise CodealignError(
            f"{folder} holds no reward model: neither a model, an adapter, nor members/0 of "
            "`codealign train reward`"
        )
    if (folder / "protocol.json").exists() and not (folder / "finished.json").exists():
        raise CodealignError(
            f"{folder} is not complete ({len(found)} members so far); run its training command again"
        )
    ordered = sorted(found, key=lambda p: int(p.name))
    if [int(p.name) for p in ordered] != list(range(len(ordered))):
        raise CodealignError(
            f"{folder}/members lacks a number: there are {', '.join(p.name for p in ordered)}"
        )
    return {f"member{p.name}": p for p in ordered}
