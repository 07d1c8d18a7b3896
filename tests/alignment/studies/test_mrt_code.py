"""The repair study: its figures by hand, and the whole of it on a model that knows nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment.studies import mrt_code
from alignment.studies.mrt_code import MRTCodeConfig, summary, table
from alignment.tiny_coder.model import build_model
from alignment.tiny_coder.tokenizer import train_tokenizer
from tests.alignment import tiny


def row(task: str, rewards: list[float], others: list[float | None], **more: Any) -> dict[str, Any]:
    return {
        "task_id": task,
        "rewards": rewards,
        "passed": [reward == 1 for reward in rewards],
        "completions": ["a", "b", "c"][: len(rewards)],
        "others": others,
        "j": [0.5, *rewards, *[rewards[-1]] * (2 - len(rewards))],
        **more,
    }


def test_figures_are_means_over_problems_and_mended_counts_failed_first_drafts_alone() -> None:
    rows = [
        row("x", [0.0, 1.0], [1.0, None]),
        row("x", [1.0], [0.0]),
        row("y", [0.0, 0.0], [0.0, 1.0], completions=["a", "a"]),
        row("z", [0.0], [1.0], j=None),
    ]
    found = summary(rows, 2)
    assert found["j"] == pytest.approx([0.5, 0.25, 0.5]) and found["problems"] == 2
    assert (found["failed"], found["mended"], found["repeated"]) == (2, 0.5, 0.5)
    assert found["redrawn"] == pytest.approx((1.0 + 0.5) / 2)
    assert "| base | 2 | 0.500 | 0.250 | 0.500 | 2 | 0.500 | 0.750 | 0.500 |" in table({"base": found}, 3, 2)


@pytest.mark.slow
@pytest.mark.sandbox
def test_without_a_pair_to_learn_from_the_study_says_so(tmp_path: Path) -> None:
    model = tmp_path / "model"
    tokenizer = train_tokenizer(["def f(x):\n    return x\n"], 270)
    build_model(tiny.SMALL, tokenizer, 0).save_pretrained(model)
    tokenizer.save_pretrained(model)
    config = MRTCodeConfig(
        out=tmp_path / "run",
        model=str(model),
        train_problems=2,
        problems=2,
        samples=2,
        turns=2,
        max_new_tokens=12,
    )
    with pytest.raises(Exception, match="give more train_problems"):
        mrt_code.run(config)
    assert (tmp_path / "run" / "base.jsonl").exists(), "what was measured is kept"
