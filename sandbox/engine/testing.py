"""The test's process: runs test source with a proxy whose calls go to the solution's process as plain
data.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
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


class _Gone(BaseException):
    """The solution is not there any more, or sends what is no answer."""


class _Link:
    """Calls to the solution, one at a time."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.calls = 0
        self.gone = False
        self.raised: BaseException | None = None

    def call(self, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        codec.check_plain(args, "an argument")
        codec.check_plain(kwargs, "an argument")
        body = codec.pack_arguments(args, kwargs)
        if name is None:
            kind, reply = self.ask(wire.CALL, body)
        else:
            raw = name.encode("utf-8")
            kind, reply = self.ask(wire.NAMED, bytes([len(raw)]) + raw + body)
        if kind == wire.VALUE:
            return codec.decode(reply)
        cause, text = wire.error(reply)
        error = TypeError(f"the program returned what is not plain data: {text}")
        if kind == wire.FAILED:
            self.raised = _exception(cause, text)
            raise self.raised
        self.raised = error
        raise error

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Send a frame to the solution and wait for its answer.

        Raises:
            _Gone: There will be none; noted in `gone`, since a test may catch everything.
        """
        self.calls += 1
        answer = None
        if not self.gone:
            with contextlib.suppress(OSError):
                self.pipe.write(kind, self.calls, body)
                answer = self.pipe.read()
        if answer is None or answer[0] not in wire.ANSWERS or answer[1] != self.calls:
            self.gone = True
            raise _Gone
        return answer[0], answer[2]


def _exception(cause: str, text: str) -> BaseException:
    kind = getattr(builtins, cause, None)
    # What ends an iteration would end a test's own: `for got, want in zip(map(candidate, ...), ...)` passes.
    ends = isinstance(kind, type) and issubclass(kind, (StopIteration, StopAsyncIteration))
    if isinstance(kind, type) and issubclass(kind, Exception) and not ends:
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
    """Run the tests that come, one after the other, and report what happened."""
    while (found := pipe.read()) is not None:
        _, number, body = found
        source, entry = marshal.loads(body)
        link = _Link(Pipe(pipe.take(), wire.MAX_BODY, descriptors=False))
        kind, text = _outcome(link, source, entry)
        link.pipe.close()
        pipe.write(kind, number, text)


def _outcome(link: _Link, source: bytes, entry: str) -> tuple[int, bytes]:
    kind, text = wire.PASSED, b""
    try:
        _run(link, source, entry)
    except AssertionError as error:
        kind, text = wire.ERROR if error is link.raised else wire.WRONG, error_body(error)
    except BaseException as error:
        kind, text = wire.ERROR, _error(error, link)
    return (wire.GONE, b"") if link.gone else (kind, text)


def _run(link: _Link, source: bytes, entry: str) -> None:
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    code, names = _compiled(source)
    candidate = _proxy(link, entry, entry=True)
    # Some tests use helpers that the program defines (HumanEval/32, /38, /50): any unknown name may be one.
    for name in names:
        module.__dict__[name] = _proxy(link, name, entry=False)
    module.__dict__[entry] = module.__dict__["candidate"] = candidate
    module.__dict__.pop("check", None)
    exec(code, module.__dict__)
    check = module.__dict__.get("check")
    if callable(check) and entry != "check":
        check(candidate)


@functools.lru_cache(64)
def _compiled(source: bytes) -> tuple[CodeType, tuple[str, ...]]:
    """A test's code, and the names in it that are no builtins; a process that serves many programs sees the
    same test often.
    """
    code = compile(source.decode("utf-8", "surrogatepass"), "<test>", "exec", dont_inherit=True)
    names = sorted({n for n in _names(code) if not (hasattr(builtins, n) or n.startswith("__"))})
    return code, tuple(name for name in names if len(name) < 200)


def _error(error: BaseException, link: _Link) -> bytes:
    """Cause and text; `test:` before the type says that the test itself raised it, not the program."""
    if error is not link.raised:
        return error_body(error, "test:")
    if isinstance(error, SolutionError):
        return str(error).replace(": ", "\0", 1).encode("utf-8", "replace")
    return error_body(error)
