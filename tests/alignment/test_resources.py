"""Shipped recipes and models are found, and a miss says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment import resources
from codegen_eval.errors import CodealignError


def test_recipes_of_a_checkout_are_found() -> None:
    assert resources.recipe_path("accelerate/single.yaml").is_file()


def test_a_miss_lists_what_there_is() -> None:
    with pytest.raises(CodealignError, match=r"no 'accelerate/none\.yaml'.*accelerate/single\.yaml"):
        resources.recipe_path("accelerate/none.yaml")
    with pytest.raises(CodealignError, match="among the shipped models"):
        resources.model_path("gpt-5")


def test_a_wheel_keeps_them_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "_data" / "recipes" / "x" / "dpo.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.touch()
    model = tmp_path / "_data" / "models" / "tiny" / "config.json"
    model.parent.mkdir(parents=True)
    model.touch()
    monkeypatch.setattr(resources, "_ROOTS", (tmp_path / "no-checkout", tmp_path / "_data"))
    assert resources.recipe_path("x/dpo.yaml") == recipe
    assert resources.model_path("tiny") == model.parent
    with pytest.raises(CodealignError, match="there are: tiny"):
        resources.model_path("other")
