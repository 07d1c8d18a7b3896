"""Runs hostile programs in the sandbox, inside an outer box, and writes what came of each to /tmp/out.json.

    python driver.py REPOSITORY < CASES.json

Cases: list of {name, language, source, stdin, expected, limits}.
"""

import json
import os
import sys
import time
from pathlib import Path

SECRET = Path("/tmp/outside/secret.txt")


def live():
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def files_of_tmp():
    return {str(p) for p in Path("/tmp").rglob("*") if p.is_file() and "cache" not in str(p)}


def main(repository):
    sys.path.insert(0, repository)
    from sandbox import IOTest, Limits, Program, Sandbox

    SECRET.parent.mkdir()
    SECRET.write_text("the-secret")
    known, files = live(), files_of_tmp()
    results = {}
    with Sandbox(1, limits=Limits(cpu_seconds=1.0, wall_seconds=6.0, memory_mb=256)) as sandbox:
        for case in json.load(sys.stdin):
            test = IOTest(case.get("stdin", ""), case.get("expected", "").encode("latin-1"))
            limits = Limits(
                **{"cpu_seconds": 1.0, "wall_seconds": 6.0, "memory_mb": 256, **case.get("limits", {})}
            )
            begin = time.monotonic()
            (result,) = sandbox.run(
                [Program(case["source"], "", (test,), limits=limits, language=case["language"])]
            )
            results[case["name"]] = {
                "verdict": str(result.verdict),
                "cause": result.cause,
                "message": result.message,
                "wall": time.monotonic() - begin,
            }
    time.sleep(0.3)
    facts = {
        "results": results,
        "left": sorted(live() - known - {os.getpid()}),
        "files": sorted(files_of_tmp() - files),
        "secret": SECRET.read_text(),
    }
    Path("/tmp/out.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
