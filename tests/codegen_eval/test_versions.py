"""The table of tried versions: the same as what pip is told, and what fits."""

from __future__ import annotations

import io
import re
import tomllib

import pytest

from codegen_eval.versions import LIBRARIES, Found, Library, found, told
from tests.conftest import REPO


def test_ranges_are_those_of_the_extras_and_tried_is_what_is_installed_for_the_tests() -> None:
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {}
    for line in (line for lines in extras.values() for line in lines):
        name, versions = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?(.*)", line).groups()  # type: ignore[union-attr]
        asked[name] = versions
    pinned = dict(line.split("==") for line in (REPO / "constraints.txt").read_text().split() if "==" in line)
    for library in LIBRARIES:
        assert asked[library.name] == library.allowed, library.name
        assert pinned.get(library.name, library.tried) == library.tried, library.name
        assert Found(library, library.tried).fits


@pytest.mark.parametrize(
    ("installed", "fits"),
    [
        *((version, True) for version in ("0.22", "0.22.0", "0.31.9+cpu", "0.31.0rc1", None)),
        *((version, False) for version in ("0.21.9", "0.32", "0.100", "1.0")),
    ],
)
def test_versions_are_compared_as_numbers(installed: str | None, fits: bool) -> None:
    assert Found(Library("x", "0.31.0", "0.22", "0.32"), installed).fits is fits


def test_what_is_here_is_told_beside_what_was_tried() -> None:
    line = told(["trl", "vllm"])
    assert "trl " in line and "(tried 1.16.0, allowed >=1.16,<1.17)" in line and "; vllm" in line
    assert [one.library.name for one in found(["ray"])] == ["ray"] and len(found()) == len(LIBRARIES)


def test_doctor_shows_them_and_gives_them_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from codegen_eval.commands import doctor

    installed = {"torch": "2.13.0+cpu", "trl": "1.17.0", "vllm": None}
    monkeypatch.setattr("codegen_eval.versions._installed", lambda one: installed.get(one.name))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(doctor._versions())
    lines = {line.split()[0]: line.split()[1:] for line in console.export_text().splitlines() if line.split()}
    assert lines["torch"] == ["yes", "2.13.0+cpu", "2.13.0", ">=2.6"]
    assert lines["trl"] == ["no", "1.17.0", "1.16.0", ">=1.16,<1.17"]
    assert lines["vllm"][:2] == ["-", "no"]
    assert doctor._versions_json()["trl"]["fits"] is False
