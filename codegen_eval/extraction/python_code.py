"""From a piece of a model's answer to a Python program: cut, completed from the prompt, mended where that is
certain.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codegen_eval.extraction.parsing import MAX_TEXT_CHARS, is_code, salvaged
from codegen_eval.extraction.reach import Group, groups, lacking, missing, reached

_CODE_LINE = re.compile(
    r"(?:import|from)\s+[\w.]+|(?:async\s+)?def\s+\w+|class\s+\w+|@\w+|if\s+__name__|\w+(?:\[.{0,80}\])?\s*[-+*/]?="
    r"|(?:for|while|with|print|if)\b.{1,200}[:)]\s*$"
)


_SAYS_SOMETHING = re.compile(r"\b(?:return|yield|raise|pass)\b|[=(\[]")


@dataclass(frozen=True, slots=True)
class Code:
    """A program and what was done to it (`docs/extraction.md` lists the notes)."""

    text: str
    notes: tuple[str, ...] = ()

    def noted(self, *notes: str) -> Code:
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for.

    Attributes:
        prompt: What the model was to continue, or empty.
        root: The top-level name of the entry point; empty where any program will do.
        given: The prompt's statements, where it is Python.
        opened: The prompt ends inside of the entry point.
        indent: Of that function's body.
    """

    prompt: str
    root: str
    given: tuple[Group, ...] = ()
    opened: bool = False
    indent: str = "    "

    def defined_by(self, code: str) -> bool:
        """Whether a text seems to define the entry point; always where none is asked for."""
        name = re.escape(self.root)
        return not name or bool(
            re.search(rf"^[ \t]*(?:(?:async\s+)?def|class)\s+{name}\b|^{name}\s*=[^=]", code, re.M)
        )


def asked(prompt: str, entry_point: str) -> Asked:
    """What a prompt and an entry point (`f`, `Solution.f`, or empty) ask for."""
    prompt = prompt.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    root = entry_point.partition(".")[0]
    if not root or not prompt.strip() or len(prompt) > MAX_TEXT_CHARS:
        return Asked(prompt, root)
    whole, indent = prompt, "    "
    parts = groups(whole)
    if parts is None:
        indent = _deeper(prompt)
        whole = (
            prompt.rstrip(" \t") + ("" if prompt.endswith((" ", "\t", "\n")) else "\n") + indent + "pass\n"
        )
        parts = groups(whole)
        if parts is None:
            parts = groups(prompt + " pass\n")  # a prompt that ends within a line
    elif parts and "\n" in prompt.strip():
        indent = _indent_of(prompt.rstrip().rsplit("\n", 1)[-1]) or indent
    if not parts:
        return Asked(prompt, root)
    return Asked(prompt, root, tuple(parts), root in parts[-1].binds, indent)


def _deeper(prompt: str) -> str:
    """The indentation below the prompt's last line."""
    last = prompt.rstrip().rsplit("\n", 1)[-1]
    return _indent_of(last) + ("    " if last.endswith(":") else "")


def _indent_of(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def whole_program(text: str, asked: Asked) -> Code | None:
    """The program that a text is by itself; None where it is none or lacks the entry point."""
    if len(text) > MAX_TEXT_CHARS:
        return None
    parts = groups(text)
    if not parts or not is_code(text):
        return None
    if not asked.root:
        return Code(text.rstrip() + "\n")
    return _finished(text, parts, asked) if _binds(parts, asked.root) else None


def program_in(code: str, asked: Asked, others: Sequence[str] = ()) -> Code:
    """The program in a block of code; as it stands, with a note, where it cannot be read.

    Args:
        code: The block.
        asked: What is looked for.
        others: Blocks before it, for names that it lacks.
    """
    too_long = ("too_long",) if len(code) > MAX_TEXT_CHARS else ()
    code = code[:MAX_TEXT_CHARS]
    front = _from_others(code, asked, others)
    joined = ("joined_blocks",) if front else ()
    if found := whole_program(front + code, asked):
        return found.noted(*joined, *too_long)
    left = Code(code.rstrip() + "\n", too_long)
    if not asked.root:
        return left.noted("unparsable")
    if not asked.defined_by(code):
        body = body_of(code, asked)
        return body.noted("repaired_body", *too_long) if body else left.noted("no_entry_point")
    mended = _mended(code, asked)
    return mended.noted(*too_long) if mended else left.noted("unparsable")


def _mended(code: str, asked: Asked) -> Code | None:
    """A program that does not parse as it stands: indented as a whole, tabs among spaces, broken in parts."""
    for mended, note in (
        (textwrap.dedent(code), "repaired_indent"),
        (code.expandtabs(4), "repaired_tabs"),
        (salvaged(_from_definition(code, asked.root)), "salvaged"),
    ):
        if mended != code and (found := whole_program(mended, asked)):
            return found.noted(note)
    return None


def _from_definition(text: str, root: str) -> str:
    """The text, dedented by the indentation of the line that defines the entry point."""
    match = re.search(rf"^([ \t]+)(?:async\s+def|def|class)\s+{re.escape(root)}\b", text, re.M)
    if match is None or re.search(rf"^(?:async\s+def|def|class)\s+{re.escape(root)}\b", text, re.M):
        return text
    return "\n".join(line.removeprefix(match[1]) for line in text.split("\n"))


def continuation(text: str, asked: Asked) -> Code | None:
    """The prompt and the body that continues it; None where the text is no such body."""
    return _first_that_continues(text, asked, [("", text)])


def body_of(text: str, asked: Asked) -> Code | None:
    """As `continuation`, for a body that stands by itself: its indentation may be anything."""
    bare = text.strip("\n")
    if not _SAYS_SOMETHING.search(bare[:MAX_TEXT_CHARS]):
        return continuation(text, asked)
    if not bare[:1].isspace() and len(bare) <= MAX_TEXT_CHARS and groups(bare) is not None:
        return None  # a body at column 0 has a `return` there, and so is no module
    first, _, rest = bare[: MAX_TEXT_CHARS // 2].partition("\n")
    flat = textwrap.dedent(bare[: MAX_TEXT_CHARS // 2])
    spaced = textwrap.dedent(bare[: MAX_TEXT_CHARS // 2].expandtabs(4))
    tries = [("", text)]
    if rest.lstrip("\n")[:1].isspace():
        tries.append(("repaired_indent", asked.indent + first.lstrip() + "\n" + rest))
    tries.append(("repaired_indent", textwrap.indent(flat, asked.indent)))
    tries.append(("repaired_tabs", textwrap.indent(spaced, asked.indent)))
    return _first_that_continues(text, asked, tries)


def _first_that_continues(text: str, asked: Asked, tries: Sequence[tuple[str, str]]) -> Code | None:
    """The first body that is Python as it stands, else the first of which a part is."""
    if not asked.opened or not text.strip():
        return None
    room = max(0, MAX_TEXT_CHARS - len(asked.prompt))
    too_long = ("too_long",) if len(text) > room else ()
    head, line_break, last = asked.prompt.rpartition("\n")
    for exact in (True, False):
        for note, body in tries:
            # Where the prompt ends with the body's indentation, a body with its own does not need that.
            outer = asked if last.strip() or not note else replace(asked, prompt=head + line_break)
            if found := _continued(body[:room], outer, (note,) if note else (), exact):
                return found.noted(*too_long)
    return None


def _continued(text: str, asked: Asked, notes: tuple[str, ...], exact: bool) -> Code | None:
    """The prompt and a body, as it stands or (unless `exact`) as far as it is Python."""
    joints = [""] if asked.prompt.endswith("\n") else ["", "\n"]
    for whole in (asked.prompt + joint + text for joint in joints):
        parts = groups(whole)
        if parts and _extends(parts, whole, asked):
            return _without_second(whole, parts, asked, notes)
    if not exact:
        for whole in (asked.prompt + joint + text for joint in joints):
            parts = groups(salvaged(whole))
            if parts and _extends(parts, "", asked):
                return _without_second("", parts, asked, (*notes, "cut"))
    return None


def _extends(parts: Sequence[Group], whole: str, asked: Asked) -> bool:
    """Whether the prompt's last statement, the entry point, goes on behind the prompt."""
    at = len(asked.given)
    if len(parts) < at or asked.root not in parts[at - 1].binds:
        return False
    behind = "".join(part.text for part in parts[:at])
    return len(behind.rstrip()) > len(asked.prompt.rstrip())


def _without_second(whole: str, parts: Sequence[Group], asked: Asked, notes: tuple[str, ...]) -> Code:
    """The continued program without later definitions of the entry point: models go on writing."""
    at = len(asked.given)
    rest = [p for p in parts[at:] if not (asked.root in p.binds and "def " in p.text)]
    kept = [*parts[:at], *rest]
    if len(kept) < len(parts):
        whole, notes = "", (*notes, "cut")
    return _finished(whole, kept, asked, notes, verbatim=at)


def stretch_of(text: str, asked: Asked) -> Code | None:
    """The code among prose without fences; None where there is none."""
    start = _first_code_line(text, asked)
    if start is None:
        return None
    region = text[start : start + MAX_TEXT_CHARS]
    code = salvaged(_from_definition(region, asked.root) if asked.root else region)
    return whole_program(code, asked) if code else None


def _first_code_line(text: str, asked: Asked) -> int | None:
    """Where the first line that looks like code begins, near the entry point's definition if there is one."""
    low = 0
    if asked.root:
        name = re.escape(asked.root)
        match = re.search(rf"^[ \t]*(?:(?:async\s+)?def|class)\s+{name}\b|^{name}\s*=", text, re.M)
        if match is None:
            return None
        low = max(0, match.start() - MAX_TEXT_CHARS // 2)
        if low:
            low = text.find("\n", low) + 1
    for match in re.finditer(r"^(?=[^\n])[ \t]*", text[low:], re.M):
        begin = low + match.end()
        end = text.find("\n", begin)
        if _CODE_LINE.match(text[begin : min(begin + 300, end if end >= 0 else len(text))]):
            return low + match.start()
    return None


def _binds(parts: Sequence[Group], root: str) -> bool:
    return any(root in part.binds and part.kind != "import" for part in parts)


def _finished(
    text: str, parts: Sequence[Group], asked: Asked, notes: tuple[str, ...] = (), verbatim: int = 0
) -> Code:
    """The program of what the entry point reaches, with the prompt's code that it lacks in front.

    Args:
        text: The whole text that `parts` are of, taken as it is where nothing is cut; empty to join them.
        parts: Its statements.
        asked: What is looked for.
        notes: What was done before.
        verbatim: So many first statements stay, whatever they are: the prompt's own.
    """
    own = frozenset(name for group in asked.given for name in group.binds)
    useful = {id(p) for p in reached(parts, asked.root, own)}
    kept = [p for i, p in enumerate(parts) if i < verbatim or id(p) in useful]
    if len(kept) < len(parts) or not text:
        notes = notes if "cut" in notes or len(kept) == len(parts) else (*notes, "cut")
        text = "".join(p.text for p in kept)
    bound = {name for p in kept for name in p.binds}
    front = [g for g in asked.given if g.kind != "action" and not g.binds & (bound | {asked.root})]
    return _fronted(Code(text.rstrip() + "\n", notes), kept, front)


def _fronted(code: Code, parts: Sequence[Group], front: Sequence[Group]) -> Code:
    """The code with the prompt's statements before it, and a note on what it would have lacked."""
    if not front:
        return code
    wanted = missing(parts)
    notes = {f"repaired_{'imports' if g.kind == 'import' else 'helpers'}" for g in front if g.binds & wanted}
    return _joined(code, front).noted(*(sorted(notes) or ["prompt_code"]))


def _joined(code: Code, front: Sequence[Group]) -> Code:
    lead = "".join(g.text for g in front).strip("\n") + "\n"
    future = [p.text for p in groups(code.text) or [] if p.future]
    rest = code.text
    for line in future:
        rest = rest.replace(line, "", 1)
    gap = "" if rest.startswith("\n") else "\n\n" if any(g.kind != "import" for g in front) else "\n"
    return replace(code, text="".join(future) + lead + gap + rest)


def _from_others(code: str, asked: Asked, others: Sequence[str]) -> str:
    """Definitions of other blocks that a block reads and lacks."""
    parts = groups(code) if others else None
    if not parts or not missing(parts):
        return ""
    donor: list[Group] = []
    for other in others:
        if sum(len(g.text) for g in donor) + len(other) <= MAX_TEXT_CHARS:
            donor += groups(other) or []
    front = lacking(parts, donor, asked.root)
    return "".join(g.text for g in front) + "\n\n" if front else ""


def parses(code: str) -> bool:
    """Whether a text in bounds is a Python module."""
    return len(code) <= MAX_TEXT_CHARS and groups(code) is not None
