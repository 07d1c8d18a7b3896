"""FSDP2: what the launch configuration asks of torch, and sharding itself over two CPU processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alignment.reward_modeling import small
from tests.conftest import REPO

CONFIGURATION = REPO / "recipes/accelerate/fsdp2.yaml"


def test_the_launch_configuration_makes_accelerates_plugin_shard_each_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env
    from torch.distributed.fsdp import FullStateDictConfig

    from alignment.tiny_coder.model import build_model

    for name in os.environ:
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.delenv(name)
    words = ["--config_file", str(CONFIGURATION), "--num_processes", "2", "script.py"]
    asked, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    for name, value in prepare_multi_gpu_env(asked).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert isinstance(plugin.state_dict_config, FullStateDictConfig)
    assert not plugin.cpu_ram_efficient_loading and not plugin.activation_checkpointing
    assert not getattr(plugin.cpu_offload, "pin_memory", False), "nothing is offloaded"
    model = build_model(small.SMALL, small.tokenizer(), 0)
    plugin.set_auto_wrap_policy(model)
    wrapped = [
        type(part).__name__
        for part in model.modules()
        if plugin.auto_wrap_policy(module=part, recurse=False, nonwrapped_numel=0)
    ]
    assert wrapped == ["LlamaDecoderLayer"] * small.SMALL.num_hidden_layers


@pytest.mark.distributed
@pytest.mark.timeout(900)  # two processes, on machines that may be busy
def test_sharded_by_torch_our_modules_learn_what_one_process_learns(tmp_path: Path) -> None:
    small.save_model(tmp_path / "model")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.alignment.launch.fsdp2_training", str(tmp_path)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"policy", "preference", "reward"}
    for name, of in found.items():
        # Rows of odd tensors go to the first process; none holds much more than its half.
        assert sum(of["held"]) == of["whole"] and max(of["held"]) < 0.6 * of["whole"], name
        assert of["losses"] == pytest.approx(of["expected"], abs=1e-9), name
        assert abs(of["losses"][1] - of["losses"][0]) > 1e-3, "two steps of a loss that moves"
        assert of["apart"] < 1e-9 and of["moved"] > 1e-4, (name, of)
