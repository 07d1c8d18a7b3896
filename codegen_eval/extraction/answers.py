"""The program in whatever a model wrote: a continuation, a chat answer, thinking and all.

A pure function on text: nothing is executed, and the time is linear in the text's length.
`docs/extraction.md` lists the reasons and notes, and how the rules differ from those of other harnesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from codegen_eval.errors import unknown
from codegen_eval.extraction.cleaning import clean
from codegen_eval.extraction.fences import Block, blocks, language_of
from codegen_eval.extraction.parsing import MAX_TEXT_CHARS
from codegen_eval.extraction.python_code import (
    Asked,
    Code,
    asked,
    body_of,
    continuation,
    parses,
    program_in,
    stretch_of,
    whole_program,
)
from codegen_eval.records import Problem, Sample

Rule = Literal["auto", "first", "last", "longest"]

_TAGS = {
    "[PYTHON]": "[/PYTHON]",
    "[BEGIN]": "[DONE]",
    "<answer>": "</answer>",
    "<code>": "</code>",
    "<solution>": "</solution>",
}
_MAX_PARSED_BLOCKS = 8
_INCLUDES = {"c": "#include", "cpp": "#include", "java": "import "}


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found.

    Attributes:
        solution: A program that stands alone; empty where there is none.
        reason: Where it was, or why there is none: one word of the table in `docs/extraction.md`.
        notes: What was done to it.
    """

    solution: str
    reason: str
    notes: tuple[str, ...] = ()


def extract(
    text: str, *, prompt: str = "", entry_point: str = "", rule: Rule = "auto", language: str = "python"
) -> Extracted:
    """The program in a raw completion or chat answer.

    Args:
        text: What the model wrote, with special tokens or without.
        prompt: What it was to continue, or what a chat showed it: names that the answer lacks come from it.
        entry_point: `f`, `Solution.f`, or empty for a whole program, of which nothing is cut.
        rule: Which of several fenced blocks: `auto` takes the last complete one that defines the entry point
            (the longest where there is no entry point); the others go by place or length alone.
        language: Of the program; all but Python is taken as it stands.

    Raises:
        CodealignError: For an unknown rule. No text raises.
    """
    if rule not in get_args(Rule):
        raise unknown("extraction rule", rule, get_args(Rule))
    cleaned = clean(text)
    if not cleaned.text.strip():
        return Extracted("", "thinking_unclosed" if cleaned.thinking else "empty")
    finder = _Python(asked(prompt, entry_point), rule)
    wanted = language_of(language)
    if wanted not in ("python", ""):
        finder = _Other(Asked(prompt, entry_point.rpartition(".")[2]), rule, wanted)
    reason, code = finder.find(cleaned.text)
    if cleaned.thinking and not reason.startswith("fenced"):
        return Extracted("", "thinking_unclosed")
    notes = dict.fromkeys((*code.notes, "too_long") if cleaned.cut else code.notes)
    return Extracted(code.text, reason, tuple(notes))


def extract_samples(
    samples: Iterable[Sample], problems: Mapping[str, Problem], *, rule: Rule = "auto"
) -> Iterator[Sample]:
    """The samples with `solution` extracted from their raw text, which stays as `completion`; `meta` says
    `reason` and `notes`.

    Args:
        samples: A sample's raw text is its completion, else its solution.
        problems: By task id.
        rule: As for `extract`.

    Raises:
        CodealignError: For a sample of a task that is not among the problems.
    """
    for sample in samples:
        if sample.task_id not in problems:
            raise unknown("task id", sample.task_id, problems)
        problem = problems[sample.task_id]
        raw = sample.completion if sample.completion is not None else sample.solution or ""
        found = extract(
            raw,
            prompt=problem.prompt if problem.continues else "",
            entry_point=problem.entry_point,
            rule=rule,
            language=problem.language,
        )
        meta = {**sample.meta, "reason": found.reason, "notes": list(found.notes)}
        yield replace(sample, completion=raw, solution=found.solution, meta=meta)


def _between_tags(text: str) -> str:
    """What stands between the tags in which some prompts ask for code; empty where there are none."""
    for opening, closing in _TAGS.items():
        start = text.find(opening)
        if start >= 0:
            start += len(opening)
            end = text.find(closing, start)
            return text[start : end if end >= 0 else len(text)].lstrip(" \t").removeprefix("\n")
    return ""


class _Python:
    """Finds Python: what a text is by itself, then what it continues, then what its fences hold."""

    language = "python"

    def __init__(self, asked: Asked, rule: Rule) -> None:
        self.asked = asked
        self.rule = rule

    def find(self, text: str) -> tuple[str, Code]:
        """The reason and the code."""
        if text.lstrip().startswith(tuple(_TAGS)) and (inside := self._tagged(text)):
            return inside
        if whole := whole_program(text, self.asked):
            return "program", whole
        fenced = blocks(text)
        if fenced:
            head = "\n".join(text.split("\n")[: fenced[0].before])
            found = self._head(head, fenced[0]) or self._block(fenced)
        else:
            found = self._bare(text)
        if found:
            return found
        if code := stretch_of(text, self.asked):
            return "chat_code", code
        return self._broken(text)

    def _broken(self, text: str) -> tuple[str, Code]:
        """What is meant as code but is none; the sandbox will call it a syntax error."""
        text = text[:MAX_TEXT_CHARS].rstrip() + "\n"
        if self.asked.opened and text.lstrip("\n").startswith((" ", "\t")):
            return "continuation", Code(self.asked.prompt + text, ("unparsable",))
        if self.asked.root and self.asked.defined_by(text):
            return "program", Code(text, ("unparsable",))
        return "no_code", Code("")

    def _head(self, head: str, first: Block) -> tuple[str, Code] | None:
        """Code before the first fence: a body that continues the prompt, or a block that it opened."""
        if not head.strip():
            return None
        if code := continuation(head, self.asked):
            return "continuation", code
        if first.language or not self.asked.defined_by(head):
            return None
        if code := whole_program(head, self.asked):
            return "prefilled", code
        return None

    def _tagged(self, text: str) -> tuple[str, Code] | None:
        """A program between tags."""
        inside = _between_tags(text)
        if not inside.strip() or "```" in inside:
            return None
        code = program_in(inside, self.asked)
        return None if {"no_entry_point", "unparsable"} & set(code.notes) else ("tagged", code)

    def _bare(self, text: str) -> tuple[str, Code] | None:
        """Code without fences."""
        if tagged := self._tagged(text):
            return tagged
        if not self.asked.root:
            return None
        # Where the text defines the entry point itself, it is no body, but a body may be followed by that.
        code = (continuation if self.asked.defined_by(text) else body_of)(text, self.asked)
        return ("continuation", code) if code else None

    def _block(self, fenced: Sequence[Block]) -> tuple[str, Code] | None:
        """The program in the block that the rule takes."""
        block = self._chosen([b for b in fenced if b.code.strip()])
        if block is None:
            return None
        others = [b.code for b in fenced if b.before < block.before and b.language in (self.language, "")]
        code = program_in(block.code, self.asked, others if self.rule == "auto" else ())
        if block.language not in (self.language, ""):
            code = code.noted("other_language")
        return "fenced" if block.closed else "fenced_unclosed", code

    def _chosen(self, fenced: Sequence[Block]) -> Block | None:
        """The block that the rule takes; `first` and `last` do not look at its language."""
        if not fenced:
            return None
        if self.rule in ("first", "last"):
            return fenced[0 if self.rule == "first" else -1]
        tagged = [b for b in fenced if b.language == self.language]
        usable = tagged or [b for b in fenced if not b.language]
        if self.rule == "auto" and self.asked.root:
            own = [b for b in fenced if b.language in (self.language, "")]
            if best := self._last_defining(own):
                return best
            for block in own[:_MAX_PARSED_BLOCKS]:
                if body_of(block.code, self.asked):
                    return block
            foreign = [b for b in fenced if b.language not in (self.language, "")]
            for block in foreign[:_MAX_PARSED_BLOCKS]:
                if whole_program(block.code, self.asked):
                    return block
        return max(usable, key=lambda b: len(b.code), default=None)

    def _last_defining(self, fenced: Sequence[Block]) -> Block | None:
        """The last complete block that defines the entry point; the last one where none is complete."""
        defining = [b for b in fenced if self.asked.defined_by(b.code)][-_MAX_PARSED_BLOCKS:]
        complete = (b for b in reversed(defining) if b.closed and parses(b.code))
        return next(complete, defining[-1] if defining else None)


class _Other(_Python):
    """Finds code of another language: nothing is parsed, so nothing is cut."""

    def __init__(self, asked: Asked, rule: Rule, language: str) -> None:
        super().__init__(asked, rule)
        self.language = language

    def find(self, text: str) -> tuple[str, Code]:
        """The reason and the code."""
        fenced = blocks(text)
        block = self._chosen([b for b in fenced if b.code.strip()])
        if block is None:
            return self._unfenced(text) if not fenced else ("no_code", Code(""))
        code = self._completed(block.code)
        if block.language not in (self.language, ""):
            code = code.noted("other_language")
        return "fenced" if block.closed else "fenced_unclosed", code

    def _chosen(self, fenced: Sequence[Block]) -> Block | None:
        if not fenced:
            return None
        if self.rule in ("first", "last"):
            return fenced[0 if self.rule == "first" else -1]
        tagged = [b for b in fenced if b.language == self.language]
        usable = tagged or [b for b in fenced if not b.language]
        if self.rule == "auto" and self.asked.root:
            usable = [b for b in usable if self._names(b.code)][-1:] or usable
        return max(usable, key=lambda b: len(b.code), default=None)

    def _names(self, code: str) -> bool:
        return bool(re.search(rf"\b{re.escape(self.asked.root)}\b", code))

    def _unfenced(self, text: str) -> tuple[str, Code]:
        name = re.escape(self.asked.root)
        defines = re.search(rf"^(?:\S.*)?\b{name}\s*[(=]|^(?:public\s+)?class\s", text, re.M)
        if name and self._names(self.asked.prompt) and not defines:
            return "continuation", Code((self.asked.prompt + text).rstrip() + "\n")
        return "program", Code(text.rstrip() + "\n")

    def _completed(self, code: str) -> Code:
        """The block, as a body of the prompt where it does not name the entry point, with its includes."""
        if self.asked.root and self._names(self.asked.prompt) and not self._names(code):
            return Code((self.asked.prompt + code).rstrip() + "\n", ("repaired_body",))
        start = _INCLUDES.get(self.language)
        lines = self.asked.prompt.split("\n") if start else []
        lack = [line for line in lines if line.startswith(start or "") and line not in code]
        text = code.rstrip() + "\n"
        return Code("\n".join([*lack, text]), ("repaired_imports",)) if lack else Code(text)
