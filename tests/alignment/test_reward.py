"""`codealign train reward` from pairs to members: a kill that changes nothing, refusals, best-of-n."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignment import reward
from codegen_eval.errors import CodealignError
from tests.alignment.reward_modeling import small
from tests.conftest import REPO

# A process that ends by SIGKILL when member 1 has written the checkpoint of its second step.
KILLED = """
import os, signal, sys
from alignment import reward
from alignment.reward_modeling.train import MemberLog
whole = MemberLog.on_save
def on_save(self, args, state, control, **rest):
    whole(self, args, state, control, **rest)
    if (self.member, state.global_step) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
MemberLog.on_save = on_save
reward.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with model and pairs, and the options that train on them (without the output folder)."""
    folder = tmp_path_factory.mktemp("reward")
    small.save_model(folder / "model")
    small.write_pairs(folder / "pairs.jsonl", 40)
    options = ["--config", str(REPO / "recipes/tiny-coder/reward.yaml"), "--members", "2"]
    options += ["--model_name_or_path", str(folder / "model"), "--dataset_name", str(folder / "pairs.jsonl")]
    options += ["--max_steps", "4", "--save_steps", "2", "--logging_steps", "1", "--warmup_steps", "1"]
    return folder, [*options, "--per_device_train_batch_size", "4", "--output_dir"]


@pytest.fixture(scope="module")
def whole(job: tuple[Path, list[str]]) -> Path:
    folder, options = job
    return reward.run([*options, str(folder / "whole")])


def weights(run: Path) -> list[bytes]:
    return [(run / "members" / str(j) / "model.safetensors").read_bytes() for j in (0, 1)]


def test_the_run_directory_holds_members_scales_and_the_report(whole: Path) -> None:
    notes = [json.loads((whole / f"members/{j}/member.json").read_text()) for j in (0, 1)]
    assert all(note["calibration"]["std"] > 0 and note["max_length"] == 256 for note in notes)
    assert notes[0]["seeds"] != notes[1]["seeds"]
    assert weights(whole)[0] != weights(whole)[1]
    assert not (whole / "training").exists() and not list(whole.rglob("*.bin"))
    report = json.loads((whole / "report.json").read_text())
    assert set(report["accuracy"]) == {"member0", "member1", "mean", "wco", "uwo"}
    assert "| wco | " in (whole / "report.md").read_text()
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    steps = [(row["member"], row["step"]) for row in rows if "step" in row]
    assert steps == [(j, step) for j in (0, 1) for step in (1, 2, 3, 4)]
    assert {"loss", "accuracy", "margin", "mean_reward"} <= set(rows[0])


@pytest.mark.slow
def test_training_killed_and_started_again_gives_the_same_weights(
    job: tuple[Path, list[str]], whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, options = job
    command = [sys.executable, "-c", KILLED, *options, str(folder / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = (folder / "killed/members/0/model.safetensors").stat().st_mtime_ns
    assert not (folder / "killed/members/1/member.json").exists()
    reward.run([*options, str(folder / "killed")])
    said = capsys.readouterr().err
    assert "member 0" not in said and "member 1  step 2/4" not in said and "member 1  step 3/4" in said
    assert (folder / "killed/members/0/model.safetensors").stat().st_mtime_ns == first
    assert weights(folder / "killed") == weights(whole)
    reports = [json.loads((run / "report.json").read_text()) for run in (folder / "killed", whole)]
    assert reports[0]["spread"] == pytest.approx(reports[1]["spread"], rel=1e-4)


def test_a_finished_run_is_not_run_again_and_another_one_is_refused(
    job: tuple[Path, list[str]], whole: Path
) -> None:
    _, options = job
    before = (whole / "report.json").stat().st_mtime_ns
    assert reward.run([*options, str(whole)]) == whole
    assert (whole / "report.json").stat().st_mtime_ns == before
    with pytest.raises(CodealignError, match=r"was made with another configuration.*members"):
        reward.run([*options, str(whole), "--members", "3"])


def test_adapters_are_trained_with_held_out_pairs_from_elsewhere_and_noise(
    job: tuple[Path, list[str]], tmp_path: Path
) -> None:
    from alignment.rewards.ensemble import EnsembleReward

    held_out = small.write_pairs(tmp_path / "held_out.jsonl", 45)
    lines = held_out.read_text().splitlines(keepends=True)
    options = [
        *job[1],
        str(tmp_path / "run"),
        "--max_steps",
        "1",
        "--label_noise",
        "0.3",
        "--use_peft",
        "true",
    ]
    options += ["--lora_r", "2", "--lora_target_modules", "q_proj", "v_proj"]
    options += ["--holdout_dataset", str(held_out)]
    with pytest.raises(CodealignError, match="40 of 45 held-out pairs are trained on as well"):
        reward.run(options)
    held_out.write_text("".join(lines[40:]))
    run = reward.run([*options, "--overwrite"])
    data = json.loads((run / "data.json").read_text())
    assert (data["train"], data["held_out"]) == (40, 5) and 4 <= len(data["flipped"]) <= 20
    assert (run / "members/1/adapter_model.safetensors").stat().st_size < 10_000
    ensemble = EnsembleReward(run, "wco")
    assert len(ensemble(["def f(x):\n"] * 2, ["    return 1\n", "    return 2\n"])) == 2


def test_best_of_n_scores_samples_with_the_folder(whole: Path, tmp_path: Path) -> None:
    from alignment.bon_command import BonConfig, run

    rows = [
        {"task_id": f"t{i}", "prompt": "def f(x):\n", "completion": f"    return {j}\n", "gold": j % 3}
        for i in (0, 1)
        for j in range(4)
    ]
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(BonConfig(samples=samples, reward=whole, out=tmp_path / "bon", plot=False))
    found = json.loads((done.path / "curves.json").read_text())
    assert found["members"] == ["member0", "member1"] and found["curves"][0]["n"] == [1, 2, 4]
    pool = [json.loads(line) for line in (done.path / "pool.jsonl").read_text().splitlines()]
    assert len(pool) == 8 and set(pool[0]["scores"]) == {"member0", "member1"}
    for wrong in ({}, {"samples": samples}, {"pool": samples, "reward": whole}):
        with pytest.raises(CodealignError, match="give --pool FILE, or --samples FILE with --reward FOLDER"):
            run(BonConfig(out=tmp_path / "no", **wrong))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning_rate", "nan"], "--learning_rate must be a finite number above 0"),
        (["--reward_l2=-1"], "--reward_l2 must be a finite number 0 or more"),
        (["--members", "0"], "at least one member"),
        (["--vary_head", "false", "--vary_order", "false"], "one model 2 times"),
        (["--holdout", "2"], "--holdout must lie between 0 and 1"),
        (["--label_noise", "1"], "--label_noise"),
        (["--eval_strategy", "steps"], "scored once, after training"),
        (["--per_device_eval_batch_size", "0"], "--per_device_eval_batch_size must be 1 or more"),
        (["--membrs", "3"], "did you mean 'members'"),
        (["--max_length", "3"], "pairs are longer than max_length=3"),
    ],
)
def test_options_that_cannot_train_are_one_plain_message(
    job: tuple[Path, list[str]], flags: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CodealignError, match=message):
        reward.run([*job[1], str(tmp_path / "run"), *flags])


def test_the_loss_is_bradley_terry_with_the_regulariser(job: tuple[Path, list[str]], tmp_path: Path) -> None:
    import torch

    from alignment.reward_modeling.data import Pair
    from alignment.reward_modeling.members import draw_member, member_seeds
    from alignment.reward_modeling.options import parse
    from alignment.reward_modeling.train import make_trainer

    options = parse([*job[1], str(tmp_path / "run")])
    model, tokenizer = draw_member(str(job[0] / "model"), member_seeds(0, 1)[0])
    pairs = [Pair("a", "b", "c" * 9), Pair("def f", "():\n", "[x]")]
    losses: dict[float, Any] = {}
    for l2 in (0.0, 0.3):
        trainer, _ = make_trainer(model, tokenizer, options.training, pairs, reward_l2=l2)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in (0, 1)])
        losses[l2] = trainer.compute_loss(trainer.model.eval(), batch).item()
    with torch.inference_mode():
        good, bad = trainer.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits.reshape(2, 2)
    expected = torch.log1p(torch.exp(-(good - bad))).mean()
    assert losses[0.0] == pytest.approx(float(expected), rel=1e-5)
    assert losses[0.3] - losses[0.0] == pytest.approx(float(0.3 * 0.5 * (good**2 + bad**2).mean()), rel=1e-3)
