"""What `python -m alignment.METHOD --help` says: our options in full, TRL's and transformers' by name."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from inspect import get_annotations
from typing import Any

_WIDTH = 100
_OWNERS = {"trl": "TRL's", "transformers": "transformers'"}


def wanted(argv: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return "--help" in argv or "-h" in argv


def heading(module: Any) -> str:
    """What an entry point does: the first paragraph of its docstring, and the command line below it."""
    paragraphs = (module.__doc__ or "").strip().split("\n\n")
    command = [text for text in paragraphs[1:2] if text.startswith("    ")]
    return "\n\n".join([paragraphs[0].removeprefix("Entry point: "), *command])


def options_help(classes: Sequence[type], accepts: Callable[[str], bool] = lambda name: True) -> str:
    """All options that a trainer takes.

    Args:
        classes: The dataclasses that its parser reads.
        accepts: Whether the trainer takes an option of this name; others are left out.

    Returns:
        Ours with their help and defaults, then the names of the others, grouped by the class that has them.
    """
    groups: dict[type, list[Field[Any]]] = {}
    for cls in classes:
        for field in fields(cls):
            if accepts(field.name):
                groups.setdefault(_owner(cls, field.name), []).append(field)
    ours = {cls: found for cls, found in groups.items() if _origin(cls) == "alignment"}
    blocks = [
        "Options, as flags (--name value) or as keys of the recipe (--config FILE.yaml); flags win.\n"
        "--overwrite starts the run anew. Required: --model_name_or_path, --dataset_name, --output_dir."
    ]
    for cls, found in ours.items():
        lines = (cls.__doc__ or cls.__name__).splitlines()[:1]
        blocks.append("\n".join([*lines, *map(_explained, found)]))
    for cls, found in groups.items():
        if cls not in ours:
            title = f"{_OWNERS.get(_origin(cls), _origin(cls))} {cls.__name__} (see its documentation):"
            names = " ".join(f"--{field.name}" for field in found)
            blocks.append(f"{title}\n{textwrap.fill(names, _WIDTH, **_INDENT)}")
    return "\n\n".join(blocks)


_INDENT: dict[str, Any] = {
    "initial_indent": "  ",
    "subsequent_indent": "  ",
    "break_on_hyphens": False,
    "break_long_words": False,
}


def _owner(cls: type, name: str) -> type:
    """The class that declares a field; for a private one, the next public class that derives from it."""
    line = cls.__mro__
    place = next(i for i, part in enumerate(line) if name in get_annotations(part))
    return next(part for part in reversed(line[: place + 1]) if not part.__name__.startswith("_"))


def _origin(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _explained(field: Field[Any]) -> str:
    default = field.default
    if default is MISSING:
        default = None if field.default_factory is MISSING else field.default_factory()
    notes = [f"default: {'none' if default in (None, '') else str(default).lower()}"]
    if isinstance(default, str) and default:
        notes = [f"default: {default}"]
    if field.metadata.get("choices"):
        notes.insert(0, f"one of {', '.join(map(str, field.metadata['choices']))}")
    text = f"{field.metadata.get('help', '')} ({'; '.join(notes)})".strip()
    return f"  --{field.name}\n" + textwrap.fill(
        text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
    )
