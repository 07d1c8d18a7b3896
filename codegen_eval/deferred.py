"""A sequence that is made when it is first read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Deferred(Sequence[T]):
    """A sequence of known length whose items cost too much to be made before anybody asks for one.

    Equal to the tuple of its items.

    Args:
        length: How many items there will be; it is told without making them.
        make: Makes them all, at the first use.
    """

    def __init__(self, length: int, make: Callable[[], tuple[T, ...]]) -> None:
        self._length = length
        self._make = make
        self._items: tuple[T, ...] | None = None

    def items(self) -> tuple[T, ...]:
        """All items.

        Raises:
            ValueError: There are more or fewer than was said.
        """
        if self._items is None:
            made = self._make()
            if len(made) != self._length:
                raise ValueError(f"{self._length} items were announced, {len(made)} were made")
            self._items = made
        return self._items

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[T, ...]: ...
    def __getitem__(self, at: int | slice) -> T | tuple[T, ...]:
        return self.items()[at]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items())

    def __eq__(self, other: object) -> bool:
        return self.items() == (other.items() if isinstance(other, Deferred) else other)

    def __hash__(self) -> int:
        return hash(self.items())

    def __repr__(self) -> str:
        return repr(self.items())
