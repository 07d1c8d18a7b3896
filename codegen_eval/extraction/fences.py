"""Fenced code blocks of Markdown as models write them: unclosed, nested in lists, with odd info strings."""

from __future__ import annotations

import re
from dataclasses import dataclass

# More blocks than that are not read: the first and the last half of them are.
MAX_BLOCKS = 400

_FENCE = re.compile(r"(?P<indent>(?:[ \t]|>|(?:[-*+]|\d{1,3}[.)])[ \t])*)(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_INFO = re.compile(r"[{.\s]*([\w+#./\\-]+)")
_ENDINGS = {
    "py": "python",
    "cpp": "cpp",
    "cc": "cpp",
    "cxx": "cpp",
    "hpp": "cpp",
    "c": "c",
    "h": "c",
    "js": "javascript",
    "mjs": "javascript",
    "java": "java",
}
_NAMES = {
    **dict.fromkeys(("python", "python3", "py", "py3", "ipython", "ipython3"), "python"),
    **dict.fromkeys(("cpp", "c++", "cc", "cxx", "c++11", "c++14", "c++17", "c++20", "cpp17"), "cpp"),
    **dict.fromkeys(("javascript", "js", "node", "nodejs", "mjs"), "javascript"),
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        code: Its lines without the fences, dedented by the fence's own indentation.
        language: As `sandbox.languages` names it, another tag in lower case, or empty.
        closed: It has a closing fence.
        before: Index of the text's line that holds the opening fence.
    """

    code: str
    language: str
    closed: bool
    before: int


def language_of(info: str) -> str:
    """The language that an info string names: `python`, `Python3 title="a.py"`, `{.py}`, `src/main.cpp`."""
    match = _INFO.match(info)
    if match is None:
        return ""
    word = match[1].lower()
    if word in _NAMES:
        return _NAMES[word]
    ending = word.rsplit(".", 1)[-1] if "." in word else ""
    return _ENDINGS.get(ending, word)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a text, in order.

    A closing fence has the opening one's character, is at least as long, has no info string and stands at
    most three columns deeper, so fences in a docstring do not close a block. A block that is opened anew
    with a language, before it was closed, ends there.
    """
    lines = text.split("\n")
    marks = [
        (i, m) for i, line in enumerate(lines) if ("```" in line or "~~~" in line) and (m := _mark(line))
    ]
    if len(marks) > 2 * MAX_BLOCKS:
        marks = marks[:MAX_BLOCKS] + marks[-MAX_BLOCKS:]
    found: list[Block] = []
    opened: tuple[int, re.Match[str]] | None = None
    for i, mark in marks:
        if opened is None:
            opened = (i, mark)
        elif _closes(opened[1], mark):
            found.append(_block(lines, opened, i, True))
            opened = None
        elif _opens_anew(opened[1], mark):
            found.append(_block(lines, opened, i, False))
            opened = (i, mark)
    if opened is not None:
        found.append(_block(lines, opened, len(lines), False))
    return found


def _mark(line: str) -> re.Match[str] | None:
    """A fence on a line of its own: inline code such as ```` ```x``` ```` is none."""
    match = _FENCE.match(line[:1000])
    return match if match and not ("`" in match["info"] and match["fence"][0] == "`") else None


def _closes(opened: re.Match[str], mark: re.Match[str]) -> bool:
    same = mark["fence"].startswith(opened["fence"])
    return same and not mark["info"].strip() and _width(mark) <= _width(opened) + 3


def _opens_anew(opened: re.Match[str], mark: re.Match[str]) -> bool:
    same = opened["fence"][0] == mark["fence"][0] and len(mark["fence"]) <= len(opened["fence"])
    return same and bool(mark["info"].strip()) and _width(mark) <= _width(opened)


def _width(mark: re.Match[str]) -> int:
    return len(mark["indent"].expandtabs(4))


def _block(lines: list[str], opened: tuple[int, re.Match[str]], end: int, closed: bool) -> Block:
    start, mark = opened
    quoted = ">" in mark["indent"]
    width = _width(mark)
    body = [_outdented(line, width, quoted) for line in lines[start + 1 : end]]
    return Block("\n".join(body) + ("\n" if body else ""), language_of(mark["info"]), closed, start)


def _outdented(line: str, width: int, quoted: bool) -> str:
    """The line without the indentation of its fence, as far as it has it."""
    if quoted and line.lstrip().startswith(">"):
        return line.lstrip()[1:].removeprefix(" ")
    if not width:
        return line
    spaces = len(line) - len(line.lstrip(" \t"))
    lead = line[:spaces].expandtabs(4) if "\t" in line[:spaces] else line[:spaces]
    return lead[min(width, len(lead)) :] + line[spaces:]
