"""Values of states: outcomes for whole answers alone, failures of the sandbox are no outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.search import evaluators
from alignment.search.duplicates import by_text
from alignment.search.evaluators import OutcomeByTests, SelfEvaluation, answer_of, outcome_evaluator
from alignment.search.lockstep import Candidate, Request, SearchOptions, search
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import CallTest, CellResult, InfraError, Program, Verdict
from tests.alignment import tiny

TEXTS = ["first? ", "second? "]


def candidate(text: str, *, tree: int = 0, end: bool = True, before: str = "", **more: Any) -> Candidate:
    step = Step((1, 2), -1.0, text, terminal=end)
    return Candidate(tree, (5, 6, 7), TEXTS[tree] + before, step, 1, 0.0, **more)


def test_only_whole_answers_have_an_outcome_and_the_verifier_sees_no_prompt() -> None:
    asked: list[tuple[int, str]] = []

    def verify(answers: Sequence[tuple[int, str]]) -> list[float]:
        asked.extend(answers)
        return [1.0 if text.endswith("right") else -1.0 for _, text in answers]

    given = [candidate("open", end=False), candidate("right", tree=1, before="a "), candidate("wrong")]
    assert outcome_evaluator(verify, TEXTS)(given) == [0.0, 1.0, -1.0]
    assert asked == [(1, "a right"), (0, "wrong")]
    asked.clear()
    assert outcome_evaluator(verify, TEXTS)([candidate("open", end=False)]) == [0.0] and not asked


def test_verifiers_that_say_too_little_or_too_much_are_refused() -> None:
    with pytest.raises(CodealignError, match="asked for 1 outcomes and gave 0"):
        outcome_evaluator(lambda answers: [], TEXTS)([candidate("x")])
    with pytest.raises(CodealignError, match=r"outcome 2\.0"):
        outcome_evaluator(lambda answers: [2.0], TEXTS)([candidate("x")])
    with pytest.raises(CodealignError, match="outcome nan"):
        outcome_evaluator(lambda answers: [math.nan], TEXTS)([candidate("x")])


class Box:
    """A sandbox's stand-in: a program's result stands in its text; every first try of `# later` breaks."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, programs: Iterable[Program], *, all_tests: bool = False) -> Iterator[Any]:
        for program in programs:
            self.ran.append(program.source)
            if "# later" in program.source and self.ran.count(program.source) == 1:
                yield InfraError(program.id, "the worker died", 3)
                continue
            passed = program.source.count("+")
            verdicts = [Verdict.passed] * passed + [Verdict.wrong_answer] * (4 - passed)
            cells = tuple(CellResult(verdict, "", 0.0) for verdict in verdicts)
            verdict = Verdict.passed if passed == 4 else verdicts[-1]
            verdict = Verdict.timeout if "# slow" in program.source else verdict
            yield SimpleNamespace(id=program.id, verdict=verdict, cells=cells if all_tests else cells[-1:])


PROBLEMS = [
    Problem(f"t/{i}", text, "f", (CallTest((1,), 1),), "", stop=("STOP",)) for i, text in enumerate(TEXTS)
]


def test_outcomes_by_tests_are_all_or_nothing_or_shares_and_equal_programs_run_once() -> None:
    box = Box()
    whole, parts = (OutcomeByTests(PROBLEMS, box, partial=partial) for partial in (False, True))
    answers = [(0, "++++"), (0, "+"), (1, "++++"), (0, "++++STOP not run"), (0, "+++ # slow")]
    assert whole(answers) == [1.0, -1.0, 1.0, 1.0, -1.0]
    assert len(box.ran) == 4 and box.ran[0] == "first? ++++"
    assert parts(answers) == [1.0, -0.5, 1.0, 1.0, -1.0], "stopped for time is worth -1, whatever passed"
    whole(answers)
    assert len(box.ran) == 8


def test_a_broken_sandbox_is_no_outcome_prunes_nothing_and_is_asked_again() -> None:
    box = Box()
    outcomes = OutcomeByTests(PROBLEMS, box)
    evaluate = outcome_evaluator(outcomes, TEXTS)
    assert outcomes([(0, "++++ # later"), (0, "+")]) == [None, -1.0]
    assert outcomes([(0, "++++ # later")]) == [1.0]

    def steps(requests: Sequence[Request]) -> list[list[Step]]:
        return [[Step((1,), -0.1, "++++ # later 2", True), Step((2,), -0.1, "+", True)] for _ in requests]

    tree = Tree((9,))
    search([tree], steps, evaluate, SearchOptions(iterations=4), key=by_text, texts=TEXTS[:1])
    assert all(tree["known"]) and tree["reward"] == [0.0, 1.0, -1.0]
    assert tree["visits"][1] >= 1


def confidence(**options: Any) -> SelfEvaluation:
    return SelfEvaluation(tiny.model(1), tiny.tokenizer(), TEXTS, options=("0", "1"), **options)


def test_self_evaluation_is_the_models_probability_of_the_right_option() -> None:
    given = [candidate("a step\n" * n, end=False, tree=n % 2) for n in range(5)]
    own, bare = confidence(batch_size=2), confidence(normalised=False)
    found, raw = own(given), bare(given)
    ids = [tiny.tokenizer().encode(text)[0] for text in ("0", "1")]
    for one, value, plain in zip(given, found, raw, strict=True):
        with torch.no_grad():
            row = torch.tensor([tiny.tokenizer().encode(own.asked(one))])
            chances = tiny.model(1)(row).logits[0, -1].double().softmax(-1)
        assert plain == pytest.approx(float(chances[ids[1]]), rel=1e-4)
        assert value == pytest.approx(float(chances[ids[1]] / (chances[ids[0]] + chances[ids[1]])), rel=1e-4)


def test_the_judge_is_shown_question_and_answer_so_far_and_no_solution() -> None:
    own = confidence()
    asked = own.asked(candidate(" b{question}", tree=1, before="a {answer}", end=False))
    assert asked.startswith("second? ") and "a {answer} b{question}\n" in asked and asked.endswith("(")
    assert asked.count("second?") == 1


def test_judges_that_cannot_tell_are_refused() -> None:
    with pytest.raises(CodealignError, match="needs the fields"):
        confidence(template="{question} good?")
    with pytest.raises(CodealignError, match="same token"):
        SelfEvaluation(tiny.model(1), tiny.tokenizer(), TEXTS, options=("1", "1"))
    with pytest.raises(CodealignError, match="window of 512"):
        confidence()([candidate("x = 1\n" * 400, end=False)])


def test_confidence_is_added_and_a_missing_part_makes_the_value_unknown() -> None:
    both = evaluators.with_confidence(lambda c: [1.0, None, -1.0], lambda c: [0.25, 0.5, None])
    assert both([candidate("x")] * 3) == [1.25, None, None]


def test_a_reward_model_gives_the_sigmoid_of_its_score() -> None:
    class Model:
        def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
            assert prompts == [TEXTS[1]] * 4 and completions == ["p q"] * 4
            return [0.0, 2.0, -800.0, None]

    value = evaluators.reward_model_confidence(Model(), TEXTS)
    found = value([candidate("q", tree=1, before="p ", end=False)] * 4)
    assert found == pytest.approx([0.5, 1 / (1 + math.exp(-2)), 0.0, 0.5])


def test_completions_give_the_mean_outcome_and_depend_on_the_state_alone() -> None:
    calls: list[Request] = []

    def sample(requests: Sequence[Request]) -> list[list[Step]]:
        calls.extend(requests)
        return [
            [Step((3,), -1.0, str(i) + ("?" if i == 3 else ""), True) for i in range(r.breadth)]
            for r in requests
        ]

    def verify(answers: Sequence[tuple[int, str]]) -> list[float | None]:
        return [None if "?" in text else 1.0 if text.endswith(("0", "!")) else -1.0 for _, text in answers]

    values = evaluators.Completions(sample, verify, TEXTS, [11, 12], count=4)
    given = [candidate("a ", end=False, answered=2), candidate("b!"), candidate("c ", end=False, tree=1)]
    found = values(given)
    assert found == pytest.approx([-1 / 3, 1.0, -1 / 3]), "the outcome that nobody knows is left out"
    assert [request.breadth for request in calls] == [4, 4] and all(request.last for request in calls)
    assert calls[0].answered == 4 and calls[0].prefix == (5, 6, 7, 1, 2) and calls[0].text == "first? a "
    assert calls[0].seed != calls[1].seed, "trees have seeds of their own"
    assert values.sampled == [4, 4]
    values([given[2]])
    assert calls[-1].seed == calls[1].seed
    nothing = evaluators.Completions(sample, lambda a: [None] * len(a), TEXTS, [1, 2], count=2)
    assert nothing(given) == [None, None, None]
    with pytest.raises(CodealignError, match="count is 0"):
        evaluators.Completions(sample, verify, TEXTS, [1, 2], count=0)


def test_the_answer_is_the_text_behind_the_prompt() -> None:
    assert answer_of(candidate("z", tree=1, before="x y "), TEXTS) == "x y z"
