"""A tokenizer of single characters, for tasks whose alphabet is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|end|>"
PAD = "<|pad|>"


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token a character, plus end and padding; other characters are an error of the caller's.

    Raises:
        CodealignError: For an alphabet that is empty or holds a character twice.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if not alphabet or len(set(alphabet)) != len(alphabet):
        raise CodealignError(f"the alphabet {alphabet!r} must hold each of its characters once")
    names = [PAD, END, *alphabet]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=PAD))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=PAD)
