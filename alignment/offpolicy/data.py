"""Scored answers from files, checked row by row: several answers of one prompt, each with its reward.

A row holds `prompt`, `completions` and `rewards`, as `codealign score` writes them; or one answer of a prompt
(`prompt`, `completion`, `reward`), and the answers of equal prompts are put together. Answers without a
reward (null: the sandbox failed on them) are left out, never taken for worthless ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignment.preference.data import load
from alignment.rewards.shaping import minus_kl
from codegen_eval.errors import CodealignError

FILE = "scored.jsonl"
_GROUPED = ("prompt", "completions", "rewards")
_SINGLE = ("prompt", "completion", "reward")
_LOGPS = ("logps", "ref_logps")


@dataclass(frozen=True, slots=True)
class Candidates:
    """The answers of one prompt that have a reward, in the order of the file, each text once.

    Attributes:
        prompt: Text.
        completions: One or more.
        rewards: Finite numbers.
    """

    prompt: str
    completions: tuple[str, ...]
    rewards: tuple[float, ...]


def load_candidates(
    name: str, split: str = "train", *, kl_coef: float = 0.0
) -> tuple[list[Candidates], Counter[str]]:
    """Reads scored answers.

    Args:
        name: A JSONL file, a run directory of `codealign score`, a folder of Parquet files, a saved
            `datasets` folder or a hub id.
        split: Which split, for a hub id or a folder with several.
        kl_coef: Times log p - log p_ref of each answer, taken off its reward (columns `logps`, `ref_logps`,
            or `logp` and `ref_logp` for one answer a row); 0 reads no such column.

    Returns:
        The prompts with at least one scored answer, and what was left out: `no_reward`, `repeated`,
        `prompts_without_reward`.

    Raises:
        CodealignError: For missing columns, lists of unequal length, a text or number that is none.
    """
    dataset = load(name, split, FILE)
    columns = set(dataset.column_names)
    grouped = set(_GROUPED) <= columns
    if not grouped and not set(_SINGLE) <= columns:
        raise CodealignError(
            f"{name} needs the columns {', '.join(_GROUPED)} (or {', '.join(_SINGLE)}); found: "
            f"{', '.join(dataset.column_names) or 'none'}"
        )
    logps = _LOGPS if grouped else ("logp", "ref_logp")
    if kl_coef and not set(logps) <= columns:
        raise CodealignError(f"kl_coef is {kl_coef}, which needs the columns {' and '.join(logps)} in {name}")
    counts: Counter[str] = Counter()
    found: dict[str, dict[str, float]] = {}
    for number, row in enumerate(dataset):
        where = f"{name}, row {number}"
        prompt, texts, rewards = _answers(row, grouped, where)
        if kl_coef:
            own, ref = (row[column] if grouped else [row[column]] for column in logps)
            if not all(isinstance(part, list) and len(part) == len(texts) for part in (own, ref)):
                raise CodealignError(f"{where}: {' and '.join(logps)} need one number a completion")
            try:
                rewards = minus_kl(rewards, own, ref, kl_coef)
            except CodealignError as error:
                raise CodealignError(f"{where}: {error}") from None
        _collect(found.setdefault(prompt, {}), texts, rewards, counts)
    counts["prompts_without_reward"] = sum(not answers for answers in found.values())
    kept = [Candidates(p, tuple(answers), tuple(answers.values())) for p, answers in found.items() if answers]
    if not kept:
        raise CodealignError(f"{name} holds no answer with a reward")
    return kept, counts


def _answers(
    row: Mapping[str, Any], grouped: bool, where: str
) -> tuple[str, Sequence[str], Sequence[float | None]]:
    """A row's prompt, texts and rewards."""
    prompt = row["prompt"]
    texts = row["completions"] if grouped else [row["completion"]]
    rewards = row["rewards"] if grouped else [row["reward"]]
    if not isinstance(prompt, str) or not prompt:
        raise CodealignError(f"{where}: prompt is no text, or an empty one")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise CodealignError(f"{where}: completions must be texts")
    if not isinstance(rewards, list) or len(rewards) != len(texts):
        count = len(rewards) if isinstance(rewards, list) else 0
        raise CodealignError(f"{where}: {len(texts)} completions have {count} rewards")
    for place, reward in enumerate(rewards):
        number = isinstance(reward, int | float) and not isinstance(reward, bool)
        if reward is not None and not (number and math.isfinite(reward)):
            raise CodealignError(f"{where}: reward {place} is {reward!r}: give a finite number, or null")
    return prompt, texts, rewards


def _collect(
    answers: dict[str, float], texts: Iterable[str], rewards: Iterable[float | None], counts: Counter[str]
) -> None:
    """Adds answers that have a reward; of equal ones the first counts."""
    for text, reward in zip(texts, rewards, strict=True):
        if reward is None:
            counts["no_reward"] += 1
        elif text in answers:
            counts["repeated"] += 1
        else:
            answers[text] = float(reward)


def best_of(
    candidates: Sequence[Candidates], top: int, min_reward: float | None
) -> tuple[list[Candidates], Counter[str]]:
    """RAFT's choice (arXiv 2304.06767, algorithm 1): of each prompt the `top` answers of highest reward.

    Args:
        candidates: Scored answers.
        top: How many of each prompt; of equal ones those that come first.
        min_reward: Answers below it are never kept; None for no bound.

    Returns:
        One entry for each kept answer, and the counts `kept`, `not_kept`, `prompts_without_kept`.

    Raises:
        CodealignError: If nothing is kept.
    """
    kept: list[Candidates] = []
    counts: Counter[str] = Counter()
    for entry in candidates:
        ranked = sorted(zip(entry.completions, entry.rewards, strict=True), key=lambda pair: -pair[1])
        good = [(text, reward) for text, reward in ranked if min_reward is None or reward >= min_reward][:top]
        kept += [Candidates(entry.prompt, (text,), (reward,)) for text, reward in good]
        counts["not_kept"] += len(ranked) - len(good)
        counts["prompts_without_kept"] += not good
    counts["kept"] = len(kept)
    if not kept:
        highest = max(max(entry.rewards) for entry in candidates)
        raise CodealignError(
            f"no answer has a reward of min_reward={min_reward} or more (highest: {highest:g}); lower it"
        )
    return kept, counts


def ranked_groups(
    candidates: Sequence[Candidates], most: int | None, min_reward: float | None
) -> tuple[list[Candidates], Counter[str]]:
    """RRHF's groups: the answers of each prompt, as many as memory allows.

    Args:
        candidates: Scored answers.
        most: Answers of one prompt; of more the best, the worst, and those at equal distances between.
        min_reward: A prompt whose best answer is below it is left out, as imitating that would teach what is
            wrong; None for no bound.

    Returns:
        The groups, and the counts `kept`, `not_kept`, `prompts_below_min_reward`, `groups_without_order`
        (all rewards equal: such a group is only imitated).

    Raises:
        CodealignError: If nothing is kept.
    """
    kept: list[Candidates] = []
    counts: Counter[str] = Counter()
    for entry in candidates:
        if min_reward is not None and max(entry.rewards) < min_reward:
            counts["prompts_below_min_reward"] += 1
            continue
        chosen = list(range(len(entry.rewards)))
        if most is not None and len(chosen) > most:
            order = sorted(chosen, key=lambda i: -entry.rewards[i])
            step = (len(order) - 1) / (most - 1)
            chosen = sorted(order[round(i * step)] for i in range(most))
        counts["not_kept"] += len(entry.rewards) - len(chosen)
        texts, rewards = [entry.completions[i] for i in chosen], [entry.rewards[i] for i in chosen]
        counts["groups_without_order"] += len(set(rewards)) == 1
        kept.append(Candidates(entry.prompt, tuple(texts), tuple(rewards)))
    counts["kept"] = sum(len(entry.rewards) for entry in kept)
    if not kept:
        highest = max(max(entry.rewards) for entry in candidates)
        raise CodealignError(
            f"no prompt has an answer of min_reward={min_reward} or more (highest: {highest:g}); lower it"
        )
    return kept, counts
