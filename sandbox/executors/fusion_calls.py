"""Calls of functions by means of whole scripts, for services that know nothing else.

The script holds the program and a small driver: it calls the function and writes the answer, in the codec's
form, behind everything that the program printed. The expected value stays here. As everywhere, a program can
send a wrong value and no more; but one that fails to print its answer's frame is a `wrong_answer`.
"""

from __future__ import annotations

import base64
import binascii

from .. import codec
from ..cells import Judge
from ..engine import wire as frames
from ..iotest import IOTest, to_bytes
from ..program import CallTest, CodeTest, Program, Test
from ..verdict import Verdict
from .orders import Execution, Script

MARK = "\n\x02codealign:"
_MAX_ANSWER = 6 * 2**20

DRIVER = """
import base64, struct, sys
_OUT = sys.stdout
def _encode(v):
    k = type(v)
    if v is None:
        return b"n"
    if k is bool:
        return b"1" if v else b"0"
    if k is int:
        if -(2**63) <= v < 2**63:
            return b"i" + struct.pack("<q", v)
        n = v.bit_length() // 8 + 1
        return b"I" + struct.pack("<I", n) + v.to_bytes(n, "little", signed=True)
    if k is float:
        return b"f" + struct.pack("<d", v)
    if k is complex:
        return b"c" + struct.pack("<dd", v.real, v.imag)
    if k is str:
        v = v.encode("utf-8", "surrogatepass")
        return b"s" + struct.pack("<I", len(v)) + v
    if k is bytes:
        return b"b" + struct.pack("<I", len(v)) + v
    if k is dict:
        return b"d" + struct.pack("<I", len(v)) + b"".join(_encode(x) + _encode(y) for x, y in v.items())
    tags = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
    if k not in tags:
        raise TypeError(k.__name__ + " is not plain data")
    return tags[k] + struct.pack("<I", len(v)) + b"".join(map(_encode, v))
def _say(text):
    _OUT.write(MARK + text + "\\n")
    _OUT.flush()
"""
CALL = """
try:
    _answer = eval(ENTRY)(*ARGUMENTS)
    _kind = "v"
except Exception as _error:
    _answer, _kind = type(_error).__name__ + "\\0" + str(_error)[:500], "e"
try:
    _body = _encode(_answer) if _kind == "v" else _answer.encode("utf-8", "replace")
except (TypeError, RecursionError) as _error:
    _kind, _body = "r", ("\\0" + str(_error)).encode("utf-8", "replace")
_say(_kind + base64.b64encode(_body).decode())
"""


def check(test: Test, language: str) -> None:
    """Refuse what such a service cannot judge.

    Raises:
        ValueError: A `CodeTest` that does not ask for `in_process`, arguments that are no plain data, or a
            test of another kind.
    """
    if isinstance(test, CodeTest):
        if not test.in_process:
            raise ValueError(
                "SandboxFusion runs a CodeTest in the program's own process, where a pass can be forged: say "
                "in_process=True to accept that (the result says verdict_trust='forgeable')"
            )
        return
    if isinstance(test, IOTest):
        if test.checker == "custom" or test.args:
            raise ValueError(
                "SandboxFusion's dialect has neither checkers of one's own nor arguments of IOTests"
            )
        return
    if language != "python":
        raise ValueError(f"SandboxFusion's dialect calls functions in python only, not in {language}")
    codec.check_plain(test.args, "args")
    if test.kwargs:
        raise ValueError("SandboxFusion's dialect passes no CallTest.kwargs: give positional arguments")
    repr(test.args)  # refuses an int of more digits than Python writes


def script(program: Program, test: Test | None) -> Script:
    """The whole script for one test of a program."""
    if isinstance(test, CodeTest):
        tail = f"\n{test.source}\nif 'check' in globals():\n    check({program.entry_point})\n"
        return Script(program.source + tail, b"", program.language, limits=program.limits)
    if isinstance(test, IOTest):
        return Script(program.source, to_bytes(test.stdin), program.language, limits=program.limits)
    head = f"MARK = {MARK!r}\n{DRIVER}\n_SOURCE = {program.source!r}\nENTRY = {program.entry_point!r}\n"
    load = "exec(compile(_SOURCE, 'program', 'exec'), globals())\n"
    if test is None:
        tail = f"{program.entry_point}\n"
    else:
        assert isinstance(test, CallTest)
        head += f"ARGUMENTS = {_literal(test.args)}\n"  # before the program, which could rename `set`
        tail = CALL
    return Script(head + load + tail, b"", program.language, limits=program.limits)


def _literal(value: object) -> str:
    """Source that makes plain data anew."""
    text = repr(value)
    return (
        f"(lambda inf, nan: {text})(float('inf'), float('nan'))" if "inf" in text or "nan" in text else text
    )


def outcome(test: Test | None, ran: Execution) -> tuple[Verdict, str, str]:
    """Verdict, cause and text of one test from what its script printed."""
    if ran.verdict is not Verdict.passed:
        return ran.verdict, ran.cause, ran.stderr.decode("utf-8", "replace")
    error = ran.stderr.decode("utf-8", "replace")
    if isinstance(test, IOTest):
        return Judge(test).printed(ran.stdout) if ran.return_code == 0 else _failure(error, ran.return_code)
    if isinstance(test, CallTest):
        found = _frame(ran.stdout)
        if found is not None:
            return Judge(test).outcome(*found)
    if ran.return_code == 0 and not isinstance(test, CallTest):
        return Verdict.passed, "", ""
    return _failure(error, ran.return_code)


def _frame(stdout: bytes) -> tuple[int, bytes] | None:
    _, mark, text = stdout.rpartition(MARK.encode())
    if not mark or len(text) > _MAX_ANSWER:
        return None
    kinds = {b"v": frames.VALUE, b"e": frames.FAILED, b"r": frames.REFUSED}
    kind = kinds.get(text[:1])
    try:
        return None if kind is None else (kind, base64.b64decode(text[1:].strip(), validate=True))
    except (binascii.Error, ValueError):
        return None


def _failure(error: str, code: int | None) -> tuple[Verdict, str, str]:
    """What a script that ended early tells by its last line of error text."""
    last = error.strip().rpartition("\n")[2]
    name = last.partition(":")[0].strip()
    if name in ("SyntaxError", "IndentationError", "TabError"):
        return Verdict.syntax_error, name, last
    if name == "MemoryError":
        return Verdict.memory_limit, name, last
    if name == "AssertionError":
        return Verdict.wrong_answer, "", last
    if code == 0:
        return Verdict.wrong_answer, "no answer", ""
    return Verdict.runtime_error, name if name.isidentifier() else f"exit {code}", last
