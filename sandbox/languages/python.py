"""Python: programs run by a fork of the solution's zygote, so there is nothing to find, compile or exec."""

from __future__ import annotations

import sys
from typing import Any

from ..limits import Limits
from . import register
from .base import Examples, Language, Toolchain


@register
class Python(Language):
    """The engine's own interpreter."""

    name = "python"
    aliases = ("py", "python3")
    examples = Examples(double="print(2 * int(input()))", broken="print((")

    def toolchain(self) -> Toolchain:
        """The running interpreter."""
        return Toolchain(f"Python {sys.version.split()[0]}", {"python": sys.executable})

    def plan(self, source: str, limits: Limits) -> dict[str, Any] | None:
        """None: the engine's own way."""
        return None
