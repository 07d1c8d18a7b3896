"""`codealign sample`: what it writes, what it refuses, and that a stop changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.commands import sample
from codegen_eval.commands.sample import SampleConfig, chosen_prompts, requests_for
from codegen_eval.errors import CodealignError
from codegen_eval.generation.pool import GeneratorPool
from codegen_eval.runs import read_jsonl
from codegen_eval.samples import read_samples
from tests.alignment import tiny
from tests.codegen_eval.generation.misbehaving import Handler, Server, serving
from tests.conftest import REPO

NOT_LOCAL = {"dtype": "auto", "batch_prompts": 10, "workers": None}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save_model(tmp_path_factory.mktemp("sample") / "model"))


def config(model: str, out: Path, **changes: Any) -> SampleConfig:
    few: dict[str, Any] = {"split": "tune", "limit": 6, "programs": 3, "batch_prompts": 2, "workers": 1}
    few |= {"max_program_tokens": 12, "max_test_tokens": 12, "dtype": "float32"}
    return SampleConfig(model=model, out=out, **{**few, **changes})


def test_it_writes_programs_and_tests_for_the_drawn_prompts_in_order(model: str, tmp_path: Path) -> None:
    asked = config(model, tmp_path / "run", tests=2)
    directory = sample.run(asked)
    programs = list(read_jsonl(directory.path / "programs.jsonl"))
    ids = [p.task_id for p in chosen_prompts(asked)]
    assert [(row["task_id"], row["sample"]) for row in programs] == [(i, n) for i in ids for n in range(3)]
    assert len(list(read_jsonl(directory.path / "tests.jsonl"))) == 12
    assert directory.finished


def test_programs_do_not_depend_on_how_many_are_asked_for_or_on_the_tests(model: str, tmp_path: Path) -> None:
    few = sample.run(config(model, tmp_path / "few", programs=1))
    many = sample.run(config(model, tmp_path / "many", programs=4, tests=1))
    rows = {(r["task_id"], r["sample"]): r for r in read_jsonl(many.path / "programs.jsonl")}
    assert all(rows[r["task_id"], r["sample"]] == r for r in read_jsonl(few.path / "programs.jsonl"))


@pytest.mark.slow
def test_stopped_between_batches_it_goes_on_to_the_same_bytes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sample.run(config(model, tmp_path / "whole", tests=1))
    generate = GeneratorPool.generate

    def stopping(self: GeneratorPool, batches: Any, sampling: Any) -> Any:
        for i, drawn in enumerate(generate(self, batches, sampling)):
            if i == 1:
                raise KeyboardInterrupt
            yield drawn

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorPool, "generate", stopping)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                sample.run(config(model, tmp_path / "stopped", tests=1))
    again = sample.run(config(model, tmp_path / "stopped", tests=1))
    for name in ("programs.jsonl", "tests.jsonl"):
        assert (whole.path / name).read_bytes() == (again.path / name).read_bytes()


def test_the_test_template_is_filled_in(model: str, tmp_path: Path) -> None:
    asked = config(model, tmp_path, tests=1, test_template="{prompt}    pass\n\n# {entry_point}\nassert")
    prompt = chosen_prompts(asked)[0]
    text = requests_for("tests", [prompt], asked)[0].prompt
    assert text == f"{prompt.prompt}    pass\n\n# {prompt.entry_point}\nassert"
    rows = read_jsonl(sample.run(asked).path / "tests.jsonl")
    assert all(row["completion"].startswith("assert") for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 999}, "only 136 problems"),
        ({"programs": 0}, "nothing to draw"),
        ({"model": "./nowhere"}, "no such model folder: ./nowhere"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"backend": "vlm"}, "unknown generation backend 'vlm'; did you mean 'vllm'"),
        ({"backend": "openai", **NOT_LOCAL}, "needs --base-url"),
        ({"backend": "hf", "base_url": "http://h/v1"}, "--base-url is for --backend openai, not hf"),
        ({"backend": "openai", **NOT_LOCAL, "device": "cpu"}, "--device is for --backend hf, not openai"),
        ({"extraction": "last"}, "--extraction is for --chat"),
        ({"chat": True}, "no chat template"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    model: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        sample.run(config(**{"model": model, "out": tmp_path / "run", **changes}))


def test_what_is_refused_leaves_nothing_behind(model: str, tmp_path: Path) -> None:
    for changes in ({"model": "./nowhere"}, {"split": "nope"}, {"limit": 10**6}):
        with pytest.raises(CodealignError):
            sample.run(config(changes.pop("model", model), tmp_path / "run", **changes))
        assert not (tmp_path / "run").exists()


def test_a_template_without_the_prompt_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must contain \{prompt\}"):
        config(model, tmp_path, test_template="write tests")


def remote(server: Server, out: Path, **changes: Any) -> SampleConfig:
    few = {"split": "tune", "limit": 4, "programs": 3, "backend": "openai", "base_url": server.url}
    return SampleConfig(model="m", out=out, **{**few, "concurrency": 2, "retries": 0, **changes})


def test_a_server_draws_every_sample_by_a_request_of_its_own(tmp_path: Path) -> None:
    with serving() as server:
        directory = sample.run(remote(server, tmp_path / "run", tests=2))
    rows = list(read_jsonl(directory.path / "programs.jsonl"))
    assert [row["sample"] for row in rows] == [0, 1, 2] * 4
    assert all(row.keys() == {"task_id", "sample", "completion"} for row in rows)
    assert all(row["completion"].startswith("    return") and "@" not in row["completion"] for row in rows)
    assert len(server.bodies) == 4 * 3 + 4 * 2


def test_a_failure_keeps_every_sample_that_was_drawn_and_the_rest_comes_later(tmp_path: Path) -> None:
    with serving() as server:
        whole = sample.run(remote(server, tmp_path / "whole", chat=True))
    broken = True

    def fails(handler: Handler, body: dict[str, Any], before: int) -> bool:
        if broken and handler.server.answered >= 5:
            handler.connection.close()
            return True
        return False

    with serving(fails) as server:
        with pytest.raises(CodealignError, match="What was drawn is kept"):
            sample.run(remote(server, tmp_path / "run", chat=True))
        kept = len(list((tmp_path / "run" / ".parts" / "programs").glob("[0-9]*.jsonl")))
        assert kept == server.answered >= 5
    broken = False
    # Another port, as after a restart: where the server is does not make another run.
    with serving(fails) as server:
        again = sample.run(remote(server, tmp_path / "run", chat=True, concurrency=7))
        assert len(server.bodies) == 12 - kept
    assert (whole.path / "programs.jsonl").read_bytes() == (again.path / "programs.jsonl").read_bytes()


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    def slowly(handler: Handler, body: dict[str, Any], before: int) -> bool:
        time.sleep(0.05)
        return False

    with serving() as server:
        whole = sample.run(remote(server, tmp_path / "whole", programs=20))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "alignment.cli", "sample", "--model", "m", "--out", str(out)]
    command += ["--split", "tune", "--limit", "4", "--programs", "20", "--backend", "openai"]
    command += ["--concurrency", "2", "--retries", "0", "--base-url"]
    parts = out / ".parts" / "programs"
    with serving(slowly) as server:
        for _ in range(2):
            before = len(list(parts.glob("[0-9]*.jsonl"))) if parts.exists() else 0
            process = subprocess.Popen([*command, server.url], cwd=REPO, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while not parts.exists() or len(list(parts.glob("[0-9]*.jsonl"))) < before + 10:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
            process.wait()
        finished = len(list(parts.glob("[0-9]*.jsonl")))
        assert 20 <= finished < 80
        asked = len(server.bodies)
        subprocess.run([*command, server.url], cwd=REPO, check=True, capture_output=True)
        assert len(server.bodies) - asked == 80 - finished
    for name in ("programs.jsonl", "config.yaml"):
        assert (whole.path / name).read_bytes() == (out / name).read_bytes()


def test_the_key_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_KEY", "sk-very-secret")
    with serving() as server:
        directory = sample.run(remote(server, tmp_path / "run", api_key_env="SAMPLE_KEY"))
        assert all(h["Authorization"] == "Bearer sk-very-secret" for h in server.headers)
    for root, _, names in os.walk(directory.path):
        assert not any(b"sk-very-secret" in (Path(root) / name).read_bytes() for name in names)
    assert server.url in (directory.path / "metrics.jsonl").read_text()


def test_a_chats_answer_is_stored_raw_with_its_program_and_the_reason(tmp_path: Path) -> None:
    def answers(handler: Handler, body: dict[str, Any], before: int) -> bool:
        name = body["messages"][0]["content"].split("def ")[1].split("(")[0]
        text = f"<think>hm</think>\n```python\ndef {name}(*a):\n    return 1\n\nprint({name}())\n```"
        handler.answer(200, {"choices": [{"message": {"content": text}}]})
        return True

    with serving(answers) as server:
        directory = sample.run(
            remote(server, tmp_path / "run", chat=True, programs=1, chat_template="Complete:\n{prompt}")
        )
    assert all(b["messages"][0]["content"].startswith("Complete:\ndef ") for b in server.bodies)
    for row, found in zip(
        read_jsonl(directory.path / "programs.jsonl"), read_samples(directory.path), strict=True
    ):
        assert (
            row["completion"].startswith("<think>") and row["reason"] == "fenced" and row["notes"] == ["cut"]
        )
        assert row["solution"].startswith("def ") and row["solution"].endswith("    return 1\n")
        assert found.solution == row["solution"]


def test_tests_are_asked_of_a_chat_in_words(tmp_path: Path) -> None:
    with serving() as server:
        asked = remote(server, tmp_path / "run", chat=True, programs=0, tests=1)
        sample.run(asked)
    prompt = chosen_prompts(asked)[0]
    content = requests_for("tests", [prompt], asked)[0].prompt
    assert content in [b["messages"][0]["content"] for b in server.bodies]
    assert prompt.prompt in content and f"assert {prompt.entry_point}(" in content


def test_hf_puts_a_chat_through_the_models_template(model: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "chat")
    config_file = folder / "tokenizer_config.json"
    settings = json.loads(config_file.read_text())
    settings["chat_template"] = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    config_file.write_text(json.dumps(settings))
    rows = list(
        read_jsonl(sample.run(config(str(folder), tmp_path / "run", chat=True)).path / "programs.jsonl")
    )
    bare = list(read_jsonl(sample.run(config(str(folder), tmp_path / "bare")).path / "programs.jsonl"))
    assert all({"completion", "solution", "reason"} <= row.keys() for row in rows)
    assert [r["completion"] for r in rows] != [r["completion"] for r in bare]


@pytest.mark.parametrize("option", ["engine", "body"])
def test_further_settings_must_be_a_json_object(model: str, tmp_path: Path, option: str) -> None:
    for value in ("[1]", "{", "1", "[" * 100_000):
        with pytest.raises(ValueError, match="must be a JSON object"):
            config(model, tmp_path, **{option: value})


def test_stop_texts_can_be_given(model: str, tmp_path: Path) -> None:
    with serving() as server:
        directory = sample.run(remote(server, tmp_path / "run", program_stops=("return",), programs=1))
    assert {row["completion"] for row in read_jsonl(directory.path / "programs.jsonl")} == {"    "}
    assert server.bodies[0]["stop"] == ["return"]
