"""Versions: what was tried is what the constraints say, and what was not is said."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from alignment import compat
from tests.conftest import REPO


def pins(name: str) -> dict[str, str]:
    text = (REPO / name).read_text()
    return dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, re.MULTILINE))


def test_the_ends_are_those_of_the_constraints_files() -> None:
    lowest, newest = pins("constraints-lowest.txt"), pins("constraints.txt")
    assert {name: compat.LOWEST[name] for name in lowest} == lowest
    assert {name: newest[name] for name in compat.LOWEST} == {
        name: compat.NEWEST[name] for name in compat.LOWEST
    }


def test_versions_outside_of_what_was_tried_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**compat.NEWEST, "trl": "1.17.0", "torch": f"{compat.NEWEST['torch']}+cpu"}
    monkeypatch.setattr(compat, "version", lambda name: versions[name])
    assert compat.untried() == {"trl": "1.17.0 (tried: 1.16.0 to 1.16.0)"}


def test_a_trainer_without_the_private_writer_is_only_not_measured() -> None:
    assert compat.checkpoint_writer(SimpleNamespace()) is None
    assert compat.checkpoint_writer(SimpleNamespace(_save_checkpoint=len)) == "_save_checkpoint"
