"""Losses by name: what they ask for, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from alignment.losses.base import ALIASES, LOSSES, LossResult, make_loss
from codegen_eval.errors import CodealignError
from tests.alignment.losses.batches import batch

NAMES = LOSSES.names()
PAIRED = [name for name in NAMES if name not in ("kto", "apo_zero_unpaired", "sft")]


def test_an_unknown_loss_gets_the_nearest_name() -> None:
    with pytest.raises(CodealignError, match="did you mean 'simpo'"):
        make_loss("simp0")


def test_an_unknown_option_gets_the_nearest_name() -> None:
    with pytest.raises(CodealignError, match="did you mean 'label_smoothing'"):
        make_loss("cdpo", labelsmoothing=0.1)


def test_aliases_are_names_of_losses() -> None:
    assert set(ALIASES.values()) <= set(NAMES)
    assert not set(ALIASES) & set(NAMES)
    assert make_loss("sigmoid").name == "dpo"


def test_inputs_follow_from_the_signature() -> None:
    assert make_loss("dpo").inputs == (
        "chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps",
    )  # fmt: skip
    assert make_loss("dpo", beta=0.3).options == {"beta": 0.3}
    assert make_loss("wpo").optional == ("chosen_log_sum_p2", "rejected_log_sum_p2")
    assert {name for name in NAMES if not make_loss(name).needs_reference} == {
        "cpo", "orpo", "sft", "simpo", "slic_hf",
    }  # fmt: skip
    assert {name for name in NAMES if make_loss(name).needs_tokens} == {
        "ld_dpo", "segment_weighted_dpo", "step_dpo", "wpo",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_input_is_named_with_what_was_found(name: str) -> None:
    loss = make_loss(name)
    for missing in loss.inputs:
        tensors = {key: value for key, value in batch().items() if key != missing}
        with pytest.raises(CodealignError, match=rf"{name}' needs {missing}; the batch has: .*chosen"):
            loss(tensors)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_log_probability_that_is_no_number_is_named(name: str, poison: float) -> None:
    loss = make_loss(name)
    for key in loss.inputs:
        if "logps" not in key:
            continue
        tensors = batch()
        tensors[key] = tensors[key].clone()
        # Position 1 lies after the common first token, so step_dpo sees it.
        tensors[key][(2, 1) if tensors[key].ndim == 2 else 2] = poison
        with pytest.raises(CodealignError, match=rf"not finite.* {key} of example 2"):
            loss(tensors)


def test_padding_may_hold_anything() -> None:
    for name in ("step_dpo", "ld_dpo", "segment_weighted_dpo", "wpo"):
        clean, dirty = batch(), batch()
        for side in ("chosen", "rejected"):
            pad = ~dirty[f"{side}_mask"]
            for key in (f"{side}_token_logps", f"ref_{side}_token_logps", f"{side}_log_sum_p2"):
                dirty[key] = dirty[key].masked_fill(pad, float("nan"))
        loss = make_loss(name)
        torch.testing.assert_close(loss(dirty).losses, loss(clean).losses)


@pytest.mark.parametrize("name", PAIRED)
def test_sides_of_unequal_number_are_refused_not_broadcast(name: str) -> None:
    tensors = batch()
    for key in tensors:
        if "rejected" in key:
            tensors[key] = tensors[key][:1]
    with pytest.raises((CodealignError, RuntimeError), match=r"shape|one a pair|size"):
        make_loss(name)(tensors)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_has_no_loss(name: str) -> None:
    tensors = {key: value[:0] for key, value in batch().items()}
    with pytest.raises(CodealignError, match="empty"):
        result = make_loss(name)(tensors)
        result.loss()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_a_scale_that_is_not_above_0_is_refused(name: str, value: float) -> None:
    loss = make_loss(name)
    for option in {"beta", "tau"} & set(loss.options):
        with pytest.raises(CodealignError, match=rf"{option} must be a finite number above 0"):
            loss.with_options(**{option: value})(batch())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cdpo", {"label_smoothing": 0.6}, r"label_smoothing must lie in \[0, 0.5\] \(given: 0.6\)"),
        ("cdpo", {"label_smoothing": -0.1}, "label_smoothing"),
        ("cdpo", {"label_smoothing": float("nan")}, "label_smoothing"),
        ("robust", {"label_smoothing": 0.5}, r"\[0, 0.5\)"),
        ("exo_pair", {"label_smoothing": 0.0}, "above 0"),
        ("sppo", {"win_prob": 1.2}, "win_prob"),
        ("ld_dpo", {"ld_alpha": 1.5}, "ld_alpha"),
        ("rpo", {"nll_weight": -1.0}, "nll_weight"),
        ("dpop", {"lambda_": float("nan")}, "lambda_"),
        ("mpo", {"mix": (1.0, 2.0)}, "dpo, bco_pair and sft"),
        ("mpo", {"mix": (1.0, -2.0, 0.0)}, r"mix\[1\]"),
        ("f_dpo", {"divergence": "js_divergenc"}, "did you mean 'js_divergence'"),
        ("f_dpo", {"alpha": float("inf")}, "alpha"),
        ("beta_dpo", {"momentum": 1.1}, "momentum"),
        ("bco_pair", {"momentum": -0.1}, "momentum"),
        ("bco_pair", {"delta": float("nan")}, "delta"),
        ("kto", {"desirable_weight": -1.0}, "desirable_weight"),
        ("segment_weighted_dpo", {"segment_weights": (1.0, 2.0)}, r"0\.\.1"),
        ("segment_weighted_dpo", {"segment_weights": (1.0, -2.0, 1.0)}, r"segment_weights\[1\]"),
        ("aot", {"label_smoothing": torch.tensor([0.1, 0.1, 0.1, 0.1])}, "one number"),
    ],
)
def test_an_option_out_of_its_range_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        make_loss(name, **options)(batch())


def test_smoothing_a_pair_comes_with_the_batch() -> None:
    tensors = batch()
    tensors["label_smoothing"] = torch.tensor([0.0, 0.1, 0.2, 0.5], dtype=torch.float64)
    found = make_loss("cdpo")(tensors).losses
    for row, smoothing in enumerate(tensors.pop("label_smoothing").tolist()):
        alone = make_loss("cdpo", label_smoothing=smoothing)(tensors).losses[row]
        torch.testing.assert_close(found[row], alone)


def test_a_column_that_happens_to_bear_an_options_name_changes_nothing() -> None:
    tensors = batch() | {"beta": torch.full((4,), 9.0), "alpha": torch.zeros(4)}
    torch.testing.assert_close(make_loss("tdpo2")(tensors).losses, make_loss("tdpo2")(batch()).losses)


def test_smoothing_of_another_number_of_pairs_is_refused() -> None:
    tensors = batch() | {"label_smoothing": torch.tensor([0.1, 0.2])}
    with pytest.raises(CodealignError, match=r"one a pair \(4\)"):
        make_loss("cdpo")(tensors)


def test_weights_of_pairs_scale_their_losses() -> None:
    result = make_loss("dpo")(batch())
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5])
    expected = (result.losses * weights).sum() / 4
    torch.testing.assert_close(result.loss(weights), expected)
    torch.testing.assert_close(result.loss(torch.ones(4)), result.loss())


@pytest.mark.parametrize("bad", [[1.0, 1.0], [1.0, -1.0, 1.0, 1.0], [1.0, float("nan"), 1.0, 1.0]])
def test_weights_that_do_not_fit_are_refused(bad: list[float]) -> None:
    with pytest.raises(CodealignError, match=r"weights"):
        make_loss("dpo")(batch()).loss(torch.tensor(bad))


def test_shares_make_a_mean_over_examples_a_mean_over_tokens() -> None:
    tensors = batch()
    result = make_loss("sft")(tensors)
    tokens = -tensors["chosen_logps"].sum() / tensors["chosen_lengths"].sum()
    torch.testing.assert_close(result.loss(), tokens)


def test_an_empty_completion_has_no_log_probability_a_token() -> None:
    for name in ("simpo", "orpo", "cpo", "rpo", "ipo_avg", "dpo_norm", "sft", "mpo"):
        tensors = batch()
        tensors["chosen_lengths"] = torch.tensor([3, 0, 2, 1])
        with pytest.raises(CodealignError, match="example 1 is empty"):
            make_loss(name)(tensors)


def test_a_loss_of_another_distribution_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(chosen_logps: torch.Tensor, *, power: float = 2.0) -> LossResult:
        return LossResult(chosen_logps.abs() ** power)

    monkeypatch.setitem(LOSSES._entries, "mine", mine)
    loss = make_loss("mine", power=1.0)
    assert loss.inputs == ("chosen_logps",) and not loss.needs_reference
    torch.testing.assert_close(loss(batch()).losses, batch()["chosen_logps"].abs())


def test_a_reference_of_another_shape_is_refused() -> None:
    tensors = batch()
    tensors["ref_chosen_logps"] = tensors["ref_chosen_logps"][:3]
    with pytest.raises(CodealignError, match=re.escape("[[4], [3]]")):
        make_loss("dpo")(tensors)
