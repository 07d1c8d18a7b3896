"""`alignment.dpo` with a fault: FAULT=KIND:RANK:STEP, in every process of a launch."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from alignment import dpo
from alignment.health.monitor import phase
from alignment.preference.trainer import PairTrainer

whole = PairTrainer.compute_loss


def reward_that_never_returns() -> None:
    with phase("reward"):
        time.sleep(1e6)


def compute_loss(self: Any, *rest: Any, **more: Any) -> Any:
    kind, rank, step = os.environ["FAULT"].split(":")
    struck = self.args.process_index == int(rank) and self.state.global_step + 1 == int(step)
    if struck and kind == "hang":
        reward_that_never_returns()
    loss = whole(self, *rest, **more)
    return loss * float("nan") if struck and kind == "nan" else loss


if __name__ == "__main__":
    PairTrainer.compute_loss = compute_loss
    sys.exit(dpo.main())
