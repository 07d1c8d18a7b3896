"""A whole Python program on standard input and output, run as `__main__` in a process forked from a zygote.

The program gets its input as a file on descriptor 0 and prints to descriptor 1. Everything that it could
learn here is its own; the output is compared elsewhere.
"""

from __future__ import annotations

import atexit
import contextlib
import marshal
import os
import struct
import sys
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket
from types import ModuleType
from typing import Any

from ..isolation.namespaces import STDIN_FILE
from . import wire
from .pipe import Pipe, error_body

_FILE = "<solution>"


def take_streams(sock: socket) -> None:
    """Standard input and output, which came with the first byte on the pipe.

    Raises:
        OSError: They did not come.
    """
    _, ancillary, _, _ = sock.recvmsg(1, CMSG_SPACE(8))
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS) and len(data) >= 8:
            for target, fd in enumerate(struct.unpack("2i", data[:8])):
                os.dup2(fd, target)
                os.close(fd)
            return
    raise OSError("no standard streams came")


def copy_stdin() -> None:
    """Where /dev/stdin points to in a box: it has no /proc, by which it works elsewhere."""
    fd = os.open(STDIN_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    while os.sendfile(fd, 0, None, 2**20):
        pass
    os.lseek(0, 0, os.SEEK_SET)
    os.close(fd)


def main(pipe: Pipe) -> None:
    """Run one program; never returns. Its end is the process's end."""
    take_streams(pipe.sock)
    first = pipe.read()
    if first is None:
        return
    source, args, stdin_file = marshal.loads(first[2])
    if stdin_file:
        copy_stdin()
    try:
        code = compile(source.decode("utf-8", "surrogatepass"), _FILE, "exec", dont_inherit=True)
    except BaseException as error:
        kind = b"e" if isinstance(error, MemoryError) else b"s"
        pipe.write(wire.BROKEN, 0, kind + error_body(error))
        os._exit(1)
    _open_streams()
    sys.argv[:] = ["solution.py", *args]
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    os._exit(_run(pipe, code, module.__dict__))


def _open_streams() -> None:
    """As `python solution.py` has them in a UTF-8 locale."""
    streams: dict[str, Any] = {
        "stdin": open(0, encoding="utf-8", errors="surrogateescape", closefd=False),  # noqa: SIM115
        "stdout": open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False),  # noqa: SIM115
        "stderr": open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False),  # noqa: SIM115
    }
    for name, stream in streams.items():
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(pipe: Pipe, code: Any, namespace: dict[str, Any]) -> int:
    """Exit status, as the interpreter gives it."""
    try:
        try:
            exec(code, namespace)
        finally:
            _finish()
    except SystemExit as leaving:
        return _exit_status(leaving.code)
    except BaseException as error:
        pipe.write(wire.FAILED, 0, error_body(error))
        with contextlib.suppress(BaseException):
            import traceback  # here, since it brings modules that every fork of a zygote would pay for

            traceback.print_exception(error, limit=-10)
        return 1
    return 0


def _finish() -> None:
    """What the interpreter does at its end: wait for threads, call what was registered, flush."""
    # Loaded by the program itself or not at all: the module has each fork of a process run code of its own.
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    stream = sys.stdout
    if stream is not None and not stream.closed:
        stream.flush()


def _exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    with contextlib.suppress(BaseException):
        print(code, file=sys.stderr)  # noqa: T201
    return 1
