"""A made-up policy and verifier: what they give depends on the seed and the prefix alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment.search.lockstep import Candidate, Request
from alignment.search.tree import Step

END = 0


def sample(requests: Sequence[Request]) -> list[list[Step]]:
    """Steps of one to three tokens of an alphabet of 5; an answer ends by chance, or when it has to."""
    return [_children(request) for request in requests]


def _children(request: Request) -> list[Step]:
    rng = np.random.default_rng(request.seed)
    steps = []
    for _ in range(request.breadth):
        tokens = tuple(int(token) for token in rng.integers(1, 6, rng.integers(1, 4)))
        ends = bool(request.last or rng.random() < 0.25)
        logp = float(-rng.exponential() * len(tokens))
        text = "".join("abcde"[token - 1] for token in tokens)
        steps.append(Step((*tokens, END) if ends else tokens, logp, text, terminal=ends))
    return steps


def value(candidate: Candidate) -> float:
    """Outcome +-1 by the parity of all tokens where the answer ends, plus a confidence from the text."""
    everything = candidate.prefix + candidate.step.tokens
    outcome = 0.0 if not candidate.step.terminal else (1.0 if sum(everything) % 2 else -1.0)
    return outcome + (hash_of(candidate.text + candidate.step.text) % 97) / 97


def hash_of(text: str) -> int:
    """The same in every process, unlike hash()."""
    number = 7
    for letter in text:
        number = (number * 31 + ord(letter)) % 1_000_003
    return number


def evaluate(candidates: Sequence[Candidate]) -> list[float | None]:
    return [value(candidate) for candidate in candidates]
