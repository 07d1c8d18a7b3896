"""What stands around an answer: control characters, special tokens of models, thinking.

Every step is one pass over the text, so the time is linear in its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# What is read of a text: about a million tokens.
MAX_RAW_CHARS = 4_000_000

_OPENING = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<｜begin▁of▁sentence｜>|\[/INST\]"
    r"|<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<\|assistant\|>|<｜Assistant｜>|<start_of_turn>\s*model|<fim_middle>|<\|fim_middle\|>)"
)
# `</s>` is also HTML: as a token it is followed by nothing, white space or another token.
_ENDING = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|eom_id|end_of_text|end|return|call|user|system|EOT|eos"
    r"|fim_\w{1,12}|file_sep|file_separator|repo_name|end▁of▁sentence|END_OF_TURN_TOKEN)\|>"
    r"|<｜(?:end▁of▁sentence|User|fim▁\w{1,12})｜>"
    r"|<(?:file_sep|fim_prefix|fim_suffix|fim_middle|fim_pad|end_of_turn|start_of_turn|repo_name|reponame"
    r"|gh_stars|filename|jupyter_\w{1,20}|empty_output|commit_\w{1,10})>"
    r"|(?:</s>|<eos>|<pad>|<EOT>)(?=\s|<|$)"
)
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|constrain\|>\w{0,20}\s*)?<\|message\|>")
_HARMONY_THINKING = re.compile(r"<\|channel\|>\s*(?:analysis|commentary)")
# A tag that code quotes is no tag.
_THINKING = re.compile(
    r"(?<!['\"`])(?:"
    r"(?P<open><(?:think|thinking|thought|reasoning|seed:think)>|\[THINK\]|<\|begin_of_thought\|>)"
    r"|</(?:think|thinking|thought|reasoning|seed:think)>|\[/THINK\]|<\|end_of_thought\|>)(?!['\"`])"
)
_ODD_SPACE = re.compile(r"^[ \t\u00a0\u2007\u202f\u200b\u2060\ufeff]+", re.MULTILINE)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
_WIDE = re.compile("[\u00a0\u2007\u202f]")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An answer without what surrounds it.

    Attributes:
        text: The answer; lines end with a line feed alone.
        cut: The text was longer than `MAX_RAW_CHARS`.
        thinking: The text ended while the model was thinking.
    """

    text: str
    cut: bool
    thinking: bool


def clean(text: str) -> Cleaned:
    """Removes control characters, thinking and special tokens; what follows an end token is not read."""
    cut = len(text) > MAX_RAW_CHARS
    text = _characters(text[:MAX_RAW_CHARS])
    text, channel = _final_channel(text)
    text, thinking = _without_thinking(text)
    return Cleaned(_without_tokens(text), cut, thinking or channel)


def _characters(text: str) -> str:
    """No NUL, byte order mark or lone surrogate; one kind of line end; plain spaces where lines start."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").removeprefix("\ufeff")
    if text.isascii():
        return text
    return _ODD_SPACE.sub(lambda m: _WIDE.sub(" ", _INVISIBLE.sub("", m[0])), text)


def _final_channel(text: str) -> tuple[str, bool]:
    """The last message of the channel `final` where a text has channels, and whether it has none of it."""
    end = -1
    for match in _HARMONY_FINAL.finditer(text):
        end = match.end()
    if end >= 0:
        return text[end:], False
    return ("", True) if _HARMONY_THINKING.search(text) else (text, False)


def _without_thinking(text: str) -> tuple[str, bool]:
    """The text outside of thinking, and whether the thinking never ended.

    An end without a beginning closes thinking that the prompt's template began: all before it goes.
    """
    kept: list[str] = []
    start, inside = 0, False
    for match in _THINKING.finditer(text):
        opens = match["open"] is not None
        if inside and opens:
            continue
        if opens:
            kept.append(text[start : match.start()])
        elif not inside:
            kept.clear()
        inside, start = opens, match.end()
    if not inside:
        kept.append(text[start:])
    answer = "".join(kept)
    return (answer.lstrip("\n") if start else answer), inside


def _without_tokens(text: str) -> str:
    """The text between the tokens that begin an answer and the first one that ends it."""
    start = 0
    while match := _OPENING.match(text, start):
        start = match.end()
    if start:
        # A template puts line ends behind its header; the indentation of a first line stays.
        text = text[start:].lstrip("\n")
    end = _ENDING.search(text)
    return text[: end.start()] if end else text
