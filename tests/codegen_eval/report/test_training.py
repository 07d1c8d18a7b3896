"""Curves of training runs: what the log holds is drawn, what is read together in one figure."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from codegen_eval.report.training import training


def test_a_long_training_log_is_thinned_with_its_ends_kept() -> None:
    (plot,) = training({"loss": [(float(step), 1.0 / (step + 1)) for step in range(100_000)]})
    assert (plot.rows[0][0], plot.rows[-1][0], len(plot.rows)) == ("0", "99,999", 20)
    assert len(plot.svg) < 20_000


def test_series_that_the_log_lacks_are_left_out() -> None:
    assert [p.title for p in training({"rewards/margins": [(1.0, 0.5)], "other": [(1.0, 1.0)]})] == [
        "Reward margin"
    ]
    assert training({}) == []


def test_what_is_read_together_is_one_figure_with_a_column_each() -> None:
    steps = [(float(step), step / 10) for step in range(1, 5)]
    log = {
        "reward/sampled": steps,
        "reward/greedy": steps[1:],
        "objective/kl_k3": steps,
        "policy/updates": steps,
    }
    reward, kl = training(log)
    assert (reward.title, reward.header) == ("Reward", ("step", "sampled", "greedy"))
    assert reward.rows[0] == ("1", "0.1", "") and reward.rows[1] == ("2", "0.2", "0.2")
    assert reward.svg.count("stroke-dasharray") > kl.svg.count("stroke-dasharray"), "they read in grey"
    assert (kl.title, kl.header) == ("KL from the reference", ("step", "k3"))


def test_no_figure_has_more_series_than_looks() -> None:
    from codegen_eval.report import training as module

    assert max(len(figure.series) for figure in module._FIGURES) <= len(module._LOOKS)
    names = [name for figure in module._FIGURES for name in figure.series]
    assert len(names) == len(set(names))
