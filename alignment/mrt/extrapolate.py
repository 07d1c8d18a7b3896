"""Thinking beyond its natural end: what J does with more tokens than the model would spend.

Where a trace closes its thinking, the close is left out and one of the style's extensions put in its place
("Wait,", in turn, as in MRT's evaluation); a style without any keeps the model from writing the first token
of the close. Then the model thinks on until it closes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignment.mrt.decoding import Completion
from alignment.mrt.prover import Prover
from alignment.mrt.traces import Trace, episode_cuts, read_completion


def extended(prover: Prover, traces: Sequence[Trace], *, times: int, seed: int) -> list[Trace]:
    """The traces with thinking that went on `times` times after it had closed.

    Episodes that were there keep their ends; what is new is split by itself. The answer is the last one. A
    trace that never closed its thinking, or has no room left, stays as it is.

    Args:
        prover: Gives model, style and the most tokens of thinking, the new included.
        traces: Sampled ones.
        times: Extensions of each.
        seed: Of all draws.
    """
    style, tokenizer = prover.style, prover.tokenizer
    close = tokenizer.encode(style.close, add_special_tokens=False)[0]
    found = list(traces)
    for turn in range(times):
        texts = style.extensions
        added: tuple[int, ...] = ()
        if texts:
            added = tuple(tokenizer.encode(texts[turn % len(texts)], add_special_tokens=False))
        rooms = [prover.thinking_length - len(trace.thinking) - len(added) for trace in found]
        places = [p for p, trace in enumerate(found) if trace.ending and rooms[p] > 0]
        completions = prover.decoder.complete(
            [found[p].prompt + found[p].thinking + added for p in places],
            [f"{found[p].question.key}/{found[p].number}/{turn}" for p in places],
            count=1,
            length=[rooms[p] + prover.answer_length for p in places],
            seed=seed,
            first_banned=() if texts else (close,),
        )
        for place, (completion,) in zip(places, completions, strict=True):
            found[place] = _joined(prover, found[place], added, completion)
    return found


def _joined(prover: Prover, before: Trace, added: tuple[int, ...], completion: Completion) -> Trace:
    """A trace with what it went on to think."""
    after = read_completion(
        prover.tokenizer, prover.style, before.question, before.number, before.prompt, completion
    )
    new = (*added, *after.thinking)
    cuts = [len(before.thinking) + cut for cut in episode_cuts(prover.tokenizer, prover.style, new)]
    return replace(after, thinking=(*before.thinking, *new), cuts=(*before.cuts, *cuts))
