"""Token choice against enumeration, and randomness that belongs to the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codegen_eval.generation.base import Sampling
from codegen_eval.generation.sampling import choose_tokens, sample_generator
from codegen_eval.records import cut_at_stop


def draw(logits: list[float], temperature: float, top_p: float = 1.0, count: int = 20_000) -> np.ndarray:
    uniforms = torch.linspace(0, 1, count + 1, dtype=torch.float64)[:-1]
    chosen = choose_tokens(torch.tensor([logits]).expand(count, -1), uniforms, temperature, top_p)
    return np.bincount(chosen.numpy(), minlength=len(logits)) / count


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_frequencies_are_the_tempered_softmax(temperature: float) -> None:
    logits = [1.0, -0.5, 2.0, 0.0]
    expected = torch.softmax(torch.tensor(logits).double() / temperature, 0).numpy()
    assert draw(logits, temperature) == pytest.approx(expected, abs=2e-4)


def test_temperature_zero_takes_the_most_likely_token_and_the_first_of_equals() -> None:
    assert choose_tokens(torch.tensor([[0.0, 3.0, 3.0]]), torch.empty(0), 0, 1.0).tolist() == [1]


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert draw(logits, 1.0, 0.75) == pytest.approx([0.625, 0.375, 0, 0], abs=2e-4)
    assert draw(logits, 1.0, 0.5) == pytest.approx([1, 0, 0, 0])


def test_a_token_without_probability_is_never_drawn_even_at_the_end_of_the_interval() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    last = torch.tensor([1 - 1e-16], dtype=torch.float64)
    assert choose_tokens(logits, last, 1.0, 1.0).tolist() == [1]


def test_samples_have_random_numbers_of_their_own() -> None:
    first = sample_generator(0, "task", 0).random(4)
    assert (first == sample_generator(0, "task", 0).random(4)).all()
    for other in (
        sample_generator(1, "task", 0),
        sample_generator(0, "task2", 0),
        sample_generator(0, "task", 1),
    ):
        assert (first != other.random(4)).all()


def test_text_is_cut_at_the_earliest_stop() -> None:
    assert cut_at_stop("a\nclass B\ndef c", ("\ndef ", "\nclass ")) == "a"
    assert cut_at_stop("whole", ("\ndef ",)) == "whole"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("max_new_tokens", 0),
    ],
)
def test_settings_that_mean_nothing_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Sampling(**{field: value})
