"""MRT (RL): advantages by hand and against the trainers' own, what cancels, groups, steps, the reward."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from alignment.mrt.progress import bonus_rewards, mixed_group, termination_advantages
from alignment.mrt.rewards import ProgressReward
from alignment.mrt.rl import (
    StepOptions,
    draw_groups,
    draw_prefixes,
    group_advantages,
    left_one_out,
    step_figures,
    training_rows,
)
from alignment.mrt.rl_steps import (
    Plan,
    plain_prefixes,
    policy_losses,
    prefixes_from,
    tokens_of,
    train_steps,
)
from alignment.mrt.styles import episode_questions
from alignment.mrt.updates import Updates
from alignment.onpolicy.advantages import rloo_advantages
from alignment.onpolicy.losses import aggregate, batch_size, reinforce_losses
from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import EpisodeTask
from tests.alignment.mrt.made_up import prover

QUESTIONS = episode_questions(EpisodeTask(), 31, 10)
OUTCOMES, ENDS, STOPS = [1.0, 0.0, 0.0, 1.0], [0.75, 0.25, 0.5, 0.5], [0.0, 1.0, 1.0, 0.0, 0.0]


def rloo(rewards: Any) -> list[float]:
    tensor = torch.tensor(list(rewards), dtype=torch.float64)
    return [float(x) for x in rloo_advantages(tensor, len(tensor))]


def test_the_three_forms_are_those_of_the_pure_functions() -> None:
    bonus, none = group_advantages("bonus", OUTCOMES, ENDS, STOPS, 0.5)
    assert none == [] and bonus == pytest.approx(rloo(bonus_rewards(OUTCOMES, ENDS, 0.4, 0.5)))
    on, stopped = group_advantages("mixed", OUTCOMES, [None] * 4, STOPS, 0.0)
    assert [*on, *stopped] == pytest.approx(rloo(mixed_group(OUTCOMES, STOPS)))
    termination, none = group_advantages("termination", OUTCOMES, ENDS, STOPS, 0.0)
    assert none == [] and termination == pytest.approx(list(termination_advantages(OUTCOMES, STOPS)))
    outcome, _ = group_advantages("outcome", OUTCOMES, [None] * 4, [], 0.0)
    assert outcome == pytest.approx(rloo(OUTCOMES))


def test_a_term_that_is_constant_in_the_group_does_nothing_but_in_the_termination_form() -> None:
    constant = [0.6] * 4
    for form in ("bonus", "outcome"):
        plain, _ = group_advantages("outcome", OUTCOMES, [None] * 4, [], 0.0)
        with_constant, _ = group_advantages("bonus", OUTCOMES, constant, STOPS, 3.0)
        assert with_constant == pytest.approx(plain), form
    # J(prefix) itself: other stops, the same advantages.
    few, many = [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]
    assert group_advantages("bonus", OUTCOMES, ENDS, few, 1.0)[0] == pytest.approx(
        group_advantages("bonus", OUTCOMES, ENDS, many, 1.0)[0]
    )
    low, high = (group_advantages("termination", OUTCOMES, ENDS, s, 0.0)[0] for s in (few, many))
    assert np.subtract(low, high) == pytest.approx(2 / 3)
    # J_i = outcome_i: scaled by 1 + alpha.
    scaled, _ = group_advantages("bonus", OUTCOMES, OUTCOMES, STOPS, 2.0)
    assert scaled == pytest.approx([3 * a for a in rloo(OUTCOMES)])  # type: ignore[misc]


def test_a_group_that_fails_where_stopping_would_do_is_pushed_down_by_one_form_alone() -> None:
    failed, able = [0.0] * 4, [1.0] * 4
    assert group_advantages("bonus", failed, [0.0] * 4, able, 1.0)[0] == [0.0] * 4
    assert group_advantages("termination", failed, [None] * 4, able, 0.0)[0] == [-1.0] * 4


def test_unknown_rewards_drop_their_rows_and_lonely_ones() -> None:
    found, _ = group_advantages("bonus", [1.0, None, 0.0], [1.0, 1.0, None], [0.0, None], 1.0)
    assert found == [None] * 3, "one row is left, alone"
    found, _ = group_advantages("bonus", [1.0, None, 0.0], [1.0, 1.0, 0.0], [0.0, None], 1.0)
    assert found[1] is None and found[0] == pytest.approx(2.0) and found[2] == pytest.approx(-2.0)
    assert group_advantages("bonus", [1.0, 0.0], [1.0, 0.0], [None], 1.0) == ([None, None], [])
    assert group_advantages("mixed", [1.0, 0.0], [None] * 2, [None], 0.0) == ([None] * 2, [None])
    assert group_advantages("termination", [1.0, None], [None] * 2, [1.0], 0.0)[0] == [0.0, None]
    assert left_one_out([3.0, None, 1.0]) == [2.0, None, -2.0]
    with pytest.raises(CodealignError, match="need as many J"):
        group_advantages("bonus", [1.0], [], [1.0], 1.0)


def test_prefixes_are_whole_episodes_with_something_left_to_think() -> None:
    p = prover()
    traces = [of[0] for of in p.sample(QUESTIONS, count=1, seed=4)]
    found = draw_prefixes(p, QUESTIONS, 4)
    lengths = set()
    for prefix, trace in zip(found, traces, strict=True):
        assert prefix.thinking == trace.thinking[: len(prefix.thinking)]
        assert len(prefix.thinking) in (0, *trace.cuts[:-1])
        lengths.add(len(prefix.thinking))
    assert len(lengths) > 2
    assert all(not prefix.thinking for prefix in draw_prefixes(p, QUESTIONS, 4, whole=True))
    assert prefixes_from(plain_prefixes(found), QUESTIONS) == found


@pytest.mark.parametrize("form", ["bonus", "mixed", "termination", "outcome"])
def test_rows_of_a_step_hold_what_was_drawn_and_their_weights_are_the_advantages(form: str) -> None:
    p = prover()
    alpha = 0.0 if form in ("outcome", "termination") else 1.0
    options = StepOptions(form, alpha, rollouts=3, stops=2)  # type: ignore[arg-type]
    groups = draw_groups(p, draw_prefixes(p, QUESTIONS, 4), options, 9)
    rows = training_rows(groups, options, p.stop_ids, p.end)
    per_group = 3 + (2 if form == "mixed" else 0)
    assert len(rows) == per_group * len(QUESTIONS)
    for i, group in enumerate(groups):
        assert all(r.thinking[: len(group.prefix.thinking)] == group.prefix.thinking for r in group.rollouts)
        assert all(len(r.thinking) + len(r.ending) <= p.thinking_length for r in group.rollouts)
        start = len(group.prefix.prompt) + len(group.prefix.thinking)
        on, stopped = group_advantages(
            form,  # type: ignore[arg-type]
            [r.outcome for r in group.rollouts],
            group.ends,
            [s.reward for s in group.stops],
            alpha,
        )
        for row, advantage in zip(rows[i * per_group :], [*on, *stopped], strict=False):
            assert set(row.weights[:start]) == {0.0} and set(row.weights[start:]) == {advantage}
    told = step_figures(groups)
    assert 0 <= told["outcome"] <= 1 and (told["progress"] == told["progress"]) == (alpha > 0)
    assert tokens_of(groups)[0] > 0 and (tokens_of(groups)[1] > 0) == (form != "outcome")


def test_the_loss_is_the_policy_gradient_with_sequence_sums() -> None:
    p = prover()
    options = StepOptions("bonus", 1.0, rollouts=2, stops=2)
    rows = training_rows(
        draw_groups(p, draw_prefixes(p, QUESTIONS[:4], 0), options, 1), options, (13,), p.end
    )
    net = p.decoder.model
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows])
    start = [next((i for i, w in enumerate(row.weights) if w), len(row.ids)) for row in rows]
    places = torch.arange(width)[None]
    mask = (places >= torch.tensor(start)[:, None]) & (
        places < torch.tensor([len(r.ids) for r in rows])[:, None]
    )
    advantages = torch.tensor([[*row.weights, *[0.0] * (width - len(row.ids))] for row in rows])
    logps = net(ids[:, :-1]).logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    losses = reinforce_losses(logps, advantages[:, 1:], mask[:, 1:])
    kept = mask.any(1)  # a row of advantage 0 counts in the mean, too
    expected = aggregate(losses, mask[:, 1:], "sequence_sum", batch_size(mask[:, 1:], "sequence_sum"))
    expected = (expected * kept.sum() / len(rows)).detach()
    found = sum(part().detach() for part in policy_losses(net, rows, 3))
    assert float(found) == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def trained_by(stop_at: int | None, block: Any = ()) -> tuple[Any, Any, Any]:
    base = prover()
    net = copy.deepcopy(base.decoder.model)
    p = replace(base, decoder=replace(base.decoder, model=net))
    seen: dict[str, Any] = {}

    class Stopped(Exception):
        pass

    def after(updates: Updates, prefixes: Any, groups: Any, loss: float | None) -> None:
        if updates.steps == stop_at:
            seen["block"] = plain_prefixes(prefixes)
            raise Stopped

    updates = Updates(net, learning_rate=1e-2)
    options = StepOptions("bonus", 1.0, rollouts=2, stops=2)
    with contextlib.suppress(Stopped):
        train_steps(p, updates, QUESTIONS, options, Plan(5, 3, block=3, seed=1), block=block, after=after)
    return updates, seen.get("block"), (p, options)


def test_steps_go_on_inside_a_block_of_prefixes_to_the_same_weights(tmp_path: Any) -> None:
    whole, _, _ = trained_by(None)
    half, block, (p, options) = trained_by(2)
    half.save(tmp_path, block=block)
    again = Updates(copy.deepcopy(prover().decoder.model), learning_rate=1e-2)
    more = again.load(tmp_path)
    p = replace(p, decoder=replace(p.decoder, model=again.model))
    train_steps(
        p,
        again,
        QUESTIONS,
        options,
        Plan(5, 3, block=3, seed=1),
        block=prefixes_from(more["block"], QUESTIONS),
        after=lambda *_: None,
    )
    pairs = list(zip(again.model.parameters(), whole.model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(CodealignError, match="inside a block"):
        half.steps = 2
        train_steps(p, half, QUESTIONS, options, Plan(5, 3, block=3), after=lambda *_: None)


def test_a_step_without_any_known_reward_changes_nothing_and_counts() -> None:
    base = prover()
    net = copy.deepcopy(base.decoder.model)
    unsure = replace(base.style, grade=lambda question, given: None)
    p = replace(base, decoder=replace(base.decoder, model=net), style=unsure)
    losses = []
    updates = Updates(net, learning_rate=1.0)
    train_steps(
        p,
        updates,
        QUESTIONS,
        StepOptions(stops=1),
        Plan(2, 2),
        after=lambda u, b, g, loss: losses.append(loss),
    )
    before = list(base.decoder.model.parameters())
    assert losses == [None, None] and updates.steps == 2
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))


def test_the_reward_for_other_trainers_takes_one_j_a_prefix_and_cancels_there() -> None:
    p = prover()
    questions = QUESTIONS[:3]
    columns = {
        "key": [q.key for q in questions for _ in range(2)],
        "question": [q.prompt for q in questions for _ in range(2)],
        "prefix": ["402"] * 6,
        "answer": [q.answer for q in questions for _ in range(2)],
    }
    texts = [f"213#{q.answer}" if i == 0 else "613#00" for q in questions for i in range(2)]
    ids = [[*p.tokenizer.encode(text), p.end] for text in texts]
    asked = {"prompts": ["x"] * 6, "completions": texts, "completion_ids": ids, **columns}
    plain = ProgressReward(p, alpha=0.0)(**asked)
    assert plain == [1.0, 0.0] * 3
    bonus, termination = (
        ProgressReward(p, form=f, stops=5, seed=2)(**asked) for f in ("bonus", "termination")
    )
    gap = np.subtract(bonus, termination)  # type: ignore[arg-type]
    assert np.allclose(gap[::2], gap[1::2]) and (gap >= 0).all(), "J(prefix), one for both rollouts"
    unended = {**asked, "completion_ids": [of[:-1] for of in ids]}
    assert ProgressReward(p, alpha=0.0)(**unended) == [0.0] * 6
    with pytest.raises(CodealignError, match="column 'prefix'"):
        ProgressReward(p)(**{k: v for k, v in asked.items() if k != "prefix"})
    with pytest.raises(CodealignError, match="completion_ids"):
        ProgressReward(p)(**{**asked, "completion_ids": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "bonsu"}, "did you mean 'bonus'"),
        ({"rollouts": 1}, "2 or more"),
        ({"alpha": -1.0}, "0 or more"),
        ({"form": "outcome", "alpha": 1.0}, "give 0"),
    ],
)
def test_options_of_a_step_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        StepOptions(**options)
