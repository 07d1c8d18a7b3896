"""The bounded wire format of plain data, the only thing that a solution's process gives back.

Exact builtin types only (`type(x) is list`; a subclass is refused): None, bool, int, float, complex, str,
bytes, list, tuple, set, frozenset, dict. A value is one tag byte and its content; containers and texts
carry their length. Nothing in a decoded value can run code, so a hostile sender can choose a wrong value
and no more.

Arguments go the other way, from trusted to untrusted, as `marshal` data of the same checked types: fast,
and never read by a process that must be protected.
"""

from __future__ import annotations

import marshal
import struct
from typing import Any

MAX_BYTES = 4 * 2**20
MAX_ARGUMENT_BYTES = 64 * 2**20
MAX_DEPTH = 100
MAX_INT_BITS = 100_000

_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))
_SEQUENCES = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
_MAKE = {b"l"[0]: list, b"t"[0]: tuple, b"e"[0]: set, b"z"[0]: frozenset}
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_C128 = struct.Struct("<dd")
_PACKED = {int: b"q", float: b"d"}
_SHORT = 6  # lists shorter than this gain nothing from packing


class CodecError(ValueError):
    """Not plain data, or beyond the bounds."""


def check_plain(value: object, what: str = "value") -> None:
    """Refuse what cannot cross.

    Raises:
        CodecError: A type that is not one of the exact builtin ones, too deep, or an int that is too large.
    """
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        kind = type(item)
        if kind in _ATOMS:
            if kind is int and item.bit_length() > MAX_INT_BITS:
                raise CodecError(
                    f"{what} holds an int of {item.bit_length()} bits; at most {MAX_INT_BITS} can cross"
                )
            continue
        if depth >= MAX_DEPTH:
            raise CodecError(f"{what} is nested deeper than {MAX_DEPTH}")
        if kind in _SEQUENCES:
            stack.extend([(x, depth + 1) for x in item])
        elif kind is dict:
            stack.extend([(x, depth + 1) for x in item])
            stack.extend([(x, depth + 1) for x in item.values()])
        else:
            raise CodecError(f"{what} holds a {kind.__name__}, which is not plain data")


def pack_arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> bytes:
    """Arguments of one call for a solution's process; they must have been checked.

    Raises:
        CodecError: Larger than `MAX_ARGUMENT_BYTES`.
    """
    # Version 2 writes no back references, so the solution's copy shares nothing within itself either.
    data = marshal.dumps((args, kwargs or {}), 2)
    if len(data) > MAX_ARGUMENT_BYTES:
        raise CodecError(f"arguments take {len(data)} bytes; at most {MAX_ARGUMENT_BYTES} can cross")
    return data


def encode(value: object) -> bytes:
    """The value's wire form.

    Raises:
        CodecError: Not plain data, or beyond depth, int or size bounds.
    """
    out: list[bytes] = []
    _encode(value, out, [MAX_BYTES], MAX_DEPTH)
    return b"".join(out)


def _encode(value: Any, out: list[bytes], room: list[int], depth: int) -> None:
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
        _encode_container(value, kind, out, room, depth)
        return
    room[0] -= len(piece)
    if room[0] < 0:
        raise CodecError(f"value takes more than {MAX_BYTES} bytes")
    out.append(piece)


def _encode_int(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return b"i" + _I64.pack(value)
    bits = value.bit_length()
    if bits > MAX_INT_BITS:
        raise CodecError(f"int of {bits} bits; at most {MAX_INT_BITS} can cross")
    size = bits // 8 + 1
    return b"I" + _U32.pack(size) + value.to_bytes(size, "little", signed=True)


def _encode_container(value: Any, kind: type, out: list[bytes], room: list[int], depth: int) -> None:
    if depth <= 0:
        raise CodecError(f"value is nested deeper than {MAX_DEPTH}")
    if kind not in _SEQUENCES and kind is not dict:
        raise CodecError(f"{kind.__name__} is not plain data")
    count = len(value)
    room[0] -= 5
    if room[0] < count:  # every item takes a byte at least
        raise CodecError(f"value takes more than {MAX_BYTES} bytes")
    if kind is dict:
        out.append(b"d" + _U32.pack(count))
        for key, item in list(value.items()):
            _encode(key, out, room, depth - 1)
            _encode(item, out, room, depth - 1)
        return
    if count >= _SHORT and (kind is list or kind is tuple):
        packed = _encode_packed(value, kind, count)
        if packed is not None:
            room[0] -= len(packed)
            if room[0] < 0:
                raise CodecError(f"value takes more than {MAX_BYTES} bytes")
            out.append(packed)
            return
    out.append(_SEQUENCES[kind] + _U32.pack(count))
    for item in list(value):
        _encode(item, out, room, depth - 1)


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


def decode(data: bytes, max_hashed: int | None = None) -> Any:
    """The value of a wire form from an untrusted sender.

    Args:
        data: Wire form, whole.
        max_hashed: Largest number of items a set or dict may have. A caller that must not hang gives one:
            ints that share a hash make building a large set quadratic.

    Raises:
        CodecError: Malformed, beyond the bounds, or with bytes left over.
    """
    if len(data) > MAX_BYTES:
        raise CodecError(f"value takes {len(data)} bytes; at most {MAX_BYTES} can cross")
    try:
        value, end = _decode(data, 0, MAX_DEPTH, max_hashed)
    except CodecError:
        raise
    except (struct.error, IndexError, UnicodeDecodeError, TypeError, MemoryError) as error:
        raise CodecError(f"malformed value ({type(error).__name__})") from None
    if end != len(data):
        raise CodecError("malformed value (bytes left over)")
    return value


def _decode(data: bytes, at: int, depth: int, max_hashed: int | None) -> tuple[Any, int]:
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
    return _decode_container(data, at, tag, count, depth, max_hashed)


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
    data: bytes, at: int, tag: int, count: int, depth: int, max_hashed: int | None
) -> tuple[Any, int]:
    if depth <= 0:
        raise CodecError(f"value is nested deeper than {MAX_DEPTH}")
    hashed = tag == 101 or tag == 122 or tag == 100
    if hashed and max_hashed is not None and count > max_hashed:
        raise CodecError(f"a set or dict of {count} items where {max_hashed} are the most expected")
    if tag == 100:  # d
        result: dict[Any, Any] = {}
        for _ in range(count):
            key, at = _decode(data, at, depth - 1, max_hashed)
            result[key], at = _decode(data, at, depth - 1, max_hashed)
        return result, at
    make = _MAKE.get(tag)
    if make is None:
        raise CodecError("malformed value (unknown tag)")
    items = []
    for _ in range(count):
        item, at = _decode(data, at, depth - 1, max_hashed)
        items.append(item)
    return (items if make is list else make(items)), at
