"""The Slurm scripts, run with stand-ins for Slurm's commands: what each node is told to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from alignment.onpolicy.vllm_worker import EXTENSION
from alignment.train_command import LAUNCH_OPTIONS
from tests.conftest import REPO

SCRIPTS = sorted((REPO / "recipes" / "slurm").glob("*.sbatch"))

# srun: its own options go to the log; then the command runs once for each task, as on node 0, 1, ...
SRUN = """#!/usr/bin/env bash
tasks=$SLURM_JOB_NUM_NODES
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && tasks=${1#--ntasks=}
    shift
done
for ((i = 0; i < tasks; i++)); do SLURM_NODEID=$i "$@" || exit $?; done
"""
SCONTROL = """#!/usr/bin/env bash
last=$((SLURM_JOB_NUM_NODES - 1))
if [[ $1 == show ]]; then printf 'n%s\\n' $(seq 0 $last); else echo "scontrol $*" >> "$LOG"; fi
"""
SAID = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >> "$LOG"\nexit "${STATUS:-0}"\n'
SERVER = '#!/usr/bin/env bash\necho "vllm $*" >> "$LOG"\nexec sleep 5 >/dev/null 2>&1\n'


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    stand_ins = {"srun": SRUN, "scontrol": SCONTROL, "codealign": SAID, "curl": SAID, "vllm": SERVER}
    for name, text in stand_ins.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    log = tmp_path / "log"
    return log, {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LOG": str(log),
        "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_JOB_NODELIST": "n[0-2]",
        "SLURM_GPUS_ON_NODE": "4",
    }


def run(
    script: str, machine: tuple[Path, dict[str, str]], *arguments: str, **more: str
) -> tuple[int, list[str]]:
    log, environment = machine
    command = ["bash", str(REPO / "recipes/slurm" / script), *arguments]
    done = subprocess.run(
        command, env={**environment, **more}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, log.read_text().splitlines() if log.exists() else [done.stderr]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_is_bash_and_has_its_usage_and_resources(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text()
    assert f"recipes/slurm/{path.name}" in text, "its usage names it"
    assert "set -euo pipefail" in text and "#SBATCH --requeue" in text and "#SBATCH --time=" in text


def test_each_node_trains_with_its_own_rank_and_one_meeting_point(
    machine: tuple[Path, dict[str, str]],
) -> None:
    status, said = run("train.sbatch", machine, "dpo", "zero3", "r.yaml", "--output_dir", "a b")
    assert status == 0 and len(said) == 3
    for rank, line in enumerate(said):
        assert line == (
            "codealign train dpo --accelerate zero3 --config r.yaml --num_processes 12 --num_machines 3 "
            f"--machine_rank {rank} --main_process_ip n0 --main_process_port 32345 --max-restarts 5 "
            "--output_dir a b"
        )
    known = {f"--{name}" for name, *_ in LAUNCH_OPTIONS} | {"--max-restarts", "--accelerate", "--config"}
    assert {word for word in said[0].split() if word.startswith("--")} - known == {"--output_dir"}


def test_the_last_node_serves_and_the_others_train(machine: tuple[Path, dict[str, str]]) -> None:
    status, said = run(
        "train_with_vllm.sbatch", machine, "remax", "ddp", "r.yaml", "model", TENSOR_PARALLEL="2"
    )
    assert status == 0
    (server,) = [line for line in said if line.startswith("vllm")]
    assert server == (
        "vllm serve model --host n2 --port 52345 --tensor-parallel-size 2 --data-parallel-size 2 "
        f"--logprobs-mode processed_logprobs --worker-extension-cls {EXTENSION}"
    )
    trainers = [line for line in said if line.startswith("codealign")]
    assert len(trainers) == 2 and "--num_processes 8 --num_machines 2 --machine_rank 1" in trainers[1]
    assert trainers[0].endswith("--vllm_mode server --vllm_server_base_url http://n2:52345")
    one_node = {"SLURM_JOB_NUM_NODES": "1"}
    assert run("train_with_vllm.sbatch", machine, "remax", "ddp", "r.yaml", "model", **one_node)[0] == 1


def test_each_task_of_the_array_takes_its_own_file_and_a_stopped_one_is_queued_again(
    machine: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.jsonl").touch()
    more = {"SLURM_JOB_NUM_NODES": "1", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "1"}
    arguments = ("model", str(tmp_path), "runs/data", "--seed", "3")
    status, said = run("generate_data.sbatch", machine, *arguments, **more, STATUS="143")
    assert status == 143 and said[1] == "scontrol requeue 9_1"
    assert f"--prompt-data {tmp_path}/b.jsonl --out runs/data/b" in said[0] and said[0].endswith("--seed 3")
    assert run("generate_data.sbatch", machine, *arguments, **{**more, "SLURM_ARRAY_TASK_ID": "3"})[0] == 1
