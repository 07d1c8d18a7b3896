"""What a generation backend is, and the settings that all of them understand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is drawn.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        top_p: Nucleus: the smallest set of tokens whose probabilities sum to this.
        max_new_tokens: Where a completion ends at the latest.
        stop: Texts at which a completion is cut; they are not part of it.
        seed: Sample i of key k depends on (seed, k, i) and on nothing else that is drawn.
    """

    temperature: float = 0.8
    top_p: float = 1.0
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be 1 or more, got {self.max_new_tokens}")


@dataclass(frozen=True, slots=True)
class Request:
    """`count` completions of one prompt, numbered from `first`; `key` names it in the seeds."""

    key: str
    prompt: str
    count: int
    first: int = 0


class Generator(Protocol):
    """Draws completions for a batch of requests."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
        """For each request its completions, in order, cut at the end token or a stop text."""
        ...
