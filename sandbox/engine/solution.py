"""The solution's process: loads a program, answers calls with plain data. Knows no test and no expected
value.
"""

from __future__ import annotations

import gc
import marshal
import os
import struct
import sys
from types import ModuleType
from typing import Any

from .. import codec, extras
from ..isolation import libc
from . import inside, objects, wire
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
    while (found := pipe.read()) is not None:
        kind, number, body = found
        if kind == wire.LINK:
            link = Pipe(pipe.take(), descriptors=False)
            held = objects.Objects(namespace, entry)
            while (asked := link.read()) is not None:
                held.serve(link, *asked)
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
        elif kind == wire.CALL:
            _answer(pipe, number, namespace, entry, body)
        elif kind == wire.PREPARE:
            _timed(pipe, number, namespace, entry, body)
        elif kind == wire.INSIDE:
            inside.run(pipe, number, body, namespace, entry)


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
        objects.resolve(namespace, entry)
    except BaseException as error:
        pipe.write(wire.BROKEN, 0, b"e" + error_body(error))
        return None
    pipe.write(wire.LOADED, 0)
    return namespace


def _arguments(body: bytes, namespace: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return codec.unpack_arguments(body, lambda code, fields: objects.rebuild(namespace, code, fields))


def _answer(pipe: Pipe, number: int, namespace: dict[str, Any], entry: str, body: bytes) -> None:
    try:
        args, kwargs = _arguments(body, namespace)
        value = objects.resolve(namespace, entry)(*args, **kwargs)
    except BaseException as error:
        pipe.write(wire.FAILED, number, error_body(error))
        return
    _give(pipe, number, value)


def _timed(pipe: Pipe, number: int, namespace: dict[str, Any], entry: str, body: bytes) -> None:
    """Equal calls in three steps, between which the clock is read from outside: unpack fresh arguments for
    each, make the calls, give the last one's value.
    """
    gc.disable()
    libc.keep_freed_memory()
    value: Any = None
    try:
        (copies,) = struct.unpack_from("<I", body)
        prepared = [_arguments(body[4:], namespace) for _ in range(copies)]
        call = objects.resolve(namespace, entry)
        pipe.write(wire.READY, number)
        pipe.read()
        args: Any
        kwargs: Any
        for args, kwargs in prepared:
            value = call(*args, **kwargs)
    except BaseException as error:
        pipe.write(wire.FAILED, number, error_body(error))
        return
    pipe.write(wire.DONE, number)
    if pipe.read() is not None:
        # All is freed before the answer goes, so that nothing is left to do when the clock is read.
        del prepared, args, kwargs
        kind, answer = _packed(value)
        del value
        pipe.write(kind, number, answer)


def _give(pipe: Pipe, number: int, value: Any) -> None:
    kind, answer = _packed(value)
    pipe.write(kind, number, answer)


def _packed(value: Any) -> tuple[int, bytes]:
    """Kind and body of the frame that gives a value."""
    try:
        return wire.VALUE, codec.encode(value, extras.reduce)
    except codec.CodecError as error:
        return wire.REFUSED, error_body(error)
    except BaseException as error:
        return wire.FAILED, error_body(error)
