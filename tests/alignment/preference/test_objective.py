"""Losses by the names and options of a training config."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alignment.losses.base import LOSSES, make_loss
from alignment.preference.objective import UNPAIRED, build, defaults, resolve
from codegen_eval.errors import CodealignError


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    found = {
        f"{ref}{side}_logps": -10 * torch.rand(4, generator=draw, dtype=torch.float64)
        for ref in ("", "ref_")
        for side in ("chosen", "rejected")
    }
    lengths = {f"{side}_lengths": torch.tensor([3, 5, 2, 7]) for side in ("chosen", "rejected")}
    return found | lengths


def test_trl_names_and_ours_mean_what_each_project_says() -> None:
    assert resolve("sigmoid") == resolve("dpo") == "dpo"
    assert resolve("ipo") == "ipo_avg" and resolve("ipo_sum") == "ipo"
    assert build(["ipo"], beta=0.3).losses[0].options["tau"] == 0.3
    assert build(["orpo"], beta=0.3).losses[0].options["lambda_"] == 0.3
    assert build(["sigmoid"], ld_alpha=0.2).losses[0].name == "ld_dpo"
    f_dpo = build(["sigmoid"], f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.7).losses[0]
    assert (f_dpo.name, f_dpo.options["alpha"]) == ("f_dpo", 0.7)
    assert build(["discopop"], discopop_tau=0.2).losses[0].options["tau"] == 0.2


def test_every_loss_for_pairs_can_be_built_with_its_own_defaults() -> None:
    for name in set(LOSSES.names()) - set(UNPAIRED):
        config = "ipo_sum" if name == "ipo" else name
        assert build([config], **defaults([config])).losses[0].options == make_loss(name).options


def test_a_sum_of_losses_is_the_weighted_sum() -> None:
    given = tensors()
    together = build(["sigmoid", "sft"], loss_weights=[0.8, 0.3], beta=0.2)(given)[0]
    apart = [make_loss("dpo", beta=0.2)(given).loss(), make_loss("sft")(given).loss()]
    assert torch.allclose(together, 0.8 * apart[0] + 0.3 * apart[1])


def test_moving_averages_go_to_the_next_batch() -> None:
    objective = build(["beta_dpo"])
    _, _, carry = objective(tensors())
    assert carry[0]["reference_margin"] != 0
    assert objective.carried(carry).losses[0].options["reference_margin"] == carry[0]["reference_margin"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["sigmiod"], {}, "unknown loss_type 'sigmiod'; did you mean 'sigmoid'"),
        (["kto"], {}, "use `codealign train kto`"),
        (["sigmoid"], {"label_smoothing": 0.1}, "label_smoothing does nothing in the loss 'dpo'"),
        (
            ["simpo"],
            {"options": {"gama": 1}},
            "unknown option of the loss 'simpo' 'gama'; did you mean 'gamma'",
        ),
        (["hinge"], {"ld_alpha": 0.5}, "ld_alpha changes the loss 'sigmoid' alone"),
        (["sigmoid", "sft"], {"loss_weights": [1.0]}, "2 losses need as many loss_weights"),
        (["aot"], {"use_weighting": True}, "use_weighting does not fit 'aot'"),
        ([], {}, "names no loss"),
    ],
)
def test_what_does_not_fit_is_refused(names: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        build(names, **options)
