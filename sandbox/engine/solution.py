"""The solution's process: loads a program, answers calls with plain data. Knows no test and no expected
value.
"""

from __future__ import annotations

import gc
import marshal
import os
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import codec
from . import wire
from .pipe import Pipe, error_body

MODULE = "solution"


def main(pipe: Pipe) -> None:
    """Serve frames until the pipe ends."""
    first = pipe.read()
    if first is None:
        return
    source, entry = marshal.loads(first[2])
    namespace = _load(pipe, source, entry)
    if namespace is not None:
        _serve(pipe, namespace, entry)


def _serve(pipe: Pipe, namespace: dict[str, Any], entry: str) -> None:
    """Frames of the supervisor."""
    pending: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    while (found := pipe.read()) is not None:
        kind, number, body = found
        if kind == wire.LINK:
            link = Pipe(pipe.take(), descriptors=False)
            while (asked := link.read()) is not None:
                _obey(link, namespace, entry, *asked)
            link.close()
        elif kind == wire.BRANCH:
            branch = pipe.take()
            if os.fork() == 0:
                pipe.close()
                branch.send(b"\0")  # as in zygote.py: its number, for the clock
                _serve(Pipe(branch), namespace, entry)
                os._exit(0)
            branch.close()
            pipe.write(wire.BRANCHED, number, struct.pack("i", os.wait()[1]))
        elif kind == wire.ARGUMENTS:
            pending = marshal.loads(body)
            pipe.write(wire.READY, number)
        elif kind == wire.GO:
            _timed(pipe, number, namespace[entry], *pending)
            pending = ((), {})
        else:
            _obey(pipe, namespace, entry, kind, number, body)


def _obey(pipe: Pipe, namespace: dict[str, Any], entry: str, kind: int, number: int, body: bytes) -> None:
    """Answer a call, of the supervisor or of a test."""
    if kind == wire.CALL:
        args, kwargs = marshal.loads(body)
        _answer(pipe, number, namespace[entry], args, kwargs)
    elif kind == wire.NAMED:
        name = body[1 : 1 + body[0]].decode("utf-8")
        args, kwargs = marshal.loads(body[1 + body[0] :])
        _answer_named(pipe, number, namespace, name, args, kwargs)


def _load(pipe: Pipe, source: bytes, entry: str) -> dict[str, Any] | None:
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module  # dataclasses and typing look their module up
    namespace = module.__dict__
    try:
        code = compile(source.decode("utf-8", "surrogatepass"), "<solution>", "exec", dont_inherit=True)
    except MemoryError as error:
        pipe.write(wire.BROKEN, 0, b"e" + error_body(error))
        return None
    except BaseException as error:
        pipe.write(wire.BROKEN, 0, b"s" + error_body(error))
        return None
    try:
        exec(code, namespace)
        namespace[entry]
    except BaseException as error:
        if type(error) is KeyError and entry not in namespace:
            error = NameError(f"the program does not define {entry!r}")
        pipe.write(wire.BROKEN, 0, b"e" + error_body(error))
        return None
    pipe.write(wire.LOADED, 0)
    return namespace


def _answer(
    pipe: Pipe, number: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        pipe.write(wire.FAILED, number, error_body(error))
        return
    try:
        body = codec.encode(value)
    except codec.CodecError as error:
        pipe.write(wire.REFUSED, number, error_body(error))
    except BaseException as error:
        pipe.write(wire.FAILED, number, error_body(error))
    else:
        pipe.write(wire.VALUE, number, body)


def _answer_named(
    pipe: Pipe,
    number: int,
    namespace: dict[str, Any],
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    function = namespace.get(name)
    if function is None:
        error = NameError(f"name {name!r} is not defined")
        pipe.write(wire.FAILED, number, error_body(error))
    else:
        _answer(pipe, number, function, args, kwargs)


def _timed(
    pipe: Pipe, number: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    # The clock is read outside, when GO is sent and when the answer comes; encoding a value is not timed.
    gc.disable()
    try:
        function(*args, **kwargs)
    except BaseException as error:
        pipe.write(wire.FAILED, number, error_body(error))
    else:
        pipe.write(wire.DONE, number)
    gc.enable()
