"""`codealign eval` on a small benchmark with the real sandbox: figures, bad input, resuming."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alignment.cli import main
from codegen_eval import files

REPO = Path(__file__).resolve().parents[3]
TASKS = 6


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A benchmark in HumanEval's format: f(x) adds a number."""
    rows = [
        {
            "task_id": f"Add/{i}",
            "prompt": f'def add(x):\n    """Adds {i}."""\n',
            "canonical_solution": f"    return x + {i}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {1 + i}\n"
            f"    assert candidate(-5) == {i - 5}\n",
            "entry_point": "add",
        }
        for i in range(1, TASKS + 1)
    ]
    return write(tmp_path / "add.jsonl", rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Per task: one right, one wrong, one broken sample, and the right one again."""
    bodies = ["    return x + {i}\n", "    return x\n", "    return (\n", "    return x + {i}\n"]
    rows = [
        {"task_id": f"Add/{i}", "completion": body.format(i=i)}
        for i in range(1, TASKS + 1)
        for body in bodies
    ]
    return write(tmp_path / "samples.jsonl", rows)


def arguments(dataset: Path, samples: Path, out: Path, *more: str) -> list[str]:
    given = {"benchmark": "humaneval", "dataset": dataset, "samples": samples, "out": out}
    return ["eval", *(str(word) for key, value in given.items() for word in (f"--{key}", value)), *more]


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


@pytest.mark.sandbox
def test_scores_samples_and_prints_a_table(
    dataset: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(dataset, samples, tmp_path / "run")) == 0
    said = capsys.readouterr()
    assert "pass@1" in said.out and "0.5000" in said.out and "syntax_error 6" in said.out
    assert "left out for want of samples: pass@10, pass@100" in said.err
    found = results(tmp_path / "run")
    assert found["pass_at_k"] == {"1": {"value": 0.5, "low": 0.5, "high": 0.5}}
    assert found["verdicts"] == {"passed": 12, "syntax_error": 6, "wrong_answer": 6}
    assert found["problems"][0] == {
        "task_id": "Add/1", "n": 4, "c": 2, "slow": None,
        "verdicts": {"passed": 2, "syntax_error": 1, "wrong_answer": 1},
    }  # fmt: skip
    assert main(arguments(dataset, samples, tmp_path / "run")) == 0, "a finished run is only shown again"


@pytest.mark.sandbox
def test_chosen_k_and_partial_samples(dataset: Path, samples: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in samples.read_text().splitlines()][:8]
    few = write(tmp_path / "few.jsonl", rows)
    assert main(arguments(dataset, few, tmp_path / "run", "--allow-partial", "--k", "1", "3")) == 0
    found = results(tmp_path / "run")
    assert found["n_problems"] == 2 and found["pass_at_k"]["3"]["value"] == 1.0


def break_line(path: Path) -> None:
    path.write_text(path.read_text() + '{"task_id": \n')


def add_task(path: Path) -> None:
    path.write_text(path.read_text() + '{"task_id": "Add/77", "completion": ""}\n')


def keep_one_line(path: Path) -> None:
    path.write_text(path.read_text().partition("\n")[0])


@pytest.mark.parametrize(
    ("spoil", "more", "said"),
    [
        (break_line, [], r"samples.jsonl:25: not valid JSON"),
        (add_task, [], "the benchmark has no task 'Add/77' (sample 0); did you mean 'Add/"),
        (lambda path: path.write_text(""), [], "samples.jsonl holds no samples"),
        (Path.unlink, [], "no such file: "),
        (keep_one_line, [], "5 of 6 tasks have no sample: 'Add/2'"),
        (None, ["--k", "5"], "k=5 needs at least 5 samples, task 'Add/1' has 4; lower k or draw more"),
        (None, ["--isolation", "strong"], "invalid choice 'strong'"),
        (None, ["--split", "train"], "only the split 'test'"),
        (None, ["--benchmark", "humanevel"], "did you mean 'humaneval'"),
        (None, ["--sede", "3"], "unknown option '--sede'; did you mean '--seed'"),
        (None, ["--dataset", "/nowhere/x.jsonl"], "no such file: /nowhere/x.jsonl"),
        (None, ["--config", "/nowhere/x.yaml"], "no such config file: /nowhere/x.yaml"),
        (None, ["--out", "/proc/nothing/run"], "cannot write /proc/nothing"),
    ],
)
def test_bad_input_is_one_clear_line_and_makes_no_result(
    dataset: Path,
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Any,
    more: list[str],
    said: str,
) -> None:
    if spoil:
        spoil(samples)
    given = arguments(dataset, samples, tmp_path / "run")
    for flag in more[::2]:
        if flag in given:
            position = given.index(flag)
            del given[position : position + 2]
    assert main(given + more) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    assert not (tmp_path / "run" / "results.json").exists()


def test_unknown_key_in_the_config_file_gets_the_nearest_name(
    dataset: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "eval.yaml"
    config.write_text("bechmark: humaneval\n")
    assert (
        main(["eval", "--config", str(config), "--samples", str(samples), "--out", str(tmp_path / "run")])
        == 2
    )
    assert "unknown config key 'bechmark'; did you mean 'benchmark'" in capsys.readouterr().err


@pytest.mark.sandbox
def test_full_disk_stops_cleanly_and_the_same_command_goes_on(
    dataset: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = []

        def full(handle: int) -> None:
            calls.append(handle)
            if len(calls) > 9:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(files.os, "fsync", full)
        assert main(arguments(dataset, samples, tmp_path / "run")) == 2
    assert "No space left on device" in capsys.readouterr().err
    kept = sorted((tmp_path / "run" / ".parts" / "sample_results").glob("0*.jsonl"))
    assert kept and len(kept) < TASKS
    assert main(arguments(dataset, samples, tmp_path / "run")) == 0
    assert results(tmp_path / "run")["verdicts"]["passed"] == 12


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(
    dataset: Path, tmp_path: Path, number: signal.Signals
) -> None:
    busy = "    for _ in range({k} * 100000):\n        pass\n    return x + {i}\n"
    rows = [
        {"task_id": f"Add/{i}", "completion": busy.format(i=i, k=k)}
        for i in range(1, TASKS + 1)
        for k in range(1, 9)
    ]
    samples = write(tmp_path / "samples.jsonl", rows)
    command = [sys.executable, "-m", "alignment.cli"]
    assert subprocess.run(
        [*command, *arguments(dataset, samples, tmp_path / "calm")], cwd=REPO, check=False
    ).returncode == 0  # fmt: skip
    run = tmp_path / "wild"
    process = subprocess.Popen(
        [*command, *arguments(dataset, samples, run)], cwd=REPO, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not list(run.glob(".parts/*/0*.jsonl")):
        time.sleep(0.002)
    time.sleep(random.Random(number).uniform(0, 0.1))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if process.returncode != 0 and number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "stopped; run the same command again to go on" in err and "Traceback" not in err
    assert (
        subprocess.run([*command, *arguments(dataset, samples, run)], cwd=REPO, check=False).returncode == 0
    )
    for name in ("sample_results.jsonl", "results.json"):
        assert (run / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()


@pytest.mark.sandbox
def test_programs_are_taken_out_of_chat_answers(dataset: Path, tmp_path: Path) -> None:
    fenced = "Sure!\n\n```python\ndef add(x):\n    return x + {i}\n```\nIt adds {i}.\n"
    rows = [{"task_id": f"Add/{i}", "solution": fenced.format(i=i)} for i in range(1, TASKS + 1)]
    chat = write(tmp_path / "chat.jsonl", rows)
    assert main(arguments(dataset, chat, tmp_path / "raw")) == 0
    assert results(tmp_path / "raw")["pass_at_k"]["1"]["value"] == 0.0
    assert main(arguments(dataset, chat, tmp_path / "run", "--extract", "auto")) == 0
    assert results(tmp_path / "run")["pass_at_k"]["1"]["value"] == 1.0
    row = json.loads((tmp_path / "run/sample_results.jsonl").read_text().splitlines()[0])
    assert row["extraction"] == "fenced" and row["solution"].startswith("def add")
