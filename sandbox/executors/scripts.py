"""Whole programs on standard input, with what they print given back.

The program runs in the solution's process of its box under a small driver, which sends back text and files
as a value: the program can forge all of it, as it could by printing it. Nothing is compared here.
"""

from __future__ import annotations

from typing import Any

from .. import codec
from ..cells import Judge
from ..engine import wire as frames
from ..pool import Sandbox
from ..program import CallTest, Program
from ..verdict import Verdict
from .orders import Execution, Script

DRIVER = """
def run(source, stdin, files, fetch, room):
    import builtins, io, os, sys
    class Full(Exception):
        pass
    class Bounded(io.RawIOBase):
        def __init__(self):
            self.data = bytearray()
        def writable(self):
            return True
        def write(self, piece):
            if len(self.data) + len(piece) > room:
                raise Full
            self.data += piece
            return len(piece)
    for path, content in files:
        if os.path.isabs(path) or ".." in path.split("/"):
            return ("path", path)
        os.makedirs(os.path.dirname("/tmp/" + path), exist_ok=True)
        with open("/tmp/" + path, "wb") as out:
            out.write(content)
    os.chdir("/tmp")
    sys.path.insert(0, "/tmp")
    sys.argv = ["main.py"]
    out, err = Bounded(), Bounded()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    sys.stdout = io.TextIOWrapper(out, "utf-8", "surrogateescape", write_through=True)
    sys.stderr = io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True)
    code = 0
    try:
        exec(compile(source, "main.py", "exec"), {"__name__": "__main__", "__builtins__": builtins})
    except SystemExit as stop:
        code = stop.code if type(stop.code) is int else (0 if stop.code is None else 1)
        if type(stop.code) is str:
            err.data += (stop.code + "\\n").encode("utf-8", "replace")
    except Full:
        return ("output",)
    except BaseException as error:
        code = 1
        try:
            import traceback
            traceback.print_exc()
        except BaseException:
            err.data += type(error).__name__.encode()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
    found = []
    for path in fetch:
        try:
            with open(path, "rb") as source:
                found.append((path, source.read(room)))
        except OSError:
            pass
    return (bytes(out.data), bytes(err.data), code, found)
"""
ROOM = 2**20  # bytes of each stream and file


class _Keep(Judge):
    """Takes the value of a call as it is."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        super().__init__(CallTest((), None))
        self.value: Any = None

    def outcome(self, kind: int, body: bytes) -> tuple[Verdict, str, str]:
        """Keep a value; all else as ever."""
        if kind != frames.VALUE:
            return super().outcome(kind, body)
        try:
            self.value = codec.decode(body, _only_plain)
        except codec.CodecError as error:
            return Verdict.violation, "protocol", str(error)
        return Verdict.passed, "", ""


class ScriptRun:
    """A script in the engine.

    Raises:
        ValueError: A language that this machine's sandbox does not run.
    """

    def __init__(self, sandbox: Sandbox, script: Script) -> None:
        if script.language != "python":
            raise ValueError(f"language {script.language!r} is not run here; there is python")
        limits = script.limits or sandbox._limits
        room = min(ROOM, int(sandbox._lowered(limits)[0].output_kb * 1024))
        arguments = (script.source, script.stdin, list(script.files), list(script.fetch), room)
        self._program = Program(DRIVER, "run", (CallTest(arguments, None),), limits=script.limits)
        self._sandbox = sandbox
        self._keep = _Keep()
        self._job = sandbox._start_program(self._program, True, [self._keep])

    @property
    def decided(self) -> bool:
        """Whether the answer is known."""
        return self._job.decided

    def release(self) -> None:
        """Nothing more is wanted of the engine."""
        self._job.release()

    def result(self) -> Execution:
        """What the script did.

        Raises:
            SandboxError: The engine failed on it repeatedly.
        """
        ran = self._sandbox._result(self._program, self._job)
        value = self._keep.value
        out, err = b"", ran.message.encode()
        code: int | None = None
        files: tuple[tuple[str, bytes], ...] = ()
        verdict, cause = ran.verdict, ran.cause
        if verdict is Verdict.passed:
            if value == ("output",):
                verdict, cause = Verdict.output_limit, "output"
            elif type(value) is tuple and len(value) == 2 and value[0] == "path":
                raise ValueError(f"file path {value[1]!r} is not inside the working directory")
            else:
                out, err, code, files = _checked(value)
        elif cause.startswith("exit ") and cause[5:].isdigit():
            verdict, cause, code = Verdict.passed, "", int(cause[5:])
        return Execution(verdict, cause, out, err, code, ran.wall_seconds, files, ran.notes)


def _only_plain(code: int, fields: list[Any]) -> Any:
    raise codec.CodecError("not plain data")


def _checked(value: Any) -> tuple[bytes, bytes, int, tuple[tuple[str, bytes], ...]]:
    """The driver's value; a program that took the driver over can send another."""
    match value:
        case (bytes(out), bytes(err), int(code), list(files)):
            pairs = [pair for pair in files if type(pair) is tuple and len(pair) == 2]
            if all(type(name) is str and type(content) is bytes for name, content in pairs):
                return out, err, code, tuple(pairs)
    return b"", b"the program sent something else than its output", 1, ()
