"""The bounded wire format of plain data, the only thing that a solution's process gives back.

Plain data are exact builtin types (`type(x) is list`; a subclass is refused): None, bool, int, float,
complex, str, bytes, list, tuple, set, frozenset, dict. A value is one tag byte and its content; containers
and texts carry their length. Declared further types (`extras.py`) are a tag, a code and fields that are
values themselves. Nothing in a decoded value can run code, so a hostile sender can choose a wrong value and
no more.

Arguments go the other way, from the caller to a solution, as `marshal` data where they are plain (fast, and
never read by a process that must be protected), else in this format.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

MAX_BYTES = 8 * 2**20
MAX_ARGUMENT_BYTES = 64 * 2**20
MAX_DEPTH = 100
MAX_INT_BITS = 100_000
MAX_EXTRAS = 100_000  # in one value: an empty deque takes 760 bytes of memory and 12 on the wire
MAX_COLLISIONS = 10_000_000  # pairs of set members or keys with equal hashes, over all of one value

_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))
_SEQUENCES = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
_MAKE = {b"l"[0]: list, b"t"[0]: tuple, b"e"[0]: set, b"z"[0]: frozenset}
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_C128 = struct.Struct("<dd")
_PACKED = {int: b"q", float: b"d"}
_SHORT = 6  # lists shorter than this gain nothing from packing
_SMALL = 64  # sets and dicts up to this size are not looked through for equal hashes
_PLAIN_ARGUMENTS = ord("(")  # first byte of a `marshal` tuple; a value of this format never starts with it

# What a declared type becomes: its code and its fields; and back.
Reduce: TypeAlias = Callable[[Any, type], tuple[bytes, tuple[Any, ...]]]
Build: TypeAlias = Callable[[int, list[Any]], Any]


class CodecError(ValueError):
    """Not plain data, or beyond the bounds."""


def check_plain(value: object, what: str = "value") -> None:
    """Refuse what cannot cross.

    Raises:
        CodecError: A type that is not one of the exact builtin ones, too deep, or an int that is too large.
    """
    stack: list[tuple[Any, int]] = [((value,), -1)]  # groups of values, and the depth of what holds them
    while stack:
        items, depth = stack.pop()
        kinds = set(map(type, items))
        if int in kinds:
            _check_ints(items if len(kinds) == 1 else [x for x in items if type(x) is int], what)
        if kinds <= _ATOMS:
            continue
        if depth + 1 >= MAX_DEPTH:
            raise CodecError(f"{what} is nested deeper than {MAX_DEPTH}")
        for item in items:
            kind = type(item)
            if kind in _SEQUENCES:
                stack.append((item, depth + 1))
            elif kind is dict:
                stack += [(item.keys(), depth + 1), (item.values(), depth + 1)]
            elif kind not in _ATOMS:
                raise CodecError(f"{what} holds a {kind.__name__}, which is not plain data")


def _check_ints(items: Collection[int], what: str) -> None:
    bits = max(max(items).bit_length(), min(items).bit_length())
    if bits > MAX_INT_BITS:
        raise CodecError(f"{what} holds an int of {bits} bits; at most {MAX_INT_BITS} can cross")


def is_plain(value: object) -> bool:
    """Whether a value is plain data, without any declared further type."""
    try:
        check_plain(value)
    except CodecError:
        return False
    return True


def crossed(value: Any, what: str = "value") -> tuple[Any, bool]:
    """A value as it is after crossing, and whether it is plain.

    Plain data are returned as they are. Of the rest a copy is made: iterators are drained, dataclasses and
    enum members become the values of `values.py`.

    Raises:
        CodecError: It cannot cross; the text says which part of it.
    """
    if is_plain(value):
        return value, True
    try:
        return decode(encode(value, limit=MAX_ARGUMENT_BYTES), limit=MAX_ARGUMENT_BYTES), False
    except CodecError as error:
        raise CodecError(f"{what}: {error}") from None


def pack_arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, plain: bool = True) -> bytes:
    """Arguments of one call for a solution's process.

    Args:
        args: Positional arguments.
        kwargs: Named arguments.
        plain: They have been checked to be plain data; else declared types may be among them.

    Raises:
        CodecError: They cannot cross, or are larger than `MAX_ARGUMENT_BYTES`.
    """
    whole = (args, kwargs or {})
    if not plain:
        return encode(whole, limit=MAX_ARGUMENT_BYTES)
    # Version 2 writes no back references, so the solution's copy shares nothing within itself either.
    data = marshal.dumps(whole, 2)
    if len(data) > MAX_ARGUMENT_BYTES:
        raise CodecError(f"arguments take {len(data)} bytes; at most {MAX_ARGUMENT_BYTES} can cross")
    return data


def unpack_arguments(data: bytes, build: Build | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What `pack_arguments` packed. For the solution's process only: `marshal` trusts its data."""
    whole = (
        marshal.loads(data)
        if data[0] == _PLAIN_ARGUMENTS
        else decode(data, build=build, limit=MAX_ARGUMENT_BYTES)
    )
    args, kwargs = whole
    return args, kwargs


class _Sink:
    """Pieces of a wire form, the bytes that are left, and how declared types are taken apart."""

    __slots__ = ("left", "limit", "reduce")

    def __init__(self, limit: int, reduce: Reduce | None) -> None:
        self.left = self.limit = limit
        self.reduce = reduce

    def full(self) -> CodecError:
        return CodecError(f"value takes more than {self.limit} bytes")


class _Source:
    """What is left of the bounds while a value is read, and how declared types are put together."""

    __slots__ = ("build", "collisions", "extras")

    def __init__(self, build: Build | None) -> None:
        self.build = build
        self.extras = MAX_EXTRAS
        self.collisions = MAX_COLLISIONS


def encode(value: object, reduce: Reduce | None = None, limit: int = MAX_BYTES) -> bytes:
    """The value's wire form.

    Args:
        value: Anything.
        reduce: Takes apart what is not plain; `extras.reduce` if not given.
        limit: Most bytes it may take.

    Raises:
        CodecError: Neither plain nor of a declared type, or beyond depth, int or size bounds.
    """
    out: list[bytes] = []
    _encode(value, out, _Sink(limit, reduce), MAX_DEPTH)
    return b"".join(out)


def _encode(value: Any, out: list[bytes], sink: _Sink, depth: int) -> None:
    kind = type(value)
    if kind is int:
        piece = _encode_int(value)
    elif kind is str:
        text = value.encode("utf-8", "surrogatepass")
        piece = b"s" + _U32.pack(len(text)) + text
    elif kind is bool:
        piece = b"1" if value else b"0"
    elif value is None:
        piece = b"n"
    elif kind is float:
        piece = b"f" + _F64.pack(value)
    elif kind is bytes:
        piece = b"b" + _U32.pack(len(value)) + value
    elif kind is complex:
        piece = b"c" + _C128.pack(value.real, value.imag)
    else:
        _encode_container(value, kind, out, sink, depth)
        return
    sink.left -= len(piece)
    if sink.left < 0:
        raise sink.full()
    out.append(piece)


def _encode_int(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return b"i" + _I64.pack(value)
    bits = value.bit_length()
    if bits > MAX_INT_BITS:
        raise CodecError(f"int of {bits} bits; at most {MAX_INT_BITS} can cross")
    size = bits // 8 + 1
    return b"I" + _U32.pack(size) + value.to_bytes(size, "little", signed=True)


def _encode_container(value: Any, kind: type, out: list[bytes], sink: _Sink, depth: int) -> None:
    if depth <= 0:
        raise CodecError(f"value is nested deeper than {MAX_DEPTH}")
    if kind not in _SEQUENCES and kind is not dict:
        _encode_extra(value, kind, out, sink, depth)
        return
    count = len(value)
    sink.left -= 5
    if sink.left < count:  # every item takes a byte at least
        raise sink.full()
    if kind is dict:
        out.append(b"d" + _U32.pack(count))
        for key, item in list(value.items()):
            _encode(key, out, sink, depth - 1)
            _encode(item, out, sink, depth - 1)
        return
    if count >= _SHORT and (kind is list or kind is tuple):
        packed = _encode_packed(value, kind, count)
        if packed is not None:
            sink.left -= len(packed)
            if sink.left < 0:
                raise sink.full()
            out.append(packed)
            return
    out.append(_SEQUENCES[kind] + _U32.pack(count))
    for item in list(value):
        _encode(item, out, sink, depth - 1)


def _encode_extra(value: Any, kind: type, out: list[bytes], sink: _Sink, depth: int) -> None:
    """A value of a declared type: tag, number of fields, code, fields."""
    if sink.reduce is None:
        from . import extras

        sink.reduce = extras.reduce
    code, fields = sink.reduce(value, kind)
    sink.left -= 6
    if sink.left < 0:
        raise sink.full()
    out.append(b"x" + _U32.pack(len(fields)) + code)
    for field in fields:
        _encode(field, out, sink, depth - 1)


def _encode_packed(value: Any, kind: type, count: int) -> bytes | None:
    """A list or tuple of 64-bit ints only or floats only, as one block; None when it is something else."""
    first = type(value[0])
    if first not in _PACKED or len(set(map(type, value))) != 1:
        return None
    code = _PACKED[first]
    try:
        block = struct.pack(f"<{count}{code.decode()}", *value)
    except struct.error:  # an int beyond 64 bits
        return None
    return (b"P" if kind is list else b"Q") + code + _U32.pack(count) + block


def decode(data: bytes, build: Build | None = None, limit: int = MAX_BYTES) -> Any:
    """The value of a wire form from an untrusted sender.

    Args:
        data: Wire form, whole.
        build: Puts together what is not plain; `extras.build` if not given.
        limit: Most bytes it may take.

    Raises:
        CodecError: Malformed, beyond the bounds, or with bytes left over.
    """
    if len(data) > limit:
        raise CodecError(f"value takes {len(data)} bytes; at most {limit} can cross")
    try:
        value, end = _decode(data, 0, MAX_DEPTH, _Source(build))
    except CodecError:
        raise
    except (struct.error, IndexError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        raise CodecError(f"malformed value ({type(error).__name__})") from None
    if end != len(data):
        raise CodecError("malformed value (bytes left over)")
    return value


def _decode(data: bytes, at: int, depth: int, source: _Source) -> tuple[Any, int]:
    tag = data[at]
    at += 1
    if tag == 105:  # i
        return _I64.unpack_from(data, at)[0], at + 8
    if tag == 110:  # n
        return None, at
    if tag == 49 or tag == 48:  # 1, 0
        return tag == 49, at
    if tag == 102:  # f
        return _F64.unpack_from(data, at)[0], at + 8
    if tag == 99:  # c
        return complex(*_C128.unpack_from(data, at)), at + 16
    if tag == 80 or tag == 81:  # P, Q
        return _decode_packed(data, at, tag)
    count = _U32.unpack_from(data, at)[0]
    at += 4
    if count > len(data) - at:
        raise CodecError("malformed value (a length beyond its end)")
    if tag == 115:  # s
        return data[at : at + count].decode("utf-8", "surrogatepass"), at + count
    if tag == 98:  # b
        return data[at : at + count], at + count
    if tag == 73:  # I
        if count > MAX_INT_BITS // 8 + 1:
            raise CodecError("int beyond the bound")
        return int.from_bytes(data[at : at + count], "little", signed=True), at + count
    return _decode_container(data, at, tag, count, depth, source)


def _decode_packed(data: bytes, at: int, tag: int) -> tuple[Any, int]:
    code = data[at : at + 1]
    if code not in (b"q", b"d"):
        raise CodecError("malformed value (unknown block)")
    count = _U32.unpack_from(data, at + 1)[0]
    at += 5
    if count * 8 > len(data) - at:
        raise CodecError("malformed value (a length beyond its end)")
    items = struct.unpack_from(f"<{count}{code.decode()}", data, at)
    return (list(items) if tag == 80 else items), at + 8 * count


def _decode_container(
    data: bytes, at: int, tag: int, count: int, depth: int, source: _Source
) -> tuple[Any, int]:
    if depth <= 0:
        raise CodecError(f"value is nested deeper than {MAX_DEPTH}")
    if tag == 100:  # d
        if count > _SMALL:
            return _decode_large_dict(data, at, count, depth, source)
        result: dict[Any, Any] = {}
        for _ in range(count):
            key, at = _decode(data, at, depth - 1, source)
            result[key], at = _decode(data, at, depth - 1, source)
        return result, at
    make = _MAKE.get(tag)
    if make is None:
        if tag == 120:  # x
            return _decode_extra(data, at, count, depth, source)
        raise CodecError("malformed value (unknown tag)")
    if not count:
        return make(), at
    items: list[Any] = []
    left = count
    while left and data[at] == 115:  # s, as in _decode: lists of short texts are long, and common
        size = _U32.unpack_from(data, at + 1)[0]
        at += 5 + size
        if at > len(data):
            raise CodecError("malformed value (a length beyond its end)")
        items.append(data[at - size : at].decode("utf-8", "surrogatepass"))
        left -= 1
    for _ in range(left):
        item, at = _decode(data, at, depth - 1, source)
        items.append(item)
    if make is list:
        return items, at
    if count > _SMALL and make is not tuple:
        _count_collisions(items, source)
    return make(items), at


def _decode_large_dict(
    data: bytes, at: int, count: int, depth: int, source: _Source
) -> tuple[dict[Any, Any], int]:
    keys, items = [], []
    for _ in range(count):
        key, at = _decode(data, at, depth - 1, source)
        item, at = _decode(data, at, depth - 1, source)
        keys.append(key)
        items.append(item)
    _count_collisions(keys, source)
    return dict(zip(keys, items, strict=True)), at


def _count_collisions(keys: list[Any], source: _Source) -> None:
    """Refuse keys so many of which share a hash that building the table would take for ever."""
    if len(set(map(hash, keys))) == len(keys):
        return
    groups: dict[int, int] = {}
    for number in map(hash, keys):
        earlier = groups.get(number, 0)
        source.collisions -= earlier
        groups[number] = earlier + 1
    if source.collisions < 0:
        raise CodecError("a set or dict with too many equal hashes")


def _decode_extra(data: bytes, at: int, count: int, depth: int, source: _Source) -> tuple[Any, int]:
    source.extras -= 1
    if source.extras < 0:
        raise CodecError(f"more than {MAX_EXTRAS} values of declared types")
    if source.build is None:
        from . import extras

        source.build = extras.build
    code = data[at]
    at += 1
    fields = []
    for _ in range(count):
        field, at = _decode(data, at, depth - 1, source)
        fields.append(field)
    return source.build(code, fields), at
