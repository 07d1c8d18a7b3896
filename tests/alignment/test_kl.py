"""KL estimators: unbiased where they claim to be, prompt tokens never counted."""

from __future__ import annotations

import math

import pytest
import torch

from alignment.kl import entropy, exact_kl, kl_penalty, kl_sequences, kl_tokens
from codegen_eval.errors import CodealignError


def test_k1_and_k3_have_the_kl_as_their_mean_by_enumeration() -> None:
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    true = (policy * (policy / reference).log()).sum()
    for name in ("k1", "k3"):
        estimate = (policy * kl_tokens(policy.log(), reference.log(), name)).sum()
        torch.testing.assert_close(estimate, true)
    assert (kl_tokens(policy.log(), reference.log(), "k3") >= 0).all()
    assert (policy * kl_tokens(policy.log(), reference.log(), "k2")).sum() != pytest.approx(true.item())


def test_k3_keeps_its_digits_near_0() -> None:
    v = torch.tensor([1e-6], dtype=torch.float64)
    assert kl_tokens(v, torch.zeros_like(v), "k3").item() == pytest.approx(5e-13, rel=1e-4)


def test_masked_tokens_do_not_count_whatever_they_hold() -> None:
    logps = torch.tensor([[0.5, float("nan")]])
    mask = torch.tensor([[True, False]])
    assert kl_sequences(logps, torch.zeros(1, 2), mask, "k1").tolist() == [0.5]


def test_shapes_and_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CodealignError, match="differ in shape"):
        kl_tokens(torch.zeros(2), torch.zeros(3), "k1")
    with pytest.raises(CodealignError, match="mask must have the shape"):
        kl_sequences(torch.zeros(2, 2), torch.zeros(2, 2), torch.ones(2), "k1")
    with pytest.raises(CodealignError, match="unknown KL estimator 'k4'"):
        kl_tokens(torch.zeros(2), torch.zeros(2), "k4")  # type: ignore[arg-type]


def test_penalties_sum_to_the_end_or_stand_alone() -> None:
    kl, mask = torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([[1, 1, 1, 0]])
    assert kl_penalty(kl, mask).tolist() == [[7, 6, 4, 0]]
    assert kl_penalty(kl, mask, "one_step").tolist() == [[1, 2, 4, 0]]
    assert kl_penalty(kl, mask, "none").tolist() == [[0, 0, 0, 0]]
    with pytest.raises(CodealignError, match="did you mean 'one_step'"):
        kl_penalty(kl, mask, "onestep")  # type: ignore[arg-type]


def test_exact_kl_is_that_of_the_definition() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert exact_kl(p.log() + 3, q.log() - 1).item() == pytest.approx(expected, rel=1e-5)
    assert entropy(p.log()).item() == pytest.approx(1.5 * math.log(2), rel=1e-5)
    with pytest.raises(CodealignError, match="differ in shape"):
        exact_kl(torch.zeros(3), torch.zeros(4))


def test_clamped_k3_is_bounded_and_otherwise_the_same() -> None:
    v = torch.tensor([-200.0, -1.0, 0.0, 1.0])
    found = kl_tokens(v, torch.zeros(4), "k3", clamp=True)
    assert found[0] == 10
    torch.testing.assert_close(found[1:], kl_tokens(v, torch.zeros(4), "k3")[1:])
    with pytest.raises(CodealignError, match="clamp is for k3"):
        kl_tokens(v, torch.zeros(4), "k1", clamp=True)
