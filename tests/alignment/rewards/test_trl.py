"""TRL's GRPO and RLOO trainers take our rewards as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment.rewards.code import CodeReward
from alignment.rewards.combination import Part, Weighted
from alignment.rewards.pool import Pool
from alignment.rewards.shaping import length
from tests.alignment import tiny
from tests.alignment.rewards.problems import DOUBLE, LAST


@pytest.mark.slow
def test_grpo_and_rloo_train_two_steps_with_a_weighted_sum_and_log_its_parts(
    tmp_path: Path, pool: Pool
) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    folder = tiny.save_model(tmp_path / "model")
    rows = [{"prompt": p.prompt, "task_id": p.task_id} for p in (DOUBLE, LAST)] * 4
    seen: list[list[float | None]] = []

    class Watched(Weighted):
        async def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
            found = await super().__call__(*args, **kwargs)
            seen.append(found)
            return found

    for config_class, trainer_class in ((GRPOConfig, GRPOTrainer), (RLOOConfig, RLOOTrainer)):
        code = CodeReward(problems=[DOUBLE, LAST], pool=pool)
        reward = Watched([Part("execution", code), Part("length", length(limit=12, buffer=8), 0.1)])
        config = config_class(
            output_dir=str(tmp_path / config_class.__name__),
            max_steps=2,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=12,
            use_cpu=True,
            bf16=False,
            report_to=[],
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = trainer_class(
            model=str(folder),
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(rows),
        )
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "reward/execution" in entry]
        assert len(logs) == 2
        for entry, found in zip(logs, seen, strict=True):
            assert all(value is not None for value in found)
            assert entry["reward"] == pytest.approx(sum(found) / len(found), abs=1e-6)  # type: ignore[arg-type]
            total = entry["reward/execution"] + 0.1 * entry["reward/length"]
            assert entry["reward"] == pytest.approx(total, abs=1e-6)
            shares = [entry[f"execution/{name}"] for name in ("no_code", "compile_error", "failed_test")]
            assert min(shares) >= 0 and sum(shares) <= 1 + 1e-9
        seen.clear()
