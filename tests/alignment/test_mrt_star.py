"""`alignment.mrt_star`: bad input, and a killed run that goes on to the same bytes."""

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

from alignment import mrt_star
from alignment.mrt import job
from codegen_eval.errors import CodealignError
from codegen_eval.runs import read_jsonl
from tests.alignment.mrt.made_up import trained

SMALL = {
    "dataset_name": "episodes",
    "questions": 24,
    "rounds": 2,
    "num_generations": 4,
    "stops": 2,
    "right_only": False,
    "max_steps": 5,
    "per_device_train_batch_size": 8,
    "questions_at_once": 5,
    "max_thinking_length": 40,
    "learning_rate": 1e-3,
    "save_steps": 2,
    "logging_steps": 3,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    for part in trained():
        part.save_pretrained(folder)
    return folder


def flags(base: Path, out: Path, **changes: Any) -> list[str]:
    given = {**SMALL, "model_name_or_path": base, "output_dir": out, **changes}
    words = []
    for name, value in given.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return words


def files(folder: Path) -> dict[str, bytes]:
    found = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "model/model.safetensors")}
    return found | {path.name: path.read_bytes() for path in sorted(folder.glob("rows-*.jsonl"))}


@pytest.mark.slow
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same_bytes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mrt_star.run(flags(base, tmp_path / "whole"))
    rows = list(read_jsonl(whole.path / "metrics.jsonl"))
    assert [(r["round"], r["step"]) for r in rows if "event" not in r] == [
        (r, s) for r in (0, 1) for s in (0, 3, 5)
    ]
    expected = files(whole.path)
    assert len(expected) == 4
    from alignment.mrt import rounds, updates

    places = {
        "sampling": (rounds, "select", (8,)),
        "training": (updates.Updates, "step", (1, 4)),
        "saving": (updates.Updates, "save", (3,)),
    }
    for name, (owner, attribute, calls) in places.items():
        for call in calls:
            real, count = getattr(owner, attribute), 0

            def stopping(*args: Any, _real: Any = real, _call: int = call, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == _call:
                    raise KeyboardInterrupt
                return _real(*args, **kwargs)

            out = tmp_path / f"{name}-{call}"
            with monkeypatch.context() as patched:
                patched.setattr(owner, attribute, stopping)
                with pytest.raises(KeyboardInterrupt):
                    mrt_star.run(flags(base, out))
            mrt_star.run(flags(base, out))
            assert files(out) == expected, (name, call)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    expected = files(mrt_star.run(flags(base, tmp_path / "whole")).path)
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "alignment.mrt_star", *flags(base, out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
    while not list(out.glob("checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "model").exists(), "killed before its end"
    mrt_star.run(flags(base, out))
    assert files(out) == expected


@pytest.mark.slow
def test_an_adapter_on_bfloat16_weights_learns_and_is_saved_as_one(base: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from codegen_eval.generation.hf import load_model

    out = mrt_star.run(
        flags(
            base,
            tmp_path / "run",
            use_peft=True,
            lora_r=4,
            dtype="bfloat16",
            rounds=1,
            rule="outcome",
            right_only=True,
            max_steps=2,
        )
    )
    assert (out.path / "model/adapter_model.safetensors").exists()
    model, _ = load_model(str(base), dtype="bfloat16", device="cpu")
    adapted = peft.PeftModel.from_pretrained(model, out.path / "model")
    moved = {n: p for n, p in adapted.named_parameters() if "lora_B" in n}
    assert moved and all(bool(p.abs().sum() > 0) for p in moved.values())


def test_bad_input_is_one_message(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question": "31847=", "answer": "none"}) + "\n")
    for changes, message in (
        ({"rule": "regert"}, "did you mean 'regret'"),
        ({"max_step": 3}, "--max-steps"),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"learning_rate": "nan"}, "finite number"),
        ({"dataset_name": tmp_path / "none.jsonl"}, "no such file"),
        ({"dataset_name": questions}, "no number in its answer"),
        ({"prompt_template": "x"}, "no place for the question"),
        ({"stop": "enough", "dataset_name": "Q"}, "must end with what closes"),
        ({"model_name_or_path": tmp_path / "nothing"}, "no such model folder"),
        ({"dtype": "bfloat16"}, "use_peft"),
        ({"max_thinking_length": 200}, "window of 128"),
    ):
        if changes.get("dataset_name") == "Q":
            good = tmp_path / "good.jsonl"
            good.write_text(json.dumps({"question": "31847=", "answer": "23"}) + "\n")
            changes["dataset_name"] = good
        with pytest.raises(CodealignError, match=message):
            mrt_star.run(flags(base, tmp_path / "out", **changes))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(CodealignError, match="mrt-star does not know FSDP's shards"):
        mrt_star.run(flags(base, tmp_path / "out"))


def test_metrics_behind_the_checkpoint_are_dropped_once(tmp_path: Path) -> None:
    from codegen_eval.runs import RunDir

    directory = RunDir.open(tmp_path / "run", "mrt_star", {})
    for place in ((0, 0), (0, 3), (0, 5), (1, 0), (1, 3)):
        directory.log(round=place[0], step=place[1])

    def left(round_: int, step: int) -> list[tuple[int, int]]:
        job.rewind(directory, round_, step)
        return [(row["round"], row["step"]) for row in read_jsonl(directory.path / "metrics.jsonl")]

    assert len(left(1, 3)) == 5
    assert left(1, 2) == [(0, 0), (0, 3), (0, 5), (1, 0)]
    assert left(1, 0) == [(0, 0), (0, 3), (0, 5)]
    assert left(0, 4) == [(0, 0), (0, 3)]
    assert left(0, 0) == []
