"""The program that a completion makes of its prompt."""

from __future__ import annotations

import re
from collections import Counter

from codegen_eval.extraction.parsing import MAX_TEXT_CHARS, count_reason

_STOP_LINE = re.compile(r"(def|async\s+def|class|if\s+__name__|assert|print)\b|@\w|```")


def program(prompt: str, completion: str, entry_point: str, *, reasons: Counter[str] | None = None) -> str:
    """The program that a completion makes of its prompt, cut where the function's body ends.

    The body ends before the next top-level `def`, `class`, decorator, `if __name__`, `assert`, `print` or
    code fence. The result always starts with the prompt, and ends with one newline, so that equal programs
    are equal text.

    Args:
        prompt: Text up to the function's body.
        completion: What the model wrote after it.
        entry_point: Name of the function; a completion that starts by defining it anew keeps that definition.
        reasons: If given, counts what happened: `whole`, `cut`, `empty`, `too_long`.
    """
    if len(completion) > MAX_TEXT_CHARS:
        count_reason(reasons, "too_long")
        completion = completion[:MAX_TEXT_CHARS]
    lines = completion.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8").split("\n")
    again = re.compile(rf"def\s+{re.escape(entry_point)}\s*\(")
    kept: list[str] = []
    redefined = False
    for number, line in enumerate(lines):
        # The first line continues the prompt's last one unless that one is closed.
        if (number > 0 or prompt.endswith("\n")) and _STOP_LINE.match(line):
            if redefined or any(text.strip() for text in kept) or not again.match(line):
                count_reason(reasons, "cut")
                break
            redefined = True
        kept.append(line)
    else:
        count_reason(reasons, "whole")
    body = "\n".join(kept).rstrip()
    if not body.strip():
        count_reason(reasons, "empty")
        return prompt if prompt.endswith("\n") else prompt + "\n"
    return prompt + body + "\n"
