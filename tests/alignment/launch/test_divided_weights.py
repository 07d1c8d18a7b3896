"""What is read of weights that ZeRO-3 has divided is the whole of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignment.launch_options import launcher_flags
from alignment.preference.reference import weights_hash
from alignment.resources import recipe_path
from tests.alignment.preference import small
from tests.conftest import REPO

WORKER = """
import sys
from pathlib import Path

from accelerate.state import AcceleratorState
from transformers import AutoModelForCausalLM

from alignment.divided import is_divided
from alignment.engines import dividing
from alignment.preference.reference import weights_hash
from alignment.zeroth_order.zero3 import divide

settings = dividing("a test", cpu=True).state.deepspeed_plugin.deepspeed_config
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
divide(model, settings)
assert all(is_divided(p) and not p.numel() for p in model.parameters())
rank = AcceleratorState().process_index
Path(sys.argv[2], f"hash-{rank}").write_text(weights_hash(model))
assert not any(p.numel() for p in model.parameters()), "and it is divided again"
"""


@pytest.mark.distributed
def test_the_hash_of_a_divided_model_is_that_of_the_whole_one(tmp_path: Path) -> None:
    """A reference cache that several models share finds them apart by it."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: make test-distributed")
    folder, script = tmp_path / "model", tmp_path / "worker.py"
    small.model(0).save_pretrained(folder)
    script.write_text(WORKER)
    configuration = recipe_path("accelerate/zero3.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
    command += launcher_flags(configuration, {"num_processes": 2, "main_process_port": 0})
    path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, str(script), str(folder), str(tmp_path)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {(tmp_path / f"hash-{rank}").read_text() for rank in (0, 1)}
    assert found == {weights_hash(small.model(0))}
    assert weights_hash(small.model(1)) not in found
