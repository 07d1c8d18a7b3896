"""KTO on labelled rows: mismatched completions, TRL's loss, weights, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from alignment.losses.base import make_loss
from alignment.preference.kto_trainer import LabelledTrainer, mismatched
from alignment.preference.options import PreferenceOptions
from codegen_eval.errors import CodealignError
from tests.alignment.preference import small as tiny
from tests.alignment.preference.test_trainer import killed_after_a_checkpoint
from tests.conftest import REPO

ROWS = [
    {
        "prompt": f'def f(xs):\n    """Return {i // 2}."""\n',
        "completion": f"    return {i}\n",
        "label": i % 2 == 0,
        "weight": 0.5 + i / 16,
    }
    for i in range(8)
]


def config(folder: Path, **changes: Any) -> KTOConfig:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "max_steps": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
        "max_length": 64,
    }
    return KTOConfig(**{**settings, **changes})


def make(folder: Path, weight: str | None = None, rows: Any = ROWS, **changes: Any) -> Any:
    options = PreferenceOptions(weight_column=weight)
    model = tiny.model(0)
    return LabelledTrainer(
        model,
        config(folder, **changes),
        Dataset.from_list(rows),
        tiny.tokenizer(),
        options=options,
        ref_model=tiny.model(1),
    )


def first_batch(trainer: Any) -> dict[str, torch.Tensor]:
    return trainer.data_collator([trainer.train_dataset[i] for i in range(4)])  # type: ignore[no-any-return]


def test_a_mismatched_completion_answers_another_prompt_and_fits() -> None:
    prompts = [[1], [1], [2], [3, 3, 3]]
    completions = [[10], [11], [12, 12, 12], [13]]
    assert mismatched(prompts, completions) == [2, 2, 3, 0]
    assert mismatched(prompts, completions, 3) == [3, 3, 3, None]
    assert mismatched([[1], [1]], [[5], [6]]) == [None, None]


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize("stored", [False, True])
def test_the_loss_and_metrics_are_trl_s_on_the_same_batch(
    tmp_path: Path, loss_type: str, stored: bool
) -> None:
    ours = make(tmp_path, loss_type=loss_type, precompute_ref_log_probs=stored)
    batch = first_batch(ours)
    ours.model.train()
    loss = float(ours._compute_loss(ours.model, batch, False).detach())
    theirs = KTOTrainer(
        tiny.model(0),
        ref_model=tiny.model(1),
        args=config(tmp_path, loss_type=loss_type),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tiny.tokenizer(),
    )
    rows = [ours.train_dataset[i] for i in range(4)]
    named = [{**row, "KL_completion_ids": row["kl_ids"]} if "kl_ids" in row else row for row in rows]
    expected = float(theirs._compute_loss(theirs.model, theirs.data_collator(named), False).detach())
    assert loss == pytest.approx(expected, abs=1e-6)
    metrics = [trainer._metrics["train"] for trainer in (ours, theirs)]
    assert set(metrics[1]) <= set(metrics[0])
    for name in set(metrics[1]) - {"num_tokens"}:
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=1e-4), name


def test_weights_go_with_their_rows(tmp_path: Path) -> None:
    trainer = make(tmp_path, weight="weight")
    batch = first_batch(trainer)
    loss = float(trainer._compute_loss(trainer.model, batch, False).detach())
    with torch.no_grad(), trainer._as_reference() as reference:
        frozen, policy = trainer._sums(reference, batch), trainer._sums(trainer.model, batch)
    kl = (policy["kl_logps"] - frozen["kl_logps"]).mean().clamp(min=0)
    z = trainer.loss.options["beta"] * (policy["logps"] - frozen["logps"] - kl)
    each = torch.where(batch["label"], 1 - torch.sigmoid(z), 1 - torch.sigmoid(-z))
    assert loss == pytest.approx(float((each * batch["weight"]).mean()), abs=1e-6)
    assert make_loss("kto").options.keys() == trainer.loss.options.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 1}, "per_device_train_batch_size must be 2 or more"),
        ({"loss_type": "simpo"}, "is for pairs: use `codealign train dpo`"),
        ({"weight": "wait"}, "weight_column wants the column 'wait'"),
        ({"rows": [{**row, "prompt": "p"} for row in ROWS]}, "completions to at least two prompts"),
    ],
)
def test_what_kto_cannot_train_on_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        make(tmp_path, **changes)


def test_kto_killed_and_started_again_gives_the_same_weights(tmp_path: Path) -> None:
    from alignment import kto

    tiny.save_model(tmp_path / "model")
    (tmp_path / "kto.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS * 3))
    words = ["--config", str(REPO / "recipes/tiny-coder/kto.yaml"), "--max_steps", "6", "--save_steps", "3"]
    words += ["--model_name_or_path", str(tmp_path / "model"), "--dataset_name", str(tmp_path / "kto.jsonl")]
    words += ["--per_device_train_batch_size", "4", "--logging_steps", "1", "--output_dir"]
    kto.run([*words, str(tmp_path / "whole")])
    killed_after_a_checkpoint(kto.run, [*words, str(tmp_path / "killed")], 3)
    assert not (tmp_path / "killed/finished.json").exists()
    kto.run([*words, str(tmp_path / "killed")])
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert weights[0] != (tmp_path / "model/model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert {"loss", "kl", "rewards/chosen", "logps/rejected", "step"} <= set().union(*rows)
