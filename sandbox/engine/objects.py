"""The solution's side of objects by handle: does what a test asks for, and keeps the objects that it holds.

A CALL is (args, kwargs) in the codec, an ASK (released, operation, args, kwargs). The answer is VALUE and the
value, FAILED and (names of the exception's type and its bases, args, text, exception), or REFUSED and a text.
Data cross by value. Everything else is answered with a handle: a number for as long as the test holds it, and
the name of its type.
"""

from __future__ import annotations

import builtins
import copy
import operator
from collections.abc import Callable
from typing import Any

from .. import codec, extras
from ..values import Drained, EnumValue, NamedRecord, Record
from . import wire
from .pipe import TEXT_BYTES, Pipe

MAX_HANDLES = 10_000
HANDLE, NAME = b"H", b"L"
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift")
_OPERATORS = (
    *BINARY,
    *("rshift", "neg", "pos", "abs", "invert", "eq", "lt", "le", "gt", "ge", "contains", "index"),
    *("getitem", "setitem", "delitem"),
    *(f"i{name.rstrip('_')}" for name in BINARY),
    "irshift",
)
_BUILTINS = (
    *("getattr", "setattr", "delattr", "len", "iter", "next", "reversed", "bool", "int", "float", "complex"),
    *("str", "repr", "format", "hash", "round", "divmod", "isinstance", "issubclass", "dir"),
)
# The true ones, whatever the program's classes say of themselves.
_MRO = type.__dict__["__mro__"].__get__
_NAME = type.__dict__["__name__"].__get__
_ARGS = BaseException.__dict__["args"].__get__


def resolve(namespace: dict[str, Any], entry: str) -> Callable[..., Any]:
    """The function of an entry point: a name, or `Class.method` on a new instance for every call.

    Raises:
        NameError: The program does not define it.
    """
    found = namespace.get(entry)
    if found is not None:
        return found  # type: ignore[no-any-return]
    first, *rest = entry.replace("()", "").split(".")
    if first not in namespace:
        raise NameError(f"the program does not define {first!r}")
    owner = namespace[first]
    for name in rest[:-1]:
        owner = getattr(owner, name)
    if not rest:
        return owner  # type: ignore[no-any-return]
    if not hasattr(owner, rest[-1]):
        raise NameError(f"the program does not define {entry!r}")
    if not isinstance(owner, type):
        return getattr(owner, rest[-1])  # type: ignore[no-any-return]
    return lambda *args, **kwargs: getattr(owner(), rest[-1])(*args, **kwargs)


def rebuild(namespace: dict[str, Any], code: int, fields: list[Any]) -> Any:
    """An argument of a declared type; records and members become those of the program where it has them."""
    value = extras.build(code, fields)
    if type(value) is Drained:
        return iter(value.items)
    if type(value) not in (Record, NamedRecord, EnumValue):
        return value
    kind = namespace.get(value.type_name)
    if type(value) is EnumValue:
        return getattr(kind, "_member_map_", {}).get(value.name, value)
    names = value.fields if type(value) is Record else value._fields
    declared = getattr(kind, "__dataclass_fields__" if type(value) is Record else "_fields", ())
    if callable(kind) and set(names) <= set(declared):
        return kind(**{name: getattr(value, name) for name in names})
    return value


class Objects:
    """Objects of one program that one test holds."""

    def __init__(self, namespace: dict[str, Any], entry: str) -> None:
        self._namespace = namespace
        self._entry = entry
        self._held: dict[int, list[Any]] = {}  # number -> object, how often it was sent
        self._numbers: dict[int, int] = {}  # id of the object -> number
        self._last = 0

    def serve(self, pipe: Pipe, kind: int, number: int, body: bytes) -> None:
        """Do what a request says and answer it. Whatever the program raises is an answer too."""
        reply, value = wire.VALUE, None
        try:
            request = codec.decode(body, self._build, codec.MAX_ARGUMENT_BYTES)
            if kind == wire.CALL:
                value = resolve(self._namespace, self._entry)(*request[0], **request[1])
            else:
                released, operation, args, kwargs = request
                for released_number, count in released:
                    self._release(released_number, count)
                value = self._do(operation, args, kwargs)
        except BaseException as error:
            reply, value = wire.FAILED, self._raised(error)
        pipe.write(*self._encode(reply, number, value))

    def _encode(self, reply: int, number: int, value: Any) -> tuple[int, int, bytes]:
        try:
            return reply, number, codec.encode(value, self._reduce)
        except codec.CodecError as error:
            return wire.REFUSED, number, codec.encode(str(error))
        except BaseException as error:  # raised by the program while its value was taken apart
            return wire.FAILED, number, codec.encode((*self._raised(error)[:-1], None), _nothing)

    def _do(self, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if operation == "entry":
            return resolve(self._namespace, self._entry)(*args, **kwargs)
        if operation == "call":
            return args[0](*args[1:], **kwargs)
        if operation in _OPERATORS:
            return getattr(operator, operation)(*args)
        if operation in _BUILTINS:
            return getattr(builtins, operation)(*args)
        if operation in ("copy", "deepcopy"):
            return getattr(copy, operation)(*args)
        if operation == "enter":
            return type(args[0]).__enter__(args[0])
        if operation == "exit":
            return self._exit(*args)
        raise TypeError(f"unknown operation {operation!r}")

    @staticmethod
    def _exit(manager: Any, name: str | None, text: str) -> bool:
        if name is None:
            return bool(type(manager).__exit__(manager, None, None, None))
        kind = getattr(builtins, name, None)
        error = kind(text) if isinstance(kind, type) and issubclass(kind, Exception) else Exception(text)
        return bool(type(manager).__exit__(manager, type(error), error, error.__traceback__))

    @staticmethod
    def _raised(error: BaseException) -> tuple[Any, ...]:
        """What a test learns of an exception. Its text is made by the program's own code."""
        names = tuple(_name(kind) for kind in _MRO(type(error))[:20])
        try:
            text = str(error)
            text = text[:TEXT_BYTES] if type(text) is str else ""
        except BaseException:
            text = ""
        args = _ARGS(error)
        if not codec.is_plain(args) or len(codec.encode(args)) > TEXT_BYTES:
            args = None
        own = None if getattr(builtins, names[0], None) is type(error) else error
        return names, args, text, own

    def _release(self, number: int, count: int) -> None:
        entry = self._held.get(number)
        if entry is not None:
            entry[1] -= count
            if entry[1] <= 0:
                del self._held[number]
                self._numbers.pop(id(entry[0]), None)

    def _reduce(self, value: Any, kind: type) -> extras.Parts:
        """Data by value, all else by handle."""
        parts = extras.by_value(value, kind)
        if parts is not None:
            return parts
        number = self._numbers.get(id(value))
        if number is None:
            if len(self._held) >= MAX_HANDLES:
                raise codec.CodecError(f"a test may hold at most {MAX_HANDLES} objects of the program")
            self._last += 1
            number = self._numbers[id(value)] = self._last
            self._held[number] = [value, 0]
        self._held[number][1] += 1
        return HANDLE, (number, _name(kind))

    def _build(self, code: int, fields: list[Any]) -> Any:
        if code == HANDLE[0]:
            if fields[0] not in self._held:
                raise codec.CodecError("no such object")
            return self._held[fields[0]][0]
        if code == NAME[0]:
            if fields[0] not in self._namespace:
                raise NameError(f"name {fields[0]!r} is not defined")
            return self._namespace[fields[0]]
        return rebuild(self._namespace, code, fields)


def _name(kind: type) -> str:
    return str(_NAME(kind))[:100]


def _nothing(value: Any, kind: type) -> extras.Parts:
    raise codec.CodecError(f"{kind.__name__} is not plain data")
