"""What objects of a program's own types become when they cross: small values with no code of the program.

They are made by the decoder from what a program sent, and by test authors who expect such a value. A real
dataclass instance, namedtuple, enum member, exception or iterator in a `CallTest` is turned into one of
these. The engine's own processes load this module, so it imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class Record:
    """A dataclass instance: the name of its type and its fields, which are attributes too.

    Equal to a record of the same type name and equal fields, as dataclasses are; fields declared with
    `compare=False` do not cross.
    """

    __slots__ = ("fields", "type_name")

    def __init__(self, type_name: str, fields: Mapping[str, Any]) -> None:
        self.type_name = type_name
        self.fields = dict(fields)

    def __getattr__(self, name: str) -> Any:
        # Slots that are not filled yet (copying) come here too.
        if name in Record.__slots__ or name not in self.fields:
            raise AttributeError(f"record has no field {name!r}")
        return self.fields[name]

    def __eq__(self, other: object) -> bool:
        if type(other) is not Record:
            return NotImplemented
        return self.type_name == other.type_name and self.fields == other.fields

    def __hash__(self) -> int:
        return hash((self.type_name, tuple(self.fields.items())))

    def __repr__(self) -> str:
        return f"{self.type_name}({', '.join(f'{k}={v!r}' for k, v in self.fields.items())})"


class NamedRecord(tuple[Any, ...]):
    """A namedtuple: equal to any tuple of equal items, as namedtuples are; its fields are attributes too."""

    type_name: str
    _fields: tuple[str, ...]

    def __new__(cls, type_name: str, fields: Mapping[str, Any]) -> NamedRecord:
        """A tuple of the fields' values."""
        made = super().__new__(cls, tuple(fields.values()))
        made.type_name = type_name
        made._fields = tuple(fields)
        return made

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("_fields", ())
        if name not in names:
            raise AttributeError(f"named tuple has no field {name!r}")
        return self[names.index(name)]

    def __getnewargs__(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.type_name, dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        pairs = zip(self._fields, self, strict=True)
        return f"{self.type_name}({', '.join(f'{k}={v!r}' for k, v in pairs)})"


class EnumValue:
    """An enum's member: equal to one of the same type name, name and value.

    Members of enums that are numbers or texts too (`IntEnum`, `StrEnum`) are also equal to their value, and
    ordered by it.
    """

    __slots__ = ("name", "plain", "type_name", "value")

    def __init__(self, type_name: str, name: str, value: Any, plain: bool = False) -> None:
        self.type_name = type_name
        self.name = name
        self.value = value
        self.plain = plain

    def __eq__(self, other: object) -> bool:
        if type(other) is EnumValue:
            mine, theirs = (self.type_name, self.name), (other.type_name, other.name)
            if self.plain and other.plain:  # as numbers and texts
                return bool(self.value == other.value)
            return mine == theirs and self.plain == other.plain and bool(self.value == other.value)
        return bool(self.value == other) if self.plain else NotImplemented

    def __hash__(self) -> int:
        return hash(self.value) if self.plain else hash((self.type_name, self.name))

    def _ordinal(self, other: object) -> Any:
        if not self.plain:
            raise TypeError(f"members of {self.type_name} have no order")
        return other.value if type(other) is EnumValue and other.plain else other

    def __lt__(self, other: object) -> bool:
        return bool(self.value < self._ordinal(other))

    def __le__(self, other: object) -> bool:
        return bool(self.value <= self._ordinal(other))

    def __gt__(self, other: object) -> bool:
        return bool(self.value > self._ordinal(other))

    def __ge__(self, other: object) -> bool:
        return bool(self.value >= self._ordinal(other))

    def __repr__(self) -> str:
        return f"<{self.type_name}.{self.name}: {self.value!r}>"


class ErrorValue:
    """An exception that was returned (not raised): equal to one of the same type name and arguments."""

    __slots__ = ("args", "text", "type_name")

    def __init__(self, type_name: str, args: tuple[Any, ...], text: str = "") -> None:
        self.type_name = type_name
        self.args = args
        self.text = text

    def __eq__(self, other: object) -> bool:
        if type(other) is not ErrorValue:
            return NotImplemented
        return self.type_name == other.type_name and self.args == other.args

    def __hash__(self) -> int:
        return hash((self.type_name, self.args))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{self.type_name}{self.args!r}"


class Drained:
    """What an iterator or generator gave, up to a bound; equal to one that gave the same items.

    Never equal to a list, as in Python. `complete` is False when there was more.
    """

    __slots__ = ("complete", "items")

    def __init__(self, items: Iterable[Any], complete: bool = True) -> None:
        self.items = list(items)
        self.complete = complete

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Drained:
            return NotImplemented
        return self.complete == other.complete and self.items == other.items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Drained({self.items!r}{'' if self.complete else ', complete=False'})"
