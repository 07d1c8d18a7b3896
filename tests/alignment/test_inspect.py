"""`codealign inspect-data`: tokens and masks as the trainers use them; hostile text does nothing."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from alignment.inspect_command import InspectConfig, main, run
from alignment.inspection import common_tokens, lengths_of, piece_text, sides_of
from alignment.preference.tokens import encode_pair
from codegen_eval.errors import CodealignError
from tests.alignment.reward_modeling import small
from tests.conftest import REPO

MODEL = str(REPO / "models" / "tiny-coder")
PAIR = {
    "prompt": "def f(x):\n",
    "chosen": "    y = 1\n    return x\n",
    "rejected": "    y = 2\n    return x\n",
}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def printed(path: Path, *, colour: bool = False, **settings: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=colour, color_system="standard" if colour else None, width=80)
    run(InspectConfig(data=path, model=MODEL, **settings), console)
    return out.getvalue()


def test_tokens_are_those_of_training() -> None:
    tokenizer = small.tokenizer()
    encoded = encode_pair(PAIR, tokenizer)
    for side in sides_of(PAIR, tokenizer):
        assert len(side.pieces) == len(encoded["prompt_ids"]) + len(encoded[f"{side.name}_ids"])
        assert side.prompt == len(encoded["prompt_ids"]) == side.count("prompt")
        assert side.pieces[-1].part == "end" and side.count("end") == 1


def test_the_differing_middle_is_what_differs() -> None:
    chosen, rejected = sides_of(PAIR, small.tokenizer())
    for side, number in ((chosen, "1"), (rejected, "2")):
        assert [piece.text for piece in side.pieces if piece.part == "differs"] == [number]
        parts = [piece.part for piece in side.pieces if piece.part != "prompt"]
        assert parts[0] == "same" and parts[-2:] == ["same", "end"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2, 3], [1, 9, 3], (1, 1)),
        ([1, 1], [1, 1, 1], (2, 0)),  # without overlap
        ([1, 2], [1, 2], (2, 0)),
        ([], [1], (0, 0)),
        ([1, 2, 3], [4, 3], (0, 1)),
    ],
)
def test_common_tokens_by_hand(one: list[int], other: list[int], expected: tuple[int, int]) -> None:
    assert common_tokens(one, other) == expected


def test_what_lies_beyond_max_length_is_marked_and_counted(tmp_path: Path) -> None:
    tokenizer = small.tokenizer()
    whole = sides_of(PAIR, tokenizer)[0]
    assert not sides_of(PAIR, tokenizer, len(whole.pieces))[0].too_long
    cut = sides_of(PAIR, tokenizer, len(whole.pieces) - 2)[0]
    assert cut.count("beyond") == 2 and [p.text for p in cut.pieces] == [p.text for p in whole.pieces]
    long = {**PAIR, "chosen": "    return x" + " + 1" * 30 + "\n"}
    text = printed(written(tmp_path / "p.jsonl", PAIR, long), max_length=40)
    assert "row 1: " in text and text.count("LEFT OUT") == 1 and "too long" in text
    assert "1 longer than max_length=40, which trainers leave out" in text


def test_plain_text_has_every_part_named_and_no_escape(tmp_path: Path) -> None:
    text = printed(written(tmp_path / "p.jsonl", PAIR))
    assert "\x1b" not in text
    for part in ("prompt", "same", "differs", "end"):
        assert f"  {part}" in text
    assert "in 1 pairs the sides differ in one token at most" in text


def test_on_a_terminal_the_parts_have_colours(tmp_path: Path) -> None:
    text = printed(written(tmp_path / "p.jsonl", PAIR), colour=True)
    assert "\x1b[1;30;43m1\x1b[0m" in text, "the differing token"
    assert "\x1b[36m" in text and "\x1b[1;35m" in text


@pytest.mark.parametrize("colour", [False, True])
def test_hostile_text_does_nothing_to_the_terminal(tmp_path: Path, colour: bool) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e[bold red]x[/]\r\x00|\\n\n"
    row = {"prompt": hostile, "chosen": hostile + "a", "rejected": hostile + "b"}
    text = printed(written(tmp_path / "p.jsonl", row), colour=colour)
    assert "\x1b]" not in text and "\x1b[2J" not in text
    assert not set("\x07\u202e\r\x00") & set(text)
    text = re.sub("\x1b\\[[0-9;]*m", "", text)  # colours are ours
    assert "\x1b" not in text
    assert "[bold" in text.replace("|", ""), "markup is text"
    assert text.count("\n") < 14, "line breaks of the data break no line"


def test_a_piece_says_what_it_is() -> None:
    tokenizer = small.tokenizer()
    [newline] = tokenizer.encode("\n")
    assert piece_text(tokenizer, newline) == "\\n"
    first = tokenizer.encode("日")[0]
    assert piece_text(tokenizer, first) == f"<{first}>", "a part of a character has no text"


def test_rows_with_labels_are_shown_too(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": " = 1\n", "label": label} for label in (True, False)]
    text = printed(written(tmp_path / "kto.jsonl", *rows), rows=1, skip=1)
    assert "row 1, label False: " in text and "row 0" not in text and "completion" in text
    assert printed(tmp_path, rows=0).startswith("2 rows; tokens"), "a folder's kto.jsonl"


def test_figures_are_over_all_rows_by_hand() -> None:
    tokenizer = small.tokenizer()
    rows = [sides_of({"prompt": "x", "completion": "y" * n}, tokenizer, 9) for n in (1, 3, 5, 30)]
    lengths = [len(row[0].pieces) for row in rows]
    found = lengths_of(rows)
    assert (found.rows, found.median, found.longest) == (4, lengths[1], lengths[3])
    assert found.too_long == sum(n > 9 for n in lengths) and found.one_token_differs == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no rows"),
        ([PAIR, {"prompt": "p", "chosen": "c"}], r"p\.jsonl:2 lacks rejected; it has: prompt, chosen"),
        ([{**PAIR, "rejected": None}], r"p\.jsonl:1: rejected is no text"),
    ],
)
def test_data_that_cannot_be_shown_are_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        printed(written(tmp_path / "p.jsonl", *rows))


def test_the_command_takes_the_path_without_a_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "p.jsonl", PAIR)
    assert main([str(path), "--model", MODEL]) == 0
    assert "row 0" in capsys.readouterr().out
    with pytest.raises(CodealignError, match="has only 1 rows"):
        main([str(path), "--model", MODEL, "--skip", "1"])
    with pytest.raises(CodealignError, match="no such model folder"):
        main([str(path), "--model", str(tmp_path / "nowhere")])
