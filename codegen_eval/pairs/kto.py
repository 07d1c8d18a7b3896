"""Pairs as single examples: `prompt`, `completion`, `label`, as KTO takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def kto_rows(pairs: Iterable[Mapping[str, Any]], funnel: Counter[str]) -> list[dict[str, Any]]:
    """Each text of the pairs once, in order of appearance.

    A text that is chosen in one pair and rejected in another is left out on both sides: it is neither
    desirable nor undesirable. `weight` is the probability that the label is right where the pair knows it
    (posterior pairs), else 1.

    Args:
        pairs: Rows of `pairs.jsonl`.
        funnel: Counts `kto_rows`, `kto_repeated` and `kto_on_both_sides`.
    """
    rows: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for pair in pairs:
        for side, label in (("chosen", True), ("rejected", False)):
            key = (str(pair["prompt"]), str(pair[side]), label)
            if key in rows:
                funnel["kto_repeated"] += 1
                continue
            rows[key] = {
                "prompt": pair["prompt"],
                "completion": pair[side],
                "label": label,
                "weight": pair[f"{side}_weight"],
                "kind": pair["kind"],
                "score": pair[f"{side}_score"],
                "task_id": pair["task_id"],
                "sha": pair[f"{side}_sha"],
                "ranker": pair["ranker"],
            }
    both = {(prompt, text) for prompt, text, label in rows if (prompt, text, not label) in rows}
    kept = [row for (prompt, text, _), row in rows.items() if (prompt, text) not in both]
    funnel["kto_on_both_sides"] += len(both)
    funnel["kto_rows"] += len(kept)
    return kept
