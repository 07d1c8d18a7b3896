"""DPO from pairs to weights: tokens as sampled, refusals, and a kill that changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignment.preference.data import load_pairs
from alignment.preference.tokens import encode_pair, encode_pairs
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.conftest import REPO


def pair(i: int = 0, **changes: Any) -> dict[str, Any]:
    row = {
        "prompt": f'def f(xs):\n    """Return {i}."""\n',
        "chosen": f"    return {i}\n",
        "rejected": f"    return {i + 1}\n",
        "kind": "correctness",
    }
    return {**row, **changes}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompt_and_completion_are_tokenised_as_they_were_sampled() -> None:
    tokenizer = tiny.tokenizer()
    encoded = encode_pair(pair(), tokenizer)
    assert tokenizer.decode(encoded["prompt_ids"]) == pair()["prompt"]
    assert tokenizer.decode(encoded["chosen_ids"]) == pair()["chosen"] + tokenizer.eos_token
    assert encoded["rejected_ids"][-1] == tokenizer.eos_token_id
    joint = tokenizer.encode(pair()["prompt"] + pair()["chosen"])
    assert encoded["prompt_ids"] + encoded["chosen_ids"][:-1] != joint, "the boundary merges when joined"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beta", "nan"], "--beta must be a finite number above 0"),
        (["--beta", "0"], "--beta must be a finite number above 0"),
        (["--beta=-0.1"], "--beta must be a finite number above 0"),
        (["--learning_rate", "nan"], "--learning_rate must be"),
        (["--learning_rate", "fast"], r"options do not fit: argument --learning_rate.*: invalid float value"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size"),
        (["--betta", "1"], "did you mean 'beta'"),
    ],
)
def test_options_that_cannot_train_are_one_plain_message(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from alignment import dpo

    needed = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", str(tmp_path / "run")]
    cpu = ["--use_cpu", "true", "--bf16", "false"]
    with pytest.raises(CodealignError, match=message):
        dpo.run([*needed, *cpu, *flags])
    assert "usage:" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "p", "chosen": "c", "rejected": "r"}\n{"pro\n', r"pairs.jsonl:2: not valid JSON"),
        (b'{"prompt": "\xff", "chosen": "c", "rejected": "r"}\n', r"pairs.jsonl:1: not UTF-8"),
        (b"", "holds no pair"),
        (
            b'{"prompt": "p", "chosen": "c", "rejected": 1}\n{"prompt": "p", "chosen": {}, "rejected": ""}\n',
            "pair 0: rejected is no text",
        ),
    ],
)
def test_broken_data_is_one_message_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(content)
    with pytest.raises(CodealignError, match=message):
        load_pairs(str(tmp_path))


def test_an_error_on_a_full_disk_is_named_as_such_and_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.preference import job

    def fail() -> None:
        with job.full_disk_named(tmp_path):
            raise RuntimeError("unexpected pos 2143168 vs 2143060")

    with pytest.raises(RuntimeError, match="unexpected pos"):
        fail()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(CodealignError, match=r"is full \(unexpected pos .* run the same command again"):
        fail()


def test_overwrite_is_an_option_of_ours_and_not_of_trl(tmp_path: Path) -> None:
    from alignment import dpo

    argv = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", str(tmp_path)]
    parsed = dpo.parse([*argv, "--overwrite", "--use_cpu", "true", "--bf16", "false"])
    assert parsed.overwrite and "overwrite" not in parsed.given


def test_long_rows_are_dropped_whole_and_counted(tmp_path: Path) -> None:
    rows = [pair(0), pair(1, chosen="    return 1" + " + 1" * 100 + "\n"), pair(2)]
    dataset = load_pairs(str(write(tmp_path / "pairs.jsonl", rows)))
    encoded, dropped = encode_pairs(dataset, tiny.tokenizer(), 64)
    assert (len(encoded), dropped) == (2, 1)
    with pytest.raises(CodealignError, match="max_length=4"):
        encode_pairs(dataset, tiny.tokenizer(), 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "p", "chosen": "c"}], r"lacks the column\(s\) rejected; found: "),
        ([pair(), pair(chosen="")], "pair 1: a side is empty"),
        ([pair(chosen="    return 1\n")], "pair 0: chosen and rejected are equal"),
        ([pair(), pair(chosen=None)], "pair 1: chosen is no text"),
    ],
)
def test_pairs_that_cannot_train_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        load_pairs(str(write(tmp_path / "pairs.jsonl", rows)))


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(CodealignError, match=r"no such preference data: \./nowhere\.jsonl"):
        load_pairs("./nowhere.jsonl")


def test_a_pairs_run_directory_can_be_named_instead_of_its_file(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", [pair(), pair(5)])
    assert len(load_pairs(str(tmp_path))) == 2


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with model and pairs, and the command that trains on them (without its output folder)."""
    folder = tmp_path_factory.mktemp("dpo")
    tiny.save_model(folder / "model")
    write(folder / "pairs.jsonl", [pair(i) for i in range(40)])
    recipe = folder / "dpo.yaml"
    text = (REPO / "recipes/tiny-coder/dpo.yaml").read_text()
    recipe.write_text(
        text.replace("max_steps: 80", "max_steps: 8").replace("save_steps: 20", "save_steps: 2")
    )
    command = [sys.executable, "-m", "alignment.dpo", "--config", str(recipe)]
    command += ["--model_name_or_path", str(folder / "model"), "--dataset_name", str(folder / "pairs.jsonl")]
    return folder, [*command, "--per_device_train_batch_size", "4", "--logging_steps", "1", "--output_dir"]


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=200, **options)


@pytest.mark.slow
def test_training_killed_and_started_again_gives_the_same_weights(job: tuple[Path, list[str]]) -> None:
    folder, command = job
    whole = run([*command, str(folder / "whole")])
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen([*command, str(folder / "killed")], cwd=REPO, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 150
    while not (folder / "killed/checkpoint-4/complete").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (folder / "killed/finished.json").exists()
    again = run([*command, str(folder / "killed")])
    assert again.returncode == 0, again.stderr
    assert "step 1/8" not in again.stderr and "step 8/8" in again.stderr
    weights = [(folder / name / "model/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    before = (folder / "model/model.safetensors").read_bytes()
    assert weights[0] != before
    rows = [json.loads(line) for line in (folder / "whole/metrics.jsonl").read_text().splitlines()]
    assert {"loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "step"} <= set(rows[0])


@pytest.mark.slow
def test_an_unknown_key_is_an_error_with_the_nearest_name(job: tuple[Path, list[str]]) -> None:
    folder, command = job
    result = run([*command, str(folder / "unknown"), "--learning_rte", "1e-5"])
    assert result.returncode == 2
    assert "learning_rte" in result.stderr and "learning_rate" in result.stderr
    assert "Traceback" not in result.stderr
