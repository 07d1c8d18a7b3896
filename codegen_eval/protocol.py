"""protocol.json of a run: what was run on what, with which versions, on which machine."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import plain

FORMAT = "codealign-run-1"
_DISTRIBUTIONS = (
    "codealign",
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "pyarrow",
    "vllm",
)


def describe(command: str, config: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
    """The protocol of a run that starts now.

    Raises:
        CodealignError: If an input does not exist.
    """
    settings = plain(config, finite=True)
    return {
        "format": FORMAT,
        "command": command,
        "config": settings,
        "inputs": {
            name: {"path": str(path), "sha256": fingerprint(path, name)} for name, path in inputs.items()
        },
        "seeds": {key: value for key, value in settings.items() if "seed" in key},
        "versions": {"python": platform.python_version(), **_installed()},
        "machine": {"system": platform.platform(), "arch": platform.machine(), "cpus": os.cpu_count()},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def differing_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What makes two runs of one command different, as "key: old, now new"; empty if they are the same."""
    found = []
    old, new = before["config"], now["config"]
    for key in sorted((set(old) | set(new)) - set(now["inputs"])):
        if old.get(key) != new.get(key):
            found.append(f"{key}: {old.get(key)!r}, now {new.get(key)!r}")
    for name in sorted(set(before["inputs"]) | set(now["inputs"])):
        hashes = [protocol["inputs"].get(name, {}).get("sha256") for protocol in (before, now)]
        if hashes[0] != hashes[1]:
            found.append(f"content of {name}: {str(hashes[0])[:12]}, now {str(hashes[1])[:12]}")
    return found


def fingerprint(path: Path, name: str = "input") -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder (hidden ones left out)."""
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise CodealignError(f"{name}: no such file or folder: {path}")
    total = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        relative = file_path.relative_to(path)
        if not any(part.startswith(".") for part in relative.parts):
            total.update(f"{relative.as_posix()}\0{fingerprint(file_path)}\n".encode())
    return total.hexdigest()


def _installed() -> dict[str, str]:
    """Versions from the metadata: importing torch for its version would cost seconds."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
