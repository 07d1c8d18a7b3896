"""Every loss: gradients by finite differences, extreme values, and figures by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from alignment.losses.base import LOSSES, make_loss
from alignment.losses.divergences import DIVERGENCES, divergence_score
from tests.alignment.losses.batches import batch

NAMES = LOSSES.names()
# Inputs through which a loss lets no gradient by design: finite differences would see them.
STOPPED = {"tdpo2": {"chosen_seq_kl"}, "kto": {"kl_logps", "ref_kl_logps"}}
# Without the part that is a constant for the gradient, which has a test of its own.
FREE = {"beta_dpo": {"alpha": 0.0}}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "wpo"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    loss = make_loss(name, **FREE.get(name, {}))
    fixed = batch(3)
    free = [
        key for key in loss.inputs if fixed[key].is_floating_point() and key not in STOPPED.get(name, set())
    ]

    def value(*tensors: Tensor) -> Tensor:
        return loss(fixed | dict(zip(free, tensors, strict=True))).loss()

    inputs = [fixed[key].clone().requires_grad_() for key in free]
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-6)
    assert any(tensor.grad is None or tensor.grad.abs().sum() > 0 for tensor in inputs)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradients_of_every_divergence_agree_with_finite_differences(divergence: str) -> None:
    u = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: divergence_score(x, divergence, 0.5), u)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, keys in STOPPED.items() for key in sorted(keys)]
)
def test_no_gradient_goes_through_what_is_stopped(name: str, key: str) -> None:
    tensors = batch()
    tensors[key].requires_grad_()
    tensors["chosen_logps"].requires_grad_()
    make_loss(name)(tensors).loss().backward()
    assert tensors[key].grad is None or not tensors[key].grad.any()
    assert tensors["chosen_logps"].grad.any()


def test_the_weights_of_wpo_are_constants_for_the_gradient() -> None:
    tensors = batch()
    tensors["chosen_token_logps"].requires_grad_()
    result = make_loss("wpo")(tensors)
    result.loss().backward()
    with_weights = tensors["chosen_token_logps"].grad.clone()
    tensors["chosen_token_logps"].grad = None
    mask = tensors["chosen_mask"]
    sums = {
        f"{name}_logps": (tensors[f"{name}_token_logps"] * tensors[f"{name.split('_')[-1]}_mask"]).sum(1)
        for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")
    }
    make_loss("dpo")(sums).loss(result.extras["weights"]).backward()
    torch.testing.assert_close(tensors["chosen_token_logps"].grad, with_weights)
    assert with_weights[mask].all() and not with_weights[~mask].any()


def test_beta_of_beta_dpo_is_a_constant_for_the_gradient() -> None:
    tensors = batch()
    tensors["chosen_logps"].requires_grad_()
    result = make_loss("beta_dpo")(tensors)
    result.loss().backward()
    found = tensors["chosen_logps"].grad.clone()
    tensors["chosen_logps"].grad = None
    make_loss("dpo", beta=float(result.extras["beta_used"]))(tensors).loss().backward()
    torch.testing.assert_close(tensors["chosen_logps"].grad, found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_log_probabilities_give_finite_losses_and_gradients(
    name: str, flip: bool, dtype: torch.dtype
) -> None:
    loss = make_loss(name)
    tensors = batch(dtype=dtype)
    for key in loss.inputs:
        if "logps" in key:
            low = ("chosen" in key) != flip
            if "ref_" in key:
                low = not low
            tensors[key] = torch.full_like(tensors[key], -1e4 if low else -1e-9).requires_grad_()
    result = loss(tensors)
    result.loss().backward()
    for key in loss.inputs:
        gradient = tensors[key].grad
        assert gradient is None or gradient.isfinite().all(), key


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_extreme_log_ratios_stay_finite_under_every_divergence(divergence: str) -> None:
    for ratio in (-1e5, 1e5):
        for alpha in (0.5, 2.0):
            u = torch.tensor([ratio], requires_grad=True)
            score = divergence_score(u, divergence, alpha)
            score.backward()
            assert score.isfinite().all() and u.grad.isfinite().all(), (ratio, alpha)


def test_orpo_survives_a_side_that_is_certain() -> None:
    tensors = batch()
    tensors["chosen_logps"] = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    result = make_loss("orpo")(tensors)
    result.loss().backward()
    assert result.losses.isfinite().all() and tensors["chosen_logps"].grad.isfinite().all()


def test_dpo_at_the_reference_is_log_2() -> None:
    tensors = batch()
    tensors["ref_chosen_logps"], tensors["ref_rejected_logps"] = (
        tensors["chosen_logps"], tensors["rejected_logps"],
    )  # fmt: skip
    torch.testing.assert_close(make_loss("dpo")(tensors).loss().item(), math.log(2))


def test_losses_that_become_another_do_so_exactly() -> None:
    tensors = batch()

    def losses(name: str, **options: object) -> Tensor:
        return make_loss(name, **options)(tensors).losses

    same = torch.testing.assert_close
    same(losses("cdpo", label_smoothing=0.0), losses("dpo"))
    same(losses("robust", label_smoothing=0.0), losses("dpo"))
    same(losses("rpo", nll_weight=0.0), losses("dpo"))
    same(losses("dpop", lambda_=0.0, beta=0.1), losses("dpo"))
    same(losses("tdpo2", alpha=0.0), losses("dpo"))
    same(losses("tdpo2", alpha=1.0), losses("tdpo1"))
    same(losses("beta_dpo", alpha=0.0), losses("dpo"))
    same(losses("f_dpo"), losses("dpo"))
    same(losses("f_dpo", divergence="alpha_divergence", alpha=1.0), losses("dpo"))
    same(losses("ld_dpo", ld_alpha=1.0), losses("dpo"))
    same(losses("segment_weighted_dpo", segment_weights=(1.0, 1.0, 1.0)), losses("dpo"))
    # The first token is common to both sides and cancels only where the model is asked in the same context.
    same(losses("mpo", mix=(1.0, 0.0, 0.0)), losses("dpo"))
    same(losses("mpo", mix=(0.0, 1.0, 0.0)), losses("bco_pair"))


def test_a_pair_turned_round_turns_the_margin_round() -> None:
    # -S(z) and -S(-z) differ by z: the loss of the swapped pair is the loss plus beta h.
    tensors = batch()
    swapped = {
        key.replace("chosen", "@").replace("rejected", "chosen").replace("@", "rejected"): value
        for key, value in tensors.items()
    }
    result, turned = make_loss("dpo")(tensors), make_loss("dpo")(swapped)
    margin = result.chosen_rewards - result.rejected_rewards
    torch.testing.assert_close(turned.losses - result.losses, margin)


def test_kto_takes_sides_of_unequal_number_and_even_an_empty_one() -> None:
    tensors = batch()
    for key in ("rejected_logps", "ref_rejected_logps"):
        tensors[key] = tensors[key][:1]
    result = make_loss("kto")(tensors)
    assert result.losses.shape == (5,)
    for key in ("rejected_logps", "ref_rejected_logps"):
        tensors[key] = tensors[key][:0]
    torch.testing.assert_close(make_loss("kto")(tensors).losses, result.losses[:4])


def test_the_baseline_of_kto_never_falls_below_0() -> None:
    tensors = batch()
    tensors["kl_logps"], tensors["ref_kl_logps"] = tensors["ref_kl_logps"], tensors["kl_logps"]
    result = make_loss("kto")(tensors)
    assert result.extras["kl"] == 0
    torch.testing.assert_close(result.losses, make_loss("apo_zero_unpaired")(tensors).losses)


def test_moving_averages_carry_over_to_the_next_batch() -> None:
    tensors = batch()
    loss = make_loss("bco_pair", momentum=0.9)
    result = loss(tensors)
    rewards = torch.cat([result.chosen_rewards, result.rejected_rewards])
    assert result.carry["delta"] == pytest.approx(0.1 * rewards.mean().item())
    assert loss.with_options(**result.carry).options["delta"] == result.carry["delta"]
    assert make_loss("bco_pair")(tensors).carry == {}


def test_beta_of_beta_dpo_never_turns_the_loss_round() -> None:
    result = make_loss("beta_dpo", reference_margin=100.0)(batch())
    assert result.extras["beta_used"] == pytest.approx(1e-3)


def test_sorted_margins_do_not_depend_on_the_order_of_the_pairs() -> None:
    tensors = batch()
    turned = {key: value.flip(0) for key, value in tensors.items()}
    for name in ("aot", "aot_unpaired"):
        torch.testing.assert_close(make_loss(name)(turned).losses, make_loss(name)(tensors).losses)


def test_rewards_are_detached() -> None:
    for name in NAMES:
        tensors = batch()
        for key in ("chosen_logps", "chosen_token_logps"):
            tensors[key].requires_grad_()
        result = make_loss(name)(tensors)
        for rewards in (result.chosen_rewards, result.rejected_rewards, *result.extras.values()):
            assert rewards is None or not rewards.requires_grad, name
        assert result.losses.requires_grad, name
