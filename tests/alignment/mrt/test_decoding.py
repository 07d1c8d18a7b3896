"""Decoding: prefixes on one cache give what each of them gives alone, and draws belong to their keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alignment.mrt.decoding import Decoder
from alignment.tiny_coder.model import build_model
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.alignment.mrt.made_up import trained

ENDS = frozenset([1])


def model(kind: str) -> Any:
    net, tokenizer = trained()
    return net if kind == "gpt2" else build_model(tiny.SMALL, tokenizer, 0)


SEQUENCES = [[5, 6, 7, 8, 9, 10, 3, 4], [12, 11, 10], [3, 3, 4, 5, 6, 7]]
CUTS = [[2, 5, 8], [3], [1, 6]]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_prefixes_on_one_cache_give_what_each_gives_alone(kind: str, temperature: float) -> None:
    decoder = Decoder(model(kind), ENDS, temperature=temperature)
    keys = ["a", "b", "c"]
    together = decoder.behind(SEQUENCES, CUTS, keys, suffix=[13, 4], count=3, length=5, seed=7)
    for key, sequence, cuts, of in zip(keys, SEQUENCES, CUTS, together, strict=True):
        for cut, found in zip(cuts, of, strict=True):
            alone = decoder.complete([[*sequence[:cut], 13, 4]], [f"{key}/{cut}"], count=3, length=5, seed=7)[
                0
            ]
            assert found == alone and len(found) == 3


def test_a_completion_depends_on_its_key_and_not_on_the_batch() -> None:
    contexts, keys = [[5, 6, 7, 8, 9, 12], [3, 4, 12], [9, 9, 9, 12]], ["x", "y", "z"]
    whole = Decoder(model("gpt2"), ENDS)
    parted = Decoder(model("gpt2"), ENDS, batch_rows=2)
    asked = {"count": 2, "length": 12, "seed": 3}
    found = whole.complete(contexts, keys, **asked)
    assert parted.complete(contexts, keys, **asked) == found
    assert whole.complete(contexts[::-1], keys[::-1], **asked)[::-1] == found
    assert whole.complete(contexts, ["u", "v", "w"], **asked) != found
    assert whole.complete(contexts, keys, count=2, length=12, seed=4) != found


def test_each_context_may_have_a_length_of_its_own() -> None:
    contexts, keys = [[5, 6, 7, 8, 9, 12], [3, 4, 12]], ["x", "y"]
    decoder = Decoder(model("gpt2"), frozenset())
    both = decoder.complete(contexts, keys, count=2, length=[2, 9], seed=0)
    assert [[len(c.ids) for c in of] for of in both] == [[2, 2], [9, 9]]
    alone = [
        decoder.complete([c], [k], count=2, length=n, seed=0)[0]
        for c, k, n in zip(contexts, keys, (2, 9), strict=True)
    ]
    assert alone == both
    fits = decoder.complete([[3] * 100, [3]], ["x", "y"], count=1, length=[28, 60], seed=0)
    assert len(fits[0][0].ids) == 28
    with pytest.raises(CodealignError, match="100 tokens and 29"):
        decoder.complete([[3] * 100, [3]], ["x", "y"], count=1, length=[29, 60], seed=0)


def test_sampled_first_tokens_follow_the_models_distribution() -> None:
    context = [5, 6, 7, 8, 9, 12]
    net = model("gpt2")
    with torch.no_grad():
        expected = net(torch.tensor([context])).logits[0, -1].softmax(-1)
    drawn = Decoder(net, frozenset(), batch_rows=4000).complete(
        [context], ["k"], count=4000, length=1, seed=0
    )[0]
    counts = torch.bincount(torch.tensor([c.ids[0] for c in drawn]), minlength=len(expected)) / 4000
    assert (counts - expected).abs().max() < 0.035


def test_end_tokens_end_and_are_left_out_and_banned_ones_never_come_first() -> None:
    found = Decoder(model("gpt2"), ENDS).complete(
        [[5, 6, 7, 8, 9, 12]], ["k"], count=60, length=60, seed=0, first_banned=(4, 5, 6)
    )[0]
    assert all(1 not in c.ids for c in found)
    assert any(c.ended for c in found) and all(len(c.ids) == 60 for c in found if not c.ended)
    assert all(c.ids[0] not in (4, 5, 6) for c in found if c.ids)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.complete([[]], ["k"], count=1, length=1, seed=0), "must have 1 to 0"),
        (lambda d: d.complete([[3] * 120], ["k"], count=1, length=20, seed=0), "window of 128"),
        (lambda d: d.behind([[3, 4]], [[3]], ["k"], suffix=[5], count=1, length=1, seed=0), "1 to 2"),
        (lambda d: d.behind([[3, 4]], [[1]], ["k"], suffix=[], count=1, length=1, seed=0), "at least one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Any, message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        call(Decoder(model("gpt2"), ENDS))


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"batch_rows": 0}]
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(CodealignError, match=next(iter(options))):
        Decoder(None, ENDS, **options)
