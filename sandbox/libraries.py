"""Installed packages that programs may import: where they lie.

Installed packages are hidden from programs, since benchmarks with their answers may be among them. Those that
a user names are made visible in the box, and loaded in its zygotes once instead of in every program.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def locate(names: Sequence[str]) -> dict[str, Any]:
    """What the engine needs to know of the named packages: `names` to import, `sites` (directories for the
    import path), `paths` (what is made visible).

    Raises:
        ValueError: One is no name of a package, is not installed, lies below /tmp, or is a namespace package,
            which has no place of its own.
    """
    sites: list[str] = []
    paths: list[str] = []
    for name in names:
        for path in _places(name):
            if path.is_relative_to("/tmp"):  # the programs' own directory has that name in a box
                raise ValueError(f"library {name!r} lies in {path}, below /tmp: install it elsewhere")
            site = path.parent
            sites += [str(site)] if str(site) not in sites else []
            paths += [str(found) for found in (path, site / f"{name}.libs") if found.exists()]
    return {"names": list(names), "sites": sites, "paths": paths}


def _places(name: str) -> list[Path]:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"library {name!r} is no name of a top-level package, such as 'numpy'")
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ValueError(
            f"library {name!r} is not installed for this Python: pip install it, or leave it out"
        )
    if spec.origin in ("built-in", "frozen") or spec.origin is None:
        if spec.submodule_search_locations:
            raise ValueError(f"library {name!r} is a namespace package; name the package that holds the code")
        return []
    places = spec.submodule_search_locations or [spec.origin]
    return [Path(place).absolute() for place in places]
