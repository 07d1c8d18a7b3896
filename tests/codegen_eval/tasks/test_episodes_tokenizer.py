"""The tokenizer of single characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import ALPHABET
from codegen_eval.tasks.episodes_tokenizer import character_tokenizer


def test_a_character_is_a_token_and_text_comes_back_also_from_a_folder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = character_tokenizer(ALPHABET)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "31847=402213#32<"
    for one in (tokenizer, again):
        ids = one.encode(text)
        assert len(ids) == len(text) and one.decode(ids) == text
        assert one.backend_tokenizer.decode([*ids, one.eos_token_id], skip_special_tokens=False).endswith(
            "32<<|end|>"
        )
        assert one.eos_token_id not in ids and one.pad_token_id not in ids


@pytest.mark.parametrize("alphabet", ["", "aba"])
def test_an_alphabet_that_cannot_be_is_refused(alphabet: str) -> None:
    with pytest.raises(CodealignError, match="once"):
        character_tokenizer(alphabet)
