"""How many processes a launch starts, checked before anything starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError

_PORT = 29500
"""The port that torch and Accelerate take when none is given."""


def launcher_flags(file: Path, options: Mapping[str, int | str]) -> list[str]:
    """The launcher's flags for these options, after a look at the configuration that they change.

    Args:
        file: An Accelerate configuration (YAML).
        options: `num_processes`, `num_machines`, `machine_rank`, `main_process_ip`, `main_process_port`.

    Raises:
        CodealignError: For numbers that do not fit each other: what Accelerate would run then is not what was
            asked for.
    """
    found = _read(file)
    values: dict[str, Any] = {**found, **options}
    processes, machines = _number(values, "num_processes", 1), _number(values, "num_machines", 1)
    rank = _number(values, "machine_rank", 0)
    if processes < 1 or machines < 1:
        raise CodealignError(
            f"--num_processes and --num_machines must be 1 or more (given: {processes}, {machines})"
        )
    if str(values.get("distributed_type")) in ("NO", "False") and processes * machines > 1:
        raise CodealignError(
            f"{file.name} is a launch of one process, {processes} were asked for: take --accelerate ddp (or "
            "zero2, zero3, fsdp2); Accelerate would start one and say nothing"
        )
    if processes % machines:
        raise CodealignError(
            f"--num_processes counts those of all machines: {processes} over {machines} machines is no whole "
            "number each"
        )
    if not 0 <= rank < machines:
        raise CodealignError(f"--machine_rank must lie in 0..{machines - 1} (given: {rank})")
    if machines > 1 and not values.get("main_process_ip"):
        raise CodealignError(
            "several machines need --main_process_ip, the address of machine 0 that the others reach"
        )
    if machines > 1:
        options = {"main_process_port": _number(values, "main_process_port", _PORT), **options}
    multi = str(values.get("distributed_type")) not in ("NO", "False")
    if multi:
        each = processes // machines
        print(
            f"launching {processes} process{'es' if processes > 1 else ''}"
            + (f", {each} on each of {machines} machines; this is machine {rank}" if machines > 1 else "")
            + f" ({file.stem})",
            file=sys.stderr,
            flush=True,
        )
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _number(values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError):
        raise CodealignError(f"{name} must be a whole number (given: {value!r})") from None


def run_directory(config: Path, overrides: Sequence[str]) -> Path | None:
    """The `output_dir` that flags or recipe name; None where neither does."""
    words = list(overrides)
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--output_dir", "--output-dir"):
            if value:
                return Path(value)
            return Path(words[place + 1]) if place + 1 < len(words) else None
    written = _read(config).get("output_dir")
    return Path(str(written)) if written else None


def _read(file: Path) -> dict[str, Any]:
    from codegen_eval.config import read_yaml

    return read_yaml(file)
