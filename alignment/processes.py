"""What a training process must know of its launch: CPU processes under DeepSpeed, and how many really run.

Two traps of launchers lie here. `accelerate launch --cpu --num_processes 2` without a configuration starts
one process and says nothing; and N processes that find neither a GPU nor `use_cpu` are N runs that train
alone, each over the other's files. The first is said, the second refused.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Container, Mapping, MutableMapping
from typing import Any

from alignment.compat import without_compiled_collectives
from codegen_eval.errors import CodealignError

_PR_SET_PDEATHSIG = 1
_TRUE = ("1", "true", "yes", "on", "y", "t")


def end_with_launcher() -> None:
    """Makes the kernel end this process when its launcher dies; for processes of a launch, on Linux.

    torchrun gives each process a session of its own: whoever kills the launcher's group leaves them behind,
    and they would go on writing to the run that is started again.
    """
    if "LOCAL_RANK" not in os.environ or not sys.platform.startswith("linux"):
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(128 + signal.SIGKILL)


def launch_flags(given: Mapping[str, Any], known: Container[str], *, gpus: int | None = None) -> list[str]:
    """Flags that this launch needs beside those of the recipe, for TrainingArguments or a config like it.

    DeepSpeed on CPU processes wants gloo and a training config that does not ask for the CPU: with
    `use_cpu: true` Accelerate would make it plain DDP, in silence.

    Args:
        given: The keys that recipe and flags set.
        known: The keys that the config has.
        gpus: Number of GPUs that this process sees; None asks torch.
    """
    if _true(str(given.get("use_cpu", ""))) and "LOCAL_RANK" in os.environ:
        # Accelerate would say "cpu:1", to which torch.load moves nothing: no checkpoint could be used.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    if not launched_with("DEEPSPEED"):
        return []
    if not _true(str(given.get("use_cpu", ""))):
        if gpus is None:
            import torch

            gpus = torch.cuda.device_count()
        if gpus:
            return []
    deepspeed_on_cpu(os.environ)
    wanted = {"use_cpu": "false", "ddp_backend": "gloo", "dataloader_pin_memory": "false"}
    return [word for key, value in wanted.items() if key in known for word in (f"--{key}", value)]


def deepspeed_on_cpu(environment: MutableMapping[str, str]) -> None:
    """Tells DeepSpeed and Accelerate that there is a CPU only; before either of them is first used.

    Raises:
        CodealignError: Without DeepSpeed.
    """
    environment["DS_ACCELERATOR"] = "cpu"
    environment["ACCELERATE_TORCH_DEVICE"] = "cpu"
    environment["CUDA_VISIBLE_DEVICES"] = ""
    environment.setdefault("DS_LOG_LEVEL", "error")
    try:
        without_compiled_collectives()
    except ImportError:
        raise CodealignError(
            "this launch configuration needs DeepSpeed, which is not installed: pip install "
            "'codealign[deepspeed]', or take --accelerate ddp"
        ) from None


def launched_with(name: str, environment: Mapping[str, str] | None = None) -> bool:
    """Whether Accelerate's launcher was asked for `DEEPSPEED` or `FSDP`.

    Args:
        name: One of the two.
        environment: The process's; None takes its own.
    """
    environment = os.environ if environment is None else environment
    return _true(environment.get(f"ACCELERATE_USE_{name}", ""))


def refuse_fsdp(command: str) -> None:
    """Refuses FSDP, for trainers that do not know its shards.

    Raises:
        CodealignError: In a launch of FSDP.
    """
    if launched_with("FSDP"):
        raise CodealignError(
            f"{command} does not know FSDP's shards: launch it with --accelerate single, ddp, zero2 or zero3"
        )


def check_processes(
    training: Any, environment: Mapping[str, str] | None = None, *, quiet: bool = False
) -> int:
    """How many processes train together; the first of them says so where there are several.

    Args:
        training: TrainingArguments.
        environment: The process's; None takes its own.
        quiet: Say nothing.

    Returns:
        The number of processes.

    Raises:
        CodealignError: If more were launched than train together.
    """
    environment = os.environ if environment is None else environment
    launched, running = int(environment.get("WORLD_SIZE") or 1), int(training.world_size)
    if launched > running:
        raise CodealignError(
            f"{launched} processes were launched, but each would train alone: no GPU was found and the "
            "recipe does not say use_cpu. Add --use_cpu true, or launch one process (--accelerate single)"
        )
    if quiet or training.process_index:
        return running
    if running > 1:
        machines = max(1, running // int(environment.get("LOCAL_WORLD_SIZE") or running))
        print(f"processes: {running} on {_count(machines, 'machine')} ({_mode(training)})", file=sys.stderr)
    elif "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        # What Accelerate's simple launcher leaves when it was asked for several.
        print(
            "warning: accelerate launch was asked for several processes but started one (it does so for "
            "--cpu without a configuration). Use `codealign train METHOD --accelerate ddp --num_processes N`",
            file=sys.stderr,
        )
    return running


def _mode(training: Any) -> str:
    """In words: the division of the work, the backend, the device."""
    state = training.distributed_state
    kind = str(getattr(state.distributed_type, "value", state.distributed_type))
    plugin = getattr(training, "deepspeed_plugin", None)
    # A config that is not transformers' has no plugin; with a DeepSpeed file the launcher says no stage.
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    deepspeed = f"DeepSpeed ZeRO-{stage}" if stage else "DeepSpeed"
    names = {"MULTI_CPU": "DDP", "MULTI_GPU": "DDP", "FSDP": "FSDP", "DEEPSPEED": deepspeed}
    name = f"DeepSpeed ZeRO-{plugin.zero_stage}" if plugin is not None else names.get(kind, kind)
    if kind == "MULTI_CPU" and launched_with("FSDP"):
        name = "DDP: Accelerate does not shard on CPU processes"
    return f"{name}, {state.backend}, {state.device.type}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _true(text: str) -> bool:
    return text.strip().lower() in _TRUE
