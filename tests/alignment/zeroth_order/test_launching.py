"""What a launch of ZeRO or FSDP is for zeroth-order training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignment import mezo
from alignment.zeroth_order.launching import without_idle_zero, zero3_settings, zero_stage
from codegen_eval.errors import CodealignError

ON = {"ACCELERATE_USE_DEEPSPEED": "true"}


def test_the_stage_is_the_launchers_or_that_of_its_file(tmp_path: Path) -> None:
    assert zero_stage({}) is None and zero_stage({"ACCELERATE_USE_DEEPSPEED": "false"}) is None
    assert zero_stage({**ON, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}) == 1
    file = tmp_path / "deepspeed.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    both = {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file), "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}
    assert zero_stage({**ON, **both}) == 3, "Accelerate takes the file"
    for content in ("{}", "[", '{"zero_optimization": 3}'):
        file.write_text(content)
        with pytest.raises(CodealignError, match="no DeepSpeed configuration with a stage of ZeRO"):
            zero_stage({**ON, **both})


@pytest.mark.parametrize(("stage", "said"), [("1", "ZeRO-1 divides optimiser states, and"), ("2", "ZeRO-2")])
def test_zero_1_and_2_run_as_ddp_and_the_first_process_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str, said: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", stage)
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", raising=False)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(RuntimeError), without_idle_zero():
            assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "false"
            raise RuntimeError
        assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "true", "others of the process want it"
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == 1


def test_zero_3_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", raising=False)
    with without_idle_zero():
        assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert not capsys.readouterr().err


def test_fsdp_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "True")
    with pytest.raises(CodealignError, match=r"does not know FSDP's shards.*single, ddp, zero2 or zero3"):
        mezo.run([])


def test_only_stage_3_has_settings_for_the_model() -> None:
    assert zero3_settings(SimpleNamespace()) is None
    plugins = [SimpleNamespace(zero_stage=stage, deepspeed_config={"a": stage}) for stage in (2, 3)]
    found = [zero3_settings(SimpleNamespace(deepspeed_plugin=plugin)) for plugin in plugins]
    assert found == [None, {"a": 3}]
