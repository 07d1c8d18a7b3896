"""Whole programs on standard input, with what they print given back.

The program runs in the solution's process of its box under a small driver, which sends back text and files
as a value: the program can forge all of it, as it could by printing it. Nothing is compared here.
"""

from __future__ import annotations

from typing import Any

from .. import codec, languages
from ..cells import Judge
from ..engine import wire as frames
from ..iotest import IOTest
from ..pool import Sandbox
from ..program import CallTest, Program
from ..verdict import Verdict
from .orders import Execution, Script

DRIVER = """
def run(source, stdin, files, fetch, room):
    import builtins, os, sys
    os.chdir("/tmp")
    for path, content in files:
        os.makedirs(os.path.dirname("/tmp/" + path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(content)
    def stream(place, content):
        path = "/tmp/.stream%d" % place
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.unlink(path)
        while content:
            content = content[os.write(file, content):]
        os.lseek(file, 0, 0)
        os.dup2(file, place)
        return file
    def printed(file):
        pieces, left = [], min(os.fstat(file).st_size, room)
        os.lseek(file, 0, 0)
        while left > 0 and (piece := os.read(file, left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    stream(0, stdin)
    out, err = stream(1, b""), stream(2, b"")
    sys.path.insert(0, "/tmp")
    sys.argv = ["main.py"]
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    code = 0
    try:
        exec(compile(source, "main.py", "exec"), {"__name__": "__main__", "__builtins__": builtins})
    except SystemExit as stop:
        code = stop.code if type(stop.code) is int else (0 if stop.code is None else 1)
        if type(stop.code) is str:
            print(stop.code, file=sys.stderr)
    except BaseException as error:
        code = 1
        try:
            import traceback
            traceback.print_exc()
        except BaseException:
            os.write(err, type(error).__name__.encode())
    for text in (sys.stdout, sys.stderr):
        try:
            text.flush()
        except BaseException:
            pass
    if os.fstat(out).st_size > room or os.fstat(err).st_size > room:
        return ("output",)
    found = []
    for path in fetch:
        try:
            with open("/tmp/" + path, "rb") as file:
                found.append((path, file.read(room)))
        except OSError:
            pass
    return (printed(out), printed(err), code & 255, found)
"""
ROOM = 2**20  # bytes of each stream and file


class _Keep(Judge):
    """Takes the value of a call, or what was printed, as it is."""

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

    @property
    def compares(self) -> bool:
        """So that `printed` is asked."""
        return True

    def printed(self, output: bytes) -> tuple[Verdict, str, str]:
        """Keep what a program printed that ended well."""
        self.value = output
        return Verdict.passed, "", ""


class ScriptRun:
    """A script in the engine.

    Python runs under the driver. Of other languages only what a script printed that ended well is known, and
    the error text of one that did not; they take no files.

    Raises:
        ValueError: An unknown language, or files for another one than Python.
        LanguageUnavailable: The toolchain is missing.
    """

    def __init__(self, sandbox: Sandbox, script: Script) -> None:
        language = languages.get(script.language).name
        for path in (*script.fetch, *(path for path, _ in script.files)):
            check_path(path)
        if language == "python":
            program = _driven(sandbox, script)
        elif script.files or script.fetch:
            raise ValueError(f"files are laid out for python only, not for {language}")
        else:
            test = IOTest(script.stdin, "")
            program = Program(script.source, "", (test,), limits=script.limits, language=language)
        self._program = program
        self._sandbox = sandbox
        self._keep = _Keep()
        self._job = sandbox._start_program(program, True, [self._keep])

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
            elif type(value) is bytes:
                out, code = value, 0
            else:
                out, err, code, files = _checked(value)
        elif cause.startswith("exit ") and cause[5:].isdigit():
            verdict, cause, code = Verdict.passed, "", int(cause[5:])
        return Execution(verdict, cause, out, err, code, ran.wall_seconds, files, ran.notes)


def _only_plain(code: int, fields: list[Any]) -> Any:
    raise codec.CodecError("not plain data")


def check_path(path: str) -> None:
    """Refuse what is not inside the working directory.

    Raises:
        ValueError: It is absolute, goes up, or is no path.
    """
    if not path or path.startswith(("/", ".stream")) or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"path {path!r} is not inside the working directory")


def _driven(sandbox: Sandbox, script: Script) -> Program:
    limits = sandbox._lowered(script.limits or sandbox._limits)[0]
    room = min(ROOM, int(limits.output_kb * 1024))
    arguments = (script.source, script.stdin, list(script.files), list(script.fetch), room)
    return Program(DRIVER, "run", (CallTest(arguments, None),), limits=script.limits)


def _checked(value: Any) -> tuple[bytes, bytes, int, tuple[tuple[str, bytes], ...]]:
    """The driver's value; a program that took the driver over can send another."""
    match value:
        case (bytes(out), bytes(err), int(code), list(files)):
            pairs = [pair for pair in files if type(pair) is tuple and len(pair) == 2]
            if all(type(name) is str and type(content) is bytes for name, content in pairs):
                return out, err, code, tuple(pairs)
    return b"", b"the program sent something else than its output", 1, ()
