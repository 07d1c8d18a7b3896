"""Orders and answers as JSON, for what others read and what is kept: HTTP, caches.

Driven by the dataclasses themselves: a field or a kind of test that is added there is known here. Values
(arguments, expected answers) keep their exact type in the bounded codec, as `{"$codec": base64}`, since JSON
has no tuples, sets, bytes or NaN; plain JSON is taken as well where a value is expected, for requests written
by hand. Decoding is strict: an unknown key, a wrong type or a second value for a key is an error that names
the place. Nothing is pickled.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from .. import codec
from ..matrix import MatrixJob, PassMatrix
from ..program import Program, Test
from ..timing import Timing, TimingJob
from ..verdict import InfraError, Result, SandboxError
from .orders import Answer, Execution, Order, Script

VERSION = 1
_Class = TypeVar("_Class")

KINDS: dict[str, type] = {"program": Program, "matrix": MatrixJob, "timing": TimingJob, "script": Script}
ANSWERS: dict[str, type] = {"result": Result, "infra_error": InfraError, "execution": Execution}


class WireError(SandboxError, ValueError):
    """Not what was agreed; the text says where and what."""


def dumps(data: Any) -> bytes:
    """JSON bytes; lone surrogates are escaped, NaN is refused."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")


def loads(data: bytes | str) -> Any:
    """Data of JSON text from anybody.

    Raises:
        WireError: Malformed, nested too deep, or a key given twice.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise WireError("JSON is nested too deep") from None
    except json.JSONDecodeError as error:
        raise WireError(f"malformed JSON at line {error.lineno} column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise WireError(f"JSON is not UTF-8 at byte {error.start}") from None
    except WireError:
        raise
    except ValueError as error:  # an int of more digits than Python reads
        raise WireError(f"malformed JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise WireError(f"malformed JSON: key {twice!r} is given twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise WireError(f"malformed JSON: {name} is not JSON; give such a value as {{'$codec': ...}}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.init)


@cache
def kinds_of_test() -> dict[str, type]:
    """Kinds of tests by the name they have here: `CallTest` is `call`."""
    members = get_args(Test) or (Test,)
    return {member.__name__.removesuffix("Test").lower(): member for member in members}


def pack(value: Any) -> dict[str, str]:
    """A value in its exact type.

    Raises:
        CodecError: No plain data, or beyond the codec's bounds.
    """
    return {"$codec": base64.b64encode(codec.encode(value, limit=codec.MAX_ARGUMENT_BYTES)).decode("ascii")}


def unpack(data: Any, place: str) -> Any:
    """A value from `pack`, or plain JSON as it stands."""
    if isinstance(data, dict) and set(data) == {"$codec"}:
        try:
            return codec.decode(_bytes(data["$codec"], place), limit=codec.MAX_ARGUMENT_BYTES)
        except codec.CodecError as error:
            raise WireError(f"{place}: {error}") from None
    try:
        codec.check_plain(data, place)
    except codec.CodecError as error:
        raise WireError(str(error)) from None
    return data


def to_json(value: Any) -> Any:
    """Plain data for JSON of one of our dataclasses, or of what their fields hold."""
    if (
        value is None
        or isinstance(value, bool | str | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, PassMatrix):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [to_json(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no form for the wire")


def _object(value: Any) -> dict[str, Any]:
    kind = type(value)
    hints = _hints(kind)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    if kind in kinds_of_test().values():
        found["kind"] = kind.__name__.removesuffix("Test").lower()
    for field in fields(kind):
        item = getattr(value, field.name)
        if not field.init or _is_default(field, item):
            continue
        if _is_value(hints[field.name]):
            found[field.name] = pack(item)
        elif _holds_values(hints[field.name]):
            found[field.name] = [pack(part) for part in item]
        else:
            found[field.name] = to_json(item)
    return found


def _is_default(field: Field[Any], item: Any) -> bool:
    if field.default_factory is not MISSING:
        return bool(item == field.default_factory())
    return field.default is not MISSING and item is field.default


def _is_value(hint: Any) -> bool:
    if get_origin(hint) is AbstractMapping:
        return get_args(hint) == (str, Any)
    return hint is Any or (get_origin(hint) is tuple and get_args(hint) == (Any, ...))


def _holds_values(hint: Any) -> bool:
    return get_origin(hint) is AbstractSequence and _is_value(get_args(hint)[0])


def from_json(wanted: type[_Class], data: Any, place: str = "") -> _Class:
    """One of our dataclasses from JSON data of anybody.

    Raises:
        WireError: It says where and what.
    """
    kind: Any = wanted
    place = place or wanted.__name__.lower()
    if not isinstance(data, dict):
        raise WireError(f"{place}: expected an object, found {_kind_of(data)}")
    known = _names(kind)
    check_keys(data, known, place)
    missing = [
        f.name
        for f in fields(kind)
        if f.name not in data and f.init and f.default is f.default_factory is MISSING
    ]
    if missing:
        raise WireError(f"{place}: {missing[0]!r} is missing")
    hints = _hints(kind)
    values = {key: _read(hints[key], item, f"{place}.{key}") for key, item in data.items()}
    try:
        return wanted(**values)
    except (ValueError, TypeError) as error:
        raise WireError(f"{place}: {error}") from None


def check_keys(data: Iterable[str], known: Sequence[str], place: str) -> None:
    """Refuse unknown keys.

    Raises:
        WireError: It names the nearest known one.
    """
    for key in data:
        if key not in known:
            raise WireError(f"{place}: unknown key {key!r}{_nearest(key, known)}")


def _nearest(key: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"


def _kind_of(data: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(data), "a number")


def _bytes(data: Any, place: str) -> bytes:
    if not isinstance(data, str):
        raise WireError(f"{place}: expected base64 text, found {_kind_of(data)}")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise WireError(f"{place}: not base64") from None


_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    type(None): ((type(None),), "null"),
}


def _read(hint: Any, data: Any, place: str) -> Any:
    """Data as the type hint of its field wants it."""
    if _is_value(hint):
        return _read_value(hint, data, place)
    if hint in _PLAIN:
        wanted, name = _PLAIN[hint]
        if not isinstance(data, wanted) or (isinstance(data, bool) and hint is not bool):
            raise WireError(f"{place}: expected {name}, found {_kind_of(data)}")
        return data
    if hint is bytes:
        if not isinstance(data, dict) or set(data) != {"$base64"}:
            raise WireError(f"{place}: expected {{'$base64': ...}}, found {_kind_of(data)}")
        return _bytes(data["$base64"], place)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(data)
        except ValueError:
            raise WireError(f"{place}: {data!r} is none of {', '.join(str(m.value) for m in hint)}") from None
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, data, place)
    return _read_made(hint, data, place)


def _read_value(hint: Any, data: Any, place: str) -> Any:
    value = unpack(data, place)
    if hint is Any:
        return value
    if get_origin(hint) is AbstractMapping:
        if type(value) is dict:
            return value
        raise WireError(f"{place}: expected an object of named arguments, found {_kind_of(data)}")
    if type(value) in (list, tuple):
        return tuple(value)
    raise WireError(f"{place}: expected a list of arguments, found {_kind_of(data)}")


def _read_made(hint: Any, data: Any, place: str) -> Any:
    """As `_read`, for types that are made of others."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        if data not in parts:
            raise WireError(f"{place}: {data!r} is none of {', '.join(map(repr, parts))}")
        return data
    if origin in (Union, types.UnionType):
        if set(parts) == set(kinds_of_test().values()):
            return _read_test(data, place)
        if data is None and type(None) in parts:
            return None
        return _read_any([part for part in parts if part is not type(None)], data, place)
    if origin in (tuple, list, AbstractSequence):
        if not isinstance(data, list):
            raise WireError(f"{place}: expected a list, found {_kind_of(data)}")
        if origin is tuple and not (len(parts) == 2 and parts[1] is ...):
            if len(data) != len(parts):
                raise WireError(f"{place}: expected {len(parts)} items, found {len(data)}")
            return tuple(
                _read(part, x, f"{place}[{i}]") for i, (part, x) in enumerate(zip(parts, data, strict=True))
            )
        found = [_read(parts[0], item, f"{place}[{i}]") for i, item in enumerate(data)]
        return tuple(found) if origin is tuple else found
    raise TypeError(f"{place}: type {hint} has no form for the wire")


def _read_any(hints: Sequence[Any], data: Any, place: str) -> Any:
    for hint in hints[:-1]:
        try:
            return _read(hint, data, place)
        except WireError:
            continue
    return _read(hints[-1], data, place)


def _read_test(data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise WireError(f"{place}: expected an object, found {_kind_of(data)}")
    kinds = kinds_of_test()
    kind = data.get(
        "kind", next((name for name, test in kinds.items() if set(data) <= set(_names(test))), None)
    )
    if not isinstance(kind, str) or kind not in kinds:
        raise WireError(f"{place}.kind: {kind!r} is no kind of test{_nearest(str(kind), kinds)}")
    rest = {key: item for key, item in data.items() if key != "kind"}
    return from_json(kinds[kind], rest, place)


def _kind(data: Any) -> str:
    kind = data.get("kind") if isinstance(data, dict) else None
    return kind if isinstance(kind, str) else ""


def order_to_json(order: Order) -> dict[str, Any]:
    """An order with its kind."""
    kind = next(name for name, found in KINDS.items() if type(order.work) is found)
    found = {"kind": kind, kind: to_json(order.work)}
    return {**found, "all_tests": True} if order.all_tests else found


def order_from_json(data: Any, place: str = "order") -> Order:
    """The order that `order_to_json` wrote.

    Raises:
        WireError: It is none.
    """
    kind = _kind(data)
    if kind not in KINDS or set(data) - {"kind", kind, "all_tests"} or kind not in data:
        raise WireError(f"{place}: expected a kind of {', '.join(KINDS)} and the work under that name")
    all_tests = _read(bool, data.get("all_tests", False), f"{place}.all_tests")
    return Order(from_json(KINDS[kind], data[kind], f"{place}.{kind}"), all_tests)


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """An answer with its kind."""
    if isinstance(answer, PassMatrix):
        return {"kind": "matrix", "matrix": answer.to_json()}
    if isinstance(answer, Timing):
        return {"kind": "timing", "timing": {name: _array(getattr(answer, name)) for name in _names(Timing)}}
    kind = next(name for name, found in ANSWERS.items() if type(answer) is found)
    return {"kind": kind, kind: to_json(answer)}


def answer_from_json(data: Any, place: str = "answer") -> Answer:
    """The answer that `answer_to_json` wrote.

    Raises:
        WireError: It is none.
    """
    kind = _kind(data)
    try:
        if kind == "matrix":
            return PassMatrix.from_json(data["matrix"])
        if kind == "timing":
            return _timing(data["timing"], f"{place}.timing")
        if kind in ANSWERS:
            found: Answer = from_json(ANSWERS[kind], data[kind], f"{place}.{kind}")
            return found
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"{place}: {error}") from None
    raise WireError(f"{place}: {kind!r} is no kind of answer")


def _array(value: Any) -> Any:
    """Arrays as nested lists in their exact floats; the rest as it is."""
    return pack(value.tolist() if isinstance(value, np.ndarray) else value)


def _timing(data: Any, place: str) -> Timing:
    check_keys(data, _names(Timing), place)
    parts = {name: unpack(item, f"{place}.{name}") for name, item in data.items()}
    for name in ("seconds", "median", "relative", "rounds", "spread", "instructions"):
        if parts[name] is not None:
            parts[name] = np.asarray(parts[name], np.float64)
    parts["repeats"] = np.asarray(parts["repeats"], np.int64)
    return Timing(**parts)


def envelope(name: str, items: Iterable[Any]) -> bytes:
    """Many orders or answers as one message."""
    return dumps({"version": VERSION, name: list(items)})


def open_envelope(data: bytes, name: str) -> list[Any]:
    """The items of a message.

    Raises:
        WireError: It is of another version, or no such message.
    """
    found = loads(data)
    if not isinstance(found, dict) or not isinstance(found.get(name), list):
        raise WireError(f"expected an object with a list {name!r}")
    check_version(found)
    return list(found[name])


def check_version(data: Mapping[str, Any]) -> None:
    """Refuse another version than ours; requests written by hand may leave it out.

    Raises:
        WireError: It is another one.
    """
    version = data.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise WireError(f"version {version!r} is not spoken here; this is version {VERSION}")
