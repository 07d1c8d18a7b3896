"""KL estimators: unbiased where they claim to be, prompt tokens never counted."""

from __future__ import annotations

import pytest
import torch

from alignment.kl import kl_sequences, kl_tokens
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
