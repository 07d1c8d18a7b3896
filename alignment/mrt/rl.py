"""MRT (RL): progress as reward and advantage of on-policy updates (arXiv 2503.07572), in three forms.

A group is one prefix of an older policy's trace; `G` rollouts of the present policy think on from there and
`m` forced stops answer at once, which measures J(prefix). J_i is J behind rollout i's own next episodes.

- `bonus` (a): outcome_i + alpha (J_i - J(prefix)), against the mean of the group's others.
- `mixed` (b): rollouts and stops are one group, so that stopping now is an action with an advantage.
- `termination` (c): outcome_i + alpha (J_i - J(prefix)) - J(prefix): what thinking on brought over stopping;
  with alpha 0 it is the README of the authors' code.
- `outcome`: the comparison, outcome against the mean of the others; no stops.

**A term that is constant in the group does nothing** against any baseline of the group's own: J(prefix)
cancels in (a), where only J_i, which differs by rollout, acts. With J_i = outcome_i the advantages are merely
scaled by 1 + alpha. In (c) J(prefix) is the baseline and so does not cancel.

Departures: no KL to a reference, one update a batch. The authors' training code for this is not public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from alignment.mrt.decoding import Ids
from alignment.mrt.progress import FloatArray, j_curve
from alignment.mrt.prover import Prover, Stop
from alignment.mrt.traces import Question, Trace, read_completion
from alignment.mrt.updates import Row
from codegen_eval.errors import CodealignError, unknown

Form = Literal["bonus", "mixed", "termination", "outcome"]
FORMS: tuple[str, ...] = get_args(Form)
Rewards = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How groups are drawn and scored.

    Attributes:
        form: See above.
        alpha: Weight of progress, 0 or more.
        rollouts: Of each prefix, 2 or more.
        stops: Forced stops behind the prefix, and behind each rollout's next episodes.
        ahead: How many episodes of its own a rollout is credited with; 0 for all.
    """

    form: Form = "bonus"
    alpha: float = 1.0
    rollouts: int = 4
    stops: int = 4
    ahead: int = 1

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)
        if self.rollouts < 2 or self.stops < 1 or self.ahead < 0 or not 0 <= self.alpha < float("inf"):
            raise CodealignError(
                f"rollouts {self.rollouts} must be 2 or more, stops {self.stops} 1 or more, ahead "
                f"{self.ahead} and alpha {self.alpha} 0 or more"
            )
        if self.form == "outcome" and self.alpha:
            raise CodealignError(f"alpha is {self.alpha}, but the form 'outcome' has no progress: give 0")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A question with the first episodes of an older policy's thinking; `number` tells prefixes apart."""

    question: Question
    number: int
    prompt: Ids
    thinking: Ids


@dataclass(frozen=True, slots=True)
class Group:
    """What was drawn of one prefix.

    Attributes:
        prefix: Where all start.
        rollouts: Thinking on; their `thinking` holds the prefix.
        ends: J_i of each; None where it is unknown or not asked for.
        stops: Forced stops behind the prefix; none for the form `outcome`.
    """

    prefix: Prefix
    rollouts: tuple[Trace, ...]
    ends: tuple[float | None, ...]
    stops: tuple[Stop, ...]


def group_advantages(
    form: Form, outcomes: Rewards, ends: Rewards, stopped: Rewards, alpha: float
) -> tuple[list[float | None], list[float | None]]:
    """Advantages of the rollouts and of the stops (none but in `mixed`); None drops the row.

    A reward that nobody knows is no reward of 0: its row is dropped, and a row that is left alone in its
    group says nothing. Where J(prefix) is needed and no stop is known, the whole group is dropped.

    Args:
        form: See the head of this module.
        outcomes: Of the rollouts, in [0, 1].
        ends: J_i; looked at only where alpha is above 0.
        stopped: Rewards of the stops behind the prefix.
        alpha: Weight of progress.

    Raises:
        CodealignError: For unequal numbers of outcomes and ends.
    """
    if len(outcomes) != len(ends):
        raise CodealignError(f"{len(outcomes)} rollouts need as many J, got {len(ends)}")
    known_stops = [reward for reward in stopped if reward is not None]
    if form != "outcome" and not known_stops:
        return [None] * len(outcomes), [None] * (len(stopped) if form == "mixed" else 0)
    start = float(j_curve([known_stops])[0]) if known_stops else 0.0
    rewards: list[float | None] = []
    for outcome, end in zip(outcomes, ends, strict=True):
        if outcome is None or (alpha > 0 and end is None):
            rewards.append(None)
        else:
            rewards.append(outcome + (alpha * (end - start) if alpha > 0 and end is not None else 0.0))
    if form == "termination":
        return [None if reward is None else reward - start for reward in rewards], []
    members = rewards + (list(stopped) if form == "mixed" else [])
    centred = left_one_out(members)
    return centred[: len(rewards)], centred[len(rewards) :]


def left_one_out(rewards: Rewards) -> list[float | None]:
    """Reward minus the mean of the others of known reward (`onpolicy.advantages.rloo_advantages`)."""
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [None] * len(rewards)
    total, others = sum(known), len(known) - 1
    return [None if reward is None else reward - (total - reward) / others for reward in rewards]


def draw_prefixes(
    prover: Prover, questions: Sequence[Question], seed: int, *, whole: bool = False
) -> list[Prefix]:
    """One prefix of each question by the present policy, cut behind a random number of whole episodes.

    At least one episode of the trace is left off, so that there is something to think; with `whole` nothing
    is kept and all start from the question.
    """
    rng = np.random.default_rng([seed, 3])
    found = []
    traces = [] if whole else [of[0] for of in prover.sample(questions, count=1, seed=seed)]
    for place, question in enumerate(questions):
        prompt = prover.prompt_ids(question)
        thinking: Ids = ()
        if not whole and traces[place].cuts:
            places = (0, *traces[place].cuts)
            thinking = traces[place].thinking[: places[int(rng.integers(len(places) - 1))]]
        found.append(Prefix(question, place, prompt, thinking))
    return found


def draw_groups(prover: Prover, prefixes: Sequence[Prefix], options: StepOptions, seed: int) -> list[Group]:
    """Rollouts and forced stops of the present policy behind each prefix."""
    decoder, style, tokenizer = prover.decoder, prover.style, prover.tokenizer
    keys = [f"{prefix.question.key}/{prefix.number}" for prefix in prefixes]
    contexts = [prefix.prompt + prefix.thinking for prefix in prefixes]
    # The prefix is part of the trace: what is left of its length is the rollouts'.
    rooms = [max(1, prover.thinking_length - len(prefix.thinking)) for prefix in prefixes]
    drawn = decoder.complete(contexts, keys, count=options.rollouts, length=rooms, seed=seed)
    rollouts = []
    for prefix, of in zip(prefixes, drawn, strict=True):
        for i, completion in enumerate(of):
            new = read_completion(tokenizer, style, prefix.question, i, prefix.prompt, completion)
            rollouts.append(_behind(prefix, new))
    stops: list[tuple[Stop, ...]] = [()] * len(prefixes)
    if options.form != "outcome":
        empty = [
            Trace(prefix.question, prefix.number, context, (), (), False, (), None)
            for prefix, context in zip(prefixes, contexts, strict=True)
        ]
        stops = [one.stops[0] for one in prover.judge(empty, stops=options.stops, seed=seed + 1)]
    ends: list[float | None] = [None] * len(rollouts)
    if options.alpha > 0:
        ends = _ends(prover, prefixes, rollouts, options, seed + 2)
    n = options.rollouts
    return [
        Group(prefix, tuple(rollouts[i * n : (i + 1) * n]), tuple(ends[i * n : (i + 1) * n]), stops[i])
        for i, prefix in enumerate(prefixes)
    ]


def _behind(prefix: Prefix, new: Trace) -> Trace:
    """A rollout with its prefix as part of its thinking; the episodes are the new ones."""
    at = len(prefix.thinking)
    return Trace(
        new.question,
        new.number,
        new.prompt,
        (*prefix.thinking, *new.thinking),
        new.ending,
        new.ended,
        tuple(at + cut for cut in new.cuts),
        new.outcome,
    )


def _ends(
    prover: Prover, prefixes: Sequence[Prefix], rollouts: Sequence[Trace], options: StepOptions, seed: int
) -> list[float | None]:
    """J behind each rollout's next episodes: of its prefix, where it thinks no more."""
    shortened = []
    for i, rollout in enumerate(rollouts):
        prefix = prefixes[i // options.rollouts]
        at = len(prefix.thinking)
        if rollout.cuts:
            at = rollout.cuts[-1 if options.ahead == 0 else min(options.ahead, len(rollout.cuts)) - 1]
        # As a prompt, so that one place of each is judged and not all of its episodes.
        context = rollout.prompt + rollout.thinking[:at]
        shortened.append(Trace(rollout.question, i, context, (), (), False, (), None))
    found = []
    for one in prover.judge(shortened, stops=options.stops, seed=seed):
        known = [stop.reward for stop in one.stops[0] if stop.reward is not None]
        found.append(float(np.mean(known)) if known else None)
    return found


def training_rows(groups: Sequence[Group], options: StepOptions, stop_ids: Ids, end: int) -> list[Row]:
    """Rows whose tokens weigh their advantage: those that the policy drew, and in `mixed` stops and answers.

    The loss of a step is -sum(weight x log pi) / rows, the policy gradient with sequence sums.
    """
    rows = []
    for group in groups:
        rollouts, stops = group_advantages(
            options.form,
            [rollout.outcome for rollout in group.rollouts],
            group.ends,
            [stop.reward for stop in group.stops],
            options.alpha,
        )
        start = len(group.prefix.prompt) + len(group.prefix.thinking)
        for rollout, advantage in zip(group.rollouts, rollouts, strict=True):
            if advantage is None:
                continue
            ids = (*rollout.prompt, *rollout.thinking, *rollout.ending)
            ids = (*ids, end) if rollout.ended else ids
            if len(ids) > start:
                rows.append(_weighted(ids, start, advantage))
        for stop, advantage in zip(group.stops, stops or [None] * len(group.stops), strict=True):
            if advantage is not None:
                ids = (*group.prefix.prompt, *group.prefix.thinking, *stop_ids, *stop.ids)
                rows.append(_weighted((*ids, end) if stop.ended else ids, start, advantage))
    return rows


def _weighted(ids: Ids, start: int, advantage: float) -> Row:
    return Row(ids, (*[0.0] * start, *[advantage] * (len(ids) - start)))


def mean_of(values: Sequence[float | None]) -> float:
    """Mean of what is known; NaN for nothing."""
    known: FloatArray = np.array([value for value in values if value is not None], dtype=np.float64)
    return float(known.mean()) if known.size else float("nan")


def step_figures(groups: Sequence[Group]) -> dict[str, float]:
    """What a step is logged with."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    stops = [stop for group in groups for stop in group.stops]
    starts = [mean_of([stop.reward for stop in group.stops]) for group in groups]
    gains = [
        end - start
        for group, start in zip(groups, starts, strict=True)
        for end in group.ends
        if end is not None and start == start
    ]
    return {
        "outcome": mean_of([rollout.outcome for rollout in rollouts]),
        "finished": mean_of([float(rollout.finished) for rollout in rollouts]),
        "new_episodes": mean_of([float(len(rollout.cuts)) for rollout in rollouts]),
        "j_prefix": mean_of([stop.reward for stop in stops]),
        "progress": mean_of(gains),
    }
