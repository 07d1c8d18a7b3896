"""Keys of results: equal for equal work in an equal environment."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from importlib import metadata
from pathlib import Path

from ..codec import CodecError
from ..program import Program
from . import wire


@cache
def engine_version(executors: bool = False) -> str:
    """A digest of the sandbox's own source and of the interpreter: any change of either is another engine.

    Args:
        executors: Of this package as well, which brings work to an engine and changes no result.
    """
    digest = hashlib.sha256(f"{platform.python_version()} {platform.machine()}".encode())
    root = Path(__file__).resolve().parent.parent
    for path in sorted(root.rglob("*.py")):
        if executors or path.parent.name != "executors":
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def library_versions(names: Iterable[str]) -> list[str]:
    """Names with versions, where the installer knows them."""
    owners = metadata.packages_distributions()
    found = []
    for name in sorted(names):
        found += [f"{name} {owner} {metadata.version(owner)}" for owner in owners.get(name, [])] or [name]
    return found


def content_key(program: Program, all_tests: bool, environment: str) -> str | None:
    """Digest of everything that decides the result, so not of the program's `id`; None for what has no
    bounded form.
    """
    digest = hashlib.sha256(f"{environment}\0{all_tests}\0".encode())
    try:
        for field in fields(program):
            if field.name != "id":
                digest.update(field.name.encode() + b"\0")
                digest.update(wire.dumps(wire.to_json(getattr(program, field.name))) + b"\0")
    except CodecError:
        return None
    return digest.hexdigest()
