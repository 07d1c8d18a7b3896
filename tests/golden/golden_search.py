"""Handlers of preference.json: tree search and MRT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Case = dict[str, Any]


def near(value: Any, expected: Any) -> None:
    np.testing.assert_allclose(
        np.asarray(value, dtype=float), np.asarray(expected, dtype=float), 1e-10, 1e-10
    )


def check_puct(vector: Case) -> None:
    from alignment.search.puct import puct_scores, step_priors

    given, expected = vector["input"], vector["expected"]
    columns = {key: [child[key] for child in given["children"]] for key in ("Q", "N", "logp", "len")}
    priors = step_priors(columns["logp"], columns["len"], given["length_penalty"])
    scores = puct_scores(columns["Q"], columns["N"], priors, given["N_parent"], given["c_puct"])
    near(priors, expected["priors"])
    near(scores, expected["scores"])
    assert int(scores.argmax()) == expected["selected"]


def check_node_value(vector: Case) -> None:
    from alignment.search.puct import length_penalised_value, node_value

    given, expected = vector["input"], vector["expected"]
    outcome = given["outcome"] if given["terminal"] else 0
    near(node_value(outcome, given["confidence"]), expected["paper"])
    value = length_penalised_value(
        outcome,
        given["confidence"],
        parent_depth=given["parent_depth"],
        parent_value=given["parent_value"],
    )
    near(value, expected["length_penalised"])


def check_backup(vector: Case) -> None:
    from alignment.search.tree import Step, Tree

    given = vector["input"]
    rewards = {node["id"]: node["R"] for node in given["nodes"]}
    below: dict[Any, list[str]] = {}
    for node in given["nodes"]:
        below.setdefault(node["parent"], []).append(node["id"])
    tree = Tree(gamma=given["gamma"], weights=given["weights"], root_twice=given["root_counted_twice"])
    numbers = {below[None][0]: 0}
    for path, expected in zip(given["paths"], vector["expected"]["after_each_path"], strict=True):
        for node in path[:-1]:
            if not tree["count"][numbers[node]]:
                steps = [Step((1,), -1.0, reward=rewards[child]) for child in below[node]]
                numbers.update(zip(below[node], tree.expand(numbers[node], steps), strict=True))
        tree.backup([numbers[node] for node in path])
        for node, figures in expected.items():
            if node not in numbers:
                assert (figures["N"], figures["V"], figures["Q"]) == (0, 0, 0)
                continue
            at = numbers[node]
            assert tree["visits"][at] == figures["N"]
            near(tree["v"][at], figures["V"])
            if figures["Q"] is not None:
                near(tree["q"][at], figures["Q"])


def stored_tree(root: str, nodes: list[Case]) -> tuple[Any, dict[str, int]]:
    """The vector's tree, and the numbers of its nodes; children in the order of the node list."""
    from alignment.search.tree import Step, Tree

    tree, numbers, waiting = Tree(), {root: 0}, [root]
    for name in waiting:
        children = [node["id"] for node in nodes if node["parent"] == name]
        if children:
            steps = [Step((1,), -1.0, reward=0.0) for _ in children]
            numbers.update(zip(children, tree.expand(numbers[name], steps), strict=True))
            waiting.extend(children)
    for node in nodes:
        tree["visits"][numbers[node["id"]]] = node["N"]
        tree["q"][numbers[node["id"]]] = node["Q"]
    return tree, numbers


def check_step_pairs(vector: Case) -> None:
    from alignment.search.pickers import VISITED, PairPicker

    given, expected = vector["input"], vector["expected"]
    tree, numbers = stored_tree(given["root"], given["nodes"])
    names = {number: name for name, number in numbers.items()}
    # The conventions know a gap for all_nodes alone.
    gap = given["min_q_gap"] if given["mode"] == "all_nodes" else None
    picker = PairPicker(given["mode"], given["rejected"], min_q_gap=gap, min_visits=0)
    pairs = picker.pick(tree)
    assert len(pairs) == len(expected["pairs"])
    for pair, wanted in zip(pairs, expected["pairs"], strict=True):
        for key in ("parent", "chosen", "rejected"):
            assert names[getattr(pair, key)] == wanted[key]
        near([pair.alpha, pair.q_gap], [wanted["alpha"], wanted["q_gap"]])
    assert [names[node] for node in VISITED[given["mode"]](tree, 0)] == expected["visited"]


def check_mrt_progress(vector: Case) -> None:
    from alignment.mrt.progress import j_curve, progress, rewards_to_go, star_cut, star_keep, trace_reward

    given, expected = vector["input"], vector["expected"]
    j = j_curve(given["rollouts"])
    gains = progress(j)
    found = {
        "J": j,
        "progress": gains,
        "total_progress": gains.sum(),
        "reward_trace_scalar": trace_reward(given["outcome"], gains, given["alpha"]),
        "reward_to_go": rewards_to_go(given["outcome"], gains, given["alpha"]),
        "star_cut": star_cut(j),
        "star_keep": star_keep(j, given["rollouts"]),
    }
    assert set(found) == set(expected)
    for key, value in found.items():
        near(value, expected[key])


def check_mrt_group(vector: Case) -> None:
    import torch

    from alignment.mrt.progress import bonus_rewards, j_curve, mixed_group, termination_advantages
    from alignment.onpolicy.advantages import grpo_advantages, rloo_advantages

    given, expected = vector["input"], vector["expected"]
    continued, alpha = given["continued"], given["alpha"]
    j_prefix = float(j_curve([given["terminated"]])[0])
    bonus = torch.tensor(bonus_rewards(continued, given["J_end"], j_prefix, alpha))
    mixed = torch.tensor(mixed_group(continued, given["terminated"]))
    outcomes = torch.tensor(continued, dtype=torch.float64)
    shifted = torch.tensor(bonus_rewards(continued, continued, j_prefix, alpha))
    n = len(continued)
    found = {
        "J_prefix": j_prefix,
        "termination_advantage": termination_advantages(continued, given["terminated"]),
        "bonus_reward": bonus,
        "grpo_continued_only": grpo_advantages(bonus, n),
        "rloo_continued_only": rloo_advantages(bonus, n),
        "grpo_mixed": grpo_advantages(mixed, len(mixed)),
        "rloo_mixed": rloo_advantages(mixed, len(mixed)),
        "rloo_shift_invariant": rloo_advantages(shifted, n),
        "rloo_outcome_scaled": (1 + alpha) * rloo_advantages(outcomes, n),
    }
    assert set(found) == set(expected)
    for key, value in found.items():
        near(value, expected[key])


def check_regret_discrete(vector: Case) -> None:
    from alignment.mrt.regret import cumulative_regret, normalised_regret, regret

    j, j_star = vector["input"]["J"], vector["input"]["J_star"]
    found = {
        "regret": regret(j, j_star),
        "regret_oracle_one": regret(j),
        "cumulative": cumulative_regret(j, j_star),
        "normalised": normalised_regret(j, j_star),
    }
    assert set(found) == set(vector["expected"])
    for key, value in found.items():
        near(value, vector["expected"][key])


def check_regret_tokens(vector: Case) -> None:
    from alignment.mrt.regret import token_regret

    given = vector["input"]
    assert set(vector["expected"]) == {"normalised_regret"}
    near(token_regret(given["J"], given["tokens"], given["budget"]), vector["expected"]["normalised_regret"])


def check_episode_split(vector: Case) -> None:
    from alignment.mrt.episodes import join_groups, paragraphs, split_episodes

    given = vector["input"]
    episodes = split_episodes(
        paragraphs(given["text"]), markers=given["markers"], max_steps=given["max_steps"]
    )
    assert [list(episode) for episode in episodes] == vector["expected"]["episodes"]
    groups = join_groups(episodes, given["group_size"])
    assert [list(group) for group in groups] == vector["expected"]["groups"]


SEARCH_KINDS: dict[str, Callable[[Case], None] | None] = {
    "puct": check_puct,
    "node_value": check_node_value,
    "backup": check_backup,
    "step_pairs": check_step_pairs,
    "mrt_progress": check_mrt_progress,
    "mrt_group": check_mrt_group,
    "regret_discrete": check_regret_discrete,
    "regret_tokens": check_regret_tokens,
    "episode_split": check_episode_split,
}
