"""Versions: the lowest ones that are tested are the lowest ones that are allowed."""

from __future__ import annotations

import re
import tomllib
from types import SimpleNamespace

from alignment import compat
from tests.conftest import REPO


def test_the_lowest_constraints_are_what_the_project_allows() -> None:
    text = (REPO / "constraints-lowest.txt").read_text()
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, re.MULTILINE))
    assert pins.pop("torch") == re.search(r"^torch==(.+)$", (REPO / "constraints.txt").read_text(), re.M)[1]  # type: ignore[index]
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    allowed = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in extras["train"])  # type: ignore[union-attr]
    del allowed["torch"]
    for name, least in allowed.items():  # the other pins are what fits these
        assert pins[name] == least + ".0" * (2 - least.count(".")), name


def test_a_trainer_without_the_private_writer_is_only_not_measured() -> None:
    assert compat.checkpoint_writer(SimpleNamespace()) is None
    assert compat.checkpoint_writer(SimpleNamespace(_save_checkpoint=len)) == "_save_checkpoint"
