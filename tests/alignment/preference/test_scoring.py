"""All layouts give a model's completions the same log-probabilities and gradients; what cannot is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.preference.layout import lay_out
from alignment.preference.scoring import (
    check_masked,
    check_same_scores,
    head_scale,
    install,
    score,
    tensors_of,
)
from codegen_eval.errors import CodealignError
from tests.alignment.preference import small as tiny

GROUPS = [
    ([5, 6, 7, 8, 9, 10], ([11, 12, 13], [11, 14])),
    ([5], ([20, 21, 22, 23, 24], [30])),
    ([40, 41, 42], ([43], [44, 45, 46, 47])),
]


def model(attention: str) -> Any:
    made = tiny.model()
    made.set_attn_implementation(attention)
    install(made)
    return made


def batch(share: bool, pack: bool) -> dict[str, torch.Tensor]:
    return tensors_of(lay_out(GROUPS, share=share, pack=pack), masked=share or pack)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_shared_and_packed_rows_score_as_rows_by_themselves(attention: str) -> None:
    made = model(attention)
    gradients = []
    scores = []
    for share, pack in ((False, False), (True, False), (False, True), (True, True)):
        found = score(made, batch(share, pack), statistics=True)
        made.zero_grad()
        (found["logps"] * torch.arange(1, 7)[:, None]).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in made.parameters()]))
        scores.append(found)
    for other, gradient in zip(scores[1:], gradients[1:], strict=True):
        for name, values in scores[0].items():
            assert torch.allclose(values.float(), other[name].float(), atol=1e-5, rtol=0), name
        assert torch.allclose(gradients[0], gradient, atol=1e-4, rtol=1e-4)


def test_scores_are_those_of_the_model_s_own_logits_for_each_completion_alone() -> None:
    made = model("eager")
    found = score(made, batch(True, True))["logps"]
    for i, (prompt, sides) in enumerate(GROUPS):
        for side, completion in enumerate(sides):
            ids = torch.tensor([[*prompt, *completion]])
            logps = made(input_ids=ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
            expected = logps.gather(1, torch.tensor(completion)[:, None])[:, 0]
            row = found[side * len(GROUPS) + i]
            assert torch.allclose(row[: len(completion)], expected, atol=1e-5)
            assert not row[len(completion) :].any()


def test_a_model_that_ignores_the_mask_is_found_out() -> None:
    made = model("eager")
    check_same_scores(made, torch.float32, batch(False, False), batch(True, False))
    broken = batch(True, False)
    broken["branches"] = torch.zeros_like(broken["branches"])  # siblings see each other
    with pytest.raises(CodealignError, match="other log-probabilities when sequences share a row"):
        check_same_scores(made, torch.float32, batch(False, False), broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_attn_implementation": "flash_attention_2"}, "needs attn_implementation sdpa or eager"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "needs full attention in every layer"),
        ({"sliding_window": 64}, "with a window of 64"),
    ],
)
def test_models_that_would_not_obey_the_mask_are_refused(changes: dict[str, Any], message: str) -> None:
    config = SimpleNamespace(**{"_attn_implementation": "sdpa", **changes})
    config.get_text_config = lambda: config
    with pytest.raises(CodealignError, match=message):
        check_masked(config, "shared_prompt")


def test_factors_on_the_logits_are_known() -> None:
    assert head_scale(SimpleNamespace()) == 1.0
    assert head_scale(SimpleNamespace(logit_scale=0.25)) == 0.25
    assert head_scale(SimpleNamespace(logits_scaling=8.0, model_type="granite")) == 0.125
