"""The entry points: what a recipe may say, and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment import ppo, remax, rloo
from alignment.health.checkpoints import newest_whole, step_of
from alignment.health.events import read_events
from alignment.health.loops import drop_rows_after
from alignment.health.restart import HANG_STATUS, restarting
from alignment.onpolicy.job import longest_prompt
from alignment.onpolicy.options import OnPolicyOptions
from alignment.onpolicy.prompts import encode_rows, load_rows
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.conftest import REPO

BASE = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o", "--rewards", "parses"]
SERVER = ["--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", "http://127.0.0.1:1"]


def test_options_that_nobody_set_are_the_algorithms() -> None:
    found = {
        "ppo": ppo.parse(BASE).options,
        "remax": remax.parse(BASE).options,
        "rloo": rloo.parse(BASE).options,
        "grpo": rloo.parse([*BASE, "--algorithm", "grpo"]).options,
        "paper": rloo.parse([*BASE, "--policy_loss", "reinforce"]).options,
    }
    assert {name: o.num_ppo_epochs for name, o in found.items()} == dict.fromkeys(found, 1) | {"ppo": 4}
    assert {name: o.num_generations for name, o in found.items()} == {
        "ppo": 1,
        "remax": 1,
        "rloo": 4,
        "grpo": 4,
        "paper": 4,
    }
    assert {name: o.loss_aggregation for name, o in found.items()} == {
        "ppo": "token_mean",
        "remax": "sequence_sum",
        "rloo": "sequence_mean",
        "grpo": "sequence_mean",
        "paper": "sequence_sum",
    }
    assert ppo.parse([*BASE, "--use_vllm", "true"]).options.importance_correction is True
    assert found["ppo"].importance_correction is False
    assert found["rloo"].ratio_level == "sequence_sum" and found["grpo"].kl_estimator == "k3"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kl_coeff", "1"], "did you mean 'kl_coef'"),
        (["--algorithm", "remx"], "did you mean 'remax'"),
        (["--eval_steps", "4"], "eval_steps"),
        (["--load_in_4bit", "true"], "config key of on-policy training 'load_in_4bit'"),
        (["--kl_estimator", "k4"], "kl_estimator"),
        (["--kl_coef=-0.1"], "--kl_coef must be"),
        (["--rewards", "[{"], "not valid JSON"),
        (["--use_vllm", "true", "--vllm_engine", "3"], "must be a mapping"),
        (["--vllm_engine", '{"seed": 1}'], "belongs to use_vllm"),
        (["--vllm_mode", "server"], "vllm_mode belongs to use_vllm, which is off"),
        (["--use_vllm", "true", "--vllm_mode", "server"], "server needs --vllm_server_base_url"),
        (["--use_vllm", "true", "--vllm_mode", "sever"], "vllm_mode"),
        (["--use_vllm", "true", "--vllm_server_timeout", "9"], "belongs to vllm_mode server"),
        ([*SERVER, "--vllm_engine", '{"seed": 1}'], "belongs to vllm_mode colocate"),
        ([*SERVER, "--vllm_server_timeout", "0"], "--vllm_server_timeout must be"),
        (["--vf_coef", "0.3"], "does nothing in remax"),
        (["--hang_timeout=-1"], "--hang_timeout must be"),
        (["--peak_tflops", "3"], "config key of on-policy training 'peak_tflops'"),
    ],
)
def test_what_a_recipe_may_not_say_is_refused(flags: list[str], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        remax.parse([*BASE, *flags])


def test_a_recipe_without_a_reward_is_refused() -> None:
    with pytest.raises(CodealignError, match="--rewards is required"):
        remax.parse(BASE[:-2])


def test_prompts_come_from_files_and_benchmarks_with_their_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen_eval.benchmarks import base
    from codegen_eval.records import Problem

    asked = []

    def load(name: str, dataset: Any, split: str) -> list[Problem]:
        asked.append((name, split))
        return [Problem("t/0", "def f(x):\n", "f", (), "    return x\n")]

    monkeypatch.setattr(base, "load", load)
    wanted = [{"prompt": "def f(x):\n", "task_id": "t/0", "entry_point": "f"}]
    assert load_rows("minipy", "tune") == wanted, "nothing else of a problem is a column"
    assert asked == [("minipy", "tune")]
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "def f():", "level": 1}\n{"prompt": "x", "level": 2}\n')
    assert [row["level"] for row in load_rows(str(path), None)] == [1, 2]
    for text, message in (
        ('{"text": "x"}\n', r"row 0: `prompt` must be text"),
        ('{"prompt": "x", "completions": 1}\n', "rename those columns"),
    ):
        path.write_text(text)
        with pytest.raises(CodealignError, match=message):
            load_rows(str(path), None)
    with pytest.raises(CodealignError, match="no such file or folder"):
        load_rows("missing.jsonl", None)
    with pytest.raises(CodealignError, match="did you mean 'minipy'"):
        load_rows("minipi", None)


def test_long_prompts_are_left_out_and_counted_and_none_left_is_an_error() -> None:
    tokenizer = tiny.tokenizer()
    rows = [{"prompt": "x = 1\n" * n} for n in (1, 2, 50)]
    kept, dropped = encode_rows(rows, tokenizer, 40)
    assert len(kept) == 2 and dropped == 1
    with pytest.raises(CodealignError, match="every prompt is longer than 1 tokens"):
        encode_rows(rows, tokenizer, 1)
    with pytest.raises(CodealignError, match="prompt 1 has the columns"):
        encode_rows([{"prompt": "x"}, {"prompt": "x", "task_id": "y"}], tokenizer, 40)
    with pytest.raises(CodealignError, match="no chat template"):
        encode_rows([{"prompt": [{"role": "user", "content": "x"}]}], tokenizer, 40)
    options = OnPolicyOptions(max_completion_length=72, max_prompt_length=None)
    assert longest_prompt(options, 512) == 440
    with pytest.raises(CodealignError, match="leaves no room"):
        longest_prompt(options, 72)


def test_rows_after_the_checkpoint_are_made_again_and_not_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "rew')
    drop_rows_after(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("onpolicy")
    tiny.save_model(folder / "model")
    rows = [{"prompt": f"def f{i}(xs):\n", "entry_point": f"f{i}"} for i in range(16)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe: dict[str, Any] = {
        "model_name_or_path": str(folder / "model"),
        "dataset_name": str(folder / "prompts.jsonl"),
        "rewards": [{"name": "length", "limit": 16, "buffer": 16}, {"name": "parses", "weight": 0.5}],
        "max_completion_length": 16,
        "value_model": "critic",
        "kl_target": 1.0,
        "num_mini_batches": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "max_steps": 8,
        "save_steps": 2,
        "logging_steps": 1,
        "completions_steps": 4,
        "use_cpu": True,
    }
    (folder / "ppo.yaml").write_text(yaml.safe_dump(recipe))
    return folder, ["--config", str(folder / "ppo.yaml"), "--output_dir"]


@pytest.mark.slow
@pytest.mark.timeout(1500)  # two processes, on machines that may be busy
def test_a_run_killed_anywhere_goes_on_to_the_same_weights_and_figures(
    job: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = job
    ppo.run([*arguments, str(folder / "whole")])
    assert "step 8/8" in capsys.readouterr().err
    command = [sys.executable, "-m", "alignment.ppo", *arguments, str(folder / "killed")]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    killed = subprocess.Popen(command, cwd=REPO, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (folder / "killed/checkpoint-4/complete").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    newest = newest_whole(folder / "killed")
    assert newest is not None
    os.truncate(newest / "optimizer.pt", 1000)
    again = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "step 2/8" not in again.stderr and "step 8/8" in again.stderr
    assert f"{newest.name} is torn (optimizer.pt: 1000 bytes" in again.stderr
    assert f"checkpoint-{step_of(newest) - 2} is used" in again.stderr
    weights = [(folder / name / "model/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1] != (folder / "model/model.safetensors").read_bytes()
    rows = [
        [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    plain = [[{k: v for k, v in row.items() if not k.startswith("time/")} for row in part] for part in rows]
    assert plain[0] == plain[1]
    assert [row.get("step") for row in rows[0]][:8] == list(range(1, 9))
    assert {"reward/length", "reward/parses", "kl_coef"} <= rows[0][0].keys()
    texts = [(folder / name / "completions.jsonl").read_text() for name in ("whole", "killed")]
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 16
    capsys.readouterr()
    assert ppo.run([*arguments, str(folder / "whole")]).finished
    assert "step" not in capsys.readouterr().err, "a finished run is not trained again"


_HANGS = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from alignment import ppo
from alignment.rewards.registry import REWARDS
marker = Path(sys.argv[1])

@REWARDS.register("hangs_once")
def make():
    def reward_that_hangs_once(completions, trainer_state, **columns):
        if trainer_state.global_step == 3 and not marker.exists():
            marker.touch()
            time.sleep(1e6)
        return [float(len(text)) for text in completions]
    return reward_that_hangs_once

sys.exit(ppo.main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)  # two processes, on machines that may be busy
def test_a_run_whose_reward_hangs_is_ended_with_stacks_and_started_again(
    job: tuple[Path, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = ["--rewards", "hangs_once", "--max_steps", "4", "--hang_timeout", "20"]
    words = [str(tmp_path / "marker"), *job[1], str(out), *flags]
    env = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    statuses = []

    def run() -> int:
        statuses.append(subprocess.run([sys.executable, "-c", _HANGS, *words], cwd=REPO, env=env).returncode)
        return statuses[-1]

    assert restarting(run, 1, out) == 0 and statuses == [HANG_STATUS, 0]
    said = capfd.readouterr().err
    assert "in reward_that_hangs_once" in said and "step 3, reward" in said
    events = [event.kind for event in read_events(out / "health")]
    assert events == ["hang", "ended", "restart"]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "step" in row][:4] == [1, 2, 3, 4]
    assert (out / "finished.json").exists()
