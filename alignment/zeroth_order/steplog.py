"""The log of a run: for each step its rate, the seeds of its directions and how far it went along each.

That is all there is to a run: replayed on the starting weights it gives the trained ones bit for bit, so the
log is the checkpoint, some 50 bytes a step whatever the model's size. A line of JSON a step behind a header:
`[rate, loss, seed, factor, seed, factor, ...]`, null for a factor that was not finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole

FORMAT = "codealign-zeroth-order-1"


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        rate: Learning rate.
        loss: Mean of the objective at the points where it was asked for; NaN where it had no value.
        moves: (seed, factor) of each direction; the weights went by -rate * factor along it. A factor of None
            was not finite, and nothing was done.
    """

    rate: float
    loss: float
    moves: tuple[tuple[int, float | None], ...]

    @property
    def skipped(self) -> int:
        """Directions that had no finite factor."""
        return sum(factor is None for _, factor in self.moves)

    def line(self) -> str:
        """The step as one line; numbers read back as the very same."""
        values: list[Any] = [self.rate, self.loss if math.isfinite(self.loss) else None]
        for seed, factor in self.moves:
            values += [seed, factor]
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def read(cls, line: str) -> Step:
        """A step from its line; a ValueError for anything else."""
        values = json.loads(line)
        if not isinstance(values, list) or len(values) < 4 or len(values) % 2:
            raise ValueError("not a step")
        rate, loss, *rest = values
        for seed in rest[::2]:
            if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise ValueError(f"no seed: {seed!r}")
        moves = zip(rest[::2], (None if f is None else float(f) for f in rest[1::2]), strict=True)
        return cls(float(rate), math.nan if loss is None else float(loss), tuple(moves))


class StepLog:
    """The file of a run's steps; what is in it has happened."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = {"format": FORMAT, **header}

    def open(self) -> list[Step]:
        """Makes the file, or reads the steps of the one that is there; a line that a kill tore is cut off.

        Raises:
            CodealignError: For a broken file, or one whose header differs (the keys are named).
        """
        if not self.path.exists():
            write_whole(self.path, [f"{json.dumps(self.header, sort_keys=True)}\n".encode()])
            return []
        with self.path.open("rb+") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
        found, steps = read(self.path)
        differing = [
            f"{key}: {found.get(key)!r}, now {self.header.get(key)!r}"
            for key in sorted(set(found) | set(self.header))
            if found.get(key) != self.header.get(key)
        ]
        if differing:
            hint = (
                "; `stream` differs where another device or processor draws other random numbers: go on "
                "where the run began"
                if any(entry.startswith("stream") for entry in differing)
                else ""
            )
            raise CodealignError(
                f"{self.path} was written under other settings ({'; '.join(differing)}){hint}. Start anew "
                "with --overwrite, or choose another run directory"
            )
        return steps

    def cut(self, steps: int) -> None:
        """Keeps the first `steps` steps alone, in one step."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        write_whole(self.path, lines[: steps + 1])

    def append(self, steps: Iterable[Step]) -> None:
        """Adds steps, handed to the system before this returns: a kill of the process loses none."""
        with self.path.open("ab") as file:
            file.write("".join(step.line() + "\n" for step in steps).encode())


def read(path: Path) -> tuple[dict[str, Any], list[Step]]:
    """Header and steps of a log.

    Raises:
        CodealignError: If there is no such file, or it is none (the line is named).
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(first)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("no header")
    except FileNotFoundError:
        raise CodealignError(f"no such log: {path}") from None
    except ValueError as error:
        raise CodealignError(f"{path} is no log of zeroth-order steps ({error})") from None
    steps = []
    for number, line in enumerate(lines, 2):
        try:
            steps.append(Step.read(line))
        except (ValueError, TypeError) as error:
            raise CodealignError(f"{path}:{number}: broken ({error}); start anew with --overwrite") from None
    return header, steps
