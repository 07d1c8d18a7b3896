"""Reward models as members: right scores, one backbone for adapters, TRL's form, refusals."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.reward_modeling.calibration import calibrate_members, score_all
from alignment.reward_modeling.members import MemberNote, draw_member, member_seeds, read_note
from alignment.reward_modeling.scoring import RewardModel, load_members, row_ids
from alignment.rewards.aggregation import Calibration
from alignment.rewards.ensemble import EnsembleReward
from codegen_eval.errors import CodealignError
from tests.alignment.reward_modeling import small

PROMPTS = ["def f(x):\n", "def g(y):\n", "def f(x):\n", "x"]
COMPLETIONS = ["    return x\n", "    return [y for y in range(y)]\n", "", "=1"]
SCALES = [Calibration(0.1, 0.5, 9), Calibration(-0.2, 2.0, 9)]


def save_member(base: str, folder: Path, j: int, *, adapter: bool, max_length: int | None = 64) -> Any:
    from peft import LoraConfig
    from torch import nn

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"]) if adapter else None
    model, tokenizer = draw_member(base, member_seeds(3, 2)[j], peft_config=config)
    if adapter:  # as if it had been trained
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    MemberNote(max_length, calibration=SCALES[j]).write(folder)
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """Two ensembles of two members (full copies, adapters) on the disk, and the models as they were saved."""
    root = tmp_path_factory.mktemp("ensembles")
    base = str(small.save_model(root / "base"))
    models = {
        kind: [save_member(base, root / kind / "members" / str(j), j, adapter=kind == "lora") for j in (0, 1)]
        for kind in ("full", "lora")
    }
    return root, models


def one_by_one(model: Any, prompts: list[str], completions: list[str]) -> list[float]:
    """Scores without padding: the head's value at the last token of each row alone."""
    import torch

    scores = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = row_ids(small.tokenizer(), prompt, completion)
        with torch.inference_mode():
            trunk = getattr(model, "base_model", model)
            trunk = getattr(trunk, "model", trunk) if hasattr(model, "peft_config") else model
            hidden = trunk.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            scores.append(float(trunk.score(hidden[None]).squeeze()))
    return scores


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_members_from_disk_score_the_last_token_whatever_the_batch(folders: Any, kind: str) -> None:
    root, models = folders
    for batch_size in (1, 3):
        members = load_members(root / kind, batch_size=batch_size)
        for j, (name, member) in enumerate(members.items()):
            assert name == f"member{j}" and member.calibration == SCALES[j]
            expected = one_by_one(models[kind][j], PROMPTS, COMPLETIONS)
            assert member.score(PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-5)
            assert len(set(expected)) == 4


def test_adapters_share_one_backbone_and_agree_with_one_forward_for_all(folders: Any) -> None:
    import torch

    root, _ = folders
    members = list(load_members(root / "lora").values())
    apart = np.array([member.score(PROMPTS, COMPLETIONS) for member in members])
    assert members[0].backbone is members[1].backbone
    again = np.array([member.score(PROMPTS, COMPLETIONS) for member in members])
    assert apart == pytest.approx(again, abs=1e-6), "switching to and fro changes nothing"
    model = members[0].backbone._model
    ids = row_ids(small.tokenizer(), PROMPTS[1], COMPLETIONS[1])
    with torch.inference_mode():
        both = model(input_ids=torch.tensor([ids, ids]), adapter_names=["member0", "member1"]).logits
    assert both.ravel().tolist() == pytest.approx(apart[:, 1].tolist(), abs=1e-5)


def test_a_row_longer_than_in_training_has_no_score(folders: Any) -> None:
    member = load_members(folders[0] / "full")["member0"]
    found = member.score(["p", "p", "p"], ["a", "a = " + "1 + " * 80, "a"])
    assert found[1] is None and found[0] is not None
    assert found[2] == pytest.approx(found[0], rel=1e-5)
    reward = EnsembleReward(folders[0] / "full", "wco")
    with pytest.raises(CodealignError, match="member 'member0' has no score for sample 1"):
        reward(["p", "p"], ["a", "1 + " * 80])
    rows = EnsembleReward(folders[0] / "full", "wco", missing="none")(["p", "p"], ["a", "1 + " * 80])
    assert rows[0] is not None and rows[1] is None
    with pytest.raises(CodealignError, match="member0 has no score for text 1"):
        score_all({"member0": member}, [("p", "a"), ("p", "1 + " * 80)])


def test_messages_are_refused(folders: Any) -> None:
    member = load_members(folders[0] / "full")["member0"]
    with pytest.raises(CodealignError, match=r"sample 0: .*cannot read messages"):
        member.score([[{"role": "user", "content": "p"}]], ["a"])


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_ensemble_from_disk_is_a_reward_function_for_trl(folders: Any, kind: str) -> None:
    root, models = folders
    reward = EnsembleReward(root / kind, "uwo", lam=0.5)
    metrics: dict[str, float] = {}
    columns: dict[str, list[Any]] = {}
    found = reward(
        prompts=PROMPTS,
        completions=COMPLETIONS,
        completion_ids=[[1]] * 4,
        trainer_state=object(),
        task_id=["a", "b", "a", "c"],
        log_extra=columns.__setitem__,
        log_metric=metrics.__setitem__,
    )
    raw = np.array([one_by_one(model, PROMPTS, COMPLETIONS) for model in models[kind]])
    scaled = np.array([(raw[j] - SCALES[j].mean) / SCALES[j].std for j in (0, 1)])
    expected = scaled.mean(0) - 0.5 * ((scaled[0] - scaled[1]) / 2) ** 2
    assert all(type(value) is float for value in found)
    assert found == pytest.approx(expected.tolist(), abs=1e-4)
    assert columns["score_member1"] == pytest.approx(scaled[1].tolist(), abs=1e-4)
    assert columns["ensemble_lowest"] == [f"member{j}" for j in scaled.argmin(0)]
    assert metrics["ensemble/variance"] == pytest.approx(float(scaled.var(0).mean()), abs=1e-4)
    assert reward.__name__ == "uwo_of_2"


def test_paths_functions_and_folders_can_be_mixed_by_name(folders: Any) -> None:
    path = folders[0] / "full" / "members" / "0"

    def length(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    with pytest.raises(CodealignError, match="no calibration for length"):
        EnsembleReward({"model": path, "length": length}, "wco")
    reward = EnsembleReward({"model": str(path), "length": length}, "wco", calibration={"length": SCALES[1]})
    assert len(reward(PROMPTS, COMPLETIONS)) == 4 and reward.names == ("model", "length")


def test_members_without_a_scale_are_refused_unless_told(folders: Any, tmp_path: Path) -> None:
    shutil.copytree(folders[0] / "full" / "members", tmp_path / "members")
    MemberNote(64).write(tmp_path / "members" / "1")
    with pytest.raises(CodealignError, match="no calibration for member1"):
        EnsembleReward(tmp_path, "wco")
    assert len(EnsembleReward(tmp_path, "mean", uncalibrated=True)(["p"], ["a"])) == 1


def test_calibration_is_measured_and_kept_with_the_member(folders: Any, tmp_path: Path) -> None:
    shutil.copytree(folders[0] / "full" / "members", tmp_path / "members")
    members = load_members(tmp_path)
    texts = list(zip(PROMPTS, COMPLETIONS, strict=True))
    scores = score_all(members, texts)
    scales = calibrate_members(members, scores)
    for j, name in enumerate(members):
        assert scales[name].mean == pytest.approx(scores[:, j].mean())
        assert scales[name].std == pytest.approx(scores[:, j].std(ddof=1))
        note = read_note(tmp_path / "members" / str(j))
        assert note is not None and note.calibration == scales[name] and note.max_length == 64
    with pytest.raises(CodealignError, match="member0 gives every calibration sample the score"):
        calibrate_members(members, np.zeros((4, 2)))
    assert calibrate_members(members, np.zeros((4, 2)), floor=0.1)["member0"].std == 0.1


def test_an_opened_member_can_be_sent_to_another_process(folders: Any) -> None:
    for kind in ("full", "lora"):
        member = load_members(folders[0] / kind)["member1"]
        before = member.score(PROMPTS, COMPLETIONS)
        sent = copy.copy(member)  # by the same protocol as pickling
        assert sent._model is None and sent._tokenizer is None
        assert member.backbone is None or member.backbone.__getstate__()["_model"] is None
        assert sent.score(PROMPTS, COMPLETIONS) == pytest.approx(before, abs=1e-6)


def test_folders_that_hold_no_reward_model_are_refused(folders: Any, tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="neither a model, an adapter, nor members/0"):
        EnsembleReward(tmp_path)
    with pytest.raises(CodealignError, match=r"neither config\.json nor adapter_config\.json"):
        RewardModel(tmp_path)
    language_model = RewardModel(folders[0] / "base")
    with pytest.raises(CodealignError, match="has no reward head"):
        language_model.score(["p"], ["a"])
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2}))
    with pytest.raises(CodealignError, match="names no base model"):
        RewardModel(tmp_path)
    with pytest.raises(CodealignError, match="batch_size must be 1 or more"):
        RewardModel(folders[0] / "base", batch_size=0)
