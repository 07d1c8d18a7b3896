"""Forced stops behind every prefix, and thinking that is made to go on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignment.mrt.extrapolate import extended
from alignment.mrt.styles import episode_questions, episode_style
from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import EpisodeTask
from tests.alignment.mrt.made_up import prover

QUESTIONS = episode_questions(EpisodeTask(), 11, 12)


def test_j_is_the_share_of_right_answers_that_are_forced_behind_each_prefix() -> None:
    p = prover()
    traces = [trace for of in p.sample(QUESTIONS, count=2, seed=0) for trace in of]
    found = p.judge(traces, stops=6, seed=1)
    for one in found:
        assert one.places == (0, *one.trace.cuts) and len(one.stops) == len(one.places)
        for place, stops, j in zip(one.places, one.stops, one.j, strict=True):
            key = f"{one.trace.question.key}/{one.trace.number}"
            context = one.trace.prompt + one.trace.thinking[:place] + p.stop_ids
            alone = p.decoder.complete(
                [context], [f"{key}/{len(one.trace.prompt) + place}"], count=6, length=3, seed=1
            )[0]
            assert [(s.ids, s.ended) for s in stops] == [(c.ids, c.ended) for c in alone]
            right = [c.ended and p.tokenizer.decode(c.ids) == one.trace.question.answer for c in alone]
            assert j == pytest.approx(sum(right) / 6)


def test_an_answer_that_did_not_end_in_time_is_wrong() -> None:
    p = replace(prover(), answer_length=2)
    trace = p.sample(QUESTIONS[:1], count=1, seed=0)[0]
    assert all(s.reward == 0 and not s.ended for of in p.judge(trace, stops=8, seed=0)[0].stops for s in of)


def test_stops_of_unknown_reward_are_left_out_and_a_prefix_without_any_other_has_no_j() -> None:
    style = episode_style()
    unsure = replace(style, grade=lambda question, given: None if given[:1] in "02468" else 1.0)
    p = replace(prover(), style=unsure)
    traces = [of[0] for of in p.sample(QUESTIONS, count=1, seed=0)]
    for one in p.judge(traces, stops=8, seed=0):
        if all(any(s.reward is not None for s in of) for of in one.stops):
            assert set(one.j) <= {1.0} | {k / n for n in range(1, 9) for k in range(n)}
        else:
            with pytest.raises(CodealignError, match="sample it again"):
                _ = one.j


def test_thinking_goes_on_where_it_had_closed_and_keeps_what_was_there() -> None:
    p = prover()
    traces = [trace for of in p.sample(QUESTIONS, count=2, seed=0) for trace in of]
    longer = extended(p, traces, times=2, seed=5)
    assert [x.thinking for x in extended(p, traces, times=2, seed=5)] == [x.thinking for x in longer]
    grew = 0
    for before, after in zip(traces, longer, strict=True):
        assert after.thinking[: len(before.thinking)] == before.thinking
        assert after.cuts[: len(before.cuts)] == before.cuts
        assert after.cuts == tuple(sorted(set(after.cuts))) and after.cuts[-1:] in (
            (),
            (len(after.thinking),),
        )
        grew += len(after.thinking) > len(before.thinking)
        if not before.ending:
            assert after == before
    assert grew > len(traces) / 2


def test_fewer_than_one_stop_is_refused() -> None:
    with pytest.raises(CodealignError, match="stops is 0"):
        prover().judge([], stops=0, seed=0)
