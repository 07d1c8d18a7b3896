"""One round of MRT (STaR): sample, judge, choose; plain rows come out, ready for a file and for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alignment.mrt.prover import Judged, Prover
from alignment.mrt.star import JUDGING, RULES, Kept, Rule, imitation_row, keep_judged, keep_right
from alignment.mrt.traces import Question, Trace
from alignment.mrt.updates import Row
from codegen_eval.errors import CodealignError, unknown


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """How one round chooses what to imitate.

    Attributes:
        traces: Sampled of each question.
        stops: Forced stops behind each prefix.
        rule: See star.py.
        budget: Tokens of thinking, for the rule `regret`.
        right_only: Whether traces must be right at their own end, too.
        learn_stop: Whether the forced stop of a cut trace counts in the loss.
    """

    traces: int = 4
    stops: int = 4
    rule: Rule = "regret"
    budget: float = 30.0
    right_only: bool = True
    learn_stop: bool = True

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown("rule", self.rule, RULES)
        if min(self.traces, self.stops) < 1 or not 0 < self.budget < float("inf"):
            raise CodealignError(
                f"traces {self.traces} and stops {self.stops} must be 1 or more, the budget {self.budget} "
                "above 0"
            )


def select(
    prover: Prover, questions: Sequence[Question], options: RoundOptions, seed: int
) -> list[dict[str, Any]]:
    """One plain row a question: what was sampled, and what of it is imitated (`ids`, `weights`; or none)."""
    sampled = prover.sample(questions, count=options.traces, seed=seed)
    judged: list[list[Judged]] = [[] for _ in questions]
    if options.rule in JUDGING:
        # A trace that was not right cannot be kept: its prefixes need no stops.
        asked = [trace for of in sampled for trace in of if not options.right_only or trace.outcome == 1]
        found = prover.judge(asked, stops=options.stops, seed=seed + 1) if asked else []
        places = {question.key: i for i, question in enumerate(questions)}
        for one in found:
            judged[places[one.trace.question.key]].append(one)
    rows = []
    for i, (question, traces) in enumerate(zip(questions, sampled, strict=True)):
        if options.rule in JUDGING:
            kept = keep_judged(judged[i], options.rule, budget=options.budget, right_only=options.right_only)
        else:
            # A generator of its own for each question: the draw must not depend on how questions are parted.
            rng = np.random.default_rng([seed, *question.key.encode()])
            kept = keep_right(traces, options.rule, rng)
        rows.append(_plain(prover, question, traces, judged[i], kept, options))
    return rows


def training_rows(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """What is imitated, from the rows of `select`.

    Raises:
        CodealignError: If nothing is.
    """
    found = [Row(tuple(row["ids"]), tuple(row["weights"])) for row in rows if row["ids"]]
    if not found:
        sampled, right = sum(row["traces"] for row in rows), sum(row["right"] for row in rows)
        raise CodealignError(
            f"none of {sampled} traces ({right} right) can be imitated: sample more of them, allow longer "
            "thinking, or take easier questions or a warm start"
        )
    return found


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What a round is logged with."""
    total = sum(row["traces"] for row in rows)
    kept = [row for row in rows if row["ids"]]
    return {
        "questions": len(rows),
        "kept": len(kept),
        "accuracy": sum(row["right"] for row in rows) / total,
        "unknown": sum(row["unknown"] for row in rows),
        "episodes": sum(row["episodes"] for row in rows) / total,
        "kept_episodes": float(np.mean([row["kept_episodes"] for row in kept])) if kept else float("nan"),
        "trace_tokens": sum(row["trace_tokens"] for row in rows),
        "stop_tokens": sum(row["stop_tokens"] for row in rows),
    }


def _plain(
    prover: Prover,
    question: Question,
    traces: Sequence[Trace],
    judged: Sequence[Judged],
    kept: Kept | None,
    options: RoundOptions,
) -> dict[str, Any]:
    row = None
    if kept is not None:
        row = imitation_row(kept, prover.stop_ids, prover.end, learn_stop=options.learn_stop)
    return {
        "key": question.key,
        "traces": len(traces),
        "right": sum(trace.outcome == 1 for trace in traces),
        "unknown": sum(trace.outcome is None for trace in traces),
        "episodes": sum(len(trace.cuts) for trace in traces),
        "kept_episodes": None if kept is None else kept.episodes,
        "trace_tokens": sum(len(trace.thinking) + len(trace.ending) for trace in traces),
        "stop_tokens": sum(len(stop.ids) for one in judged for of in one.stops for stop in of),
        "ids": [] if row is None else list(row.ids),
        "weights": [] if row is None else list(row.weights),
    }
