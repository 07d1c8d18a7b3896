"""The one runner of numeric vectors: `GOLDEN_DIR=<folder> pytest tests/golden` runs every file of a folder.

A file's name tells its schema. Files that are absent are skipped, as are kinds whose part of the project does
not exist yet (the reason names them); an unknown file or an unknown kind fails. Without GOLDEN_DIR the
project's own copy is used.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from golden_alignment import BON_SECTIONS, PREFERENCE_KINDS
from golden_handlers import EFF_KINDS, RANKING_PARTS
from golden_rl import RL_SECTIONS, rl_cases

FOLDER = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parent)
Check = Callable[[dict[str, Any]], None]


def expand_ranking(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], Check | None]]:
    """One entry a case and expected part."""
    rows: list[tuple[str, dict[str, Any], Check | None]] = []
    for case in data["cases"]:
        for part in case["expected"]:
            rows.append((f"{case['id']}-{part}", case, known(RANKING_PARTS, part)))
    return rows


def expand_eff(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], Check | None]]:
    """One entry a vector."""
    vectors = [*data["vectors"], *data.get("score_vectors", [])]
    return [(v["id"], v, known(EFF_KINDS, v["kind"])) for v in vectors]


def expand_preference(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], Check | None]]:
    """One entry a vector."""
    return [(v["id"], v, known(PREFERENCE_KINDS, v["kind"])) for v in data["vectors"]]


def expand_bon(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], Check | None]]:
    """One entry a case of a section; a section that holds one case is no list."""
    rows: list[tuple[str, dict[str, Any], Check | None]] = []
    for kind, content in data.items():
        if kind in ("format", "conventions"):
            continue
        cases = content if isinstance(content, list) else [content]
        for i, case in enumerate(cases):
            rows.append((f"{kind}-{i}", {**case, "kind": kind}, known(BON_SECTIONS, kind)))
    return rows


def expand_rl(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], Check | None]]:
    """One entry a case of a section."""
    rows: list[tuple[str, dict[str, Any], Check | None]] = []
    for kind, content in data.items():
        if kind in ("about", "conventions", "tolerance"):
            continue
        cases = rl_cases(kind, content) if kind in RL_SECTIONS else [{}]
        for i, case in enumerate(cases):
            rows.append((f"{kind}-{i}", {**case, "kind": kind}, known(RL_SECTIONS, kind)))
    return rows


def known(table: dict[str, Check | None], kind: str) -> Check | None:
    """The kind's check, None where the project has no such part yet; a check that fails for an unknown
    kind.
    """
    return table[kind] if kind in table else unknown_kind(kind, table)


def unknown_kind(kind: str, table: dict[str, Check | None]) -> Check:
    """A check that always fails, so that a vector of an unknown kind is seen."""

    def check(_: dict[str, Any]) -> None:
        pytest.fail(f"unknown kind {kind!r}; known: {', '.join(table)}")

    return check


# None: the schema is known, the project's part is not there yet.
SCHEMAS: dict[str, Callable[[dict[str, Any]], list[Any]] | None] = {
    "ranking.json": expand_ranking,
    "eff_at_k.json": expand_eff,
    "preference.json": expand_preference,
    "rl.json": expand_rl,
    "bon.json": expand_bon,
}


def collect() -> list[Any]:
    """All vectors of all files, as pytest parameters."""
    parameters = []
    for name, expand in SCHEMAS.items():
        path = FOLDER / name
        if not path.exists():
            parameters.append(pytest.param(name, None, None, f"{name} is absent in {FOLDER}", id=name))
        elif expand is None:
            parameters.append(pytest.param(name, None, None, f"{name}: not implemented yet", id=name))
        else:
            for id_, case, check in expand(json.loads(path.read_text())):
                part = id_.split("-", 1)[1] if name == "ranking.json" else case["kind"]
                reason = "" if check else f"{name}: {part} is not implemented yet"
                parameters.append(pytest.param(name, case, check, reason, id=f"{name}-{id_}"))
    return parameters


@pytest.mark.parametrize(("name", "case", "check", "skip"), collect())
def test_vector_holds(name: str, case: dict[str, Any], check: Check, skip: str) -> None:
    if skip:
        pytest.skip(skip)
    assert check(case) is None, name


def test_folder_holds_known_files_only() -> None:
    assert FOLDER.is_dir(), f"GOLDEN_DIR={FOLDER} is not a folder"
    found = {path.name for path in FOLDER.glob("*.json")}
    assert found <= set(SCHEMAS), f"unknown vector files: {sorted(found - set(SCHEMAS))}"
