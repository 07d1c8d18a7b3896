"""`codealign inspect-data`: rows of training data as the model gets them, token by token."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codegen_eval.config import Config
from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from rich.console import Console

    from alignment.inspection import Lengths, Piece, Side

DESCRIPTION = "Shows tokens and masks of preference pairs (or of rows with labels)."

# Meaning must survive without colour: every run of tokens is named as well.
_STYLES = {
    "prompt": "dim",
    "same": "cyan",
    "differs": "bold black on yellow",
    "completion": "green",
    "end": "bold magenta",
    "beyond": "bold red",
}
_NAMES = {"differs": "differs", "beyond": "too long"}


class InspectConfig(Config):
    """Settings of `codealign inspect-data`."""

    data: Path
    """JSON lines with prompt, chosen, rejected, or prompt, completion; or a folder with pairs.jsonl."""
    model: str
    """Folder or hub id whose tokenizer reads the rows."""
    rows: int = Field(default=3, ge=0)
    """How many rows to show; figures are over all."""
    skip: int = Field(default=0, ge=0)
    """Begin after this many rows."""
    max_length: int | None = Field(default=None, ge=1)
    """Longest row that is trained on: what lies beyond is marked."""


def run(config: InspectConfig, console: Console) -> None:
    """Prints the rows and the figures.

    Raises:
        CodealignError: For data or a tokenizer that cannot be read.
    """
    from alignment.inspection import lengths_of, sides_of

    rows = read_rows(config.data)
    if config.skip >= len(rows):
        raise CodealignError(f"--skip {config.skip}: {config.data} has only {len(rows)} rows")
    tokenizer = _tokenizer(config.model)
    sides = [sides_of(row, tokenizer, config.max_length) for row in rows]
    for i in range(config.skip, min(config.skip + config.rows, len(rows))):
        show(i, rows[i], sides[i], console)
    console.print(summary(lengths_of(sides), config.max_length), markup=False, soft_wrap=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, or of the pairs.jsonl or kto.jsonl of a run directory.

    Raises:
        CodealignError: For no rows, or one without the columns (which, and what was found) or without text.
    """
    from codegen_eval.jsonl import read_numbered

    for name in ("pairs.jsonl", "kto.jsonl"):
        if (path / name).is_file():
            path = path / name
            break
    rows = []
    for line, row in read_numbered(path):
        columns = ("prompt", "completion") if "completion" in row else ("prompt", "chosen", "rejected")
        lacking = [name for name in columns if name not in row]
        if lacking:
            raise CodealignError(
                f"{path}:{line} lacks {', '.join(lacking)}; it has: {', '.join(row) or 'nothing'}"
            )
        for name in columns:
            if not isinstance(row[name], str):
                raise CodealignError(f"{path}:{line}: {name} is no text")
        rows.append({name: row[name] for name in (*columns, *(["label"] if "label" in row else []))})
    if not rows:
        raise CodealignError(f"{path} holds no rows")
    return rows


def show(number: int, row: Mapping[str, Any], sides: Sequence[Side], console: Console) -> None:
    """Prints one row: the prompt once, then each side by its parts."""
    from rich.text import Text

    label = f", label {bool(row['label'])}" if "label" in row else ""
    counts = ", ".join(f"{side.name} {len(side.pieces) - side.prompt}" for side in sides)
    left_out = "; LEFT OUT, longer than max_length" if any(side.too_long for side in sides) else ""
    head = f"row {number}{label}: prompt {sides[0].prompt} tokens, {counts}{left_out}"
    console.print(Text(head, style="bold"), soft_wrap=True)
    _parts(sides[0].pieces[: sides[0].prompt], console)
    for side in sides:
        console.print(Text(f" {side.name}"))
        _parts(side.pieces[side.prompt :], console)
    console.print()


def _parts(pieces: Sequence[Piece], console: Console) -> None:
    """One line a run of tokens of the same part: its name, the number of tokens, the tokens."""
    from rich.text import Text

    for part, group in groupby(pieces, key=lambda piece: piece.part):
        texts = [piece.text for piece in group]
        line = Text(f"  {_NAMES.get(part, part):<10} {len(texts):>5}  ")
        for i, text in enumerate(texts):
            line.append("|" if i else "", style="dim")
            line.append(text, style=_STYLES[part])
        console.print(line, soft_wrap=True)


def summary(lengths: Lengths, max_length: int | None) -> str:
    """The figures in one line."""
    text = f"{lengths.rows} rows; tokens of the longer side: median {lengths.median}, most {lengths.longest}"
    if max_length is not None:
        text += f"; {lengths.too_long} longer than max_length={max_length}, which trainers leave out"
    if lengths.one_token_differs:
        text += f"; in {lengths.one_token_differs} pairs the sides differ in one token at most"
    return text


def _tokenizer(name: str) -> Any:
    from codegen_eval.generation.hf import check_folder, load_tokenizer

    check_folder(name)
    tokenizer = load_tokenizer(name)
    if tokenizer.eos_token_id is None:
        raise CodealignError(f"the tokenizer of {name} has no end token, which trainers append")
    return tokenizer


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line; the data may come first, without its flag."""
    from rich.console import Console

    from codegen_eval.commands.positional import with_flags

    arguments = with_flags(argv, ["data"], InspectConfig)
    config = InspectConfig.parse(arguments, prog="codealign inspect-data", description=DESCRIPTION)
    run(config, Console(highlight=False))
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
