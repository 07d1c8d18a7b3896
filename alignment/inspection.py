"""What a model sees of a row: token pieces, each with the part of the row that it belongs to.

The parts are those that the trainers use: the prompt has no loss; of two sides, the tokens before and after
the differing middle are common; the end token is added by the trainer; what lies beyond `max_length` makes
the trainer leave the whole row out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen_eval.report.text import visible

PARTS = ("prompt", "same", "differs", "completion", "end", "beyond")


@dataclass(frozen=True, slots=True)
class Piece:
    """One token: its text, safe to print, and its part (one of `PARTS`)."""

    text: str
    part: str


@dataclass(frozen=True, slots=True)
class Side:
    """One sequence of a row.

    Attributes:
        name: "chosen", "rejected", or "completion".
        prompt: How many of the pieces are the prompt's.
        pieces: Prompt, completion and end token.
    """

    name: str
    prompt: int
    pieces: tuple[Piece, ...]

    def count(self, *parts: str) -> int:
        """Number of tokens in these parts."""
        return sum(piece.part in parts for piece in self.pieces)

    @property
    def too_long(self) -> bool:
        """Whether tokens lie beyond the longest row that is trained on."""
        return self.count("beyond") > 0


def common_tokens(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """Tokens that two sides share at their start and at their end, without overlap."""
    limit = min(len(one), len(other))
    start = next((i for i in range(limit) if one[i] != other[i]), limit)
    left = limit - start
    return start, next((i for i in range(left) if one[-1 - i] != other[-1 - i]), left)


def sides_of(row: Mapping[str, Any], tokenizer: Any, max_length: int | None = None) -> list[Side]:
    """The sequences of a row with its tokens, tokenised as the trainers do it.

    Args:
        row: Texts `prompt`, `chosen`, `rejected`, or `prompt`, `completion`.
        tokenizer: transformers' tokenizer.
        max_length: Longest row that is trained on.
    """
    prompt = list(tokenizer.encode(row["prompt"]))
    names = [name for name in ("chosen", "rejected", "completion") if name in row]
    ids = {name: list(tokenizer.encode(row[name], add_special_tokens=False)) for name in names}
    start, end = common_tokens(*ids.values()) if len(names) == 2 else (0, 0)
    found = []
    for name, tokens in ids.items():
        if len(names) == 2:
            parts = ["same"] * start + ["differs"] * (len(tokens) - start - end) + ["same"] * end
        else:
            parts = ["completion"] * len(tokens)
        parts = ["prompt"] * len(prompt) + parts + ["end"]
        everything = [*prompt, *tokens, tokenizer.eos_token_id]
        if max_length is not None:
            parts[max_length:] = ["beyond"] * len(parts[max_length:])
        texts = (piece_text(tokenizer, token) for token in everything)
        found.append(Side(name, len(prompt), tuple(Piece(t, p) for t, p in zip(texts, parts, strict=True))))
    return found


def piece_text(tokenizer: Any, token: int) -> str:
    r"""A token's text, safe to print: line breaks and tabs as \n and \t, anything hidden as its code point.

    A token that is a part of a character has no text of its own; it is shown by its number.
    """
    text = tokenizer.decode([token])
    if not text or "\ufffd" in text:
        return f"<{token}>"
    shown = visible(text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t"))
    return shown.replace("|", "\\|")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Row lengths in tokens (the longer side, prompt and end token included), and what they mean."""

    rows: int
    median: int
    longest: int
    too_long: int
    one_token_differs: int


def lengths_of(rows: Sequence[Sequence[Side]]) -> Lengths:
    """Figures over rows as `sides_of` makes them; at least one."""
    longest = sorted(max(len(side.pieces) for side in row) for row in rows)
    return Lengths(
        rows=len(rows),
        median=longest[(len(longest) - 1) // 2],
        longest=longest[-1],
        too_long=sum(any(side.too_long for side in row) for row in rows),
        one_token_differs=sum(
            len(row) == 2 and max(side.count("differs") for side in row) <= 1 for row in rows
        ),
    )
