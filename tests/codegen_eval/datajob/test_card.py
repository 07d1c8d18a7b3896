"""The data card: front matter that the hub reads, no folder of the machine, no mark-up of others."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from codegen_eval.datajob.card import Facts, front_matter, licences, public_config, render


def facts(**changes: Any) -> Facts:
    config = {"ranker": "b4", "builder": "ranked", "chat": False, "model": "/home/me/models/m", "seed": 1}
    config |= {"decontaminate": ["humaneval:/home/me/HumanEval.jsonl.gz", "minipy@test"], "source_tree": None}
    given: dict[str, Any] = {
        "config": config,
        "rows": {"train": 90, "test": 10},
        "prompts": {"prompts": 70, "prompts_used": 50},
        "licences": {"mit": 50},
        "execution": {"cells": 5000},
        "hygiene": {"tests_constant": 3},
        "funnel": {"pairs_kept": 100},
        "versions": {"codealign": "0.1.0"},
        "inputs": {"model": "abc"},
    }
    return Facts(**{**given, **changes})


def front(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(head))


@pytest.mark.parametrize(
    ("found", "licence", "name"),
    [
        ({"mit": 3}, "mit", None),
        ({"Apache-2.0": 3}, "apache-2.0", None),
        ({"mit": 3, "bsd-3-clause": 1}, "other", "bsd-3-clause; mit"),
        ({"MIT OR Apache-2.0": 1}, "other", "MIT OR Apache-2.0"),
        ({"not stated": 4}, "unknown", None),
    ],
)
def test_the_licence_is_the_prompts(found: dict[str, int], licence: str, name: str | None) -> None:
    head = front_matter(facts(licences=found))
    assert (head["license"], head.get("license_name")) == (licence, name)


def test_front_matter_names_the_files_of_the_splits_that_have_rows() -> None:
    head = front(render(facts(rows={"train": 1500, "test": 0})))
    (config,) = head["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert head["size_categories"] == ["1K<n<10K"]


def test_folders_of_the_machine_are_not_shown() -> None:
    text = render(facts())
    assert "/home" not in text
    shown = public_config(facts().config)
    assert shown["model"] == "m" and shown["decontaminate"] == ["humaneval:HumanEval.jsonl.gz", "minipy@test"]


def test_every_count_is_in_a_table_and_texts_of_others_make_no_mark_up() -> None:
    text = render(facts(licences={"x | y\n<script>[a](b)": 2}))
    for line in ("| train | 90 |", "| cells | 5000 |", "| tests\\_constant | 3 |", "| pairs\\_kept | 100 |"):
        assert line.replace("\\_", "_") in text
    assert "| x \\| y \\<script\\>\\[a\\](b) | 2 |" in text
    assert "## Test hygiene" not in render(facts(hygiene={}))


def test_licences_are_counted_most_frequent_first() -> None:
    rows = [{"licence": name} for name in ("b", "a", "c", "c")]
    assert list(licences(rows).items()) == [("c", 2), ("a", 1), ("b", 1)]
