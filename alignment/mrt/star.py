"""MRT (STaR): fine-tuning on traces chosen by their progress (Qu et al. 2025, arXiv 2503.07572).

Traces are sampled, J is measured behind every prefix, and those are kept that end, cut at the first prefix
of the largest J, in a right answer which the empty prefix could give less often. STaR by outcome, the
comparison, keeps right traces whole. Which of a prompt's traces is kept:

- `progress`: the largest J(cut) - J(empty), then the fewest tokens of thinking.
- `regret`: the smallest regret at a budget of tokens.
- `outcome`: any right trace, drawn (STaR, Zelikman et al. 2022, arXiv 2203.14465).
- `shortest`: the right trace with the fewest tokens of thinking, for comparison: no J in it.

Departure: the authors' filter is not public; `regret` is the one of this project's specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from alignment.mrt.curves import trace_regret
from alignment.mrt.decoding import Ids
from alignment.mrt.progress import star_cut, star_keep
from alignment.mrt.prover import Judged
from alignment.mrt.traces import Trace
from alignment.mrt.updates import Row
from codegen_eval.errors import CodealignError

Rule = Literal["progress", "regret", "outcome", "shortest"]
RULES: tuple[str, ...] = get_args(Rule)
JUDGING: tuple[Rule, ...] = ("progress", "regret")
"""Rules that need J."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is imitated of one prompt: a trace, how many of its episodes, and the answer behind them."""

    trace: Trace
    episodes: int
    answer: Ids | None

    @property
    def tokens(self) -> int:
        """Tokens of thinking that are kept."""
        return (0, *self.trace.cuts)[self.episodes]


def keep_right(traces: Sequence[Trace], rule: Rule, rng: np.random.Generator) -> Kept | None:
    """The trace of one prompt that STaR imitates, whole; None where none is right.

    Raises:
        CodealignError: For a rule that needs J.
    """
    if rule in JUDGING:
        raise CodealignError(f"the rule {rule!r} needs J: judge the traces first")
    right = [trace for trace in traces if trace.finished and trace.outcome == 1]
    if not right:
        return None
    if rule == "outcome":
        chosen = right[int(rng.integers(len(right)))]
    else:
        chosen = min(right, key=lambda trace: (len(trace.thinking), trace.number))
    return Kept(chosen, len(chosen.cuts), None)


def keep_judged(
    judged: Sequence[Judged], rule: Rule, *, budget: float, right_only: bool = True
) -> Kept | None:
    """The trace of one prompt that MRT (STaR) imitates, and where it is cut; None where none progressed.

    Traces with a prefix whose stops all have unknown rewards are left out.

    Args:
        judged: The prompt's traces.
        rule: `progress` or `regret`.
        budget: Tokens, for `regret`.
        right_only: Only traces whose own answer is right, too.

    Raises:
        CodealignError: For a rule that does not use J.
    """
    if rule not in JUDGING:
        raise CodealignError(f"the rule {rule!r} does not use J; there are: {', '.join(JUDGING)}")
    best: tuple[tuple[float, ...], Judged, int] | None = None
    for one in judged:
        if not fully_known(one) or (right_only and one.trace.outcome != 1):
            continue
        j = one.j
        if not star_keep(j, one.rewards):
            continue
        cut = star_cut(j)
        if rule == "progress":
            rank = (float(j[0] - j[cut]), float(one.places[cut]), float(one.trace.number))
        else:
            rank = (trace_regret(one, budget), float(one.places[cut]), float(one.trace.number))
        if best is None or rank < best[0]:
            best = (rank, one, cut)
    if best is None:
        return None
    _, chosen, cut = best
    answer = next(stop.ids for stop in chosen.stops[cut] if stop.reward == 1)
    return Kept(chosen.trace, cut, answer)


def fully_known(judged: Judged) -> bool:
    """Whether every prefix has a stop of known reward."""
    return all(any(stop.reward is not None for stop in of) for of in judged.stops)


def imitation_row(kept: Kept, stop_ids: Ids, end: int, *, learn_stop: bool = True) -> Row:
    """The row of a kept trace: prompt (read), thinking and answer (learned), end token.

    Args:
        kept: The trace.
        stop_ids: The forced stop, between cut thinking and its answer.
        end: Id of the end token.
        learn_stop: Whether the forced stop counts. The cut is where J is largest, so stopping there is what
            is to be learned; with cuts at random the model would learn to stop anywhere.
    """
    prompt, thinking = kept.trace.prompt, kept.trace.thinking[: kept.tokens]
    stop: Ids = () if kept.answer is None else stop_ids
    answer = kept.trace.ending if kept.answer is None else kept.answer
    weights = [0.0] * len(prompt) + [1.0] * len(thinking) + [float(learn_stop)] * len(stop)
    return Row((*prompt, *thinking, *stop, *answer, end), (*weights, *[1.0] * (len(answer) + 1)))
