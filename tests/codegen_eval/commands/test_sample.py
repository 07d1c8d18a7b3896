"""`codealign sample`: what it writes, what it refuses, and that a stop changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codegen_eval.commands import sample
from codegen_eval.commands.sample import SampleConfig, chosen_prompts, requests_for
from codegen_eval.errors import CodealignError
from codegen_eval.generation.pool import GeneratorPool
from codegen_eval.runs import read_jsonl
from tests.alignment import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save_model(tmp_path_factory.mktemp("sample") / "model"))


def config(model: str, out: Path, **changes: Any) -> SampleConfig:
    few: dict[str, Any] = {"split": "tune", "limit": 6, "programs": 3, "batch_prompts": 2, "workers": 1}
    few |= {"max_program_tokens": 12, "max_test_tokens": 12, "dtype": "float32"}
    return SampleConfig(model=model, out=out, **{**few, **changes})


def test_it_writes_programs_and_tests_for_the_drawn_prompts_in_order(model: str, tmp_path: Path) -> None:
    asked = config(model, tmp_path / "run", tests=2)
    directory = sample.run(asked)
    programs = list(read_jsonl(directory.path / "programs.jsonl"))
    ids = [p.task_id for p in chosen_prompts(asked)]
    assert [(row["task_id"], row["sample"]) for row in programs] == [(i, n) for i in ids for n in range(3)]
    assert len(list(read_jsonl(directory.path / "tests.jsonl"))) == 12
    assert directory.finished


def test_programs_do_not_depend_on_how_many_are_asked_for_or_on_the_tests(model: str, tmp_path: Path) -> None:
    few = sample.run(config(model, tmp_path / "few", programs=1))
    many = sample.run(config(model, tmp_path / "many", programs=4, tests=1))
    rows = {(r["task_id"], r["sample"]): r for r in read_jsonl(many.path / "programs.jsonl")}
    assert all(rows[r["task_id"], r["sample"]] == r for r in read_jsonl(few.path / "programs.jsonl"))


def test_stopped_between_batches_it_goes_on_to_the_same_bytes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sample.run(config(model, tmp_path / "whole", tests=1))
    generate = GeneratorPool.generate

    def stopping(self: GeneratorPool, batches: Any, sampling: Any) -> Any:
        for i, drawn in enumerate(generate(self, batches, sampling)):
            if i == 1:
                raise KeyboardInterrupt
            yield drawn

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorPool, "generate", stopping)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                sample.run(config(model, tmp_path / "stopped", tests=1))
    again = sample.run(config(model, tmp_path / "stopped", tests=1))
    for name in ("programs.jsonl", "tests.jsonl"):
        assert (whole.path / name).read_bytes() == (again.path / name).read_bytes()


def test_the_test_template_is_filled_in(model: str, tmp_path: Path) -> None:
    asked = config(model, tmp_path, tests=1, test_template="{prompt}    pass\n\n# {entry_point}\nassert")
    prompt = chosen_prompts(asked)[0]
    text = requests_for("tests", [prompt], asked)[0].prompt
    assert text == f"{prompt.prompt}    pass\n\n# {prompt.entry_point}\nassert"
    rows = read_jsonl(sample.run(asked).path / "tests.jsonl")
    assert all(row["completion"].startswith("assert") for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 999}, "only 136 problems"),
        ({"programs": 0}, "nothing to draw"),
        ({"model": "./nowhere"}, "no such model folder: ./nowhere"),
        ({"split": "tset"}, "did you mean 'test'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    model: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        sample.run(config(**{"model": model, "out": tmp_path / "run", **changes}))


def test_what_is_refused_leaves_nothing_behind(model: str, tmp_path: Path) -> None:
    for changes in ({"model": "./nowhere"}, {"split": "nope"}, {"limit": 10**6}):
        with pytest.raises(CodealignError):
            sample.run(config(changes.pop("model", model), tmp_path / "run", **changes))
        assert not (tmp_path / "run").exists()


def test_a_template_without_the_prompt_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must contain \{prompt\}"):
        config(model, tmp_path, test_template="write tests")
