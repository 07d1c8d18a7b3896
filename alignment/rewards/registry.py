"""Rewards by name: ours, and those of other distributions by the entry point group `codealign.rewards`.

An entry is a maker: called with a recipe's options it gives a reward (protocol.py). A function that is
itself a reward is registered by a maker without options.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alignment.rewards.protocol import Reward
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.registry import Registry

Maker = Callable[..., Reward]

REWARDS: Registry[Maker] = Registry("reward", "codealign.rewards")

# Loaded when they are asked for: a trainer that takes one reward imports no other.
OURS = {
    "execution": "code",
    "suites": "suites",
    "parses": "static",
    "entry_point": "static",
    "format": "static",
    "length": "shaping",
    "finished": "shaping",
    "model": "models",
    "ensemble": "models",
}


def names() -> list[str]:
    """All names, ours first."""
    return [*OURS, *(name for name in REWARDS.names() if name not in OURS)]


def maker(name: str) -> Maker:
    """What makes the reward called `name`.

    Raises:
        CodealignError: If there is none; the nearest name and all names are given.
    """
    if name in OURS:
        importlib.import_module(f"alignment.rewards.{OURS[name]}")
    elif name not in REWARDS.names():
        raise unknown("reward", name, names())
    return REWARDS.get(name)


def make_reward(name: str, options: Mapping[str, Any] | None = None) -> Reward:
    """The reward called `name`, made with a recipe's options.

    Raises:
        CodealignError: For an unknown name or option (with the nearest one), a missing option, or a value
            that the reward refuses.
    """
    make, given = maker(name), dict(options or {})
    parameters = inspect.signature(make).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in given:
        if key not in parameters and not takes_any:
            raise unknown(f"option of reward {name!r}", key, parameters)
    missing = [
        key
        for key, p in parameters.items()
        if p.default is p.empty and key not in given and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing:
        raise CodealignError(f"reward {name!r} needs {', '.join(missing)}")
    return make(**given)


def make_rewards(specs: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str) -> Reward:
    """One reward of a recipe's `rewards`: names, or mappings of `name`, `weight`, `label` and options.

    A single entry without weight or label is that reward itself; several are added (combination.py).

    Raises:
        CodealignError: For no entry, an entry that is neither, or what `make_reward` refuses.
    """
    from alignment.rewards.combination import Part, Weighted

    entries = [specs] if isinstance(specs, str | Mapping) else list(specs)
    if not entries:
        raise CodealignError(f"no reward: name at least one of {', '.join(names())}")
    parts = []
    for entry in entries:
        given: Any = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise CodealignError(f"a reward is given by its name, alone or under the key name: {entry!r}")
        options = {key: value for key, value in given.items() if key not in ("name", "weight", "label")}
        reward = make_reward(given["name"], options)
        if len(entries) == 1 and not {"weight", "label"} & given.keys():
            return reward
        parts.append(Part(str(given.get("label", given["name"])), reward, given.get("weight", 1.0)))
    return Weighted(parts)
