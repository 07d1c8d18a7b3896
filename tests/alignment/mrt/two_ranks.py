"""What test_ranks.py runs in each process of a launch: `-m tests.alignment.mrt.two_ranks PART FOLDER`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from alignment.mrt.updates import Loss, Row, Updates, imitation_losses
from alignment.ranks import Ranks, joined
from codegen_eval.errors import CodealignError

ROWS = [
    Row((5, 6, 12, 4, 3, 4), (0, 0, 0, 1, 1, 1)),
    Row((7, 8, 9, 12, 5, 4, 4, 13, 5), (0, 0, 0, 0, 1, 1, 1, 0, 1)),
    Row((3, 12, 4), (0, 0, 1)),
]
BATCHES = [ROWS, ROWS[:1], ROWS, ROWS[1:]]
"""The second leaves one rank without a row; the third becomes NaN in one rank."""


def model() -> Any:
    """A small one, the same in every process; one of its weights is never used."""
    torch.manual_seed(0)
    net = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=16, n_embd=8, n_layer=1, n_head=2))
    net.unused = torch.nn.Parameter(torch.ones(3))
    return net


def scaled(losses: Sequence[Loss], factor: float) -> list[Loss]:
    """The parts of a loss, each times a factor."""
    return [lambda part=part: part() * factor for part in losses]  # type: ignore[misc]


def learn(ranks: Ranks) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of `BATCHES` and the weights behind them; the last rank spoils the third batch."""
    updates = Updates(model(), learning_rate=1e-2, max_grad_norm=0.5, ranks=ranks)
    updates.allows = lambda loss, step: loss == loss
    found = []
    for number, rows in enumerate(BATCHES):
        bad = float("nan") if number == 2 and ranks.rank == ranks.world - 1 else 1.0
        found.append(updates.step(scaled(imitation_losses(updates.model, rows, 2, ranks), bad)))
    return found, updates.stepping.weights()


def said(call: Callable[[], Any]) -> str:
    try:
        return f"gave {call()}"
    except CodealignError as error:
        return str(error)


def basics(out: Path) -> None:
    """Writes what each rank saw of spreading, leading and learning."""
    ranks = joined("a test", cpu=True)

    def squares(items: list[int]) -> list[int]:
        if 13 in items:
            raise CodealignError(f"rank {ranks.rank} does not like 13")
        return [item * item for item in items]

    def failing() -> None:
        raise CodealignError("the first has no disk")

    def breaking() -> None:
        raise OSError("cable")

    losses, weights = learn(ranks)
    torch.save(weights, out / f"weights-{ranks.rank}.pt")
    seen = {
        "place": [ranks.rank, ranks.world],
        "spread": [ranks.spread(range(n), squares) for n in (0, 1, 5)],
        "fault": said(lambda: ranks.spread([1, 13, 2], squares)),
        "led": ranks.led(lambda: ranks.rank),
        "failed": said(lambda: ranks.led(failing)),
        "told": ranks.told(ranks.rank + 7),
        "losses": losses,
    }
    if not ranks.first:
        seen["broken"] = said(lambda: ranks.led(breaking))
    else:
        try:
            ranks.led(breaking)
        except OSError as error:
            seen["broken"] = f"own {error}"
    (out / f"seen-{ranks.rank}.json").write_text(json.dumps(seen))


def divided(out: Path) -> None:
    """Writes what a divided model learned, and what each rank holds of it outside and inside `whole`."""
    ranks = joined("a test", cpu=True)
    updates = Updates(model(), learning_rate=1e-2, ranks=ranks)
    held = [sum(p.numel() for p in updates.module.parameters())]
    with updates.whole():
        held.append(sum(p.numel() for p in updates.module.parameters()))
    losses, weights = learn(ranks)
    (out / f"seen-{ranks.rank}.json").write_text(json.dumps({"losses": losses, "held": held}))
    if ranks.first:
        torch.save(weights, out / "weights.pt")


def runs(out: Path) -> None:
    """Runs the trainers of a list of command lines; `die` has the last rank kill itself before an update."""
    for job in json.loads((out / "jobs.json").read_text()):
        step, count = Updates.step, 0

        def dying(self: Updates, losses: Any, _die: int = job["die"], _step: Any = step) -> float:
            nonlocal count
            count += 1
            if count == _die and self.ranks.rank == self.ranks.world - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return float(_step(self, losses))

        Updates.step = dying  # type: ignore[method-assign]
        __import__(job["module"], fromlist=["run"]).run(job["words"])
        Updates.step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"basics": basics, "divided": divided, "runs": runs}[sys.argv[1]](Path(sys.argv[2]))
