"""Declared types beyond plain data, and how each is taken apart for the wire and put together again.

| type | equal as |
|---|---|
| Counter, defaultdict, OrderedDict, deque, bytearray, range, slice, dict views | themselves |
| Decimal, Fraction, date, time, datetime, timedelta, timezone | themselves |
| numpy arrays and scalars of bool, int, float, complex, bytes, text, datetime64, timedelta64 | `judges.py` |
| dataclass, namedtuple, enum member, exception, iterator | `values.py` |

Exact types, as for plain data. A value is taken apart in the untrusted process; what a builder gets there is
plain data (or built values) of any content, so it checks types and bounds before it makes anything. Modules
that not every program uses are loaded when a value of theirs comes.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

from .codec import MAX_BYTES, MAX_INT_BITS, CodecError
from .values import Drained, EnumValue, ErrorValue, NamedRecord, Record

MAX_ITEMS = 10_000  # of a drained iterator
MAX_FIELDS = 1_000
MAX_NAME = 200
MAX_TEXT = 2_000
MAX_DIGITS = 30_000
MAX_EXPONENT = 100_000
MAX_FRACTION_BITS = 10_000  # its greatest common divisor takes time of the square

Parts: TypeAlias = tuple[bytes, tuple[Any, ...]]

_FACTORIES = {kind.__name__: kind for kind in (int, float, str, bool, list, tuple, dict, set)}
_DECIMAL = re.compile(r"-?(?:\d+(?:\.\d+)?(?:E[+-]?\d{1,6})?|s?NaN\d*|Infinity)", re.ASCII)
_DTYPE = re.compile(
    r"[<>|](?:b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[SU]\d{1,7}"
    r"|[mM]8(?:\[(?:[1-9]\d{0,3})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)",
    re.ASCII,
)


# Taking apart: in the process of whoever holds the value.


def reduce(value: Any, kind: type) -> Parts:
    """Code and fields of a value of a declared type.

    Raises:
        CodecError: The type is not declared, or the value is beyond its bounds.
    """
    parts = by_value(value, kind) or _by_shape(value, kind)
    if parts is None:
        raise CodecError(f"{kind.__name__} is not plain data")
    return parts


def by_value(value: Any, kind: type) -> Parts | None:
    """Parts of a value that is data in every place; None when it is an object that could act."""
    found = _REDUCE.get(kind)
    if found is None:
        found = _late(kind)
    return None if found is None else found(value)


def _late(kind: type) -> Callable[[Any], Parts] | None:
    """The way of a type whose module was not loaded when this one was."""
    home = kind.__module__ if type(kind.__module__) is str else ""
    module = sys.modules.get(home)
    if home == "numpy" and module is not None:
        if kind is module.ndarray:
            return _array
        return _scalar if issubclass(kind, module.generic) else None
    found = _LATE.get((home, kind.__name__))
    if found is not None and getattr(module, kind.__name__, None) is kind:
        return found
    if issubclass(kind, tuple) and type(getattr(kind, "_fields", None)) is tuple:
        return _named_tuple
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum) and issubclass(kind, (int, str, float, bytes)):
        return _enum
    return None


def _by_shape(value: Any, kind: type) -> Parts | None:
    """Objects that cross as what they hold where there is no other way (answers to a `CallTest`)."""
    if hasattr(kind, "__dataclass_fields__"):
        return _record(value)
    if issubclass(kind, BaseException):
        return _error(value)
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return _enum(value)
    if hasattr(kind, "__next__"):
        items = list(islice(value, MAX_ITEMS))
        complete = len(items) < MAX_ITEMS or next(value, _END) is _END
        return b"I", (items, complete)
    return None


_END = object()


def _record(value: Any) -> Parts:
    from dataclasses import fields

    names = [field.name for field in fields(value) if field.compare]
    return _fields(b"R", type(value).__name__, {name: getattr(value, name) for name in names})


def _named_tuple(value: Any) -> Parts:
    items = tuple.__iter__(value)
    return _fields(b"N", type(value).__name__, dict(zip(type(value)._fields, items, strict=True)))


def _fields(code: bytes, type_name: str, fields: dict[str, Any]) -> Parts:
    if len(fields) > MAX_FIELDS:
        raise CodecError(f"{type_name} has {len(fields)} fields; at most {MAX_FIELDS} can cross")
    return code, (type_name, tuple(fields), tuple(fields.values()))


def _enum(value: Any) -> Parts:
    kind = type(value)
    plain = next((base for base in (int, str, float, bytes) if issubclass(kind, base)), None)
    inner = value._value_ if plain is None else plain(value._value_)
    return b"E", (kind.__name__, str(value._name_), inner, plain is not None)


def _error(value: BaseException) -> Parts:
    try:
        text = str(value)[:MAX_TEXT]
    except Exception:
        text = ""
    return b"X", (type(value).__name__, value.args, text)


def _decimal(value: Any) -> Parts:
    _, digits, exponent = value.as_tuple()
    if len(digits) > MAX_DIGITS or (type(exponent) is int and abs(exponent) + len(digits) > MAX_EXPONENT):
        raise CodecError(f"Decimal beyond {MAX_DIGITS} digits or an exponent of {MAX_EXPONENT}")
    return b"d", (str(value),)


def _fraction(value: Any) -> Parts:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_FRACTION_BITS:
        raise CodecError(f"Fraction of more than {MAX_FRACTION_BITS} bits")
    return b"f", (value.numerator, value.denominator)


def _zone(zone: Any) -> Any:
    """A fixed offset; other zones are tables of rules and do not cross."""
    if zone is not None and type(zone) is not sys.modules["datetime"].timezone:
        raise CodecError(f"time zone of type {type(zone).__name__}; only datetime.timezone can cross")
    return zone


def _datetime(v: Any) -> Parts:
    fields = (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.fold, _zone(v.tzinfo))
    return b"T", fields


def _time(v: Any) -> Parts:
    return b"U", (v.hour, v.minute, v.second, v.microsecond, v.fold, _zone(v.tzinfo))


def _array(value: Any) -> Parts:
    return b"n", (_dtype(value), value.shape, value.tobytes())


def _scalar(value: Any) -> Parts:
    return b"g", (_dtype(value), value.tobytes())


def _dtype(value: Any) -> str:
    name = str(value.dtype.str)
    if not _DTYPE.fullmatch(name):
        raise CodecError(f"numpy data of type {value.dtype} are not plain data")
    if value.nbytes > MAX_BYTES:
        raise CodecError(f"numpy data of {value.nbytes} bytes; at most {MAX_BYTES} can cross")
    return name


def _factory(value: Any) -> str | None:
    factory = value.default_factory
    known = isinstance(factory, type) and _FACTORIES.get(factory.__name__) is factory
    return factory.__name__ if known else None


def _plain_dict(value: Any) -> dict[Any, Any]:
    return {key: value[key] for key in list(value)}


_REDUCE: dict[type, Callable[[Any], Parts]] = {
    Counter: lambda v: (b"C", (_plain_dict(v),)),
    defaultdict: lambda v: (b"D", (_factory(v), _plain_dict(v))),
    OrderedDict: lambda v: (b"O", (_plain_dict(v),)),
    deque: lambda v: (b"q", (list(v), v.maxlen)),
    bytearray: lambda v: (b"b", (bytes(v),)),
    range: lambda v: (b"r", (v.start, v.stop, v.step)),
    slice: lambda v: (b"s", (v.start, v.stop, v.step)),
    type({}.keys()): lambda v: (b"k", (dict.fromkeys(v),)),
    type({}.values()): lambda v: (b"v", (list(v),)),
    type({}.items()): lambda v: (b"i", (dict(v),)),
    Record: lambda v: _fields(b"R", v.type_name, v.fields),
    NamedRecord: lambda v: _fields(b"N", v.type_name, dict(zip(v._fields, v, strict=True))),
    EnumValue: lambda v: (b"E", (v.type_name, v.name, v.value, v.plain)),
    ErrorValue: lambda v: (b"X", (v.type_name, v.args, v.text)),
    Drained: lambda v: (b"I", (v.items, v.complete)),
}
_LATE: dict[tuple[str, str], Callable[[Any], Parts]] = {
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): _fraction,
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): lambda v: (b"A", (v.year, v.month, v.day)),
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): lambda v: (b"S", (v.days, v.seconds, v.microseconds)),
    ("datetime", "timezone"): lambda v: (b"Z", (v.utcoffset(None), v.tzname(None))),
}


# Putting together: in the process that must be protected.


def build(code: int, fields: list[Any]) -> Any:
    """The value of a code and fields from an untrusted sender.

    Raises:
        CodecError: Unknown code, wrong fields, or beyond the bounds.
        ValueError, TypeError, ArithmeticError: As the type's own constructor says.
    """
    found = _BUILD.get(code)
    if found is None:
        raise CodecError("malformed value (unknown type)")
    maker, kinds = found
    if len(fields) != len(kinds) or not all(map(_fits, fields, kinds)):
        raise CodecError("malformed value (wrong fields)")
    return maker(*fields)


def _fits(field: Any, kinds: tuple[type, ...]) -> bool:
    return not kinds or type(field) in kinds


def _refuse_unless(good: bool) -> None:
    if not good:
        raise CodecError("malformed value (beyond its bounds)")


def _make_decimal(text: str) -> Any:
    from decimal import Decimal

    _refuse_unless(len(text) <= MAX_DIGITS + 20 and _DECIMAL.fullmatch(text) is not None)
    made = Decimal(text)
    _refuse_unless(not made.is_finite() or abs(made.adjusted()) <= MAX_EXPONENT)
    return made


def _make_fraction(numerator: int, denominator: int) -> Any:
    from fractions import Fraction

    _refuse_unless(max(numerator.bit_length(), denominator.bit_length()) <= MAX_FRACTION_BITS)
    return Fraction(numerator, denominator)


def _check_zone(zone: Any) -> Any:
    from datetime import timezone

    _refuse_unless(zone is None or type(zone) is timezone)
    return zone


def _make_datetime(*fields: Any) -> Any:
    from datetime import datetime

    *numbers, fold, zone = fields
    made: Any = datetime
    return made(*numbers, tzinfo=_check_zone(zone), fold=fold)


def _make_date(year: int, month: int, day: int) -> Any:
    from datetime import date

    return date(year, month, day)


def _make_time(*fields: Any) -> Any:
    from datetime import time

    *numbers, fold, zone = fields
    made: Any = time
    return made(*numbers, tzinfo=_check_zone(zone), fold=fold)


def _make_timedelta(days: int, seconds: int, microseconds: int) -> Any:
    from datetime import timedelta

    return timedelta(days, seconds, microseconds)


def _make_timezone(offset: Any, name: str) -> Any:
    from datetime import timedelta, timezone

    _refuse_unless(type(offset) is timedelta and len(name) <= MAX_NAME)
    plain = timezone(offset)
    return plain if plain.tzname(None) == name else timezone(offset, name)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise CodecError("numpy is not in this box; Sandbox(libraries=('numpy',)) lets it in") from None
    return numpy


def _make_array(dtype: str, shape: tuple[Any, ...], data: bytes) -> Any:
    _refuse_unless(len(dtype) < 40 and _DTYPE.fullmatch(dtype) is not None)
    _refuse_unless(len(shape) <= 32 and all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape))
    numpy = _numpy()
    kind = numpy.dtype(dtype)
    count = 1
    for size in shape:
        count *= size
    _refuse_unless(kind.itemsize > 0 and count * kind.itemsize == len(data))
    made = numpy.ndarray(shape, kind, data).copy()
    if kind.kind == "b":  # other bytes are no truth values
        _refuse_unless(count == 0 or int(made.reshape(-1).view(numpy.uint8).max()) <= 1)
    elif kind.kind == "U":
        codes = numpy.frombuffer(data, kind.str[0] + "u4")
        _refuse_unless(count == 0 or int(codes.max()) <= sys.maxunicode)
    return made


def _make_scalar(dtype: str, data: bytes) -> Any:
    return _make_array(dtype, (1,), data)[0]


def _make_fields(kind: Any, type_name: str, names: tuple[Any, ...], items: tuple[Any, ...]) -> Any:
    _refuse_unless(len(type_name) <= MAX_NAME and len(names) <= MAX_FIELDS and len(names) == len(items))
    _refuse_unless(all(type(name) is str and len(name) <= MAX_NAME for name in names))
    fields = dict(zip(names, items, strict=True))
    _refuse_unless(len(fields) == len(items))
    return kind(type_name, fields)


def _make_enum(type_name: str, name: str, value: Any, plain: bool) -> EnumValue:
    _refuse_unless(len(type_name) <= MAX_NAME and len(name) <= MAX_NAME)
    _refuse_unless(not plain or type(value) in (int, str, float, bytes))
    return EnumValue(type_name, name, value, plain)


def _make_error(type_name: str, args: tuple[Any, ...], text: str) -> ErrorValue:
    _refuse_unless(len(type_name) <= MAX_NAME and len(text) <= MAX_TEXT)
    return ErrorValue(type_name, args, text)


def _make_drained(items: list[Any], complete: bool) -> Drained:
    _refuse_unless(len(items) <= MAX_ITEMS)
    return Drained(items, complete)


def _make_range(start: int, stop: int, step: int) -> range:
    _refuse_unless(max(n.bit_length() for n in (start, stop, step)) <= MAX_INT_BITS)
    return range(start, stop, step)


def _make_deque(items: list[Any], maxlen: int | None) -> deque[Any]:
    _refuse_unless(maxlen is None or len(items) <= maxlen < 2**62)
    return deque(items, maxlen)


def _make_default(factory: str | None, items: dict[Any, Any]) -> defaultdict[Any, Any]:
    _refuse_unless(factory is None or factory in _FACTORIES)
    return defaultdict(_FACTORIES[factory] if factory else None, items)


_ANY: tuple[type, ...] = ()
_STR, _INT, _TUPLE, _LIST, _DICT, _BOOL = ((kind,) for kind in (str, int, tuple, list, dict, bool))
_NAMED = (_STR, _TUPLE, _TUPLE)
_BUILD: dict[int, tuple[Callable[..., Any], tuple[tuple[type, ...], ...]]] = {
    ord("C"): (Counter, (_DICT,)),
    ord("D"): (_make_default, ((str, type(None)), _DICT)),
    ord("O"): (OrderedDict, (_DICT,)),
    ord("q"): (_make_deque, (_LIST, (int, type(None)))),
    ord("b"): (bytearray, ((bytes,),)),
    ord("r"): (_make_range, (_INT, _INT, _INT)),
    ord("s"): (slice, (_ANY, _ANY, _ANY)),
    ord("k"): (dict.keys, (_DICT,)),
    ord("v"): (lambda items: dict(enumerate(items)).values(), (_LIST,)),
    ord("i"): (dict.items, (_DICT,)),
    ord("d"): (_make_decimal, (_STR,)),
    ord("f"): (_make_fraction, (_INT, _INT)),
    ord("T"): (_make_datetime, (_INT,) * 8 + (_ANY,)),
    ord("A"): (_make_date, (_INT,) * 3),
    ord("U"): (_make_time, (_INT,) * 5 + (_ANY,)),
    ord("S"): (_make_timedelta, (_INT,) * 3),
    ord("Z"): (_make_timezone, (_ANY, _STR)),
    ord("n"): (_make_array, (_STR, _TUPLE, (bytes,))),
    ord("g"): (_make_scalar, (_STR, (bytes,))),
    ord("R"): (lambda *fields: _make_fields(Record, *fields), _NAMED),
    ord("N"): (lambda *fields: _make_fields(NamedRecord, *fields), _NAMED),
    ord("E"): (_make_enum, (_STR, _STR, _ANY, _BOOL)),
    ord("X"): (_make_error, (_STR, _TUPLE, _STR)),
    ord("I"): (_make_drained, (_LIST, _BOOL)),
}
