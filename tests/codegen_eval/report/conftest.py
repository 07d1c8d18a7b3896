"""Writes synthetic run directories of the chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.codegen_eval.report import made_up


@pytest.fixture
def write_eval(tmp_path: Path) -> Callable[..., Path]:
    """Writes an evaluation run directory and gives its path."""

    def write(name: str, results: Mapping[str, Any]) -> Path:
        return made_up.write_eval(tmp_path / name, results)

    return write


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pairs run directory and gives its path."""

    def write(rows: list[dict[str, Any]]) -> Path:
        return made_up.write_pairs(tmp_path / "pairs", rows)

    return write
