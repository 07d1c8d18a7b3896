"""What programs on stdin/stdout and other languages cost, in CPU milliseconds and paired in one run.

    python benchmarks/sandbox_languages.py

CPU time of a program is what the sandbox reports of its own process, the least of several runs; that of the
compiler is of the same command outside the box. The floor is a fork of a small Python process that ends at
once.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sandbox import CallTest, IOTest, Limits, Program, Sandbox, languages
from sandbox.languages import store

ROUNDS = 5
ALL_HEADERS = (
    "#include <bits/stdc++.h>\nusing namespace std;\nint main() { int n; cin >> n; vector<int> v(n); "
    "iota(v.begin(), v.end(), 0); sort(v.begin(), v.end()); map<int, string> m; m[3] = to_string(n); "
    "cout << 2 * n << endl; }"
)


def fork_floor(times=200):
    """CPU ms of fork, _exit and wait in a small process."""
    code = (
        "import os, resource\nfor _ in range(%d):\n    p = os.fork()\n    if not p: os._exit(0)\n"
        "    os.waitpid(p, 0)\n"
        "u, c = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print((u.ru_utime + u.ru_stime + c.ru_utime + c.ru_stime) * 1000 / %d)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code % (times, times)], capture_output=True, text=True
    )
    return float(done.stdout)


def children_cpu(command, folder):
    """CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_cost(sandbox, name, source, tests, entry=""):
    """Least CPU ms and wall ms of a program whose compiled form is known, one test."""
    cpu, wall = [], []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        (result,) = sandbox.run([Program(source, entry, tests, language=name)])
        wall.append(time.perf_counter() - begin)
        assert result.verdict == "passed", result
        cpu.append(result.cpu_seconds)
    return min(cpu[1:]) * 1000, min(wall[1:]) * 1000


def compile_cost():
    """CPU seconds of g++ -O2 on a program with bits/stdc++.h, plain and with the precompiled header."""
    cpp = languages.get("cpp")
    tools = cpp.toolchain()
    folder = store.folder("gcc", tools.version, cpp.flags)
    plain, ready = [], []
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "main.cpp").write_text(ALL_HEADERS)
        command = [tools.programs["g++"], *cpp.flags, "-o", "program", "main.cpp"]
        for _ in range(3):
            plain.append(children_cpu(command, work))
            if folder and store.complete(folder):
                ready.append(children_cpu([*command, "-I", folder], work))
    return min(plain), min(ready) if ready else None


def main():
    """Print the table."""
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    print(f"fork + _exit + wait, floor    {fork_floor():8.2f} ms CPU")
    tests = (IOTest("21\n", "42\n"),)
    with Sandbox(1, limits=Limits(cpu_seconds=10, wall_seconds=60)) as sandbox:
        call = run_cost(sandbox, "python", "def f(n): return 2 * n", (CallTest((21,), 42),), "f")
        print(f"python, one call               {call[0]:8.2f} ms CPU {call[1]:8.2f} ms wall")
        for row in languages.report(sandbox):
            if row.works:
                cpu, wall = run_cost(sandbox, row.name, languages.get(row.name).examples.double, tests)
                print(f"{row.name + ', one run':30} {cpu:8.2f} ms CPU {wall:8.2f} ms wall   {row.version}")
            else:
                print(f"{row.name:30} {row.detail}")
        if "cpp" in {row.name for row in languages.report(sandbox) if row.works}:
            list(sandbox.run([Program(ALL_HEADERS, "", tests, language="cpp")]))  # makes the header
            plain, ready = compile_cost()
            print(
                f"g++ -O2, bits/stdc++.h         {plain * 1000:8.0f} ms CPU; precompiled "
                f"{ready * 1000:.0f} ms, {plain / ready:.1f} times less"
                if ready
                else f"{plain * 1000:.0f} ms CPU"
            )
    print(f"fork + _exit + wait, floor    {fork_floor():8.2f} ms CPU")


if __name__ == "__main__":
    main()
