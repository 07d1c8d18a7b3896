"""Our losses against TRL's own on the same made-up batch, where TRL has them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alignment.losses.base import make_loss
from tests.alignment import tiny

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

PAIRS, PROMPT, WIDTH = 4, 5, 14
LENGTHS = {"chosen": (7, 3, 9, 5), "rejected": (4, 9, 6, 8)}
BETA, SMOOTHING = 0.3, 0.1


def model(seed: int, dtype: torch.dtype, scale: float = 3.0) -> Any:
    made = tiny.model(seed).to(dtype)
    # Freshly drawn models hardly differ: their log ratios would be near 0, where losses look alike.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(scale)
    return made.eval()


def rows() -> dict[str, Tensor]:
    """Chosen rows, then rejected ones: a shared prompt, a completion, padding."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, 300, (2 * PAIRS, WIDTH), generator=generator)
    ids[PAIRS:, :PROMPT] = ids[:PAIRS, :PROMPT]
    count = torch.tensor(LENGTHS["chosen"] + LENGTHS["rejected"])[:, None]
    position = torch.arange(WIDTH)
    mask = (position >= PROMPT) & (position < PROMPT + count)
    return {
        "input_ids": ids,
        "attention_mask": (position < PROMPT + count).long(),
        "completion_mask": mask.long(),
    }


def token_logps(net: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Log-probability of each token but the first, and log sum p^2 at its place; by plain log_softmax."""
    logits = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    everything = logits[:, :-1].log_softmax(-1)
    taken = everything.gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
    return taken, (2 * everything).logsumexp(-1)


def inputs(policy: Any, reference: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    mask = batch["completion_mask"][:, 1:].bool()
    tensors: dict[str, Tensor] = {}
    for prefix, net in (("", policy), ("ref_", reference)):
        logps, p2 = token_logps(net, batch)
        for side, part in (("chosen", slice(0, PAIRS)), ("rejected", slice(PAIRS, None))):
            tensors[f"{prefix}{side}_token_logps"] = logps[part]
            tensors[f"{prefix}{side}_logps"] = (logps * mask).sum(1)[part]
            tensors[f"{side}_mask"] = mask[part]
            tensors[f"{side}_lengths"] = mask.sum(1)[part]
            if not prefix:
                tensors[f"{side}_log_sum_p2"] = p2[part]
    return tensors


def configured(cls: Any, folder: Path, **options: Any) -> Any:
    common = {"output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none"}
    return cls(**common, beta=BETA, **options)


def dpo_trainer(folder: Path, dtype: torch.dtype, scale: float = 3.0, **options: Any) -> Any:
    options = {"label_smoothing": SMOOTHING, "gradient_checkpointing": False} | options
    return trl.DPOTrainer(
        model=model(0, dtype, scale),
        ref_model=model(1, dtype, scale),
        args=configured(trl.DPOConfig, folder, **options),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=tiny.tokenizer(),
    )


# TRL's options, and our loss with its options.
SAME: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "sigmoid": ({}, "dpo", {}),
    "hinge": ({}, "hinge", {}),
    "ipo": ({}, "ipo_avg", {"tau": BETA}),
    "exo_pair": ({}, "exo_pair", {"label_smoothing": SMOOTHING}),
    "nca_pair": ({}, "nca_pair", {}),
    "robust": ({}, "robust", {"label_smoothing": SMOOTHING}),
    "bco_pair": ({}, "bco_pair", {}),
    "sppo_hard": ({}, "sppo", {}),
    "aot": ({}, "aot", {"label_smoothing": SMOOTHING}),
    "aot_unpaired": ({}, "aot_unpaired", {"label_smoothing": SMOOTHING}),
    "apo_zero": ({}, "apo_zero", {}),
    "apo_down": ({}, "apo_down", {}),
    "discopop": ({}, "discopop", {}),
    "sft": ({}, "sft", {}),
    "sigmoid_norm": ({}, "dpo_norm", {}),
    "mpo": (
        {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
        "mpo",
        {},
    ),
    "ld": ({"ld_alpha": 0.4}, "ld_dpo", {"ld_alpha": 0.4}),
    "wpo": ({"use_weighting": True}, "wpo", {}),
    "forward_kl": ({"f_divergence_type": "forward_kl"}, "f_dpo", {"divergence": "forward_kl"}),
    "js": ({"f_divergence_type": "js_divergence"}, "f_dpo", {"divergence": "js_divergence"}),
    "alpha": (
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5},
        "f_dpo",
        {"divergence": "alpha_divergence", "alpha": 0.5},
    ),
}
DPO_TYPES = {name for name, (options, _, _) in SAME.items() if not options}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_a_loss_equals_that_of_trls_dpo_trainer(name: str, tmp_path: Path) -> None:
    theirs, ours, options = SAME[name]
    if name in DPO_TYPES:
        theirs = {"loss_type": [name]}
    # TRL's alpha divergence knows no float64 (a KeyError), so that one is compared in float32.
    dtype = torch.float32 if name == "alpha" else torch.float64
    # TRL's log-probabilities agree with ours to about 1e-7; an exponential of large ratios blows that up.
    scale = 1.5 if name in ("alpha", "forward_kl") else 3.0
    trainer = dpo_trainer(tmp_path, dtype, scale, **theirs)
    batch = rows()
    trainer.model.eval()
    with torch.no_grad():
        expected = float(trainer.compute_loss(trainer.model, batch))
        loss = make_loss(ours, **options)
        if "beta" in loss.options:
            loss = loss.with_options(beta=BETA)
        found = float(loss(inputs(trainer.model, trainer.ref_model, batch)).loss())
    assert math.isfinite(expected) and expected != 0
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_gradient_of_dpo_equals_that_of_trls_trainer(tmp_path: Path) -> None:
    trainer = dpo_trainer(tmp_path, torch.float64, loss_type=["sigmoid"])
    batch = rows()
    trainer.model.eval()
    trainer.compute_loss(trainer.model, batch).backward()
    expected = [p.grad.clone() for p in trainer.model.parameters()]
    trainer.model.zero_grad()
    tensors = inputs(trainer.model, trainer.ref_model, batch)
    make_loss("dpo", beta=BETA)(tensors).loss().backward()
    for parameter, gradient in zip(trainer.model.parameters(), expected, strict=True):
        # TRL's head rounds more than plain float64.
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
def test_a_loss_equals_that_of_trls_kto_trainer(name: str, tmp_path: Path) -> None:
    dtype = torch.float64
    trainer = trl.KTOTrainer(
        model=model(0, dtype),
        ref_model=model(1, dtype),
        args=configured(
            trl.KTOConfig,
            tmp_path,
            loss_type=name,
            desirable_weight=1.2,
            undesirable_weight=0.9,
            per_device_train_batch_size=2,
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list(
            [{"prompt": "a", "completion": word, "label": word < "d"} for word in "bcde"]
        ),
        processing_class=tiny.tokenizer(),
    )
    batch = rows()
    # Completions under another prompt: the next row's.
    other = {key: value.roll(1, 0) for key, value in batch.items()}
    other["input_ids"] = torch.cat([batch["input_ids"][:, :PROMPT], other["input_ids"][:, PROMPT:]], dim=1)
    given = {
        **batch,
        **{f"KL_{key}": value for key, value in other.items()},
        "label": torch.tensor([True] * PAIRS + [False] * PAIRS),
    }
    trainer.model.eval()
    with torch.no_grad():
        expected = float(trainer.compute_loss(trainer.model, given))
        tensors = inputs(trainer.model, trainer.ref_model, batch)
        mask = other["completion_mask"][:, 1:]
        for key, net in (("kl_logps", trainer.model), ("ref_kl_logps", trainer.ref_model)):
            tensors[key] = (token_logps(net, other)[0] * mask).sum(1)
        loss = make_loss(name, beta=BETA, desirable_weight=1.2, undesirable_weight=0.9)
        found = loss(tensors)
    if name == "kto":
        assert found.extras["kl"] > 0, "the baseline must count for the comparison to mean something"
    assert float(found.loss()) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def experimental(name: str) -> Any:
    return pytest.importorskip(f"trl.experimental.{name}")


def without_reference(folder: Path, package: str, method: str, **options: Any) -> Any:
    module = experimental(package)
    kind = package.upper()
    return getattr(
        getattr(module, f"{kind}Trainer")(
            model=model(0, torch.float32),
            args=configured(getattr(module, f"{kind}Config"), folder, **options),
            train_dataset=datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=tiny.tokenizer(),
        ),
        method,
    )


@pytest.mark.parametrize("kind", ["simpo", "sigmoid"])
def test_a_loss_equals_that_of_trls_cpo_trainer(kind: str, tmp_path: Path) -> None:
    theirs = without_reference(tmp_path, "cpo", "cpo_loss", loss_type=kind, simpo_gamma=0.7, cpo_alpha=0.0)
    tensors = inputs(model(0, torch.float64), model(1, torch.float64), rows())
    if kind == "simpo":
        x = tensors["chosen_logps"] / tensors["chosen_lengths"]
        y = tensors["rejected_logps"] / tensors["rejected_lengths"]
        ours = make_loss("simpo", beta=BETA, gamma=0.7)(tensors)
    else:
        x, y = tensors["chosen_logps"], tensors["rejected_logps"]
        ours = make_loss("cpo", beta=BETA, nll_weight=0.0)(tensors)
    losses, chosen, rejected = theirs(x, y)
    torch.testing.assert_close(ours.losses, losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.chosen_rewards, chosen, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.rejected_rewards, rejected, rtol=1e-6, atol=1e-6)


def test_the_odds_ratio_loss_equals_that_of_trls_orpo_trainer(tmp_path: Path) -> None:
    theirs = without_reference(tmp_path, "orpo", "odds_ratio_loss")
    tensors = inputs(model(0, torch.float64), model(1, torch.float64), rows())
    x = tensors["chosen_logps"] / tensors["chosen_lengths"]
    y = tensors["rejected_logps"] / tensors["rejected_lengths"]
    with torch.no_grad():
        scaled_ratio, chosen, _, _, odds = theirs(x, y)
        ours = make_loss("orpo", lambda_=BETA)(tensors)
    # TRL subtracts this from the negative log-likelihood; it works in float32.
    torch.testing.assert_close(-x - ours.losses, scaled_ratio.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.chosen_rewards, chosen.double(), rtol=1e-6, atol=1e-6)
    assert float(ours.extras["log_odds_ratio"].mean()) == pytest.approx(float(odds), rel=1e-5)
