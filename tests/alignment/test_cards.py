"""Model cards: what is in them, what is not, and that every trainer leaves one and pushes only when asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment.card_command import card
from alignment.cards import Facts, check_push, facts_of, front_matter, render, write_card, write_cards
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir
from tests.alignment.preference import small
from tests.codegen_eval.hub_server import hub_server
from tests.conftest import REPO


def facts(**changes: Any) -> Facts:
    given: dict[str, Any] = {
        "command": "dpo",
        "config": {
            "model_name_or_path": "/home/me/models/tiny",
            "dataset_name": "me/pairs",
            "loss_type": ["sigmoid"],
            "learning_rate": 1e-5,
            "hub_token": "hf_secret",
            "reward": "./mine/rewards.py",
        },
        "inputs": {"model_name_or_path": "ab" * 32},
        "versions": {"trl": "1.16.0"},
        "figures": {"steps": 80, "loss": 0.51234567},
    }
    return Facts(**{**given, **changes})


def front(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n", 2)[1]))


def test_the_front_matter_is_the_hubs_and_names_only_what_is_on_the_hub() -> None:
    head = front(render(facts()))
    assert head["datasets"] == ["me/pairs"] and "base_model" not in head, "the model was a folder"
    assert head["library_name"] == "transformers" and head["license"] == "unknown"
    assert {"codealign", "dpo"} <= set(head["tags"])
    config = {"model_name_or_path": "owner/base", "dataset_name": "runs/pairs"}
    head = front_matter(facts(config=config, inputs={"dataset_name": "x"}, adapter=True, licence="mit"))
    assert head["base_model"] == "owner/base" and "datasets" not in head
    assert head["library_name"] == "peft" and head["license"] == "mit"


def test_nothing_of_the_machine_and_no_secret_is_shown() -> None:
    text = render(facts())
    assert "/home" not in text and "hf_secret" not in text and "./mine" not in text
    assert "rewards.py" in text and "| steps | 80 |" in text and "| loss | 0.5123 |" in text
    assert f"| model_name_or_path | {'ab' * 32} |" in text and "| trl | 1.16.0 |" in text


def test_text_of_others_makes_no_mark_up() -> None:
    config = {
        "model_name_or_path": "x](http://evil) <script>",
        "dataset_name": "```\n# d",
        "loss_type": "sigmoid",
    }
    text = render(facts(config=config, figures={"a|b": "<b>"}))
    shown = text.split("---\n", 2)[2].split("## Recipe")[0]  # between the front matter and the recipe's fence
    assert "\\<script\\>" in shown and "x\\](http" in shown and "<script>" not in shown.replace("\\<", "")
    assert "| a\\|b | \\<b\\> |" in text
    assert text.count("```") == 2, "the recipe's own fence cannot be closed from inside"


@pytest.mark.parametrize(
    ("command", "config", "wanted"),
    [
        ("dpo", {"loss_type": ["sigmoid"]}, ["2305.18290"]),
        ("dpo", {"loss_type": ["simpo", "sft"]}, ["2305.18290", "2405.14734"]),
        ("kto", {}, ["2402.01306"]),
        ("mezo", {"sparsity": 0.75}, ["2305.17333", "2402.15751"]),
        ("reward", {}, ["2310.02743"]),
    ],
)
def test_the_papers_of_method_and_loss_are_cited(
    command: str, config: dict[str, Any], wanted: list[str]
) -> None:
    cited = render(facts(command=command, config=config)).partition("## Citation")[2]
    assert [number for number in wanted if number not in cited] == []


def evaluation(folder: Path) -> Path:
    folder.mkdir()
    results = {
        "benchmark": "minipy",
        "n_problems": 272,
        "pass_at_k": {
            "1": {"value": 0.5, "low": 0.45, "high": 0.55},
            "10": {"value": 0.9, "low": None, "high": None},
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def run(folder: Path, command: str = "dpo") -> RunDir:
    directory = RunDir.open(
        folder, command, {"model_name_or_path": str(REPO / "models/tiny-coder"), "seed": 0}
    )
    (folder / "model").mkdir(parents=True)
    return directory


def test_evaluations_stand_there_with_their_intervals(tmp_path: Path) -> None:
    directory = run(tmp_path / "run")
    write_card(directory, directory.path / "model", {"steps": 3})
    before = (directory.path / "model/README.md").read_text()
    assert "## Evaluation" not in before and front(before)["license"] == "apache-2.0", (
        "as the base's card says"
    )
    with pytest.raises(CodealignError, match="no finished training run"):
        card(directory.path)
    directory.finish(steps=3)
    text = card(directory.path, [evaluation(tmp_path / "eval")]).read_text()
    assert "| minipy | 272 | pass@1 | 0.500 | [0.450, 0.550] |" in text and "pass@10 | 0.900 | - |" in text
    metrics = front(text)["model-index"][0]["results"][0]["metrics"]
    assert {"type": "pass@1", "value": 0.5} in metrics
    for content, message in (("{}", "no pass_at_k"), ("[", "cannot be read")):
        (tmp_path / "eval/results.json").write_text(content)
        with pytest.raises(CodealignError, match=message):
            card(directory.path, [tmp_path / "eval"])


def test_each_member_of_an_ensemble_has_its_own_accuracy_whatever_their_number(tmp_path: Path) -> None:
    directory = run(tmp_path / "run", "reward")
    for number in range(11):
        (directory.path / "members" / str(number)).mkdir(parents=True)
    accuracy = {f"member{n}": {"value": n / 100, "low": 0.0, "high": 0.5} for n in range(11)}
    write_cards(directory, {"pairs": 5, "prompts": 4, "accuracy": {**accuracy, "mean": {"value": 0.9}}})
    text = (directory.path / "members/10/README.md").read_text()
    assert "| accuracy | 0.100 \\[0.000, 0.500\\] |" in text and "| held-out pairs | 5 |" in text
    whole = (directory.path / "members/README.md").read_text()
    assert "| accuracy member2 | 0.020" in whole and "| accuracy mean | 0.900 |" in whole


class Wish:
    push_to_hub = True
    hub_model_id: str | None = None


def test_a_wish_to_push_needs_a_place_and_is_taken_from_transformers() -> None:
    wish = Wish()
    with pytest.raises(CodealignError, match="needs --hub_model_id"):
        check_push(wish)
    wish.hub_model_id = "name"
    with pytest.raises(CodealignError, match="--hub_model_id 'name': give OWNER/NAME"):
        check_push(wish)
    wish.hub_model_id = "me/name"
    assert check_push(wish) and not wish.push_to_hub and not check_push(wish)


def test_training_leaves_a_card_and_pushes_the_model_alone_only_when_asked_also_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment import dpo

    small.save_model(tmp_path / "base")
    pair = {"prompt": "def f(xs):\n", "chosen": "    return max(xs)\n", "rejected": "    return 2\n"}
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps(pair) + "\n" + json.dumps({**pair, "rejected": "    x\n"}) + "\n"
    )
    argv = [
        "--config",
        str(REPO / "recipes/tiny-coder/dpo.yaml"),
        "--model_name_or_path",
        str(tmp_path / "base"),
    ]
    argv += [
        "--dataset_name",
        str(tmp_path / "pairs.jsonl"),
        "--max_steps",
        "1",
        "--output_dir",
        str(tmp_path / "run"),
    ]
    hub = [
        "--push_to_hub",
        "true",
        "--hub_model_id",
        "me/tiny",
        "--hub_private_repo",
        "true",
        "--hub_token",
        "hf_right",
    ]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server() as site:
        for name in ("huggingface_hub.constants.ENDPOINT", "huggingface_hub.hf_api.ENDPOINT"):
            monkeypatch.setattr(name, site.url, raising=False)
        directory = dpo.run(argv)
        text = (directory.path / "model/README.md").read_text()
        assert (
            "direct preference optimisation" in text and "| steps | 1 |" in text and str(tmp_path) not in text
        )
        assert site.repos == {}
        dpo.run([*argv, *hub])
        repo = site.repos["me/tiny"]
        assert repo["private"] and repo["files"]["README.md"].decode() == text
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(repo["files"])
        assert not any("checkpoint" in name or "metrics" in name for name in repo["files"])
        assert repo["messages"] == ["codealign train dpo"]
        assert all(
            "hf_right" not in path.read_text() for path in directory.path.glob("*.*") if path.is_file()
        )
    found = facts_of(directory.path, directory.path / "model")
    assert found.figures["pairs"] == 2 and set(found.inputs) == {"dataset_name", "model_name_or_path"}
    with pytest.raises(CodealignError, match="hub_strategy does nothing"):
        dpo.parse([*argv, "--hub_strategy", "end"])
