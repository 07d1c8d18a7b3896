"""C by GCC; see cpp.py."""

from __future__ import annotations

from . import register
from .base import Examples
from .cpp import Gcc


@register
class C(Gcc):
    """C17 with GNU extensions."""

    name = "c"
    commands = ("gcc",)
    flags = ("-std=gnu17", "-O2", "-pipe", "-fmax-errors=20")
    suffix = ".c"
    kind = "c"
    examples = Examples(
        double='#include <stdio.h>\nint main(void) { long n; scanf("%ld", &n); printf("%ld\\n", 2 * n); }',
        broken="int main(void) { return undefined_name; }",
    )
