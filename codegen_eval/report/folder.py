"""Finds the files behind preference data: a `codealign pairs` run, a quickstart, or all in one folder.

Matrices and rankings are taken only if they are those that the pairs were made from: the run's protocol holds
their hashes. Files that are not there are left out, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.protocol import fingerprint
from codegen_eval.results import read_object

PAIRS = "pairs.jsonl"


@dataclass(frozen=True, slots=True)
class PairsFolder:
    """The files of preference data; `missing` says in words why matrices or rankings are not shown."""

    pairs: Path
    funnel: Path | None
    matrices: Path | None
    rankings: Path | None
    missing: str = ""

    def files(self) -> dict[str, Path]:
        """The files that are there, by name."""
        named = {
            "pairs": self.pairs,
            "funnel": self.funnel,
            "matrices": self.matrices,
            "rankings": self.rankings,
        }
        return {name: file for name, file in named.items() if file}


def locate(path: Path) -> PairsFolder:
    """The files of preference data in or beside `path`.

    Args:
        path: Directory of a `codealign pairs` run, or one that holds such a run as `pairs` (a quickstart).

    Raises:
        CodealignError: There is no pairs.jsonl, or a protocol beside it cannot be read.
    """
    home = path if (path / PAIRS).is_file() or not (path / "pairs" / PAIRS).is_file() else path / "pairs"
    if not (home / PAIRS).is_file():
        raise CodealignError(
            f"{home / PAIRS} does not exist: --pairs wants the directory of a `codealign pairs` run, or of a "
            "quickstart"
        )
    protocol = home / "protocol.json"
    inputs = read_object(protocol, "a run directory").get("inputs") if protocol.is_file() else None
    matrices, why = _input(home, "matrices", inputs)
    rankings, why_not = _input(home, "rankings", inputs) if matrices else (None, "")
    funnel = home / "funnel.json"
    return PairsFolder(home / PAIRS, funnel if funnel.is_file() else None, matrices, rankings, why or why_not)


def _input(home: Path, name: str, inputs: Any) -> tuple[Path | None, str]:
    """The file that the pairs were made from, or None and the reason."""
    known = inputs.get(name) if isinstance(inputs, dict) else None
    known = known if isinstance(known, dict) else {}
    file = f"{name}.jsonl"
    places = [home / file, home.parent / name / file]
    if isinstance(known.get("path"), str):
        places.append(Path(known["path"]))
    found = [place for place in places if place.is_file()]
    if not found:
        return None, f"There is no {file} in this run's folder nor beside it."
    fitting = [place for place in found if known.get("sha256") in (None, fingerprint(place, name))]
    if not fitting:
        return None, f"The {file} that lies there is not the one that these pairs were made from."
    return fitting[0], ""
