"""MRT (RL) as a reward for other trainers: ours (rewards/protocol.py) and TRL's `reward_funcs`.

Prompts are a question with a prefix of an older policy's thinking, completions think on from there:

    columns of the data: `key`, `question` (the prompt without the prefix), `prefix`, `answer`

`bonus` gives outcome + alpha (J_i - J(prefix)): use it with RLOO or GRPO, where J(prefix) cancels.
`termination` takes J(prefix) off as well: use it with an algorithm that has no baseline of the group
(REINFORCE with `baseline: none`), for against a group's mean J(prefix) would cancel. Stops are drawn from the
present policy, which is the model given here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from alignment.mrt.decoding import Completion
from alignment.mrt.prover import Prover
from alignment.mrt.rl import mean_of
from alignment.mrt.traces import Question, Trace, read_completion
from codegen_eval.errors import CodealignError


class ProgressReward:
    """Reward of completions that think on from a prefix.

    Args:
        prover: Over the policy that is trained: its weights are looked at anew in every call.
        form: `bonus` or `termination`.
        alpha: Weight of progress.
        stops: Forced stops behind each place.
        ahead: Episodes that count as the rollout's own; 0 for all.
        seed: Of the stops; call n draws with seed + n.
    """

    __name__ = "progress"

    def __init__(
        self,
        prover: Prover,
        *,
        form: Literal["bonus", "termination"] = "bonus",
        alpha: float = 1.0,
        stops: int = 4,
        ahead: int = 1,
        seed: int = 0,
    ) -> None:
        if form not in ("bonus", "termination"):
            raise CodealignError(f"a reward is of the form bonus or termination, not {form!r}")
        if stops < 1 or ahead < 0 or not 0 <= alpha < float("inf"):
            raise CodealignError(
                f"stops {stops} must be 1 or more, ahead {ahead} and alpha {alpha} 0 or more"
            )
        self.prover, self.form, self.alpha = prover, form, alpha
        self.stops, self.ahead, self.seed = stops, ahead, seed
        self.calls = 0

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward a completion; None where the answer or every stop could not be graded.

        Raises:
            CodealignError: Without token ids or one of the columns.
        """
        if completion_ids is None:
            raise CodealignError("the reward 'progress' needs completion_ids: token ids as they were drawn")
        for name in ("key", "question", "prefix", "answer"):
            if name not in columns:
                raise CodealignError(f"the reward 'progress' needs the column {name!r} in the data")
        encode = self.prover.tokenizer.encode
        starts: dict[tuple[str, tuple[int, ...]], Trace] = {}
        places, ends, outcomes = [], [], []
        for i, ids in enumerate(completion_ids):
            question = Question(str(columns["key"][i]), columns["question"][i], columns["answer"][i])
            # As the trainer encodes it: question and prefix in one.
            context = tuple(encode(question.prompt + columns["prefix"][i]))
            trace = self._read(question, i, context, ids)
            place = 0
            if trace.cuts:
                place = trace.cuts[-1 if self.ahead == 0 else min(self.ahead, len(trace.cuts)) - 1]
            # One J(prefix) for all rollouts of a prefix: two estimates of it would not cancel.
            places.append((question.key, context))
            starts.setdefault(places[-1], Trace(question, 0, context, (), (), False, (), None))
            ends.append(Trace(question, i, context + trace.thinking[:place], (), (), False, (), None))
            outcomes.append(trace.outcome)
        before = dict(zip(starts, self._j(list(starts.values()), 2 * self.calls), strict=True))
        j_end = self._j(ends, 2 * self.calls + 1)
        self.calls += 1
        found: list[float | None] = []
        for outcome, key, end in zip(outcomes, places, j_end, strict=True):
            start = before[key]
            if outcome is None or start != start or (self.alpha > 0 and end != end):
                found.append(None)
                continue
            bonus = self.alpha * (end - start) if self.alpha > 0 else 0.0
            found.append(outcome + bonus - (start if self.form == "termination" else 0.0))
        return found

    def _read(self, question: Question, number: int, context: tuple[int, ...], ids: Sequence[int]) -> Trace:
        """The rollout, its end token taken off."""
        ends = self.prover.decoder.ends
        ended = bool(ids) and int(ids[-1]) in ends
        drawn = Completion(tuple(map(int, ids[:-1] if ended else ids)), ended)
        return read_completion(self.prover.tokenizer, self.prover.style, question, number, context, drawn)

    def _j(self, traces: Sequence[Trace], call: int) -> list[float]:
        judged = self.prover.judge(traces, stops=self.stops, seed=self.seed + call)
        return [mean_of([stop.reward for stop in one.stops[0]]) for one in judged]
