"""JavaScript by Node.js."""

from __future__ import annotations

import json
from typing import Any

from ..limits import Limits
from . import register
from .base import Box, Examples, Language, Step, Toolchain

_OVERHEAD_MB = 384  # V8's own: code, young generation, snapshots; stacks of its threads
_RESERVED_MB = 8192  # address space that is only reserved

_TAG = "\0number"
_REFUSED = "\0refused"
_EXACT = 2**53
# Put behind the program, so that it sees the program's names. The value is the last line, and the process
# ends with it. A program may print what it likes before, and gains nothing by forging a value.
_DRIVER = """
;(async () => {
  const found = typeof NAME === 'function' ? NAME
    : typeof module.exports === 'function' ? module.exports : module.exports['NAME'];
  if (typeof found !== 'function') throw new ReferenceError("the program does not define 'NAME'");
  const fs = require('fs');
  const plain = (v) => {
    if (v === undefined || v === null) return null;
    if (typeof v === 'number') return Number.isFinite(v) ? v : {'\\0number': String(v)};
    if (typeof v === 'bigint') return {'\\0number': v.toString()};
    if (typeof v === 'string' || typeof v === 'boolean') return v;
    if (Array.isArray(v)) return v.map(plain);
    const kind = typeof v === 'object' ? Object.getPrototypeOf(v) : v;
    if (kind !== Object.prototype && kind !== null) return {'\\0refused': typeof v};
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]));
  };
  const value = await found(...JSON.parse(fs.readFileSync(0, 'utf8')));
  const text = Buffer.from('\\n' + JSON.stringify(plain(value)));
  for (let at = 0; at < text.length;) at += fs.writeSync(1, text, at);
  process.exit(0);
})();
"""


class _Calls:
    """Arguments and value are JSON."""

    def source(self, source: str, entry_point: str) -> str:
        """The program and the driver."""
        return source + _DRIVER.replace("NAME", entry_point)

    def input(self, args: tuple[Any, ...]) -> bytes:
        """JSON."""
        return json.dumps(_to_json(args), allow_nan=False).encode()

    def value(self, output: bytes) -> Any:
        """The last line, JSON; numbers that JSON lacks are tagged."""
        try:
            return json.loads(output.rpartition(b"\n")[2], object_hook=_untag, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deep") from None


@register
class JavaScript(Language):
    """CommonJS programs: `require('fs').readFileSync(0)` reads the input."""

    name = "javascript"
    aliases = ("js", "node", "nodejs")
    commands = ("node",)
    minimum = (16,)
    remedy = "install Node.js 16 or later (Debian and Ubuntu: apt install nodejs)"
    memory_marks = (
        "JavaScript heap out of memory",
        "Array buffer allocation failed",
        "Cannot allocate memory",
    )
    assertion_marks = ("AssertionError",)
    suffix = ".cjs"  # CommonJS by its ending
    calls = _Calls()
    note = "memory is bounded by the heap limit of the runtime and by private memory that can be written"
    syntax_marks = ("    at wrapSafe (node:internal",)
    cause_pattern = r"(?m)^(?:Uncaught )?([A-Z]\w*Error)\b"
    examples = Examples(
        double="console.log(2 * parseInt(require('fs').readFileSync(0, 'utf8')));",
        broken="console.log((",
    )

    def run_step(self, tools: Toolchain, source: str, limits: Limits) -> Step:
        """The heap's limit is V8's own; memory outside the heap is bounded by the kernel."""
        memory = int(limits.memory_mb)
        argv = (tools.programs["node"], f"--max-old-space-size={memory}", "--stack-size=32000", "main.cjs")
        bounds = (("data", memory + _OVERHEAD_MB), ("address space", memory + _RESERVED_MB))
        return Step(argv, Box(tools.paths), bounds)


def _to_json(value: Any) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int and abs(value) <= _EXACT:
        return value
    if type(value) is float and value - value == 0:
        return value
    if type(value) in (list, tuple):
        return [_to_json(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _to_json(item) for key, item in value.items()}
    raise ValueError(
        f"an argument holds a {type(value).__name__} that has no equal in JavaScript: use None, bool, "
        "str, int up to 2**53, finite float, list, tuple and dict with str keys"
    )


def _untag(found: dict[str, Any]) -> Any:
    if _REFUSED in found:
        raise ValueError(f"not plain data: {found[_REFUSED]!r}"[:200])
    if found.keys() == {_TAG} and isinstance(found[_TAG], str):
        text = found[_TAG]
        return float(text) if text in ("NaN", "Infinity", "-Infinity") else int(text)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
