"""The test's process: runs test source with a proxy whose calls go to the solution's process as plain
data.
"""

from __future__ import annotations

import functools
import marshal
import sys
from types import CodeType, ModuleType

from . import proxies, wire
from .pipe import Pipe, error_body

MODULE = "test"


def main(pipe: Pipe) -> None:
    """Run the tests that come, one after the other, and report what happened."""
    while (found := pipe.read()) is not None:
        _, number, body = found
        source, entry = marshal.loads(body)
        wanted = Pipe(pipe.take(), wire.MAX_BODY, descriptors=False)
        kind, text = _outcome(proxies.Link(wanted, entry), source, entry)
        wanted.close()
        pipe.write(kind, number, text)


def _outcome(link: proxies.Link, source: bytes, entry: str) -> tuple[int, bytes]:
    kind, text = wire.PASSED, b""
    try:
        _run(link, source, entry)
    except AssertionError as error:
        kind, text = wire.ERROR if error is link.raised else wire.WRONG, error_body(error)
    except BaseException as error:
        kind, text = wire.ERROR, _error(error, link)
    return (wire.GONE, b"") if link.gone else (kind, text)


def _run(link: proxies.Link, source: bytes, entry: str) -> None:
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    text, code, names = _compiled(source)
    link.source = text
    candidate = proxies.bind(module.__dict__, names, link, entry)
    exec(code, module.__dict__)
    check = module.__dict__.get("check")
    if callable(check) and entry != "check":
        check(candidate)


@functools.lru_cache(64)
def _compiled(source: bytes) -> tuple[str, CodeType, tuple[str, ...]]:
    """A test's text, its code, and the names in it that may be the program's; a process that serves many
    programs sees the same test often.
    """
    text = source.decode("utf-8", "surrogatepass")
    code = compile(text, "<test>", "exec", dont_inherit=True)
    return text, code, proxies.names_in(code)


def _error(error: BaseException, link: proxies.Link) -> bytes:
    """Cause and text; `test:` before the type says that the test itself raised it, not the program."""
    if error is not link.raised:
        return error_body(error, "test:")
    return error_body(error, cause=link.cause)
