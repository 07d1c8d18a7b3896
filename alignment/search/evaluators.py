"""What the state behind a step is worth: R = outcome + confidence (MCTS-DPO, arXiv 2405.00451, eq. 2).

An evaluator takes all candidates of a call and gives R of each, None where nobody can say it now. Outcomes
come from a verifier and are there for whole answers only; confidences come from the policy's own judgement, a
reward model or completions. Unlike the authors' code no evaluator sees a reference solution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from alignment.search.lockstep import Candidate, Evaluator, Request, Sampler
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import InfraError, Program, Result, Verdict

Verify = Callable[[Sequence[tuple[int, str]]], Sequence[float | None]]
"""(tree, answer's text) of whole answers -> 1 right, -1 wrong, between them partly right; None: ask again."""


def outcome_evaluator(verify: Verify, texts: Sequence[str]) -> Evaluator:
    """R = outcome of answers that are over, 0 of all others.

    Args:
        verify: Asked once for all whole answers of a call.
        texts: Of the trees' prompts.
    """

    def evaluate(candidates: Sequence[Candidate]) -> list[float | None]:
        ended = [candidate for candidate in candidates if candidate.step.terminal]
        outcomes = iter(verified(verify, [(c.tree, answer_of(c, texts)) for c in ended]))
        return [next(outcomes) if candidate.step.terminal else 0.0 for candidate in candidates]

    return evaluate


def answer_of(candidate: Candidate, texts: Sequence[str]) -> str:
    """The answer's text up to the end of the candidate's step."""
    return (candidate.text + candidate.step.text)[len(texts[candidate.tree]) :]


def verified(verify: Verify, answers: Sequence[tuple[int, str]]) -> list[float | None]:
    """What the verifier says, checked.

    Raises:
        CodealignError: For another number of outcomes, or one outside [-1, 1].
    """
    found = list(verify(answers)) if answers else []
    if len(found) != len(answers):
        raise CodealignError(f"the verifier was asked for {len(answers)} outcomes and gave {len(found)}")
    for value in found:
        if value is not None and not -1 <= value <= 1:
            raise CodealignError(f"the verifier gave the outcome {value}: it must lie in [-1, 1], or be None")
    return found


class Runner(Protocol):
    """What outcomes by tests need of a sandbox; `Sandbox` and every executor have it."""

    def run(
        self, programs: Iterable[Program], *, all_tests: bool = False
    ) -> Iterator[Result] | Iterator[Result | InfraError]:
        """Results in the order of the programs."""
        ...


class OutcomeByTests:
    """Outcomes of programs by the tests of their problems, in the sandbox; equal programs are run once.

    Args:
        problems: One a tree. Their tests decide: for training these are the training problems'.
        runner: Runs the programs.
        partial: 2 x (share of passed tests) - 1; otherwise 1 if all pass, else -1. A program that does not
            compile, or is stopped for time, is worth -1 in both.
    """

    def __init__(self, problems: Sequence[Problem], runner: Runner, *, partial: bool = False) -> None:
        self.problems = problems
        self.runner = runner
        self.partial = partial
        self.known: dict[tuple[str, str], float] = {}

    def __call__(self, answers: Sequence[tuple[int, str]]) -> list[float | None]:
        """Outcomes of whole answers; None where the sandbox could not run the program."""
        sources = [(self.problems[tree], self.problems[tree].source(text)) for tree, text in answers]
        keys = [(problem.task_id, source) for problem, source in sources]
        fresh = {
            key: problem.program(source)
            for key, (problem, source) in zip(keys, sources, strict=True)
            if key not in self.known
        }
        results: Iterator[Result | InfraError] = self.runner.run(fresh.values(), all_tests=self.partial)
        for key, result in zip(fresh, results, strict=True):
            if not isinstance(result, InfraError):
                self.known[key] = program_outcome(result, partial=self.partial)
        return [self.known.get(key) for key in keys]


def program_outcome(result: Result, *, partial: bool) -> float:
    """The outcome of a program that was run, in [-1, 1]; see `OutcomeByTests`."""
    if result.verdict is Verdict.passed:
        return 1.0
    if not partial or not result.cells or result.verdict in (Verdict.syntax_error, Verdict.timeout):
        return -1.0
    return 2 * sum(cell.verdict is Verdict.passed for cell in result.cells) / len(result.cells) - 1


JUDGE = """{question}

Proposed answer so far:
{answer}

Is this answer on the right way?
(A) incorrect
(B) correct
The answer is ("""
"""What self-evaluation asks; the next token is A or B. No reference solution is shown."""


class SelfEvaluation:
    """Confidence in [0, 1]: the probability that the policy itself gives to the option "correct".

    Args:
        model: The policy, or any other causal language model.
        tokenizer: Its tokenizer.
        texts: Of the trees' prompts.
        template: With the fields `{question}` and `{answer}`.
        options: (incorrect, correct): the texts that continue the template; only their first token counts.
        normalised: Whether the probability is divided by that of both options, so that one half says
            nothing. The authors' code does not divide.
        batch_size: Rows a forward pass.

    Raises:
        CodealignError: For a template without its fields, or options that begin with the same token.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        texts: Sequence[str],
        *,
        template: str = JUDGE,
        options: tuple[str, str] = ("A", "B"),
        normalised: bool = True,
        batch_size: int = 32,
    ) -> None:
        if "{question}" not in template or "{answer}" not in template:
            raise CodealignError(
                "the template of the self-evaluation needs the fields {question} and {answer}"
            )
        ids = [tokenizer.encode(text, add_special_tokens=False) for text in options]
        if not all(ids) or ids[0][0] == ids[1][0]:
            raise CodealignError(
                f"the options {options} begin with the same token, or have none: choose others"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.texts = texts
        self.template = template
        self.tokens = [row[0] for row in ids]
        self.normalised = normalised
        self.batch_size = batch_size

    def __call__(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Confidences, one a candidate.

        Raises:
            CodealignError: For a question that does not fit the model's window.
        """
        rows = [self.tokenizer.encode(self.asked(candidate)) for candidate in candidates]
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, rows), default=0)
        if window is not None and longest > window:
            raise CodealignError(
                f"a self-evaluation of {longest} tokens does not fit the model's window of {window}: shorten "
                "the template or answer_tokens"
            )
        found: list[float | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            for i, value in zip(part, self._confidences([rows[i] for i in part]), strict=True):
                found[i] = value
        return found

    def asked(self, candidate: Candidate) -> str:
        """The question for one candidate. Braces in prompt and answer stay as they are."""
        before, _, rest = self.template.partition("{question}")
        middle, _, after = rest.partition("{answer}")
        return before + self.texts[candidate.tree] + middle + answer_of(candidate, self.texts) + after

    def _confidences(self, rows: Sequence[Sequence[int]]) -> list[float]:
        import torch

        width = max(map(len, rows))
        # Rows are filled up behind their end, where causal attention does not look.
        ids = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows])
        last = torch.tensor([len(row) - 1 for row in rows])
        with torch.inference_mode():
            logits = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits
            scores = logits[torch.arange(len(rows)), last].double()
            if self.normalised:
                chances = scores[:, self.tokens].softmax(-1)
            else:
                chances = scores.softmax(-1)[:, self.tokens]
        confidences: list[float] = chances[:, 1].tolist()
        return confidences


def with_confidence(outcome: Evaluator, confidence: Evaluator) -> Evaluator:
    """R = outcome + confidence, None where one of them is."""

    def evaluate(candidates: Sequence[Candidate]) -> list[float | None]:
        pairs = zip(outcome(candidates), confidence(candidates), strict=True)
        return [None if o is None or c is None else o + c for o, c in pairs]

    return evaluate


class Scorer(Protocol):
    """What a reward model has (`reward_modeling.scoring.RewardModel`)."""

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float | None]:
        """One raw score a completion; None for one that is too long."""
        ...


def reward_model_confidence(model: Scorer, texts: Sequence[str]) -> Evaluator:
    """Confidence = sigmoid of the reward model's score of the answer so far, as in the authors' code.

    An answer that is too long for the reward model counts as undecided, 0.5: asking again would not help.
    """
    from math import exp

    def evaluate(candidates: Sequence[Candidate]) -> list[float | None]:
        answers = [answer_of(candidate, texts) for candidate in candidates]
        scores = model.score([texts[candidate.tree] for candidate in candidates], answers)
        # The form with exp(-|x|) does not overflow.
        return [0.5 if s is None else (1 if s >= 0 else exp(s)) / (1 + exp(-abs(s))) for s in scores]

    return evaluate


class Completions:
    """R = mean outcome of completions: OmegaPRM's and VinePPO's estimate, the same object as MRT's J.

    An answer that is over is worth its outcome. Completions are drawn by the policy, each with its own random
    numbers, so that a value does not depend on what else is asked for.

    Args:
        sample: The sampler; what it draws for this counts in `sampled` here, not in the trees'.
        verify: Says the outcomes.
        texts: Of the trees' prompts.
        seeds: Of the trees.
        count: Completions of a state.

    Attributes:
        sampled: Tokens of completions, by tree.

    Raises:
        CodealignError: For a count below 1.
    """

    def __init__(
        self, sample: Sampler, verify: Verify, texts: Sequence[str], seeds: Sequence[int], *, count: int = 4
    ) -> None:
        if count < 1:
            raise CodealignError(f"count is {count}: a mean needs one completion or more")
        self.sample = sample
        self.verify = verify
        self.texts = texts
        self.seeds = seeds
        self.count = count
        self.sampled = [0] * len(texts)

    def __call__(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Mean outcomes; None where not one of a state's outcomes is known."""
        inner = [i for i, candidate in enumerate(candidates) if not candidate.step.terminal]
        requests = [self._request(candidates[i]) for i in inner]
        answers = {
            i: [(candidates[i].tree, answer_of(candidates[i], self.texts))] for i in range(len(candidates))
        }
        for i, steps in zip(inner, self.sample(requests) if requests else [], strict=True):
            ((tree, begun),) = answers[i]
            self.sampled[tree] += sum(step.cost for step in steps)
            answers[i] = [(tree, begun + step.text) for step in steps]
        asked = [answer for i in range(len(candidates)) for answer in answers[i]]
        outcomes = iter(verified(self.verify, asked))
        found: list[float | None] = []
        for i in range(len(candidates)):
            known = [value for _ in answers[i] if (value := next(outcomes)) is not None]
            found.append(sum(known) / len(known) if known else None)
        return found

    def _request(self, candidate: Candidate) -> Request:
        prefix = (*candidate.prefix, *candidate.step.tokens)
        return Request(
            tree=candidate.tree,
            node=-1,
            prefix=prefix,
            text=candidate.text + candidate.step.text,
            breadth=self.count,
            seed=state_seed(self.seeds[candidate.tree], prefix),
            depth=0,
            last=True,
            answered=candidate.answered + len(candidate.step.tokens),
        )


def state_seed(seed: int, tokens: Sequence[int]) -> int:
    """A seed of a state, from its tree's seed and its token ids."""
    import hashlib

    digest = hashlib.sha256(f"{seed}/{','.join(map(str, tokens))}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
