"""Finds what ships with the package: recipes and embedded models."""

from __future__ import annotations

from pathlib import Path

from codegen_eval.errors import CodealignError

_PACKAGE = Path(__file__).resolve().parent
# A checkout (or editable install) keeps them beside the packages, a wheel inside alignment/_data.
_ROOTS = (_PACKAGE.parent, _PACKAGE / "_data")


def recipe_path(name: str) -> Path:
    """The path of a shipped recipe such as `tiny-coder/dpo.yaml` (a miss lists what there is)."""
    return _find("recipes", name)


def model_path(name: str) -> Path:
    """The folder of an embedded model such as `tiny-coder` (a miss lists what there is)."""
    return _find("models", name)


def _find(kind: str, name: str) -> Path:
    roots = [root / kind for root in _ROOTS if (root / kind).is_dir()]
    for root in roots:
        if (root / name).exists():
            return root / name
    there = sorted({_label(entry, root, kind) for root in roots for entry in _entries(root, kind)})
    raise CodealignError(f"no {name!r} among the shipped {kind}; there are: {', '.join(there) or 'none'}")


def _entries(root: Path, kind: str) -> list[Path]:
    return list(root.rglob("*.yaml")) if kind == "recipes" else [p.parent for p in root.glob("*/config.json")]


def _label(entry: Path, root: Path, kind: str) -> str:
    return entry.relative_to(root).as_posix() if kind == "recipes" else entry.name
