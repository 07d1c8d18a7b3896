"""Handlers of rl.json: advantages, GAE, losses, KL, RRHF, execution rewards, PIE's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Case = dict[str, Any]


def near(value: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(value, dtype=float), np.asarray(expected, dtype=float), 1e-6, 1e-6)


def double(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def check_remax(case: Case) -> None:
    from alignment.kl import kl_tokens
    from alignment.onpolicy.advantages import remax_advantages, token_advantages
    from alignment.onpolicy.losses import aggregate, batch_size, reinforce_losses

    mask = double(case["mask"]).bool()
    whole = remax_advantages(
        double(case["rewards"]),
        double(case["greedy_rewards"]),
        case["num_generations"],
        clip=case["clip_difference"],
    )
    advantages = token_advantages(
        whole,
        mask,
        kl_tokens(double(case["logps"]), double(case["ref_logps"]), "k1"),
        beta=case["beta"],
        form=case["kl_mode"],
        gamma=case["gamma"],
        discounting=case["gamma_convention"],
    )
    near(advantages, case["expected_advantages"])
    losses = reinforce_losses(double(case["policy_logps"]), advantages, mask)
    for name, how in (("sequence_mean", "sequence_sum"), ("token_mean", "token_mean")):
        near(aggregate(losses, mask, how, batch_size(mask, how)), case[f"expected_loss_{name}"])


def check_gae(case: Case) -> None:
    from alignment.kl import kl_tokens
    from alignment.onpolicy.gae import gae, token_rewards
    from alignment.onpolicy.losses import aggregate, batch_size, ppo_losses, ratio_figures, value_losses
    from alignment.onpolicy.whitening import whiten

    mask = double(case["mask"]).bool()
    logps, values = double(case["logps"]), double(case["values"])
    kl = kl_tokens(logps, double(case["ref_logps"]), "k1")
    rewards = token_rewards(double(case["scores"]), mask, kl, beta=case["beta"])
    near(rewards, case["expected_token_rewards"])
    raw, returns = gae(rewards, values, mask, gamma=case["gamma"], lam=case["lam"])
    near(raw, case["expected_advantages_raw"])
    near(returns, case["expected_returns"])
    advantages = whiten(raw, mask, variance="population") if case["whiten"] else raw
    near(advantages, case["expected_advantages"])
    if case["whiten"]:
        near(whiten(raw, mask), case["expected_advantages_sample_variance"])
    new_logps, tokens = double(case["new_logps"]), batch_size(mask, "token_mean")
    policy = ppo_losses(new_logps, logps, advantages, mask, clip=case["cliprange"])
    near(aggregate(policy.losses, mask, "token_mean", tokens), case["expected_policy_loss"])
    figures = ratio_figures(policy, new_logps, logps, mask)
    near(figures["clip_fraction"], case["expected_policy_clip_fraction"])
    value = value_losses(double(case["new_values"]), values, returns, mask, clip=case["cliprange_value"])
    near(aggregate(value.losses, mask, "token_mean", tokens), case["expected_value_loss"])


def check_group(case: Case) -> None:
    from alignment.onpolicy.advantages import (
        grpo_advantages,
        reinforce_advantages,
        reinforce_pp_baseline_advantages,
        rloo_advantages,
        shaped_rewards,
    )

    rewards = shaped_rewards(double(case["rewards"]), double(case["sequence_kl"]), case["beta"])
    n, eps = case["num_generations"], case["std_eps"]
    found = {
        "rloo": rloo_advantages(rewards, n),
        "grpo_sample_std": grpo_advantages(rewards, n, eps=eps),
        "dr_grpo": grpo_advantages(rewards, n, scale="none"),
        "grpo_batch_std": grpo_advantages(rewards, n, scale="batch", eps=eps),
        "reinforce_batch_mean": reinforce_advantages(rewards),
        "reinforce_pp_baseline_sequence_level": reinforce_pp_baseline_advantages(rewards, n),
    }
    assert set(found) == set(case["expected"])
    for key, value in found.items():
        near(value, case["expected"][key])


def check_kl(case: Case) -> None:
    from alignment.kl import entropy, exact_kl, kl_tokens

    names = ("k1", "k2", "k3")
    if "logps" in case:
        assert set(case["expected"]) == set(names)
        for name in names:
            near(kl_tokens(double(case["logps"]), double(case["ref_logps"]), name), case["expected"][name])
        return
    logits, reference = double(case["logits"]), double(case["ref_logits"])
    logps, ref_logps = logits.log_softmax(-1), reference.log_softmax(-1)
    found = {"reverse_kl_exact": exact_kl(logits, reference), "entropy": entropy(logits)}
    for name in names:
        found[f"expectation_{name}"] = (logps.exp() * kl_tokens(logps, ref_logps, name)).sum()
    assert set(found) == set(case["expected"])
    for key, value in found.items():
        near(value, case["expected"][key])


def check_rrhf(case: Case) -> None:
    from alignment.onpolicy.rrhf import rrhf_loss

    sums, rewards = double(case["logp_sums"]), double(case["rewards"])
    options = {key: case[key] for key in ("length_penalty", "rank_weight")}
    expected = case["expected"]
    for imitation in ("sum", "token_mean"):
        found = rrhf_loss(sums, double(case["lengths"]), rewards, imitation=imitation, **options)
        near(found.scores, expected["scores"])
        near(found.rank_loss, expected["rank_loss"])
        assert found.best == expected["best_index"]
        near(found.sft_loss, expected[f"sft_loss_{imitation}"])
        near(found.loss, expected[f"loss_{imitation}"])
    repo = case["expected_repo_variant"]
    widths = double([float(repo["padded_width"])] * len(sums))
    found = rrhf_loss(sums, widths, rewards, imitation="token_mean", **options)
    for key in ("scores", "rank_loss", "sft_loss", "loss"):
        near(getattr(found, key), repo[key])


def check_execution_reward(case: Case) -> None:
    from alignment.rewards.execution import ExecutionReward, execution_reward

    table = ExecutionReward(**case["constants"])
    times = (case["runtime_s"], case["reference_runtime_s"])
    near(execution_reward(table, case["status"], case["passed"], case["total"], *times), case["expected"])


def check_pie(case: Case) -> None:
    from codegen_eval.metrics.efficiency import best_speedups, pie_scores

    problems = case["problems"]
    old = [problem["old_runtime_s"] for problem in problems]
    rows = [problem["candidates"] for problem in problems]
    new = [[np.nan if c["runtime_s"] is None else c["runtime_s"] for c in row] for row in rows]
    right = [[c["correct"] for c in row] for row in rows]
    k = len(rows[0])
    scores = pie_scores(old, new, right, k)
    less_time = pie_scores(old, new, right, k, threshold=1 / 0.9)
    speedups = best_speedups(old, new, right, k)
    found = {
        "percent_opt_relative_time_10": less_time.percent_optimised,
        "percent_opt_speedup_1_1": scores.percent_optimised,
        "percent_correct": scores.percent_correct,
        "mean_speedup_all_floor_1": scores.speedup_floor_1,
        "mean_speedup_improved_only": speedups[speedups >= 1 / 0.9].mean(),
    }
    assert set(found) == set(case["expected"])
    for key, value in found.items():
        near(value, case["expected"][key])


RL_SECTIONS: dict[str, Callable[[Case], None] | None] = {
    "remax": check_remax,
    "gae": check_gae,
    "group": check_group,
    "kl": check_kl,
    "rrhf": check_rrhf,
    "execution_reward": check_execution_reward,
    "pie": check_pie,
}


def rl_cases(kind: str, content: Any) -> list[Case]:
    """The cases of one section, whatever its form."""
    if kind == "kl":
        return [*content["samples"], *content["full"]]
    if kind == "execution_reward":
        return [{**case, "constants": content["configs"][case["config"]]} for case in content["cases"]]
    return list(content)
