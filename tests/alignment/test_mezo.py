"""MeZO from pairs, or from programs and tests, to weights: options, objectives, a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import mezo
from alignment.zeroth_order.greedy_reward import GreedyReward, Row, TestReward, benchmark_rows
from alignment.zeroth_order.trainer import replay_log
from codegen_eval.errors import CodealignError
from tests.alignment.preference import small
from tests.conftest import REPO

NEEDED = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o", "--use_cpu", "true"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optim", "sgd"], "--optim does nothing in zeroth-order training"),
        (["--max_grad_norm", "1.0"], "--max_grad_norm does nothing"),
        (["--bf16", "true"], "bf16 and fp16 round moves of eps away"),
        (["--gradient_checkpointing", "true"], "gradient_checkpointing does nothing"),
        (["--eps", "0"], "--eps must be above 0"),
        (["--eps", "nan"], "--eps must be above 0"),
        (["--directions", "0"], "--directions must be above 0"),
        (["--sparsity", "1"], r"--sparsity must lie in \[0, 1\)"),
        (["--mask_every", "2"], "--mask_every goes with --sparsity"),
        (["--sparsity", "0.5", "--mask_every", "3", "--save_steps", "4"], "whole multiple of --mask_every"),
        (["--estimator", "ranking"], "2 directions or more"),
        (["--ranking_keep", "2", "--directions", "3"], "goes with --estimator ranking"),
        (["--estimator", "spssa"], "spssa"),
        (["--loss_type", "beta_dpo"], "carries a moving average"),
        (["--loss_type", "sft", "--beta", "0.1"], "--beta does nothing in the loss 'sft'"),
        (["--max_completion_length", "9"], "it goes with --reward"),
        (["--reward", "pass_rate", "--loss_type", "sft"], "the objective is a reward"),
        (["--weight_decay=-1"], "--weight_decay must be 0 or more"),
        (["--lerning_rate", "1"], "did you mean 'learning_rate'"),
    ],
)
def test_options_that_cannot_train_or_do_nothing_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        mezo.parse([*NEEDED, *flags])


def test_defaults_are_mezos_and_a_loss_has_its_own_beta() -> None:
    parsed = mezo.parse([*NEEDED, "--loss_type", "simpo"])
    assert parsed.training.lr_scheduler_type == "constant" and not parsed.training.bf16
    assert parsed.training.beta == 2.0 and parsed.options.eps == 1e-3


def pair(i: int) -> dict[str, Any]:
    return {
        "prompt": 'def f(xs):\n    """Return the largest."""\n',
        "chosen": f"    x = {i}\n    return max(xs)\n",
        "rejected": f"    x = {i}\n    return min(xs) + 2\n",
    }


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("mezo")
    small.save_model(folder / "model")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair(i)) + "\n" for i in range(12)))
    recipe = folder / "mezo.yaml"
    # Not every loss has a beta.
    lines = (REPO / "recipes/tiny-coder/mezo.yaml").read_text().splitlines(keepends=True)
    recipe.write_text("".join(line for line in lines if not line.startswith("beta:")))
    command = ["--config", str(recipe), "--model_name_or_path", str(folder / "model")]
    command += ["--dataset_name", str(folder / "pairs.jsonl"), "--logging_steps", "2"]
    return [*command, "--per_device_train_batch_size", "4", "--max_steps", "6", "--save_steps", "4"]


def weights(folder: Path) -> bytes:
    return (folder / "model/model.safetensors").read_bytes()


def test_a_stopped_run_goes_on_to_the_same_weights_and_its_log_alone_gives_them_too(
    job: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.zeroth_order.pair_loss import PairLoss
    from codegen_eval.generation.hf import load_model

    whole = mezo.run([*job, "--output_dir", str(tmp_path / "whole")])
    plain = PairLoss.__call__
    left = [9]

    def stopping(self: PairLoss, rows: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return plain(self, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PairLoss, "__call__", stopping)
        mezo.run([*job, "--output_dir", str(tmp_path / "stopped")])
    again = mezo.run([*job, "--output_dir", str(tmp_path / "stopped")])
    assert weights(whole.path) == weights(again.path)
    model, _ = load_model(job[job.index("--model_name_or_path") + 1], dtype="float32", device="cpu")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    assert replay_log(model, whole.path / "steps.jsonl") == 6
    trained, _ = load_model(str(whole.path / "model"), dtype="float32", device="cpu")
    for name, value in trained.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]) and not torch.equal(value, start[name])
    rows = [json.loads(line) for line in (whole.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "step" in row] == [2, 4, 6]
    # At the start policy and reference are one: the loss is log 2 but for what eps moves.
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=0.01)
    assert mezo.run([*job, "--output_dir", str(tmp_path / "whole")]).finished


def test_the_loss_is_that_of_the_pair_trainer_for_any_name(job: list[str], tmp_path: Path) -> None:
    """SFT's mean is worked out here by hand from the model's own logits."""
    arguments = mezo.parse([*job, "--output_dir", str(tmp_path), "--loss_type", "sft"])
    with mezo._objective(arguments) as (objective, model, tokenizer, _):
        (found,) = objective([0, 3, 5])
    total, count = 0.0, 0
    for i in (0, 3, 5):
        prompt = tokenizer.encode(pair(i)["prompt"])
        answer = [*tokenizer.encode(pair(i)["chosen"], add_special_tokens=False), tokenizer.eos_token_id]
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        picked = logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
        total, count = total - float(picked.sum()), count + len(answer)
    assert found == pytest.approx(total / count, abs=1e-4)


def test_adapters_alone_are_trained_and_the_model_beneath_may_be_in_half_precision(
    job: list[str], tmp_path: Path
) -> None:
    lora = [
        "--use_peft",
        "true",
        "--lora_r",
        "2",
        "--lora_target_modules",
        "q_proj",
        "v_proj",
        "--dtype",
        "bfloat16",
    ]
    directory = mezo.run([*job, *lora, "--output_dir", str(tmp_path / "lora"), "--eps", "0.01"])
    from safetensors.torch import load_file

    found = load_file(str(directory.path / "model/adapter_model.safetensors"))
    assert found and all(value.dtype == torch.float32 for value in found.values())
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in found.items())
    assert not (directory.path / "model/model.safetensors").exists()
    with pytest.raises(CodealignError, match="stored as bfloat16"):
        mezo.run([*job, "--dtype", "bfloat16", "--output_dir", str(tmp_path / "half")])


def favourite(prompts: list[str], completions: list[str], wanted: list[str], **_: Any) -> list[float | None]:
    """A reward function of a user: the share of wanted letters; none for empty text."""
    return [
        sum(c == w for c in text) / len(text) if text else None
        for text, w in zip(completions, wanted, strict=True)
    ]


def test_any_reward_function_of_trls_form_is_an_objective(tmp_path: Path) -> None:
    model, tokenizer = small.model(), small.tokenizer()
    rows = [Row("def f(xs):\n", (), {"wanted": "x"}), Row("x = 1\n", (), {"wanted": "e"})]
    objective = GreedyReward(model, tokenizer, rows, favourite, 6)
    values = objective([1, 0, 1])
    assert values[0] == values[2] and len(values) == 3
    for value in values:
        assert value is None or -1 <= value <= 0
    for bad, message in (
        (lambda **_: [1.0], "1 values for 3"),
        (lambda **_: [1.0, float("nan"), 0.0], "nan"),
    ):
        with pytest.raises(CodealignError, match=message):
            GreedyReward(model, tokenizer, rows, bad, 6)([1, 0, 1])


@pytest.mark.sandbox
def test_programs_are_worth_the_share_of_tests_that_they_pass() -> None:
    from sandbox import Sandbox

    _, problems = benchmark_rows("minipy", "tune")
    problem = next(p for p in problems if len(p.tests) >= 4)
    with Sandbox(workers=1) as box:
        rate = TestReward({problem.task_id: problem}, "pass_rate", lambda: box)
        binary = TestReward({problem.task_id: problem}, "binary", lambda: box)
        table = TestReward({problem.task_id: problem}, "coderl", lambda: box)
        expected = problem.tests[0].expected  # type: ignore[union-attr]
        texts = [problem.canonical_solution, f"    return {expected!r}\n", "    return (\n", "    1 / 0\n"]
        asked = {"prompts": [problem.prompt] * 4, "completions": texts, "task_id": [problem.task_id] * 4}
        found = rate(**asked)
        same = sum(test.expected == expected for test in problem.tests)  # type: ignore[union-attr]
        assert found == [1.0, same / len(problem.tests), 0.0, 0.0]
        assert binary(**asked) == [1.0, 0.0, 0.0, 0.0]
        assert table(**asked) == [1.0, -0.3, -1.0, -0.6]

    def closed() -> Sandbox:
        raise AssertionError("known programs are not run again")

    rate._box = closed
    assert rate(**asked) == found


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("pass_rte", "did you mean 'pass_rate'"),
        ("nowhere:f", "no reward function"),
        ("math:pi", "is no function"),
    ],
)
def test_a_reward_that_does_not_exist_is_one_message(
    job: list[str], tmp_path: Path, reward: str, message: str
) -> None:
    flags = ["--config", str(REPO / "recipes/tiny-coder/mezo-pass-rate.yaml"), "--reward", reward]
    with pytest.raises(CodealignError, match=message):
        mezo.run([*flags, "--model_name_or_path", job[3], "--output_dir", str(tmp_path / "run")])
