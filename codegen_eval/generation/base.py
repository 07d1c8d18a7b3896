"""What a generation backend is, and the settings that all of them understand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from codegen_eval.registry import Registry


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


Batch = tuple[int, Sequence[Request]]
Drawn = tuple[int, list[list[str]]]


class Generator(Protocol):
    """Draws completions for a batch of requests."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
        """For each request its completions, in order, cut at the end token or a stop text."""
        ...


class Backend(Protocol):
    """Draws numbered batches, several at a time where that is faster.

    Attributes:
        single: A batch should be one sample: nothing is gained by larger ones, and each is safe once drawn.
    """

    single: bool

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        """Yields `(number, completions of its requests)` for every batch, in any order.

        An error comes only after all that was drawn has been yielded.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a backend is told; which of it a backend reads is in its own page.

    Attributes:
        model: Folder, hub id, or the name that a server knows.
        chat: Prompts are messages of a user, put in the model's chat template.
        dtype: Of the weights, for backends that load them.
        device: Torch device.
        workers: Processes.
        engine: Arguments of an engine, as vLLM's.
        base_url: Of a server.
        api_key_env: Name of the environment variable that holds the server's key; its value is never stored.
        concurrency: Requests at a time.
        timeout: Seconds in which a request must be answered.
        retries: Further attempts of a request that failed for a reason that may pass.
        body: Further fields of a request; null takes a field out.
    """

    model: str
    chat: bool = False
    dtype: str = "auto"
    device: str | None = None
    workers: int | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    timeout: float = 600.0
    retries: int = 8
    body: Mapping[str, Any] = field(default_factory=dict)


# A backend is opened before the run directory is: cheap, with an error for what cannot work.
GENERATORS: Registry[Callable[[BackendOptions], Backend]] = Registry(
    "generation backend", "codealign.generators", package="codegen_eval.generation"
)
