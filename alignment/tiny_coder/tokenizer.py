"""The tokenizer of tiny-coder: byte-level BPE with about a thousand entries.

Text is first cut by one regular expression, so that what a small model must look at closely is always
spelled the same way: digits stand alone, and so do the letters of words inside quotes. Punctuation keeps
the space around it, which makes a list separator one token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|end|>"
PAD = "<|pad|>"

PIECES = (
    r"[A-Za-z](?=[A-Za-z]*')"  # a letter of a quoted word
    r"|\d"
    r"|\n *"  # a line break with the indentation behind it
    r"| ?[^\w\s]+(?: [^\w\s]+)*(?: (?=\d))?"  # punctuation; the space before a digit belongs to it
    r"| ?[A-Za-z_]+"
    r"| +"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learns the merges from texts.

    Args:
        texts: Training text.
        vocab_size: Entries, the 256 bytes and the two special tokens included; at least 258.

    Raises:
        ValueError: If `vocab_size` has no room for the bytes.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < 258:
        raise ValueError(
            f"vocab_size={vocab_size} has no room for 256 bytes and 2 special tokens; take 258 or more"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
