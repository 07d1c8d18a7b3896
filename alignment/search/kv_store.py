"""Keys and values of the tree's prefixes, so that a child computes nothing that its parent computed.

A segment holds what one node adds to its parent, all layers in one tensor; the way up gives the whole prefix.
Prefixes are found by their token ids: trees of one prompt share theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Prefix = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Segment:
    """Keys and values of the tokens [start, stop) of a prefix; `parent` holds those before.

    Attributes:
        parent: None where the segment starts at 0.
        start: First token.
        stop: Behind the last one.
        values: (2 x layers, heads, stop - start, head size); even rows are keys.
        children: Segments in the store that stand on this one.
    """

    parent: Segment | None
    start: int
    stop: int
    values: Tensor
    children: int = 0

    @property
    def bytes(self) -> int:
        """Size of the values."""
        return int(self.values.numel() * self.values.element_size())

    def copy_into(self, target: Tensor, stop: int) -> None:
        """Writes the values of the tokens [0, stop) to the end of `target`, (2 x layers, heads, slots, size).

        Args:
            target: Where they go; slots before them stay as they are.
            stop: At most this segment's own.
        """
        shift = target.shape[2] - stop
        part: Segment | None = self
        while part is not None:
            until = min(part.stop, stop)
            if until > part.start:
                target[:, :, part.start + shift : until + shift] = part.values[:, :, : until - part.start]
            part = part.parent


class KVStore:
    """Segments by prefix, at most `megabytes` of them; those unused for longest go first.

    Args:
        megabytes: Memory of the values; 0 keeps nothing.
    """

    def __init__(self, megabytes: float) -> None:
        self.limit = int(megabytes * 2**20)
        self.bytes = 0
        self._segments: OrderedDict[Prefix, Segment] = OrderedDict()

    def __len__(self) -> int:
        return len(self._segments)

    def find(self, prefix: Prefix) -> Segment | None:
        """The segment that ends a prefix; None where it is not, or no longer, there."""
        segment = self._segments.get(prefix)
        if segment is not None:
            self._segments.move_to_end(prefix)
        return segment

    def put(self, prefix: Prefix, parent: Segment | None, start: int, values: Tensor) -> Segment:
        """Keeps a prefix's segment and makes room for it; an older one of the same prefix stays."""
        known = self._segments.get(prefix)
        if known is not None:
            return known
        segment = Segment(parent, start, start + values.shape[2], values)
        self._segments[prefix] = segment
        self.bytes += segment.bytes
        if parent is not None:
            parent.children += 1
        return segment

    def shrink(self) -> None:
        """Drops segments until the limit holds: the oldest on which no other stands, again and again."""
        while self.bytes > self.limit:
            oldest = [prefix for prefix, segment in self._segments.items() if not segment.children]
            for prefix in oldest:
                if self.bytes <= self.limit:
                    return
                segment = self._segments.pop(prefix)
                self.bytes -= segment.bytes
                if segment.parent is not None:
                    segment.parent.children -= 1
