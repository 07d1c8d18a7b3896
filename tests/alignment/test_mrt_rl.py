"""`alignment.mrt_rl`: a stopped run goes on to the same bytes, wherever in a block of prefixes it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment import mrt_rl
from alignment.health.beats import read_beats
from alignment.health.events import FOLDER, read_events
from alignment.health.guard import Rewind
from codegen_eval.errors import CodealignError
from codegen_eval.runs import read_jsonl
from tests.alignment.mrt.made_up import trained
from tests.alignment.mrt.two_ranks import scaled

SMALL = {
    "dataset_name": "episodes",
    "questions": 10,
    "num_generations": 2,
    "stops": 2,
    "max_steps": 7,
    "prompts_per_step": 3,
    "prefix_steps": 3,
    "max_thinking_length": 40,
    "learning_rate": 1e-3,
    "save_steps": 2,
    "logging_steps": 1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    for part in trained():
        part.save_pretrained(folder)
    return folder


def flags(base: Path, out: Path, **changes: Any) -> list[str]:
    given = {**SMALL, "model_name_or_path": base, "output_dir": out, **changes}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("metrics.jsonl", "model/model.safetensors")]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bonus", "mixed"])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    form: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.mrt.updates import Updates

    whole = mrt_rl.run(flags(base, tmp_path / "whole", form=form))
    rows = [r for r in read_jsonl(whole.path / "metrics.jsonl") if "event" not in r]
    assert [r["step"] for r in rows] == list(range(1, 8))
    assert all(0 <= r["outcome"] <= 1 and r["rollout_tokens"] > 0 for r in rows)
    step, count = Updates.step, 0
    for stop in (4, 6) if form == "bonus" else (3,):
        count = 0

        def stopping(self: Updates, losses: Any, _stop: int = stop) -> float:
            nonlocal count
            count += 1
            if count == _stop:
                raise KeyboardInterrupt
            return step(self, losses)

        out = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patched:
            patched.setattr(Updates, "step", stopping)
            with pytest.raises(KeyboardInterrupt):
                mrt_rl.run(flags(base, out, form=form))
        assert files(mrt_rl.run(flags(base, out, form=form)).path) == files(whole.path), stop


@pytest.mark.slow
def test_a_spoiled_update_is_skipped_or_gone_back_from(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.mrt import rl_steps

    losses, updates = rl_steps.policy_losses, 0

    def spoiled(*rest: Any) -> Any:
        nonlocal updates
        updates += 1
        return scaled(losses(*rest), float("nan") if updates == 4 else 1.0)

    monkeypatch.setattr(rl_steps, "policy_losses", spoiled)
    skipped = mrt_rl.run(flags(base, tmp_path / "skip", max_steps=5))
    rows = [r for r in read_jsonl(skipped.path / "metrics.jsonl") if "event" not in r]
    assert [r["loss"] is None for r in rows] == [False, False, False, True, False]
    assert [e.kind for e in read_events(skipped.path / FOLDER)] == ["nan"]
    (beat,) = read_beats(skipped.path / FOLDER)
    assert beat.state == "finished" and {"rollout", "reward", "update"} <= set(beat.phases)
    updates, again = 0, flags(base, tmp_path / "rewind", max_steps=5, on_nan="rewind")
    with pytest.raises(Rewind, match="back to step 2"):
        mrt_rl.run(again)
    rows = list(read_jsonl(mrt_rl.run(again).path / "metrics.jsonl"))
    assert [r["step"] for r in rows if "event" not in r] == [1, 2, 5], "steps 3 and 4 are passed over"


def test_bad_input_is_one_message(base: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"form": "bonsu"}, "did you mean 'bonus'"),
        ({"form": "outcome"}, "give 0"),
        ({"num_generations": 1}, "greater than or equal to 2"),
        ({"alpha": -1}, "greater than or equal to 0"),
        ({"top_p": 0}, "greater than 0"),
        ({"on_nan": "ignore"}, "--on_nan must be one of"),
        ({"hang_timeout": -1}, "--hang_timeout must be"),
    ):
        with pytest.raises(CodealignError, match=message):
            mrt_rl.run(flags(base, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()
