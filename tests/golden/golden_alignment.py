"""Handlers of preference.json and bon.json: losses, aggregation, best-of-n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from golden_search import SEARCH_KINDS

Case = dict[str, Any]

SIDES = {"w": "chosen", "l": "rejected"}
# What the vectors call an option that has another name here; None: it is not an option of ours.
RENAMED: dict[str, dict[str, str | None]] = {
    "orpo": {"lambda": "lambda_"},
    "dpop": {"lambda": "lambda_"},
    "slic_hf": {"beta": None},
    "mpo": {"weights": "mix", "bco_delta": "delta"},
    "bco_pair": {"bco_delta": "delta"},
    "beta_dpo": {"M0": "reference_margin"},
    "discopop": {"tau_discopop": "tau"},
    "segment_weighted_dpo": {"weights": "segment_weights"},
    "wpo": {"aligned": None},
}
KL_INPUTS = {"kl_logps": "kl_logps", "kl_ref_logps": "ref_kl_logps"}
EXTRAS = {
    "z0": "kl",
    "log_odds_ratio": "log_odds_ratio",
    "beta_used": "beta_used",
    "weights": "weights",
    "first_difference": "first_difference",
}


def near(value: Any, expected: Any, absolute: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-10, atol=absolute)


def options_of(loss: str, parameters: Case) -> Case:
    names = RENAMED.get(loss, {})
    options = {names.get(key, key): value for key, value in parameters.items() if key not in KL_INPUTS}
    return {key: value for key, value in options.items() if key is not None}


def check_result(result: Any, expected: Case) -> None:
    """Every figure that the vector holds; one that nothing checks is a failure."""
    seen = {"note_losses", "M0_next"}
    near(result.loss(), expected["loss"])
    seen.add("loss")
    losses = result.losses
    if "losses" in expected:
        near(losses, expected["losses"])
    if "losses_chosen" in expected:
        near(losses, [*expected["losses_chosen"], *expected["losses_rejected"]])
    for side in ("chosen", "rejected"):
        if f"rewards_{side}" in expected:
            near(getattr(result, f"{side}_rewards"), expected[f"rewards_{side}"])
        seen |= {f"rewards_{side}", f"losses_{side}", "losses"}
    for key, name in EXTRAS.items():
        if key in expected:
            near(result.extras[name], expected[key])
        seen.add(key)
    if "M0_next" in expected:
        near(result.carry["reference_margin"], expected["M0_next"])
    assert set(expected) <= seen, f"unchecked: {set(expected) - seen}"


def double(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def check_pair_loss(vector: Case) -> None:
    from alignment.losses.base import make_loss

    given = vector["input"]
    tensors = {}
    for short, side in SIDES.items():
        for key, name in (
            (f"logp_{short}", f"{side}_logps"),
            (f"ref_{short}", f"ref_{side}_logps"),
            (f"len_{short}", f"{side}_lengths"),
            (f"seqkl_{short}", f"{side}_seq_kl"),
        ):
            if key in given:
                tensors[name] = double(given[key])
    for key, name in KL_INPUTS.items():
        if key in given["params"]:
            tensors[name] = double(given["params"][key])
    options = options_of(given["loss"], given["params"])
    for key in ("label_smoothing", "win_prob"):
        if isinstance(options.get(key), list):
            tensors[key] = double(options.pop(key))
    check_result(make_loss(given["loss"], **options)(tensors), vector["expected"])


def check_token_loss(vector: Case) -> None:
    from torch.nn.utils.rnn import pad_sequence

    from alignment.losses.base import make_loss

    given = vector["input"]
    tensors = {}
    for short, side in SIDES.items():
        rows = [pair[short] for pair in given["pairs"]]
        for key, name in (
            ("logp", f"{side}_token_logps"),
            ("ref", f"ref_{side}_token_logps"),
            ("ids", f"{side}_ids"),
            ("segment", f"{side}_segments"),
        ):
            if key in rows[0]:
                tensors[name] = pad_sequence([double(row[key]) for row in rows], batch_first=True)
        tensors[f"{side}_mask"] = pad_sequence(
            [double([1.0] * len(row["ids"])) for row in rows], batch_first=True
        ).bool()
        if given["params"].get("aligned"):
            tensors[f"{side}_log_sum_p2"] = pad_sequence(
                [double(row["sum_p2"]).log() for row in rows], batch_first=True
            )
    if "alpha" in given["pairs"][0]:
        tensors["label_smoothing"] = double([pair["alpha"] for pair in given["pairs"]])
    options = options_of(given["loss"], given["params"])
    check_result(make_loss(given["loss"], **options)(tensors), vector["expected"])
    if "visits" in given:
        from alignment.losses.tokens import visit_smoothing

        chosen, rejected = double(given["visits"]).T
        near(visit_smoothing(chosen, rejected), [pair["alpha"] for pair in given["pairs"]])


def check_label_smoothing(vector: Case) -> None:
    from alignment.losses.tokens import visit_smoothing

    visits = [double([vector["input"][key]]) for key in ("N_chosen", "N_rejected")]
    assert set(vector["expected"]) == {"capped", "uncapped"}
    near(visit_smoothing(*visits)[0], vector["expected"]["capped"])
    near(visit_smoothing(*visits, capped=False)[0], vector["expected"]["uncapped"])


PREFERENCE_KINDS: dict[str, Callable[[Case], None] | None] = {
    "pair_loss": check_pair_loss,
    "token_loss": check_token_loss,
    "label_smoothing": check_label_smoothing,
    **SEARCH_KINDS,
}


def check_kl_bon(case: Case) -> None:
    from alignment.bon import kl_bon

    near(kl_bon(case["n"]), case["kl_nats"], 1e-9)


def check_weights_small(case: Case) -> None:
    from fractions import Fraction

    from alignment.bon import rank_weights

    weights = rank_weights(case["N"], case["n"])
    near(weights[np.array(case["ranks"]) - 1], case["weights"])
    near(weights[np.array(case["ranks"]) - 1], [float(Fraction(w)) for w in case["weights_fraction"]])
    assert weights[: case["ranks"][0] - 1].tolist() == [0.0] * (case["ranks"][0] - 1)


def check_weights_large(case: Case) -> None:
    from alignment.bon import rank_weights

    weight = rank_weights(case["N"], case["n"])[case["rank"] - 1]
    np.testing.assert_allclose(weight, case["weight"], rtol=1e-9, atol=0)


def check_curve(proxy: Any, gold: Any, rows: list[Case]) -> None:
    """Every tie rule that the rows name; rows with plain `gold` hold for each of them."""
    from alignment.bon import TIES, rank_pool

    ns = [row["n"] for row in rows]
    for ties in TIES:
        found, scores = rank_pool(proxy, gold, ties=ties).curve(ns)
        near(found[0], [row[f"gold_{ties}" if f"gold_{ties}" in row else "gold"] for row in rows], 1e-9)
        if "proxy" in rows[0]:
            near(scores[0], [row["proxy"] for row in rows], 1e-9)


def check_bon_small(case: Case) -> None:
    check_curve(case["proxy"], case["gold"], case["expected"])


def check_bon_large(case: Case) -> None:
    i = np.arange(case["N"], dtype=np.int64)
    a, b, m = case["proxy_params"]
    c, d, q = case["gold_params"]
    check_curve(((a * i + b) % m) / m, ((c * i * i + d * i) % q) / q, case["expected"])


def check_aggregation(case: Case) -> None:
    from alignment.rewards.aggregation import aggregate

    scores = np.array(case["scores_members_by_samples"]).T
    worst = aggregate(scores, "wco")
    near(worst.rewards, case["wco"], 1e-9)
    assert worst.lowest.tolist() == case["wco_member"]
    near(aggregate(scores, "mean").rewards, case["mean"], 1e-9)
    for ddof, name in enumerate(("population", "sample")):
        near(aggregate(scores, "uwo", ddof=ddof).variance, case[f"variance_{name}"], 1e-9)
        for lam, expected in case[f"uwo_{name}"].items():
            near(aggregate(scores, "uwo", lam=float(lam), ddof=ddof).rewards, expected, 1e-9)


def check_ensemble_bon(case: Case) -> None:
    from alignment.bon import rank_pool
    from alignment.rewards.aggregation import aggregate

    scores = np.array([prompt["member_scores"] for prompt in case["prompts"]]).transpose(0, 2, 1)
    gold = np.array([prompt["gold"] for prompt in case["prompts"]])
    ddof = {"population": 0, "sample": 1}[case["uwo_variance"]]
    for key, expected in case["expected_gold_by_n_1_to_N"].items():
        name, _, value = key.partition(":")
        if name == "single":
            proxy = scores[..., int(value)]
        else:
            options = {"lam": float(value), "ddof": ddof} if value else {}
            proxy = aggregate(scores, name, **options).rewards
        found, _ = rank_pool(proxy, gold).curve(range(1, case["N"] + 1))
        near(found.mean(axis=0), expected, 1e-9)


def check_kl_estimators(case: Case) -> None:
    from alignment.kl import kl_sequences

    logps, ref, mask = (double(case[key]) for key in ("logp_policy", "logp_ref", "mask"))
    for name in ("k1", "k2", "k3"):
        near(kl_sequences(logps, ref, mask, name).mean(), case[f"{name}_seq_sum_batch_mean"], 1e-9)
    ratio = kl_sequences(logps, ref, mask, "k1")
    near((ratio**2 / 2).mean(), case["k2_of_sequence_logratio_batch_mean"], 1e-9)


def check_scaling_law(case: Case) -> None:
    from alignment.scaling_laws import fit_law

    for form in ("bon", "rl"):
        law = fit_law(case["d"], case[form], form)
        near([law.a, law.b], [case["alpha"], case["beta"]], 1e-9)
        near(law(case["d"]), case[form], 1e-9)
        np.testing.assert_allclose(law.peak, (case[f"{form}_peak_d"], case[f"{form}_peak_R"]), rtol=1e-9)


BON_SECTIONS: dict[str, Callable[[Case], None] | None] = {
    "kl_bon": check_kl_bon,
    "weights_small": check_weights_small,
    "weights_large": check_weights_large,
    "bon_small": check_bon_small,
    "bon_large": check_bon_large,
    "aggregation": check_aggregation,
    "ensemble_bon": check_ensemble_bon,
    "kl_estimators": check_kl_estimators,
    "scaling_law": check_scaling_law,
    "bon_all_tied": check_bon_small,
}
