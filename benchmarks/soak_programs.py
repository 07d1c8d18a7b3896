"""Programs with one right verdict each, a third of them hostile, for sandbox_soak.py.

Every verdict holds on a busy machine: loops end by CPU time, only sleepers by wall time, and all others have
wall time to spare. They are meant for the sandbox under test alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox import CallTest, CodeTest, Limits, Program

CALM = Limits(cpu_seconds=20, wall_seconds=300, memory_mb=512)
LOOP = Limits(cpu_seconds=0.1, wall_seconds=300, memory_mb=512)
SLEEP = Limits(cpu_seconds=20, wall_seconds=0.3, memory_mb=512)
SMALL = Limits(cpu_seconds=20, wall_seconds=300, memory_mb=96)
QUIET = Limits(cpu_seconds=20, wall_seconds=300, memory_mb=512, output_kb=32)


@dataclass(frozen=True)
class Case:
    """A program and what must be said of it.

    Attributes:
        shape: Name of its kind.
        program: The program; its id is its number.
        verdict: The one right verdict.
        cause: The right cause; None where several are.
        hostile: Whether it is one of the hostile third.
    """

    shape: str
    program: Program
    verdict: str
    cause: str | None
    hostile: bool


@dataclass(frozen=True)
class Shape:
    """A kind of hostile program: its function answers n * n or does something else.

    Attributes:
        body: Statements of `f(n)`; `{k}` becomes a random small number.
        verdict: The right verdict.
        cause: The right cause, if there is one.
        limits: Limits.
        before: Statements at load.
    """

    body: str
    verdict: str
    cause: str | None = None
    limits: Limits = CALM
    before: str = ""
    calls_only: bool = False  # as a `CodeTest`, what the test makes of the value decides

    def source(self, k: int) -> str:
        """The program's text."""
        lines = [*self.before.splitlines(), "def f(n):", *(f"    {line}" for line in self.body.splitlines())]
        return "\n".join(lines).replace("{k}", str(k)) + f"\n# {k}\n"


_SQUARE = "return n * n"
_REFUSED = "try:\n    {}\nexcept OSError:\n    return n * n\nreturn 'done'"
_FORGED = (
    "import os, struct\nbody = b'i' + struct.pack('<q', n * n)\n"
    "os.write(3, struct.pack('<IBI', len(body), ord('v'), 4000 + {k}) + body)\nreturn n * n"
)

HOSTILE: dict[str, Shape] = {
    "loop": Shape("while True: pass", "timeout", "cpu", LOOP),
    "loop at load": Shape(_SQUARE, "timeout", "cpu", LOOP, "while True: pass"),
    "loop that ignores signals": Shape(
        "while True: pass",
        "timeout",
        "cpu",
        LOOP,
        "import signal\nfor number in range(1, 32):\n    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass",
    ),
    "loop that catches all": Shape(
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "timeout",
        "cpu",
        LOOP,
    ),
    "sleep": Shape("import time\ntime.sleep(1000)", "timeout", "wall", SLEEP),
    "stop itself": Shape("import os\nos.kill(os.getpid(), 19)\nreturn n * n", "timeout", "wall", SLEEP),
    "wait for input that never comes": Shape(
        "import threading\nthreading.Event().wait()", "timeout", "wall", SLEEP
    ),
    "exit 0": Shape("import os\nos._exit(0)", "runtime_error", "exit 0"),
    "exit at load": Shape(_SQUARE, "runtime_error", "exit 0", CALM, "import os\nos._exit(0)"),
    "sys.exit": Shape("import sys\nsys.exit(0)", "runtime_error", "SystemExit"),
    "keyboard interrupt": Shape("raise KeyboardInterrupt", "runtime_error", "KeyboardInterrupt"),
    "segmentation fault": Shape("import ctypes\nreturn ctypes.string_at({k})", "runtime_error", "SIGSEGV"),
    "segmentation fault by signal": Shape("import os\nos.kill(os.getpid(), 11)", "runtime_error", "SIGSEGV"),
    "kill itself": Shape("import os\nos.kill(os.getpid(), 9)", "runtime_error", "SIGKILL"),
    "terminate itself": Shape("import os\nos.kill(os.getpid(), 15)", "runtime_error", "SIGTERM"),
    "abort": Shape("import os\nos.abort()", "runtime_error", "SIGABRT"),
    "endless recursion": Shape("return f(n)", "runtime_error", "RecursionError"),
    "flood": Shape("while True: print('x' * 1000)", "output_limit", None, QUIET),
    "flood of standard error": Shape(
        "import os\nwhile True: os.write(2, b'x' * 5000)", "output_limit", None, QUIET
    ),
    "memory at once": Shape("return len(bytearray(1 << 40))", "memory_limit", "MemoryError"),
    "memory in small pieces": Shape(
        "kept = []\nwhile True: kept.append(bytearray(100_000))", "memory_limit", "MemoryError", SMALL
    ),
    "memory at load": Shape(_SQUARE, "memory_limit", "MemoryError", SMALL, "kept = [0] * (1 << 30)"),
    "fork": Shape("import os\nos.fork()\nreturn n * n", "runtime_error", "PermissionError"),
    "fork bomb that hides errors": Shape(
        "import os\nfor _ in range(50):\n    try: os.fork()\n    except OSError: pass\nreturn n * n", "passed"
    ),
    "exec": Shape(_REFUSED.format("import os; os.execv('/bin/true', ['true'])"), "passed"),
    "kill all": Shape(_REFUSED.format("import os; os.kill(-1, 9)"), "passed"),
    "kill the zygote": Shape(_REFUSED.format("import os; os.kill(1, 9)"), "passed"),
    "socket": Shape(_REFUSED.format("import socket; socket.socket()"), "passed"),
    "host files": Shape(_REFUSED.format("open('/etc/passwd')"), "passed"),
    "write beside the work directory": Shape(_REFUSED.format("open('/usr/x{k}', 'w')"), "passed"),
    "threads beyond the limit": Shape(
        "import threading\nfor _ in range(500):\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "runtime_error",
        "RuntimeError",
    ),
    "threads left running": Shape(
        "import threading\nfor _ in range(8):\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\nreturn n * n",
        "passed",
    ),
    "file litter": Shape(
        "for i in range({k} % 200): open(f'/tmp/litter{i}', 'w').write('x' * 100)\nreturn n * n", "passed"
    ),
    "directory litter": Shape(
        "import os\nos.makedirs('/tmp/a{k}/b/c', exist_ok=True)\nreturn n * n", "passed"
    ),
    "directory without rights": Shape(
        "import os\nif not os.path.exists('/tmp/d'):\n    os.mkdir('/tmp/d'); open('/tmp/d/x', 'w').close(); "
        "os.chmod('/tmp/d', 0)\nreturn n * n",
        "passed",
    ),
    "work directory without rights": Shape(
        "import os\ntry: os.chmod('/tmp', 0)\nexcept OSError: pass\nreturn n * n", "passed"
    ),
    "odd files": Shape(
        "import os\nos.umask(0)\ntry: os.mkfifo('/tmp/pipe')\nexcept OSError: pass\n"
        "if not os.path.lexists('/tmp/link'): os.symlink('/tmp/link', '/tmp/link')\n"
        "open(b'/tmp/\\xff\\n', 'w').close()\nreturn n * n",
        "passed",
    ),
    "full disk": Shape(
        "try:\n    for i in range(100): open(f'/tmp/big{i}', 'wb').write(bytes(1 << 20))\n"
        "except OSError: return n * n\nreturn 'endless'",
        "passed",
    ),
    "a memory of earlier programs": Shape(
        "import os\nreturn n * n if os.listdir('/tmp') == [] else os.listdir('/tmp')", "passed"
    ),
    "forged frame": Shape(_FORGED, "violation", "protocol"),
    "garbage at load": Shape(_SQUARE, "violation", "protocol", CALM, "import os\nos.write(3, b'\\xff' * 64)"),
    "closed pipe": Shape("import os\nos.close(3)\nreturn n * n", "runtime_error", calls_only=True),
    "foreign system call": Shape(
        "import ctypes\nreturn ctypes.CDLL(None).syscall(0x40000000 + 39)", "violation", "SIGSYS"
    ),
    "object that equals all": Shape(
        "class Yes(int):\n    def __eq__(self, other): return True\nreturn Yes(7)",
        "wrong_answer",
        calls_only=True,
    ),
    "deep value": Shape(
        "value = []\nfor _ in range(5000): value = [value]\nreturn value",
        "wrong_answer",
        calls_only=True,
    ),
    "exception whose text loops": Shape(
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E()",
        "timeout",
        "cpu",
        LOOP,
    ),
}

HOSTILE_TESTS: dict[str, tuple[str, str, str, Limits]] = {
    "test loops": ("while True: pass", "timeout", "test:cpu", LOOP),
    "test exits": ("import os\nos._exit(0)", "runtime_error", "test:exit 0", CALM),
    "test crashes": ("import os\nos.kill(os.getpid(), 11)", "runtime_error", "test:SIGSEGV", CALM),
    "test eats memory": ("x = bytearray(1 << 40)", "memory_limit", "test:MemoryError", CALM),
    "test floods": ("while True: print('x' * 1000)", "output_limit", "test:output", QUIET),
}


def _hostile(rng: random.Random, number: int) -> Case:
    if rng.random() < 0.1:
        name = rng.choice(sorted(HOSTILE_TESTS))
        text, verdict, cause, limits = HOSTILE_TESTS[name]
        program = Program(
            f"def f(n): return n * n\n# {number}", "f", (CodeTest(f"{text}\n"),), str(number), limits
        )
        return Case(name, program, verdict, cause, True)
    name = rng.choice(sorted(HOSTILE))
    shape = HOSTILE[name]
    n = rng.randrange(1, 50)
    tests = _tests(rng, [((n,), n * n)], shape.calls_only)
    source = shape.source(rng.randrange(1, 1000))
    return Case(
        name, Program(source, "f", tests, str(number), shape.limits), shape.verdict, shape.cause, True
    )


def _tests(
    rng: random.Random, calls: list[tuple[tuple[int, ...], int]], calls_only: bool = False
) -> tuple[CallTest | CodeTest, ...]:
    """The calls in one of three forms."""
    form = 0 if calls_only else rng.randrange(3)
    if form == 0:
        return tuple(CallTest(args, value) for args, value in calls)
    lines = [f"    assert candidate({', '.join(map(repr, args))}) == {value!r}" for args, value in calls]
    return (CodeTest("\n".join(["def check(candidate):", *lines]) + "\n", trusted=form == 1),)


_GOOD = (
    "def f(n):\n    return n * n\n",
    "import math, re, itertools\ndef f(n):\n    return sum(itertools.repeat(n, n))\n",
    "def f(n):\n    print('some text', n)\n    return n ** 2\n",
    "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(n):\n    return P(n).x * n\n",
    "def f(n):\n    open('/tmp/x', 'w').write(str(n))\n    return int(open('/tmp/x').read()) ** 2\n",
    "seen = {}\ndef f(n):\n    for i in range(20000): seen[i % 100] = i\n    return n * n\n",
    "def f(n):\n    return sum(range(1, 2 * n, 2))\nhelper = f\n",
)


def _calm(rng: random.Random, number: int) -> Case:
    calls = [((n,), n * n) for n in rng.sample(range(1, 60), rng.randrange(1, 6))]
    source = f"{rng.choice(_GOOD)}# {rng.random()}\n"
    verdict, cause = "passed", ""
    kind = rng.randrange(10)
    if kind == 0:
        source, verdict = source.replace("return ", "return 1 + ", 1), "wrong_answer"
    elif kind == 1:
        source, verdict, cause = f"def f(n): return n *\n# {number}", "syntax_error", "SyntaxError"
    elif kind == 2:
        source, verdict, cause = f"def f(n): raise ValueError(n)\n# {number}", "runtime_error", "ValueError"
    elif kind == 3:
        source, verdict, cause = f"def g(n): return n * n\n# {number}", "runtime_error", "NameError"
    elif kind == 4 and len(calls) > 1:
        n = calls[-1][0][0]
        source, verdict = f"def f(n): return n * n + (n == {n})\n", "wrong_answer"
    return Case(
        f"calm {verdict}", Program(source, "f", _tests(rng, calls), str(number), CALM), verdict, cause, False
    )


def cases(count: int, seed: int) -> Iterator[Case]:
    """So many cases; the same ones for the same seed."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        yield _hostile(rng, number) if rng.random() < 1 / 3 else _calm(rng, number)
