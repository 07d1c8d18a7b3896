"""Refined schedules: the cases whose answer is known, the median by hand, files, and trainers that follow."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alignment.refine_command import main, read_norms, refine
from alignment.schedules import (
    factor,
    filled,
    load_schedule,
    refined,
    resampled,
    save_schedule,
    smoothed,
    use_schedule,
)
from codegen_eval.errors import CodealignError


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("norm", [1e-9, 3.0, 1e12])
def test_constant_norms_give_linear_decay_exactly(power: float, norm: float) -> None:
    curve = refined(np.full(11, norm), power)
    assert curve == pytest.approx([1 - t / 10 for t in range(11)], abs=1e-12)
    # At any other length it is transformers' linear decay.
    assert [factor(curve, t, 7) for t in range(7)] == pytest.approx([(7 - t) / 7 for t in range(7)])


def test_the_formula_is_the_weight_times_the_sum_of_later_weights() -> None:
    norms = np.array([4.0, 1.0, 2.0, 0.5, 3.0])
    for power in (1.0, 2.0, 0.5):
        weights = [g**-power for g in norms]
        raw = [w * sum(weights[t + 1 :]) for t, w in enumerate(weights)]
        assert refined(norms, power) == pytest.approx([r / max(raw) for r in raw])


def test_the_scale_of_the_norms_does_not_matter_at_the_ends_of_a_floats_range() -> None:
    norms = np.array([1.0, 2.0, 3.0, 2.0])
    assert refined(norms * 1e-160, 2) == pytest.approx(refined(norms, 2))
    assert refined(norms * 1e160, 2) == pytest.approx(refined(norms, 2))


def test_norms_that_fall_early_give_a_warm_up_and_that_rise_late_a_faster_end() -> None:
    t = np.linspace(0, 1, 200)
    early = refined(1 + 9 * np.exp(-20 * t), 1)
    assert early[0] < 0.3 and 10 < int(early.argmax()) < 80
    late = refined(1 + 9 * np.exp(-20 * (1 - t)), 1)
    linear = 1 - t
    assert (late[160:199] < linear[160:199]).all() and late[-1] == 0


def test_the_running_median_is_that_of_the_padded_norms() -> None:
    rng = np.random.default_rng(3)
    for steps, tau in ((40, 0.1), (41, 0.25), (7, 1.0), (5, 0.0), (3, 0.9)):
        norms = rng.exponential(size=steps)
        width = 2 * int(tau * steps / 2) + 1
        mirrored = [*norms, *np.pad(norms, (0, 2 * width), mode="reflect")[steps:]]
        padded = [norms[0]] * (width // 2) + mirrored
        expected = [statistics.median(padded[i : i + width]) for i in range(steps)]
        assert smoothed(norms, tau) == pytest.approx(expected)


def test_spikes_shorter_than_half_the_width_leave_no_trace() -> None:
    norms = np.ones(100)
    norms[[20, 21, 60, 98, 99]] = [1e6, 1e6, 1e-9, 5e5, 1e7]
    assert smoothed(norms, 0.1) == pytest.approx(np.ones(100))


def test_zeros_and_values_that_are_not_finite_are_interpolated() -> None:
    norms = [float("nan"), 2.0, 0.0, 4.0, float("inf")]
    assert filled(norms) == pytest.approx([2, 2, 3, 4, 4])
    for bad, message in (
        ([0.0, float("nan")], "no step has a finite"),
        ([1.0], "two steps or more"),
        ([1.0, -2.0], "step 1: .* negative"),
        ([[1.0, 2.0]], "shape"),
    ):
        with pytest.raises(CodealignError, match=message):
            filled(bad)


@pytest.mark.parametrize(("power", "tau"), [(0, 0.1), (float("nan"), 0.1), (-1, 0.1), (1, -0.1), (1, 1.1)])
def test_settings_that_mean_nothing_are_refused(power: float, tau: float) -> None:
    with pytest.raises(CodealignError, match=r"power must be|tau must lie"):
        refined(smoothed(np.ones(9), tau), power)


def test_a_curve_is_read_at_the_share_of_the_run_that_is_done() -> None:
    curve = np.array([0.2, 1.0, 0.0])
    assert [factor(curve, t, 4) for t in range(5)] == pytest.approx([0.2, 0.6, 1.0, 0.5, 0.0])
    assert factor(curve, 9, 4) == 0 and factor(curve, 0, 0) == pytest.approx(0.2)
    long = refined(1 + np.linspace(0, 1, 5001), 2)
    assert len(resampled(long)) == 2001
    assert factor(resampled(long), 1234, 5000) == pytest.approx(factor(long, 1234, 5000), abs=1e-6)


def test_a_file_reads_back_and_what_is_none_is_refused(tmp_path: Path) -> None:
    curve = refined(np.array([3.0, 1.0, 2.0, 2.0]), 1)
    save_schedule(tmp_path / "a/schedule.json", curve, tau=0.1)
    assert load_schedule(tmp_path / "a/schedule.json") == pytest.approx(curve, abs=1e-9)
    with pytest.raises(CodealignError, match=r"no such schedule file.*refine-schedule RUN"):
        load_schedule(tmp_path / "nowhere.json")
    good = {"format": "codealign-schedule-1", "schedule": [1.0, 0.0]}
    for content in (
        "{",
        "[]",
        "{}",
        json.dumps({**good, "schedule": [1.0]}),
        json.dumps({**good, "format": "x"}),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(CodealignError, match="is no schedule file"):
            load_schedule(tmp_path / "bad.json")
    for value in (1.5, -0.1, float("nan"), True, "1"):
        (tmp_path / "bad.json").write_text(json.dumps({**good, "schedule": [1.0, value]}))
        with pytest.raises(CodealignError, match=r"must lie in \[0, 1\]"):
            load_schedule(tmp_path / "bad.json")


def write_norms(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_refines_a_run_by_its_optimizers_norms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"step": i + 1, "l1": float(a), "l2": float(b)}
        for i, (a, b) in enumerate(rng.exponential(size=(30, 2)))
    ]
    rows[4]["l1"] = None
    write_norms(tmp_path / "gradient_norms.jsonl", rows)
    assert main([str(tmp_path)]) == 0 and "30 steps" in capsys.readouterr().err
    l1 = [float("nan") if row["l1"] is None else row["l1"] for row in rows]
    expected = refined(smoothed(filled(l1), 0.1), 1)
    assert load_schedule(tmp_path / "schedule.json") == pytest.approx(expected, abs=1e-8)
    main([str(tmp_path), "--optimizer", "sgd", "--tau", "0.5", "--out", str(tmp_path / "sgd.json")])
    expected = refined(smoothed(filled([row["l2"] for row in rows]), 0.5), 2)
    assert load_schedule(tmp_path / "sgd.json") == pytest.approx(expected, abs=1e-8)
    csv = tmp_path / "norms.csv"
    csv.write_text("step,norm\n" + "".join(f"{row['step']},{row['l2']}\n" for row in rows))
    with pytest.raises(CodealignError, match="--out is needed"):
        refine(csv, None)
    refine(csv, tmp_path / "csv.json", optimizer="sgd", tau=0.5)
    assert load_schedule(tmp_path / "csv.json") == pytest.approx(expected, abs=1e-8)


def test_norms_with_gaps_are_refused_by_step(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="--log_gradient_norms true"):
        read_norms(tmp_path, "l1")
    for steps, message in (
        ([1, 2, 4], r"step\(s\) 3 are missing"),
        ([2, 3], r"step\(s\) 1 are"),
        ([1, 1], "twice"),
    ):
        write_norms(tmp_path / "gradient_norms.jsonl", [{"step": s, "l1": 1.0} for s in steps])
        with pytest.raises(CodealignError, match=message):
            read_norms(tmp_path, "l1")
    write_norms(tmp_path / "gradient_norms.jsonl", [{"step": 1, "l2": 1.0}])
    with pytest.raises(CodealignError, match="lacks a step or its norm 'l1'"):
        read_norms(tmp_path, "l1")


def test_a_trainer_follows_the_file_at_any_length(tmp_path: Path) -> None:
    import torch

    curve = refined(np.array([3.0, 1.0, 2.0, 2.0, 5.0]), 1)
    save_schedule(tmp_path / "schedule.json", curve)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    trainer = SimpleNamespace(lr_scheduler=None, optimizer=optimizer)
    use_schedule(trainer, tmp_path / "schedule.json")
    scheduler = trainer.create_scheduler(num_training_steps=12)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5 * factor(curve, t, 12) for t in range(12)], abs=1e-8)
    assert trainer.create_scheduler(12) is scheduler
