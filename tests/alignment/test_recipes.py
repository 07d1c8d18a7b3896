"""Every recipe is read by the parser of the entry point that its heading names; unknown keys are errors."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from codegen_eval.errors import CodealignError
from tests.conftest import REPO

RECIPES = REPO / "recipes"
LAUNCHES = sorted((RECIPES / "accelerate").glob("*.yaml"))
JOBS = sorted(path for path in RECIPES.rglob("*.yaml") if path not in LAUNCHES)
# Recipes of commands with a configuration of our own; all others are read by TRL's parser.
COMMANDS = {
    "quickstart": ("alignment.quickstart", "QuickstartConfig"),
    "pretrain": ("alignment.pretrain", "PretrainConfig"),
    "data": ("codegen_eval.commands.data_config", "GenerateDataConfig"),
    "mcts_dpo": ("alignment.mcts_dpo", "MctsDpoConfig"),
    "mrt_star": ("alignment.mrt_star", "MRTStarConfig"),
    "mrt_rl": ("alignment.mrt_rl", "MRTRLConfig"),
}
_COMMAND = re.compile(r"codealign train ([\w-]+)|-m alignment\.(\w+)|codealign (quickstart|mcts-dpo)")


def heading(path: Path) -> str:
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])


def entry_point(path: Path) -> str:
    """The entry point that the heading's command names; otherwise the file's own name."""
    found = _COMMAND.search(heading(path))
    return next(filter(None, found.groups())).replace("-", "_") if found else path.stem


def parse(path: Path, *flags: str) -> Any:
    """What the recipe's entry point makes of it, on a machine without a GPU."""
    name = entry_point(path)
    if name in COMMANDS:
        module, config = COMMANDS[name]
        given = ["--config", str(path), "--out", "x", *flags]
        if name.startswith("mrt"):
            given[2:4] = ["--output_dir", "x", "--model_name_or_path", "m", "--dataset_name", "d"]
        return getattr(importlib.import_module(module), config).parse(given, prog=name, description="")
    argv = ["--config", str(path), "--dataset_name", "d", "--output_dir", "o", "--use_cpu", "true", *flags]
    if name == "reward":
        from alignment.reward_modeling.options import parse as parse_reward

        return parse_reward(argv)
    return importlib.import_module(f"alignment.{name}").parse(argv)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_fits_its_entry_point(path: Path) -> None:
    parsed = parse(path)
    if entry_point(path) in COMMANDS:
        return
    said = heading(path)
    assert f"--config recipes/{path.relative_to(RECIPES)}" in said, "the heading's command is this recipe's"
    launch = re.search(r"--accelerate (\w+)", said)
    assert launch is None or RECIPES / "accelerate" / f"{launch[1]}.yaml" in LAUNCHES
    # The library's own objects, made from what was read.
    from trl import get_peft_config

    parts = (
        [getattr(parsed, name) for name in ("script", "training", "model")]
        if not isinstance(parsed, tuple)
        else list(parsed[:3])
    )
    training, model = parts[1], parts[2]
    asked = yaml.safe_load(path.read_text())
    longest = "max_completion_length" if "max_completion_length" in asked else "max_length"
    holder = training if longest == "max_length" else parsed.options
    assert training.learning_rate == asked["learning_rate"] and getattr(holder, longest) == asked[longest]
    assert (get_peft_config(model) is not None) == bool(asked.get("use_peft"))


@pytest.mark.parametrize(
    "path", [RECIPES / "tiny-coder" / f"{name}.yaml" for name in ("dpo", "reward", "quickstart", "pretrain")]
)
def test_a_key_that_nobody_knows_is_an_error(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text() + "\nlerning_rate: 1.0\n")
    with pytest.raises(CodealignError, match="lerning_rate"):
        parse(copy)


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_every_launch_configuration_is_accelerates(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    found = load_config_from_file(str(path))
    known = {action.dest for action in launch_command_parser()._actions}
    for section in (found.deepspeed_config, found.fsdp_config):
        assert set(section) <= known, set(section) - known
    name = path.stem.partition("-")[0]
    stage = int(name.removeprefix("zero")) if name.startswith("zero") else 0
    kinds = {"single": "NO", "ddp": "MULTI_GPU", "fsdp2": "FSDP"}
    assert found.distributed_type == ("DEEPSPEED" if stage else kinds[name])
    assert found.deepspeed_config.get("zero_stage", 0) == stage
    offload = "cpu" if path.stem.endswith("-offload") else "none"
    assert found.deepspeed_config.get("offload_param_device", "none") == offload
    assert found.mixed_precision == "no", "the recipe's bf16 decides; here it would be turned on in silence"
    assert found.fsdp_config.get("fsdp_version", 0) == (2 if path.stem == "fsdp2" else 0)


def test_a_launch_configuration_with_a_strange_key_is_refused_by_accelerate(tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    copy = tmp_path / "ddp.yaml"
    copy.write_text((RECIPES / "accelerate" / "ddp.yaml").read_text() + "num_proceses: 2\n")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(copy))


def test_two_families_have_small_and_large_models_full_and_as_adapters() -> None:
    for family in ("qwen2.5-coder", "deepseek-coder"):
        names = {path.stem for path in (RECIPES / family).glob("*.yaml")}
        sizes = {name.split("-")[1] for name in names}
        assert len(sizes) == 2
        for size in sizes:
            assert {f"dpo-{size}", f"dpo-{size}-lora", f"reward-{size}"} <= names
