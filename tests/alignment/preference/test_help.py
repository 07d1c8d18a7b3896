"""`--help` of the trainers: exit status 0, what they do, and all options that they take and no others."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys

import pytest

from alignment import train_command
from codegen_eval.errors import CodealignError
from tests.conftest import REPO

TRAINERS = ("dpo", "kto", "reward", "ppo", "remax", "rloo", "mezo", "rrhf", "raft")
REQUIRED = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o"]


def said(name: str, capsys: pytest.CaptureFixture[str], flag: str = "--help") -> str:
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"alignment.{name}").main([flag])
    assert stop.value.code == 0
    out, errors = capsys.readouterr()
    assert not errors
    return out


def names(text: str) -> list[str]:
    return re.findall(r"^  --(\w+)$|(?<= )--(\w+)(?=[ \n])", text, re.M)


@pytest.mark.parametrize("name", TRAINERS)
def test_help_says_what_the_method_does_and_every_option_once(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(name, capsys)
    first, command = text.split("\n\n")[:2]
    assert "arXiv" in first or name in ("reward", "dpo"), first
    assert f"-m alignment.{name} --config" in command or f"codealign train {name}" in command, command
    flat = " ".join(text.split())
    assert "--hang_timeout Without progress for so many seconds" in flat and "(default: 1800.0)" in flat
    assert "--on_nan A loss that is not finite" in flat
    assert "(one of warn, skip, rewind, stop; default: skip)" in flat
    listed = [a or b for a, b in names(text.partition("Required:")[2])]
    assert len(listed) == len(set(listed))
    assert {"model_name_or_path", "dataset_name", "output_dir", "learning_rate", "max_steps"} <= set(listed)
    assert "--hub_strategy" not in text


def test_options_that_a_method_refuses_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """And those that are listed are no unknown keys."""
    ppo, mezo, raft = (said(name, capsys, "-h") for name in ("ppo", "mezo", "raft"))
    for text, absent in (
        (ppo, "load_in_4bit"),
        (ppo, "peak_tflops"),
        (mezo, "adam_beta1"),
        (raft, "packing"),
    ):
        assert f"--{absent}" not in text
    assert "transformers' TrainingArguments (" not in ppo and "transformers' TrainingArguments (" in mezo
    from alignment.onpolicy.job import parse

    for key in {a or b for a, b in names(ppo.partition("Required:")[2])}:
        try:
            parse([*REQUIRED, f"--{key}", "?"], "ppo")
        except CodealignError as error:
            assert "config key" not in str(error), error


def test_train_shows_the_methods_options_beside_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_command.main(["remax", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--max-restarts" in text and "--num_processes" in text
    assert "the greedy answer as the baseline" in text and "\n  --kl_coef\n" in text
    assert train_command.main(["--help", "mrt-rl"]) == 0
    text = capsys.readouterr().out
    assert "--machine_rank" in text and "--prefix-steps" in text and "--hang-timeout" in text


def test_every_module_with_a_main_runs_as_one() -> None:
    missing = []
    for path in sorted((REPO / "alignment").rglob("*.py")):
        tree = ast.parse(path.read_text())
        has = {type(node).__name__: node for node in tree.body}
        mains = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
        last = has.get("If")
        if mains and not (last is not None and "__main__" in ast.unparse(last)):
            missing.append(path.name)
    assert not missing
    done = subprocess.run(
        [sys.executable, "-m", "alignment.mcts_dpo", "--help"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--rounds" in done.stdout
