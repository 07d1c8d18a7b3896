"""The benchmark of on-policy training's cost: what it counts, and loops that take turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import onpolicy_cost

SHAPE = onpolicy_cost.Shape(prompt=3, answer=4, rows=2, passes=1)


@pytest.mark.parametrize("way", list(onpolicy_cost.WAYS))
def test_the_state_is_sixteen_bytes_a_trained_weight_and_four_of_the_reference(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onpolicy_cost.SIZES, 0, (16, 32, 1, 2, 64))
    found = onpolicy_cost.memory_of(way, 0, SHAPE)
    # Embedding (tied), q k v o, gate up down, three norms; a head is a matrix of one row and a bias.
    policy = 64 * 16 + 4 * 16 * 16 + 3 * 16 * 32 + 3 * 16
    trained = policy + {"ReMax": 0, "PPO, head": 17, "PPO, critic": policy + 17}[way]
    assert [found[name] for name in ("weights", "gradients", "moments")] == [
        4 * trained,
        4 * trained,
        8 * trained,
    ]
    assert found["reference"] == 4 * policy
    assert found["live_peak"] > 16 * trained + 4 * policy


class Clock:
    """Stands where the module's `time` does: work moves it on."""

    now = 0.0

    def process_time(self) -> float:
        return self.now


def loop(clock: Clock, callback: Any, order: list[str], name: str, steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            order.append(name)
            clock.now += {"a": 1.0, "b": 10.0}[name]
            callback.on_log(logs={"completions/mean_length": 3.0})
            callback.on_step_end()

    return run


def test_loops_in_threads_take_turns_and_each_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    baton, order, clock = onpolicy_cost.Baton(["a", "b"]), list[str](), Clock()
    monkeypatch.setattr(onpolicy_cost, "time", clock)
    steps = {"a": 2, "b": 4}
    baton.run({name: loop(clock, baton.callback(name), order, name, n) for name, n in steps.items()})
    assert order == ["a", "b", "a", "b", "b", "b"]
    assert baton.seconds == {"a": [1.0] * 2, "b": [10.0] * 4}
    assert baton.lengths == {"a": [3.0] * 2, "b": [3.0] * 4}


def test_an_error_in_one_loop_is_raised_once_the_other_has_ended() -> None:
    baton, order = onpolicy_cost.Baton(["a", "b"]), list[str]()

    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        baton.run({"a": broken, "b": loop(Clock(), baton.callback("b"), order, "b", 2)})
    assert order == ["b", "b"]
