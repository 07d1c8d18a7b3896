"""Writes synthetic run directories of the chain."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write_eval(tmp_path: Path) -> Callable[..., Path]:
    """Writes an evaluation run directory and gives its path."""

    def write(name: str, results: Mapping[str, Any]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        protocol = {
            "format": "codealign-run-1",
            "command": "eval",
            "seeds": {"seed": 0},
            "versions": {"python": "3.11.2", "numpy": "2.4.6"},
            "machine": {"cpus": 2, "system": "Linux"},
            "inputs": {"samples": {"path": "run/samples.jsonl", "sha256": "ab" * 32}},
            "started": "2026-01-01T00:00:00+00:00",
        }
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "protocol.json").write_text(json.dumps(protocol))
        return folder

    return write


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pairs run directory and gives its path."""

    def write(rows: list[dict[str, Any]], name: str = "pairs") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        funnel = {
            "problem_no_test": 61,
            "problem_all_alike": 118,
            "problem_with_pairs": 321,
            "efficiency_no_input": 9,
            "pairs_correctness": len(rows),
        }
        (folder / "funnel.json").write_text(json.dumps(funnel))
        return folder

    return write


@pytest.fixture
def write_training(tmp_path: Path) -> Callable[..., Path]:
    """Writes a training run's metrics.jsonl as the trainer logs it and gives the directory."""

    def write(steps: int = 120) -> Path:
        folder = tmp_path / "train"
        folder.mkdir()
        rng = random.Random(0)
        rows: list[dict[str, Any]] = []
        for step in range(1, steps + 1):
            done = step / steps
            rows.append(
                {
                    "step": step,
                    "loss": 0.693 - 0.4 * done + rng.gauss(0, 0.02),
                    "learning_rate": 1e-4,
                    "rewards/margins": 1.8 * done + rng.gauss(0, 0.08),
                    "rewards/accuracies": min(1.0, 0.5 + 0.4 * done + rng.gauss(0, 0.03)),
                }
            )
        rows.append({"event": "finished", "train_loss": 0.5})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write
