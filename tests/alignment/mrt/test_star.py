"""Which traces MRT (STaR) keeps, where it cuts them, and what of them counts in the loss."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.mrt.rounds import RoundOptions, figures, select, training_rows
from alignment.mrt.star import Kept, imitation_row, keep_judged, keep_right
from alignment.mrt.styles import episode_questions
from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import EpisodeTask
from tests.alignment.mrt.made_up import judged, prover

SLOW = judged([[0, 0], [0, 0], [0, 0], [1, 1]], number=0)
FAST = judged([[0, 0], [1, 1], [1, 1]], number=1)
WRONG_END = judged([[0, 0], [1, 1]], number=2, outcome=0.0)
NO_GAIN = judged([[1, 1], [1, 1]], number=3)


@pytest.mark.parametrize("rule", ["progress", "regret"])
def test_the_trace_that_is_right_soonest_is_kept_and_cut_at_its_first_best_prefix(rule: str) -> None:
    kept = keep_judged([SLOW, FAST, WRONG_END, NO_GAIN], rule, budget=12)  # type: ignore[arg-type]
    assert kept is not None and kept.trace is FAST.trace
    assert (kept.episodes, kept.tokens, kept.answer) == (1, 3, (70, 0))


def test_progress_counts_before_tokens_and_regret_sees_the_whole_curve() -> None:
    half = judged([[0, 0], [1, 0], [1, 0]], number=4)
    late = judged([[0, 0]] + [[0, 0]] * 6 + [[1, 1]], number=5)
    assert keep_judged([half, late], "progress", budget=21).trace is late.trace  # type: ignore[union-attr]
    assert keep_judged([half, late], "regret", budget=21).trace is half.trace  # type: ignore[union-attr]


def test_nothing_is_kept_without_a_gain_or_a_right_end() -> None:
    assert keep_judged([NO_GAIN, WRONG_END], "progress", budget=9) is None
    kept = keep_judged([WRONG_END], "progress", budget=9, right_only=False)
    assert kept is not None and kept.trace is WRONG_END.trace
    assert keep_judged([judged([[0], [None]])], "regret", budget=9) is None, "unknown rewards are left out"
    assert keep_judged([], "regret", budget=9) is None


def test_star_by_outcome_draws_among_right_traces_and_the_shortest_is_the_shortest() -> None:
    traces = [one.trace for one in (SLOW, FAST, WRONG_END)]
    drawn = {keep_right(traces, "outcome", np.random.default_rng(i)).trace.number for i in range(20)}  # type: ignore[union-attr]
    assert drawn == {0, 1}
    assert keep_right(traces, "shortest", np.random.default_rng(0)).trace is FAST.trace  # type: ignore[union-attr]
    assert keep_right([WRONG_END.trace], "outcome", np.random.default_rng(0)) is None
    open_ = judged([[0], [1]], ended=False).trace
    assert keep_right([open_], "outcome", np.random.default_rng(0)) is None, "right but never ended"


def test_rules_are_not_mixed_up() -> None:
    with pytest.raises(CodealignError, match="needs J"):
        keep_right([], "regret", np.random.default_rng(0))
    with pytest.raises(CodealignError, match="does not use J"):
        keep_judged([], "outcome", budget=9)


def test_the_prompt_is_read_thinking_and_answer_are_learned_and_the_stop_as_asked() -> None:
    kept = Kept(SLOW.trace, 2, (70, 1))
    row = imitation_row(kept, (60, 61), 1)
    assert row.ids == (90, 91, 0, 1, 2, 3, 4, 5, 60, 61, 70, 1, 1)
    assert row.weights == (0.0,) * 2 + (1.0,) * 11
    assert imitation_row(kept, (60, 61), 1, learn_stop=False).weights[8:10] == (0.0, 0.0)
    whole = imitation_row(Kept(FAST.trace, 2, None), (60, 61), 1)
    assert whole.ids == (90, 91, *range(6), 80, 81, 82, 1), "its own ending, no forced stop"


@pytest.mark.parametrize("rule", ["regret", "outcome"])
def test_a_round_keeps_right_answers_only_and_does_not_depend_on_its_parts(rule: str) -> None:
    p, questions = prover(), episode_questions(EpisodeTask(), 21, 24)
    options = RoundOptions(traces=3, stops=2, rule=rule, right_only=rule == "outcome")  # type: ignore[arg-type]
    rows = select(p, questions, options, 3)
    parted = select(p, questions[:13], options, 3) + select(p, questions[13:], options, 3)
    assert parted == rows
    told, kept = figures(rows), [row for row in rows if row["ids"]]
    assert told["questions"] == 24 and told["kept"] == len(kept) > 0
    assert (told["stop_tokens"] > 0) == (rule in ("regret", "progress"))
    for row in kept:
        text = p.tokenizer.decode(row["ids"])
        question = next(q for q in questions if q.key == row["key"])
        assert text.startswith(question.prompt) and text.endswith(f"#{question.answer}<|end|>")
    assert len(training_rows(rows)) == len(kept)


def test_a_round_that_keeps_nothing_says_why() -> None:
    p, questions = prover(), episode_questions(EpisodeTask(), 21, 3)
    rows = [{**row, "ids": []} for row in select(p, questions, RoundOptions(rule="outcome"), 0)]
    with pytest.raises(CodealignError, match=r"none of 12 traces \(\d+ right\)"):
        training_rows(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rule": "regert"}, "did you mean 'regret'"), ({"traces": 0}, "1 or more"), ({"budget": 0}, "above 0")],
)
def test_options_of_a_round_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        RoundOptions(**options)  # type: ignore[arg-type]
