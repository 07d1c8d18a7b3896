"""What counts as shared with a benchmark, and what is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.datajob.contamination import Hit, Index, Target, index_of, parse_target
from codegen_eval.errors import CodealignError

SENTENCE = "return the longest run of equal letters that the given text holds"


def index(*given: str, length: int = 10) -> Index:
    made = Index(length)
    for number, text in enumerate(given):
        made.add("bench", f"b/{number}", text)
    return made


def test_a_shared_run_is_found_whatever_stands_around_it_and_however_it_is_written() -> None:
    found = index("x", SENTENCE).find(f"def f(s):\n    '''Please {SENTENCE.upper().replace(' ', ',  ')}!'''")
    assert found == Hit("bench", "b/1", " ".join(SENTENCE.split()[:10]))


def test_one_word_less_is_not_shared() -> None:
    words = SENTENCE.split()
    assert index(SENTENCE).find(" ".join(words[:10])) is not None
    assert index(SENTENCE).find(" ".join(words[:9])) is None
    assert index(SENTENCE).find(" ".join([*words[:9], "other", *words[9:]])) is None


def test_rows_of_numbers_do_not_count() -> None:
    assert index("f([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])").find("1 2 3 4 5 6 7 8 9 10 11 12") is None


def test_a_short_solution_counts_as_a_whole() -> None:
    short = index("return sum(x for x in xs)")
    assert short.find("def g(xs):\n    return sum(x for x in xs)\n") is not None
    assert short.find("return sum(y for x in xs)") is None
    assert index("return x + 1").find("return x + 1") is None  # in every text


def test_prompts_and_solutions_of_a_benchmark_are_taken_and_hidden_tests_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hidden:
        task_id, prompt, chat = "m/1", f'"""{SENTENCE}"""', ""
        canonical_solution = "for left, right in zip(alpha, beta): total += left * right"

        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was read")

    monkeypatch.setitem(BENCHMARKS._entries, "made-up", lambda dataset, split: [Hidden()])
    made = index_of([Target("made-up", None, None)])
    assert made.find(SENTENCE) and made.find(Hidden.canonical_solution)


def test_targets_are_read_with_split_and_path() -> None:
    assert parse_target("humaneval:a/b:c.jsonl") == Target("humaneval", None, Path("a/b:c.jsonl"))
    assert parse_target("minipy@test") == Target("minipy", "test", None)
    with pytest.raises(CodealignError, match="NAME"):
        parse_target(":x")


def test_runs_that_are_too_short_are_refused() -> None:
    with pytest.raises(CodealignError, match="at least 6"):
        Index(5)
