"""What a data job does: executions per second, who waits for whom, memory over time, and kills survived.

    python -m benchmarks.data_job --prompts 60 --kills 5 --out runs/data_job.json

The job of `recipes/tiny-coder/data.yaml` runs once undisturbed. Then it runs again and its process is killed
(SIGKILL) `--kills` times, each time at a drawn moment after some more parts are finished, and started again;
in the end every file of the dataset's folder must hold the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, print_machine, print_table, write_json

RECIPE = "recipes/tiny-coder/data.yaml"


def command(options: argparse.Namespace, out: Path) -> list[str]:
    flags = ["--config", RECIPE, "--limit", str(options.prompts), "--batch-prompts", str(options.batch)]
    flags += ["--hygiene", options.hygiene, "--out", str(out)]
    return [sys.executable, "-m", "alignment.cli", "generate-data", *flags]


def finished_parts(out: Path) -> int:
    folder = out / ".parts" / "matrices"
    return len(list(folder.glob("[0-9]*.jsonl"))) if folder.is_dir() else 0


def start(options: argparse.Namespace, out: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(command(options, out), stdout=file, stderr=file)


def undisturbed(options: argparse.Namespace, out: Path, log: Path) -> float:
    begun = time.monotonic()
    process = start(options, out, log)
    if process.wait() != 0:
        raise SystemExit(f"the job failed; see {log}:\n{log.read_text()[-2000:]}")
    return time.monotonic() - begun


def killed(options: argparse.Namespace, out: Path, log: Path) -> list[int]:
    """Kills the job again and again; returns the parts that were finished at each kill."""
    draw = random.Random(options.seed)
    parts = -(-options.prompts // options.batch)
    at = []
    for kill in range(options.kills):
        process = start(options, out, log)
        target = (kill * parts) // options.kills
        while process.poll() is None and finished_parts(out) < target:
            time.sleep(0.02)
        try:
            # After loading, inside the next part.
            process.wait(draw.uniform(0.0, options.longest_wait))
            break
        except subprocess.TimeoutExpired:
            at.append(finished_parts(out))
            process.send_signal(signal.SIGKILL)
            process.wait()
    undisturbed(options, out, log)
    return at


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(out: Path) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row.get("event") == "part"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--batch", type=int, default=5, help="prompts of a part")
    parser.add_argument("--hygiene", choices=("off", "static", "full"), default="full")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--longest-wait", type=float, default=12.0, help="seconds; the moment is drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "killed")
        seconds = undisturbed(options, whole, Path(folder, "whole.log"))
        found = rows(whole)
        last = found[-1]
        body = [
            ["prompts", str(options.prompts)],
            ["wall time of the command, s", f"{seconds:.1f}"],
            ["wall time of generation and execution, s", f"{last['seconds']:.1f}"],
            ["executions", str(last["executions"])],
            ["executions a second", f"{last['executions_per_second']:.1f}"],
            ["share of time the sandbox waits for the model", f"{last['sandbox_waits_share']:.3f}"],
            ["share of time the model waits for the sandbox", f"{last['model_waits_share']:.3f}"],
        ]
        memory = [row["rss_mb"] for row in found]
        body.append(["memory of the parent after each part, MiB", " ".join(map(str, memory))])
        at = killed(options, broken, Path(folder, "killed.log"))
        same = digests(whole / "dataset") == digests(broken / "dataset")
        body.append(["killed (SIGKILL) with so many parts finished", " ".join(map(str, at)) or "never"])
        body.append(["files of the dataset with equal bytes", "all" if same else "NOT ALL"])
        body += [[f"sha256 of {name}", digest[:16]] for name, digest in digests(whole / "dataset").items()]
    print_table("Data job", ["what", "figure"], body)
    content = {"machine": facts, "seconds": seconds, "parts": found, "killed_at": at, "same_bytes": same}
    write_json(options.out, content)
    return 0 if same and len(at) == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
