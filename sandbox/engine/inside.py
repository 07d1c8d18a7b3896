"""A test in the solution's own process, for tests that truly need that. The program can forge its outcome."""

from __future__ import annotations

from typing import Any

from . import objects, wire
from .pipe import Pipe, error_body


def run(pipe: Pipe, number: int, body: bytes, namespace: dict[str, Any], entry: str) -> None:
    """Run test source in the program's namespace, then its `check(candidate)` if it has one, and report."""
    try:
        source = body.decode("utf-8", "surrogatepass")
        code = compile(source, "<test>", "exec", dont_inherit=True)
    except BaseException as error:
        pipe.write(wire.ERROR, number, error_body(error, "test:"))
        return
    before = namespace.get("check")
    try:
        candidate = namespace["candidate"] = objects.resolve(namespace, entry)
        exec(code, namespace)
        check = namespace.get("check")
        if callable(check) and check is not before:
            check(candidate)
    except AssertionError as error:
        pipe.write(wire.WRONG, number, error_body(error))
    except BaseException as error:
        pipe.write(wire.ERROR, number, error_body(error))
    else:
        pipe.write(wire.PASSED, number)
