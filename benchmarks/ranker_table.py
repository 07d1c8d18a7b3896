"""The numbers of rankers_minipy.py and losses_minipy.py as a table: pure functions on what its steps left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen_eval.metrics.multiple import holm
from codegen_eval.metrics.paired import permutation_test
from codegen_eval.metrics.statistics import Interval, bootstrap_ratio, paired_difference

LEVEL = 0.05
UNTRAINED, CHANCE = "untrained", "random"
NUMBERS = ["pairs a seed", "problems with a pair", "right pairs", "inverted", "pass@1", "over untrained"]


@dataclass(frozen=True, slots=True)
class Audited:
    """A pair by the hidden tests: its problem, and which of its two texts are right."""

    task_id: str
    chosen: bool
    rejected: bool


@dataclass(frozen=True, slots=True)
class Way:
    """What one way of making pairs came to.

    Attributes:
        pairs: The audited pairs of each seed; empty for the untrained model.
        shares: (seeds, problems) right programs of the evaluated model, problems in one order for all ways.
        asked: Training problems that pairs could have come from, of one seed.
    """

    pairs: Sequence[Sequence[Audited]]
    shares: NDArray[np.float64]
    asked: int

    @property
    def means(self) -> NDArray[np.float64]:
        """Right programs of each problem (problems,), over the seeds."""
        return np.asarray(self.shares.mean(axis=0))


@dataclass(frozen=True, slots=True)
class Difference:
    """Second way minus first on the same problems; the p value is corrected for all comparisons."""

    first: str
    second: str
    value: float
    p_value: float


def right_pairs(seeds: Sequence[Sequence[Audited]]) -> Interval:
    """Share of pairs whose chosen text is right and whose rejected one is wrong; problems are resampled.

    A problem's pairs of all seeds belong together.
    """
    return _share(seeds, lambda pair: pair.chosen and not pair.rejected)


def inverted_pairs(seeds: Sequence[Sequence[Audited]]) -> Interval:
    """Share of pairs whose chosen text is wrong and whose rejected one is right."""
    return _share(seeds, lambda pair: pair.rejected and not pair.chosen)


def _share(seeds: Sequence[Sequence[Audited]], counts: Any) -> Interval:
    hits: dict[str, int] = {}
    all_of: dict[str, int] = {}
    for pair in (pair for pairs in seeds for pair in pairs):
        all_of[pair.task_id] = all_of.get(pair.task_id, 0) + 1
        hits[pair.task_id] = hits.get(pair.task_id, 0) + bool(counts(pair))
    names = sorted(all_of)
    return bootstrap_ratio([hits[name] for name in names], [all_of[name] for name in names])


def differences(ways: Mapping[str, Way]) -> list[Difference]:
    """Every two trained ways by a paired permutation test over problems, Holm-corrected, surest first.

    A problem's value is its share of right programs over all seeds, so the test says what holds for these
    seeds' models on other problems like these; how far seeds differ is a column of the table.
    """
    pairs = list(combinations([name for name in ways if name != UNTRAINED], 2))
    if not pairs:
        return []
    raw = [permutation_test(ways[a].means, ways[b].means) for a, b in pairs]
    found = [
        Difference(a, b, float((ways[b].means - ways[a].means).mean()), float(p))
        for (a, b), p in zip(pairs, holm(raw), strict=True)
    ]
    return sorted(found, key=lambda d: (d.p_value, -abs(d.value)))


def table(ways: Mapping[str, Way], what: str = "pairs from", base: str = CHANCE) -> str:
    """Markdown: a row a way with 95 % intervals over problems, then which ways differ.

    Args:
        ways: The ways by name, with the untrained model.
        what: What a way is.
        base: The way that the others are set against.
    """
    heads = [what, *NUMBERS, f"over {base}", "pass@1 by seed"]
    lines = [heads, ["---"] * len(heads)]
    lines += [_row(name, way, ways, base) for name, way in ways.items()]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\n{verdict(differences(ways))}"


def verdict(found: Sequence[Difference]) -> str:
    """Which ways differ, in words."""
    if not found:
        return "One way alone: nothing to compare.\n"
    sure = [d for d in found if d.p_value < LEVEL]
    head = (
        f"{len(sure)} of {len(found)} differences in pass@1 are surer than p < {LEVEL} (paired permutation "
        "test over problems, means over seeds, Holm-corrected for all of them)"
    )
    if not sure:
        return f"{head}: no two ways are shown to differ. The nearest is {_said(found[0])}.\n"
    return f"{head}:\n\n" + "".join(f"- {_said(difference)}\n" for difference in sure)


def _said(d: Difference) -> str:
    p_value = "p < 0.001" if d.p_value < 0.001 else f"p = {d.p_value:.3f}"
    return f"{d.second} - {d.first}: {d.value:+.3f}, {p_value}"


def _row(name: str, way: Way, ways: Mapping[str, Way], base: str) -> list[str]:
    seeds = ", ".join(f"{share.mean():.3f}" for share in way.shares)
    made = [pairs for pairs in way.pairs if pairs]
    numbers = ["–"] * 4
    if made:
        tasks = [len({pair.task_id for pair in pairs}) / way.asked for pairs in way.pairs]
        numbers = [
            f"{np.mean([len(pairs) for pairs in way.pairs]):.0f}",
            f"{np.mean(tasks):.2f}",
            _interval(right_pairs(way.pairs), "{:.2f}"),
            _interval(inverted_pairs(way.pairs), "{:.2f}"),
        ]
    return [
        name,
        *numbers,
        f"{way.means.mean():.3f}",
        *(_over(ways.get(other), way) if other != name else "–" for other in (UNTRAINED, base)),
        seeds,
    ]


def _over(base: Way | None, way: Way) -> str:
    return "–" if base is None else _interval(paired_difference(base.means, way.means), "{:+.3f}")


def _interval(found: Interval, form: str) -> str:
    return f"{form} [{form}, {form}]".format(found.value, found.low, found.high)
