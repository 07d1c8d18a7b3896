"""The pair trainer: TRL's own step where that is enough, ours equal to it, and everything TRL's cannot do."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig

from alignment.losses.base import LOSSES
from alignment.preference import reference as stored
from alignment.preference.data import checked
from alignment.preference.job import memory_named
from alignment.preference.objective import UNPAIRED, build, defaults, objective_of
from alignment.preference.options import PairOptions
from alignment.preference.runlog import RunLog
from alignment.preference.trainer import PairTrainer
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir
from tests.alignment.preference import small as tiny
from tests.conftest import REPO

ROWS = [
    {
        "prompt": f'def f(xs):\n    """Return {i}."""\n',
        "chosen": f"    return {i}\n" * (1 + i % 2),
        "rejected": f"    return {i + 1}\n",
        "confidence": 0.5 + i / 20,
        "weight": float(i),
    }
    for i in range(8)
]


def make(folder: Path, *, options: dict[str, Any] | None = None, rows: Any = ROWS, **changes: Any) -> Any:
    """A trainer on a model of a few thousand weights that is not its own reference."""
    mine = PairOptions(**(options or {}))
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "max_steps": 2,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": 128,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    more = {key: changes.pop(key) for key in ("ref_model", "peft_config") if key in changes}
    model = changes.pop("model", None) or tiny.model(0)
    extra = [c for c in ("confidence", "weight") if c in rows[0]]
    return PairTrainer(
        model,
        DPOConfig(**{**settings, **changes}),
        checked(Dataset.from_list(rows), "rows", extra),
        tiny.tokenizer(),
        options=mine,
        **more,
    )


def loss_of(trainer: Any, rows: slice = slice(0, 4)) -> float:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)][rows])
    trainer.model.train()
    return float(trainer._compute_loss(trainer.model, batch, False).detach())


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"shared_prompt": True}, {}),
        ({"shared_prompt": True}, {"precompute_ref_log_probs": True}),
        ({}, {"padding_free": True}),
        ({"shared_prompt": True}, {"padding_free": True, "attn_implementation": "sdpa"}),
    ],
)
def test_our_step_has_the_loss_and_metrics_of_trl_s(
    tmp_path: Path, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    shared = {k: v for k, v in changes.items() if k not in ("padding_free", "attn_implementation")}
    ours = shared | {k: v for k, v in changes.items() if k == "padding_free"}
    trainers = []
    for mine, settings in (({}, shared), (options, ours)):
        model = tiny.model(0)
        model.set_attn_implementation(changes.get("attn_implementation", "eager"))
        trainers.append(make(tmp_path, model=model, ref_model=tiny.model(1), options=mine, **settings))
    assert trainers[0].plain and not trainers[1].plain
    losses = [loss_of(trainer) for trainer in trainers]
    assert abs(losses[0] - 0.6931) > 1e-3, "the reference is another model"
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    metrics = [trainer._metrics["train"] for trainer in trainers]
    assert set(metrics[0]) <= set(metrics[1])
    for name in set(metrics[0]) - {"num_tokens"}:
        assert metrics[1][name] == pytest.approx(metrics[0][name], abs=1e-4), name


def test_every_loss_for_pairs_trains_by_its_name(tmp_path: Path) -> None:
    trainer = make(tmp_path, ref_model=tiny.model(1), options={"shared_prompt": True}, loss_type=["cdpo"])
    segmented = make(tmp_path, ref_model=tiny.model(1), loss_type=["segment_weighted"])
    for name in sorted(set(LOSSES.names()) - set(UNPAIRED)):
        one = segmented if name == "segment_weighted_dpo" else trainer
        config = "ipo_sum" if name == "ipo" else name
        one.objective = build([config], **defaults([config]))
        one.model.zero_grad()
        batch = one.data_collator([one.train_dataset[i] for i in range(4)])
        loss = one._compute_loss(one.model, batch, False)
        loss.backward()
        gradient = sum(float(p.grad.abs().sum()) for p in one.model.parameters() if p.grad is not None)
        assert loss.isfinite() and gradient > 0, name


def test_confidence_and_weight_change_the_loss_as_told(tmp_path: Path) -> None:
    trainer = make(
        tmp_path,
        ref_model=tiny.model(1),
        loss_type=["cdpo"],
        label_smoothing=0.1,
        options={"confidence_as": "label_smoothing", "weight_column": "weight"},
    )
    loss = loss_of(trainer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    with torch.no_grad(), trainer._as_reference() as reference:
        frozen = trainer._score(reference, batch)["logps"].sum(1)
        ratios = trainer._score(trainer.model, batch)["logps"].sum(1) - frozen
    z = trainer.args.beta * (ratios[:4] - ratios[4:])
    e = 1 - torch.tensor([row["confidence"] for row in ROWS[:4]])
    each = -(1 - e) * torch.nn.functional.logsigmoid(z) - e * torch.nn.functional.logsigmoid(-z)
    assert loss == pytest.approx(float((each * torch.arange(4.0)).mean()), abs=1e-6)


def test_a_step_mask_leaves_only_its_tokens(tmp_path: Path) -> None:
    ids = {"prompt_ids": [5, 6], "chosen_ids": [7, 8, 9], "rejected_ids": [10, 11, 12]}
    masks = {"chosen_mask": [0, 1, 0], "rejected_mask": [0, 1, 1]}
    masked = make(tmp_path, rows=[{**ids, **masks}] * 8, loss_type=["simpo"], beta=2.0)
    loss = loss_of(masked, slice(0, 1))
    batch = masked.data_collator([masked.train_dataset[0]])
    logps = masked._score(masked.model, batch)["logps"]
    z = 2.0 * (logps[0, 1] - logps[1, 1:].mean()) - 1.0
    assert loss == pytest.approx(float(-torch.nn.functional.logsigmoid(z)), abs=1e-6)


def test_the_reference_is_the_model_in_memory_and_stays_as_it_was(tmp_path: Path) -> None:
    model = tiny.model(7)  # lies nowhere on a disk
    trainer = make(tmp_path, model=model, loss_type=["cdpo"], label_smoothing=0.1)
    assert loss_of(trainer) == pytest.approx(0.6931, abs=1e-4)
    before = {name: tensor.clone() for name, tensor in trainer.ref_model.state_dict().items()}
    trainer.train()
    moved = model.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.ref_model.state_dict().items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in moved.items())


def test_without_need_of_a_reference_there_is_none(tmp_path: Path) -> None:
    trainer = make(tmp_path, loss_type=["simpo"], beta=2.0)
    assert trainer.ref_model is None
    trainer.train()
    assert not (tmp_path / "reference").exists()
    assert "log_ratios/chosen" not in trainer.state.log_history[0]
    assert {"rewards/margins", "logps/chosen", "entropy"} <= set(trainer.state.log_history[0])


@pytest.mark.parametrize("task", [None, "CAUSAL_LM"], ids=str)
def test_with_adapters_the_model_without_them_is_the_reference(tmp_path: Path, task: str | None) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type=task)
    trainer = make(tmp_path, loss_type=["cdpo"], label_smoothing=0.1, peft_config=config)
    assert trainer.ref_model is None
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    with trainer._as_reference() as reference:
        found = trainer._score(reference, batch)["logps"]
    bare = make(tmp_path, loss_type=["cdpo"], label_smoothing=0.1)
    expected = bare._score(bare.model, batch)["logps"]
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(trainer._score(trainer.model, batch)["logps"], expected, atol=1e-3)


def test_stored_reference_values_are_used_again_for_the_same_weights_and_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"reference_cache": str(tmp_path / "cache"), "shared_prompt": True}
    settings: dict[str, Any] = {"precompute_ref_log_probs": True, "options": cache}
    first = make(tmp_path / "a", **settings)
    live = make(tmp_path / "a", options={"shared_prompt": True})
    assert loss_of(first) == pytest.approx(loss_of(live), abs=1e-6)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(PairTrainer, "_computed", lambda *_: pytest.fail("computed once more"))
        again = make(tmp_path / "b", **settings)
        assert loss_of(again) == loss_of(first)
    make(tmp_path / "c", model=tiny.model(1), **settings)
    make(tmp_path / "d", rows=ROWS[::-1], **settings)
    make(tmp_path / "e", max_length=100, **settings)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_broken_stored_values_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    stored.save(path, {"a": [1.0, 2.0], "b": [[1.0], [2.0, 3.0]]})
    assert stored.load(path, 2) == {"a": [1.0, 2.0], "b": [[1.0], [2.0, 3.0]]}
    with pytest.raises(CodealignError, match="holds 2 rows, the data 3"):
        stored.load(path, 3)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CodealignError, match="is broken"):
        stored.load(path, 2)


def other_vocabulary() -> Any:
    model = tiny.model()
    model.resize_token_embeddings(800)
    return model


def with_nan() -> Any:
    model = tiny.model()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ref_model": other_vocabulary}, "a vocabulary of 800 tokens, the policy one of "),
        ({"model": with_nan}, r"1 of 2048 weights of model\.layers\.1\.mlp\.up_proj\.weight are NaN"),
        ({"loss_type": ["kto"]}, "use `codealign train kto`"),
        ({"options": {"confidence_as": "label_smoothing"}}, "confidence_as: label_smoothing does nothing"),
        ({"options": {"weight_column": "weights"}}, "weight_column wants the column 'weights'; found: "),
        ({"loss_type": ["simpo"], "sync_ref_model": True}, "the loss 'simpo' has no reference"),
        ({"loss_type": ["tdpo"], "precompute_ref_log_probs": True}, "set precompute_ref_log_probs: false"),
        ({"max_length": 3}, "all 8 pairs are longer than max_length=3"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    built = {key: value() if callable(value) else value for key, value in changes.items()}
    with pytest.raises(CodealignError, match=message):
        make(tmp_path, **built)


def test_too_little_memory_says_which_settings_to_lower(tmp_path: Path) -> None:
    args = DPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, per_device_train_batch_size=8)
    text = (
        r"per_device_train_batch_size \(now 8; with gradient_accumulation_steps 2 .* max_length \(now 1024\)"
    )
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ):
        with pytest.raises(CodealignError, match=text), memory_named(args):
            raise error
    with pytest.raises(RuntimeError, match="another matter"), memory_named(args):
        raise RuntimeError("another matter")


def test_a_fall_of_chosen_programs_is_told_once_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(RunDir.open(tmp_path / "run", "dpo", {}), beta=0.1)
    state: Any = type("State", (), {"is_world_process_zero": True, "global_step": 1, "max_steps": 2})
    for reward in (-0.5, -1.3, -2.0):
        log.on_log(None, state, None, {"loss": 0.1, "rewards/chosen": reward})
    assert capsys.readouterr().err.count("chosen programs are now 13 nats less likely than under") == 1
    bare = RunLog(RunDir.open(tmp_path / "bare", "dpo", {}), beta=None)
    for logps in (-20.0, -31.0):
        bare.on_log(None, state, None, {"loss": 0.1, "logps/chosen": logps})
    assert "11 nats less likely than at the start" in capsys.readouterr().err


def test_shipped_recipes_mean_the_losses_that_they_are_called_after(tmp_path: Path) -> None:
    from alignment import dpo, kto

    told = {}
    for name in ("dpo", "cdpo", "simpo", "rpo"):
        recipe = ["--config", str(REPO / f"recipes/tiny-coder/{name}.yaml")]
        arguments = dpo.parse([*recipe, "--dataset_name", "d", "--output_dir", str(tmp_path)])
        loss = objective_of(arguments.training, arguments.options).losses[0]
        told[name] = (loss.name, loss.options["beta"])
    assert told == {"dpo": ("dpo", 0.2), "cdpo": ("cdpo", 0.2), "simpo": ("simpo", 2.0), "rpo": ("rpo", 0.2)}
    recipe = ["--config", str(REPO / "recipes/tiny-coder/kto.yaml")]
    assert kto.parse([*recipe, "--dataset_name", "d", "--output_dir", "o"]).options.weight_column == "weight"


def test_beta_is_the_loss_s_own_unless_somebody_sets_it(tmp_path: Path) -> None:
    from alignment import dpo

    needed = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", str(tmp_path)]
    needed += ["--use_cpu", "true", "--bf16", "false", "--loss_type"]
    assert dpo.parse([*needed, "simpo"]).training.beta == 2.0
    assert dpo.parse([*needed, "simpo", "--beta", "1.5"]).training.beta == 1.5
    options = dpo.parse([*needed, "simpo", "--loss_options", '{"gamma": 0.3}']).options.loss_options
    assert options == {"gamma": 0.3}
    for words, message in (
        (["slic_hf", "--beta", "1"], "--beta does nothing in the loss 'slic_hf'"),
        (["simpo", "--loss_options", "gamma=1"], "--loss_options is not valid JSON"),
        (["simpo", "--loss_options", "[1]"], "loss_options must be a mapping"),
    ):
        with pytest.raises(CodealignError, match=message):
            dpo.parse([*needed, *words])


def killed_after_a_checkpoint(command: Any, words: list[str], step: int) -> None:
    """Runs a trainer's command in a child of this process that is killed when a checkpoint is whole."""
    child = os.fork()
    if not child:
        saved = RunLog.on_save

        def on_save(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            saved(self, args, state, control, **more)
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        RunLog.on_save = on_save  # type: ignore[method-assign]
        try:
            command(words)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_our_step_killed_and_started_again_gives_the_same_weights(tmp_path: Path) -> None:
    from alignment import dpo

    tiny.save_model(tmp_path / "model")
    text = "".join(json.dumps(row) + "\n" for row in ROWS * 4)
    (tmp_path / "pairs.jsonl").write_text(text)
    words = ["--config", str(REPO / "recipes/tiny-coder/dpo.yaml"), "--max_steps", "6", "--save_steps", "3"]
    words += [
        "--model_name_or_path",
        str(tmp_path / "model"),
        "--dataset_name",
        str(tmp_path / "pairs.jsonl"),
    ]
    # A loss with a moving average, packed rows and a shuffled order: all of them must go on.
    words += ["--loss_type", "beta_dpo", "--shared_prompt", "true", "--padding_free", "true"]
    words += ["--per_device_train_batch_size", "4", "--logging_steps", "1", "--output_dir"]
    dpo.run([*words, str(tmp_path / "whole")])
    killed_after_a_checkpoint(dpo.run, [*words, str(tmp_path / "killed")], 3)
    assert not (tmp_path / "killed/finished.json").exists()
    dpo.run([*words, str(tmp_path / "killed")])
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert weights[0] != (tmp_path / "model/model.safetensors").read_bytes()
