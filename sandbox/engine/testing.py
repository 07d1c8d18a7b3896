"""The test's process: runs test source with a proxy whose calls go to the solution's process as plain
data.
"""

from __future__ import annotations

import builtins
import marshal
import sys
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

from .. import codec
from . import wire
from .pipe import Pipe, error_body

MODULE = "test"


class SolutionError(Exception):
    """The solution raised an exception that is no builtin one."""


class _Link:
    """Calls to the solution, one at a time."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.calls = 0
        self.raised: BaseException | None = None

    def call(self, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        codec.check_plain(args, "an argument")
        codec.check_plain(kwargs, "an argument")
        body = codec.pack_arguments(args, kwargs)
        self.calls += 1
        if name is None:
            self.pipe.write(wire.CALL, self.calls, body)
        else:
            raw = name.encode("utf-8")
            self.pipe.write(wire.NAMED, self.calls, bytes([len(raw)]) + raw + body)
        answer = self.pipe.read()
        if answer is None:
            sys.exit("the solution's process ended")
        kind, _, reply = answer
        if kind == wire.VALUE:
            return codec.decode(reply)
        cause, _, text = reply.decode("utf-8", "replace").partition("\0")
        error = TypeError(f"the program returned what is not plain data: {text}")
        if kind == wire.FAILED:
            self.raised = _exception(cause, text)
            raise self.raised
        self.raised = error
        raise error


def _exception(cause: str, text: str) -> BaseException:
    kind = getattr(builtins, cause, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # UnicodeDecodeError and its like want more arguments
            pass
    return SolutionError(f"{cause}: {text}")


def _proxy(link: _Link, name: str, entry: bool) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return link.call(None if entry else name, args, kwargs)

    call.__name__ = call.__qualname__ = name
    return call


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def main(pipe: Pipe) -> None:
    """Run one test and report what happened."""
    first = pipe.read()
    if first is None:
        return
    source, entry = marshal.loads(first[2])
    link = _Link(pipe)
    try:
        _run(link, source, entry)
    except AssertionError as error:
        if error is link.raised:
            pipe.write(wire.ERROR, 0, error_body(error))
        else:
            pipe.write(wire.WRONG, 0, error_body(error))
    except BaseException as error:
        pipe.write(wire.ERROR, 0, _error(error, link))
    else:
        pipe.write(wire.PASSED, 0)


def _run(link: _Link, source: bytes, entry: str) -> None:
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    code = compile(source.decode("utf-8", "surrogatepass"), "<test>", "exec", dont_inherit=True)
    candidate = _proxy(link, entry, entry=True)
    # Some tests use helpers that the program defines (HumanEval/32, /38, /50): any unknown name may be one.
    for name in set(_names(code)):
        if not hasattr(builtins, name) and not name.startswith("__") and len(name) < 200:
            module.__dict__[name] = _proxy(link, name, entry=False)
    module.__dict__[entry] = module.__dict__["candidate"] = candidate
    module.__dict__.pop("check", None)
    exec(code, module.__dict__)
    check = module.__dict__.get("check")
    if callable(check) and entry != "check":
        check(candidate)


def _error(error: BaseException, link: _Link) -> bytes:
    """Cause and text; `test:` before the type says that the test itself raised it, not the program."""
    if error is not link.raised:
        return error_body(error, "test:")
    if isinstance(error, SolutionError):
        return str(error).replace(": ", "\0", 1).encode("utf-8", "replace")
    return error_body(error)
