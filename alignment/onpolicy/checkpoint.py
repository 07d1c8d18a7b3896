"""What a checkpoint of on-policy training holds; `health.checkpoints` makes it whole and finds it again.

A folder `checkpoint-N` holds the trained weights, optimiser (under ZeRO each process's share in a file of its
own) and schedule, the random states of every process, and `state.json`: steps done, KL controller, running
rewards, the window of failed rewards, figures not yet logged. The position in the prompts is the step's
number.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codegen_eval.errors import CodealignError

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.pt", "state.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds for one process.

    Attributes:
        weights: Trained parameters by name.
        optimizer: Of the optimiser; this process's share where it is divided.
        schedule: Of the learning rate.
        state: Everything else that all processes share.
        figures: Not yet logged, of this process.
    """

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    state: dict[str, Any]
    figures: dict[str, Any]


def write(
    part: Path, weights: Mapping[str, torch.Tensor], optimizer: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Writes what one process has for all of them.

    Args:
        part: The checkpoint's folder.
        weights: Trained parameters by name.
        optimizer: `schedule`, and `optimizer` where that is not divided.
        state: Plain values.
    """
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous() for name, tensor in weights.items()}, part / WEIGHTS)
    torch.save(dict(optimizer), part / OPTIMIZER)
    (part / STATE).write_text(json.dumps(state, sort_keys=True))


def write_process(
    part: Path, process: int, figures: Mapping[str, Any], share: Mapping[str, Any] | None = None
) -> None:
    """Writes what each process has by itself: the states of its random generators, figures not yet logged.

    Args:
        part: The checkpoint's folder.
        process: Number of the process.
        figures: Plain values.
        share: Its share of the optimiser, where that is divided.
    """
    name, keys, place, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), place, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    torch.save(states, part / f"random-{process}.pt")
    (part / f"figures-{process}.json").write_text(json.dumps(figures))
    if share is not None:
        torch.save(dict(share), part / _share(process))


def _share(process: int) -> str:
    return f"optimizer-{process}.pt"


def read(path: Path, process: int, *, divided: bool) -> Saved:
    """A whole checkpoint; sets the random states of this process.

    Args:
        path: Its folder.
        process: Number of this process.
        divided: Whether the optimiser is divided over processes.

    Raises:
        CodealignError: If another number of processes wrote it, or their optimiser was divided and this
            one's is not, or the other way round.
    """
    from safetensors.torch import load_file

    generators = path / f"random-{process}.pt"
    if not generators.exists():
        raise CodealignError(
            f"{path} was written by {len(list(path.glob('random-*.pt')))} processes and has nothing for "
            f"process {process}: go on with as many as before"
        )
    if (path / _share(process)).exists() != divided:
        raise CodealignError(
            f"{path} was written {'without' if divided else 'under'} ZeRO, which divides the optimiser over "
            "processes: go on with the launch configuration of before"
        )
    states = torch.load(generators, weights_only=True)
    torch.set_rng_state(states["torch"])
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    common = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
    own = path / _share(process)
    optimizer = torch.load(own, weights_only=True, map_location="cpu") if divided else common["optimizer"]
    state, figures = (json.loads((path / name).read_text()) for name in (STATE, f"figures-{process}.json"))
    return Saved(load_file(path / WEIGHTS), optimizer, common["schedule"], state, figures)
