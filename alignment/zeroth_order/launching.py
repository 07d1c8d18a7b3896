"""What zeroth-order training makes of a launch: ZeRO-3 divides weights, ZeRO-1 and 2 have nothing to do."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alignment.processes import launched_with
from codegen_eval.errors import CodealignError

_SWITCH = "ACCELERATE_USE_DEEPSPEED"


def zero_stage(environment: Mapping[str, str]) -> int | None:
    """The stage of ZeRO that Accelerate's launcher asks for; None without DeepSpeed.

    Raises:
        CodealignError: For a DeepSpeed configuration file that cannot be read.
    """
    if not launched_with("DEEPSPEED", environment):
        return None
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    if not file or file == "none":
        return int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") or 2)  # Accelerate's own default
    try:
        return int(json.loads(Path(file).read_text(encoding="utf-8"))["zero_optimization"]["stage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CodealignError(
            f"{file} is no DeepSpeed configuration with a stage of ZeRO ({error!r})"
        ) from None


@contextlib.contextmanager
def without_idle_zero() -> Iterator[None]:
    """Within, a launch of ZeRO-1 or 2 is one of DDP: there are neither optimiser states nor gradients.

    The first process says so. Without this DeepSpeed would leave the model where it was loaded, for an engine
    to place that nobody needs.
    """
    stage = zero_stage(os.environ)
    if stage is None or stage == 3:
        yield
        return
    if os.environ.get("RANK", "0") == "0":
        print(
            f"ZeRO-{stage} divides optimiser states{' and gradients' if stage == 2 else ''}, and MeZO has "
            "none: it runs as under ddp, with the whole model in each process (zero3 divides the weights)",
            file=sys.stderr,
        )
    before = os.environ[_SWITCH]
    os.environ[_SWITCH] = "false"
    try:
        yield
    finally:
        os.environ[_SWITCH] = before


def zero3_settings(training: Any) -> dict[str, Any] | None:
    """DeepSpeed's configuration of a launch that divides the weights; None in any other.

    Args:
        training: TrainingArguments.
    """
    plugin = getattr(training, "deepspeed_plugin", None)
    if plugin is None or int(plugin.zero_stage) != 3:
        return None
    return dict(plugin.deepspeed_config)
