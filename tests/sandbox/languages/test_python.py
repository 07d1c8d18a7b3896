"""Programs in Python: what works, and what hostile ones come to."""

import pytest

from tests.sandbox.languages import cases
from tests.sandbox.languages.cases import case

pytestmark = cases.needs("python")

CASES = [
    case("double", "print(2 * int(input()))", "passed", stdin="21", expected="42"),
    case(
        "as a script",
        "import sys\ndef main():\n    print(2 * int(sys.stdin.read()))\nif __name__ == '__main__':\n    main()",
        "passed",
        stdin="21",
        expected="42",
    ),
    case(
        "input as bytes",
        "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))",
        "passed",
        stdin="1 2 3",
        expected="6",
    ),
    case("input by descriptor", "print(open(0).read().strip())", "passed", stdin="abc\n", expected="abc"),
    case(
        "input by file name",
        "print(open('/dev/stdin').read().strip())",
        "passed",
        stdin="abc\n",
        expected="abc",
    ),
    case(
        "input by lines",
        "import sys\nfor line in sys.stdin:\n    print(line.rstrip()[::-1])",
        "passed",
        stdin="ab\ncd\n",
        expected="ba\ndc",
    ),
    case(
        "input by os.read",
        "import os\nprint(len(os.read(0, 10**7)))",
        "passed",
        stdin="x" * 2**20,
        expected=str(2**20),
    ),
    case("no input left", "input(); input()", "runtime_error", "EOFError", stdin="a\n"),
    case("output that was not flushed", "import sys\nsys.stdout.write('42')", "passed", expected="42"),
    case("output by descriptor", "import os\nos.write(1, b'42')", "passed", expected="42"),
    case("exit 0", "import sys\nprint(42)\nsys.exit(0)", "passed", expected="42"),
    case("exit without a status", "print(42)\nraise SystemExit", "passed", expected="42"),
    case("quit", "import os\nprint(42, flush=True)\nos._exit(0)", "passed", expected="42"),
    case("exit status", "import sys\nprint(42)\nsys.exit(3)", "runtime_error", "exit 3", expected="42"),
    case("exit with a text", "import sys\nsys.exit('boo')", "runtime_error", "exit 1", message="boo"),
    case(
        "exit status that the harness uses",
        "import os\nprint(42, flush=True)\nos._exit(73)",
        "runtime_error",
        "exit 73",
        expected="42",
    ),
    case("exception", "1 / 0", "runtime_error", "ZeroDivisionError", message="division"),
    case(
        "exception after the right output",
        "print(42, flush=True)\nraise KeyError('x')",
        "runtime_error",
        "KeyError",
        expected="42",
    ),
    case("syntax error", "print((", "syntax_error", "SyntaxError"),
    case("NUL in the source", "print(42)\0", "syntax_error"),
    case("lone surrogate in the source", "print('\ud800' == chr(0xd800))", "syntax_error"),
    case("empty", "", "passed"),
    case(
        "threads are waited for",
        "import threading, time\ndef f():\n    time.sleep(0.2)\n    print(42)\nthreading.Thread(target=f).start()",
        "passed",
        expected="42",
    ),
    case(
        "daemon threads are not",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100,), daemon=True).start()\nprint(42)",
        "passed",
        expected="42",
    ),
    case("atexit", "import atexit\natexit.register(print, 42)", "passed", expected="42"),
    case(
        "deep recursion in a thread",
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef f(n):\n    return n and 1 + f(n - 1)\nthreading.Thread(target=lambda: print(f(20000))).start()",
        "passed",
        expected="20000",
    ),
    case(
        "dataclass in the main module",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\nimport __main__\nprint(P(1), __main__.P is P)",
        "passed",
        expected="P(x=1) True",
    ),
    case("wrong", "print(43)", "wrong_answer", expected="42", message="token 0 differs"),
    case("loop", "while True: pass", "timeout", "cpu"),
    case("sleep", "import time\ntime.sleep(1000)", "timeout", "wall", wall_seconds=1.0),
    case("memory", "a = 'x' * 10**10", "memory_limit", "MemoryError"),
    case("memory step by step", "a = []\nwhile True: a.append('x' * 10**6)", "memory_limit", "MemoryError"),
    case("endless recursion", "def f(): return f()\nf()", "runtime_error", "RecursionError"),
    case("crash", "import ctypes\nctypes.string_at(0)", "runtime_error", "SIGSEGV"),
    case("output flood", "while True: print('x' * 9999)", "output_limit", "output"),
    case(
        "output of 100 MB at once",
        "import sys\nsys.stdout.write('x' * 10**8)",
        "output_limit",
        "output",
        memory_mb=1024,
    ),
    case("error flood", "import sys\nwhile True: sys.stderr.write('x' * 9999)", "output_limit", "output"),
    case("fork", "import os\nos.fork()", "runtime_error", "PermissionError"),
    case("subprocess", "import subprocess\nsubprocess.run(['/bin/true'])", "runtime_error"),
    case(
        "forged error frame",
        "import os, struct\nos.write(3, struct.pack('<IBI', 5, ord('x'), 0) + b'hello')\nprint(43)",
        "wrong_answer",
        expected="42",
    ),
    case(
        "forged pass frame",
        "import os, struct\nos.write(3, struct.pack('<IBI', 0, ord('p'), 0))\nos.write(3, struct.pack('<IBI', 8, ord('c'), 0) + struct.pack('<d', 1.0))",
        ("wrong_answer", "violation"),
        expected="42",
    ),
    case(
        "frame flood",
        "import os, struct\nwhile True: os.write(3, struct.pack('<IBI', 5, ord('x'), 0) + b'hello')",
        "violation",
        "protocol",
    ),
    case(
        "huge frame",
        "import os, struct\nos.write(3, struct.pack('<IBI', 2**31, ord('x'), 0))\nimport time; time.sleep(100)",
        "violation",
        "protocol",
    ),
    case(
        "looking for the answer in memory",
        "import gc\nprint([o for o in gc.get_objects() if isinstance(o, (bytes, str)) and 'forty' in str(o)])",
        "wrong_answer",
        expected="forty two",
    ),
    case(
        "looking for the answer on the stack",
        "import sys\nf = sys._getframe()\nfound = []\nwhile f:\n    found += [str(v) for v in f.f_locals.values() if 'unspoken' + ' answer' in str(v)]\n    f = f.f_back\nprint(found)",
        "wrong_answer",
        expected="unspoken answer",
    ),
    case(
        "looking for the answer in descriptors",
        "import os\nfor fd in range(64):\n    try:\n        data = os.read(fd, 1000) if fd != 3 else b''\n    except OSError:\n        continue\n    if b'unspoken' in data: print(data.decode())",
        "wrong_answer",
        expected="unspoken answer",
    ),
    case(
        "output changed behind",
        "import sys, os\nsys.stdout = None\nos.write(1, b'42')",
        "passed",
        expected="42",
    ),
    case("output closed", "import os\nos.close(1)", ("passed", "runtime_error", "wrong_answer")),
    case("control characters", "print('\\x1b[31m\\r\\0')", "passed", expected="\x1b[31m\r\0"),
    case(
        "bytes that are no text",
        "import sys\nsys.stdout.buffer.write(bytes([255, 254, 0, 10]))",
        "passed",
        expected="\xff\xfe\0\n",
    ),
    case(
        "bytes that are no text come and go",
        "print(input())",
        "passed",
        stdin="\udcff\udcfe",
        expected="\xff\xfe",
    ),
]


@pytest.mark.parametrize("record", CASES)
def test_program_comes_to_its_verdict(record):
    cases.check("python", CASES, record)


def test_no_process_and_no_file_is_left():
    assert cases.what_is_left("python", CASES) == cases.NOTHING
