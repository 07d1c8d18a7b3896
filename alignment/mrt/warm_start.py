"""Warm-start data: traces that go astray, go back to where they were right, and end well (MRT's format).

A base model that never goes back has no episodes for reinforcement to choose between. Lines of a solution are
numbered; a wrong attempt is followed by `Backtrack to Line k` (or `Backtrack to beginning`), the line behind
which the model would have answered rightly most often, and a right continuation from there. The wrong part is
read and not learned: only the way back, what follows and the answer count in the loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignment.mrt.decoding import Ids
from alignment.mrt.progress import FloatArray
from alignment.mrt.prover import Judged, Prover
from alignment.mrt.star import fully_known
from alignment.mrt.traces import Question, Trace, decoded
from alignment.mrt.updates import Row
from codegen_eval.errors import CodealignError

BEGINNING = "Backtrack to beginning"
_BACK = re.compile(r"^Backtrack to (?:Line (\d+)|beginning)$")
_NUMBER = re.compile(r"^Line \d+: ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Backtrack:
    """A trace that goes back.

    Attributes:
        wrong: The first attempt.
        kept: Episodes of it that hold.
        right: The second one; its thinking begins with what is kept.
    """

    wrong: Trace
    kept: int
    right: Trace


def back_line(kept: int) -> str:
    """The line that goes back: behind line `kept`, or to the beginning for 0.

    Raises:
        CodealignError: For a number below 0.
    """
    if kept < 0:
        raise CodealignError(f"there is no line {kept}: give 0 for the beginning, or more")
    return f"Backtrack to Line {kept}" if kept else BEGINNING


def read_back_line(line: str) -> int | None:
    """The line to which a line goes back, 0 for the beginning; None for any other line."""
    found = _BACK.match(line.strip())
    return None if found is None else int(found[1] or 0)


def numbered(steps: Sequence[str], first: int = 1) -> str:
    """Steps as numbered lines; line breaks inside a step become blanks, numbers that were there go."""
    return "".join(
        f"Line {i}: {' '.join(_NUMBER.sub('', step).split())}\n" for i, step in enumerate(steps, first)
    )


def backtracking_text(wrong: Sequence[str], kept: int, right: Sequence[str]) -> str:
    """A wrong attempt in numbered lines, the way back, and the steps that follow, numbered from there.

    Raises:
        CodealignError: If more is kept than there is, or nothing follows.
    """
    if not 0 <= kept < len(wrong) or not right:
        raise CodealignError(
            f"{kept} of {len(wrong)} steps are kept and {len(right)} follow: keep fewer than there are, and "
            "give at least one that follows"
        )
    return f"{numbered(wrong)}{back_line(kept)}\n{numbered(right, kept + 1)}"


def last_hold(j: FloatArray) -> int:
    """How many episodes of a wrong trace hold: up to the last prefix of the largest J."""
    return int(len(j) - 1 - np.argmax(j[::-1]))


def find_backtracks(
    prover: Prover, questions: Sequence[Question], *, traces: int, stops: int, attempts: int, seed: int
) -> list[Backtrack]:
    """Sampled wrong traces with right continuations from where they held; at most one of each question.

    Only traces whose J fell behind the place are taken: one that was never better has nothing to go back to,
    and one that was best at its end nothing to leave.

    Args:
        prover: Model and style.
        questions: Each is tried once.
        traces: Sampled of each.
        stops: Forced stops behind a prefix.
        attempts: Continuations that are tried from the place.
        seed: Of all draws.
    """
    sampled = [one for of in prover.sample(questions, count=traces, seed=seed) for one in of]
    wrong = [trace for trace in sampled if trace.outcome == 0 and trace.cuts]
    candidates: dict[str, tuple[Judged, int]] = {}
    for one in prover.judge(wrong, stops=stops, seed=seed + 1) if wrong else []:
        if not fully_known(one):
            continue
        j, key = one.j, one.trace.question.key
        kept = last_hold(j)
        if kept < len(j) - 1 and j[kept] > j[-1] and key not in candidates:
            candidates[key] = (one, kept)
    chosen = list(candidates.values())
    contexts = [one.trace.prompt + one.trace.thinking[: one.places[kept]] for one, kept in chosen]
    keys = [f"{one.trace.question.key}/{one.trace.number}/back" for one, _ in chosen]
    rooms = [prover.thinking_length - one.places[kept] for one, kept in chosen]
    drawn = prover.decoder.complete(contexts, keys, count=attempts, length=rooms, seed=seed + 2)
    found = []
    for (one, kept), of in zip(chosen, drawn, strict=True):
        start = one.trace.thinking[: one.places[kept]]
        for i, completion in enumerate(of):
            right = prover.read(one.trace.question, i, one.trace.prompt, completion, before=start)
            if right.finished and right.outcome == 1 and len(right.thinking) > len(start):
                found.append(Backtrack(one.trace, kept, right))
                break
    return found


def backtrack_row(prover: Prover, found: Backtrack, back: Ids) -> Row:
    """The row of a trace that goes back: what was wrong is read, the way back and all behind it is learned.

    Args:
        prover: Gives the end token.
        found: The trace.
        back: Token ids of the way back, as `prover.tokenizer` writes `back_line` in the model's style.
    """
    kept = (0, *found.wrong.cuts)[found.kept]
    read = found.wrong.prompt + found.wrong.thinking
    learned = (*back, *found.right.thinking[kept:], *found.right.ending, prover.end)
    return Row((*read, *learned), (*[0.0] * len(read), *[1.0] * len(learned)))


def backtrack_text_of(prover: Prover, found: Backtrack) -> str:
    """The same as text in numbered lines, one a step, without the answer."""
    wrong = _steps(prover, found.wrong, 0)
    return backtracking_text(wrong, found.kept, _steps(prover, found.right, found.kept))


def _steps(prover: Prover, trace: Trace, first: int) -> list[str]:
    places = (0, *trace.cuts)
    return [
        decoded(prover.tokenizer, trace.thinking[places[i] : places[i + 1]])
        for i in range(first, len(trace.cuts))
    ]
