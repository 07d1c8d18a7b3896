"""`codealign doctor`: what this machine allows the sandbox, tried by doing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sandbox.doctor import DoctorReport, LevelReport, Row


def main(argv: Sequence[str]) -> int:
    """Print the report.

    Returns:
        0 when the strongest isolation (`full`) works, else 1.
    """
    parser = argparse.ArgumentParser(prog="codealign doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(list(argv))

    from sandbox import SandboxError, doctor

    try:
        found = doctor.report()
    except SandboxError as error:
        print(f"codealign doctor: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({**found.to_json(), "versions": _versions_json()}, indent=2, sort_keys=True))
    else:
        from rich.console import Console

        show(found, Console(highlight=False, soft_wrap=False))
    return 0 if found.level == "full" else 1


def show(found: DoctorReport, console: Console) -> None:
    """Prints the report as tables: primitives, levels, attacks, languages; then what to do."""
    console.print(_primitives(found.primitives))
    console.print(_levels(found.levels))
    console.print(_attacks(found.levels))
    if found.languages:
        console.print(_languages(found.languages))
    console.print(_versions())
    for text in _advice(found):
        console.print(text)
    console.print(f"Isolation level available: {found.level}", style="bold", markup=False)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _mark(works: bool, yes: str = "yes", no: str = "no", bad: str = "red") -> Text:
    from rich.text import Text

    return Text(yes, "green") if works else Text(no, bad)


def _primitives(rows: Sequence[Row]) -> Table:
    from rich.text import Text

    table = _table("What the kernel gives", "", "", "needed for", "found")
    for row in rows:
        table.add_row(row.name.replace("_", " "), _mark(row.works), row.needed_for, Text(row.detail))
    return table


def _levels(rows: Sequence[LevelReport]) -> Table:
    from rich.text import Text

    table = _table("Levels of isolation", "level", "", "in force", "missing")
    for row in rows:
        if row.isolation is None:
            table.add_row(row.name, _mark(row.works), "", Text(row.problem))
            continue
        found = row.isolation
        force = [f"{len(found.namespaces)} namespaces"] if found.namespaces else []
        force += ["system call filter"] if found.seccomp else []
        force += [f"Landlock {found.landlock_abi}"] if found.landlock_abi else []
        force += [f"cgroup {found.cgroup}"] if found.cgroup else []
        force.append(f"memory: {found.memory_limit_kind}")
        missing = row.problem or ", ".join(found.missing) or "nothing"
        table.add_row(row.name, _mark(row.works), Text(", ".join(force)), Text(missing))
    return table


def _attacks(rows: Sequence[LevelReport]) -> Table:
    """A row an attack, a column a level that starts. OPEN was never promised to be held, BROKEN was."""
    started = [row for row in rows if row.attacks]
    table = _table("Harmless attacks, run just now", "", *(row.name for row in started))
    for place, attack in enumerate(started[0].attacks if started else ()):
        cells = [row.attacks[place] for row in started]
        table.add_row(
            attack.name,
            *(
                _mark(cell.works, "held", "BROKEN", "red")
                if cell.needed_for
                else _mark(cell.works, "held", "OPEN", "yellow")
                for cell in cells
            ),
        )
    return table


def _languages(rows: Sequence[Row]) -> Table:
    from rich.text import Text

    table = _table("Languages", "", "", "found", "how to get it")
    for row in rows:
        table.add_row(row.name, _mark(row.works), Text(row.detail), Text(row.remedy))
    return table


def _versions() -> Table:
    """Libraries that training and generation need, of which versions were tried together."""
    from rich.text import Text

    from codegen_eval.versions import found

    table = _table("Versions tried together", "", "", "installed", "tried", "allowed")
    for one in found():
        mark = Text("-") if one.installed is None else _mark(one.fits)
        library = one.library
        table.add_row(library.name, mark, Text(one.installed or "no"), library.tried, Text(library.allowed))
    return table


def _versions_json() -> dict[str, dict[str, str | bool | None]]:
    from codegen_eval.versions import found

    return {
        one.library.name: {
            "installed": one.installed,
            "tried": one.library.tried,
            "allowed": one.library.allowed,
            "fits": one.fits,
        }
        for one in found()
    }


def _advice(found: DoctorReport) -> list[Text]:
    """How to get what is missing, each remedy once."""
    from rich.text import Text

    problems: dict[str, list[str]] = {}
    for row in found.primitives:
        if row.remedy:
            problems.setdefault(row.remedy, []).append(row.name.replace("_", " "))
    for level in found.levels:
        if level.remedy:
            problems.setdefault(level.remedy, []).append(f"level {level.name}")
    return [
        Text.assemble(("To get ", "bold"), (", ".join(names), "bold"), f": {remedy}\n")
        for remedy, names in problems.items()
    ]
