"""Members of a reward ensemble: own seeds, own heads, and notes that are refused when they make no sense."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from alignment.resources import model_path
from alignment.reward_modeling.members import (
    NOTE,
    MemberNote,
    Seeds,
    draw_member,
    load_base,
    member_folders,
    member_seeds,
    read_note,
)
from alignment.rewards.aggregation import Calibration
from codegen_eval.errors import CodealignError
from tests.alignment.reward_modeling import small

SEEDS = member_seeds(0, 3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small.save_model(tmp_path_factory.mktemp("base")))


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"])


def score(model: Any) -> float:
    import torch

    with torch.inference_mode():
        return float(model.eval()(input_ids=torch.tensor([[5, 6, 7]])).logits)


def test_seeds_hang_on_the_base_seed_and_the_number_alone() -> None:
    assert member_seeds(0, 5)[:3] == SEEDS
    assert len({s.head for s in SEEDS} | {s.order for s in SEEDS}) == 6
    assert member_seeds(1, 3) != SEEDS
    assert all(0 <= n < 2**31 for s in member_seeds(7, 50) for n in (s.head, s.order))


def test_head_and_order_vary_separately() -> None:
    heads = member_seeds(0, 3, vary_order=False)
    assert len({s.head for s in heads}) == 3 and len({s.order for s in heads}) == 1
    orders = member_seeds(0, 3, vary_head=False)
    assert len({s.head for s in orders}) == 1 and len({s.order for s in orders}) == 3


def test_members_that_would_be_one_model_are_refused() -> None:
    with pytest.raises(CodealignError, match="one model 2 times"):
        member_seeds(0, 2, vary_head=False, vary_order=False)
    assert len(member_seeds(0, 1, vary_head=False, vary_order=False)) == 1
    with pytest.raises(CodealignError, match=r"at least one member \(given: 0\)"):
        member_seeds(0, 0)
    with pytest.raises(CodealignError, match="--seed must be 0 or more"):
        member_seeds(-1, 1)


def test_full_members_differ_before_training_and_can_be_drawn_again(base: str) -> None:
    models = [draw_member(base, seeds)[0] for seeds in SEEDS]
    assert len({score(model) for model in models}) == 3
    assert score(draw_member(base, SEEDS[1])[0]) == pytest.approx(score(models[1]), rel=1e-5)
    trunks = [model.model.layers[0].mlp.up_proj.weight for model in models]
    assert (trunks[0] == trunks[1]).all(), "what was pre-trained is shared"


def test_adapters_differ_before_training_in_head_and_in_a(base: str) -> None:
    import torch

    models = [draw_member(base, seeds, peft_config=lora())[0] for seeds in SEEDS[:2]]
    assert score(models[0]) != score(models[1])
    weights = [{n: p for n, p in m.named_parameters() if p.requires_grad} for m in models]
    assert any("lora_A" in name for name in weights[0]) and any("score" in name for name in weights[0])
    for name, weight in weights[0].items():
        # B begins at zero, so that the adapter changes nothing yet.
        assert bool(torch.equal(weight, weights[1][name])) == ("lora_B" in name), name


def test_adapters_that_are_merely_added_to_one_model_are_equal_at_the_start(base: str) -> None:
    model = draw_member(base, SEEDS[0], peft_config=lora())[0]
    first = score(model)
    model.add_adapter("member1", lora_with_head())
    model.set_adapter("member1")
    assert score(model) == first, "the trap that drawing each member from its own seed avoids"


def lora_with_head() -> Any:
    config = lora()
    config.task_type = "SEQ_CLS"
    return config


def test_a_reward_model_as_the_base_is_refused_where_each_member_needs_a_head(
    base: str, tmp_path: Path
) -> None:
    model, tokenizer = draw_member(base, SEEDS[0])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CodealignError, match=r"is a reward model already.*--vary_head false"):
        draw_member(str(tmp_path), SEEDS[1])
    again = draw_member(str(tmp_path), SEEDS[1], own_head=False)[0]
    assert score(again) == pytest.approx(score(model), rel=1e-5)


def test_what_cannot_be_a_base_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="no such model folder"):
        load_base(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CodealignError, match="holds no tokenizer that transformers can load"):
        load_base(str(tmp_path))
    for path in Path(model_path("tiny-coder")).glob("token*"):
        shutil.copy(path, tmp_path)
    with pytest.raises(CodealignError, match="cannot make a reward model of"):
        load_base(str(tmp_path))


def test_a_note_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    for note in (MemberNote(None), MemberNote(64, Seeds(1, 2), Calibration(-0.5, 2.0, 30))):
        note.write(tmp_path)
        assert read_note(tmp_path) == note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no member's note"),
        ('{"seeds": null}', "is no member's note: KeyError"),
        (
            json.dumps({"seeds": None, "max_length": 9, "calibration": {"mean": 0, "std": 0, "samples": 3}}),
            "a deviation above 0, got 0.0, 0.0",
        ),
        (
            '{"seeds": null, "max_length": 9, "calibration": {"mean": NaN, "std": 1, "samples": 3}}',
            "a finite mean",
        ),
    ],
)
def test_a_note_that_makes_no_sense_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / NOTE).write_text(content)
    with pytest.raises(CodealignError, match=message):
        read_note(tmp_path)


def members(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        (folder / "members" / str(number)).mkdir(parents=True)
    return folder


def test_members_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = member_folders(members(tmp_path, *range(11)))
    assert list(found) == [f"member{j}" for j in range(11)]
    assert found["member10"] == tmp_path / "members" / "10"


def test_a_folder_that_lacks_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="holds no reward model"):
        member_folders(tmp_path)
    with pytest.raises(CodealignError, match="lacks a number: there are 0, 2"):
        member_folders(members(tmp_path / "gap", 0, 2))
    unfinished = members(tmp_path / "run", 0, 1)
    (unfinished / "protocol.json").write_text("{}")
    with pytest.raises(CodealignError, match=r"not complete \(2 members so far\)"):
        member_folders(unfinished)
    (unfinished / "finished.json").write_text("{}")
    assert len(member_folders(unfinished)) == 2
