"""docs/losses.md says what the code does: every loss has a row with its options and defaults."""

from __future__ import annotations

from alignment.losses.base import ALIASES, LOSSES, make_loss
from tests.conftest import REPO

PAGE = (REPO / "docs/losses.md").read_text(encoding="utf-8")


def rows() -> dict[str, list[str]]:
    lines = [line.replace("\\|", "/") for line in PAGE.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def test_every_loss_has_a_row_and_every_row_a_loss() -> None:
    assert sorted(rows()) == LOSSES.names()


def test_options_and_defaults_are_those_of_the_code() -> None:
    for name, row in rows().items():
        options = ", ".join(f"{key}={value}" for key, value in make_loss(name).options.items())
        assert row[3] == options, name


def test_the_table_knows_which_losses_need_a_reference() -> None:
    for name, row in rows().items():
        assert row[4] == ("yes" if make_loss(name).needs_reference else "no"), name


def test_aliases_are_told() -> None:
    for alias in ALIASES:
        assert f"`{alias}`" in PAGE, alias
