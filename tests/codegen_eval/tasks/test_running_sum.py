"""The running sum: right answers by hand, mistakes where and as often as they were planted."""

from __future__ import annotations

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.tasks.running_sum import (
    ALPHABET,
    Misconceptions,
    first_slip,
    is_right,
    plant,
    question_text,
    questions,
    split_totals,
    traces,
)

NONE = Misconceptions(np.zeros((10, 10), dtype=np.int64), np.zeros((10, 10)))


def text(tokens: np.ndarray) -> str:
    return "".join(ALPHABET[token] for token in tokens)


def test_a_trace_by_hand() -> None:
    digits = np.array([[3, 4, 5, 9]])
    assert text(traces(digits, NONE, np.random.default_rng(0))[0]) == "702112"
    chance = np.zeros((10, 10))
    wrong = np.zeros((10, 10), dtype=np.int64)
    chance[7, 5], wrong[7, 5] = 1.0, 6  # 7 + 5 is written 16; then 16 + 9 = 25
    found = text(traces(digits, Misconceptions(wrong, chance), np.random.default_rng(0))[0])
    assert found == "706152"
    assert first_slip("3459=", found) == 1 and not is_right("3459=", found)


def test_without_misconceptions_every_trace_is_right() -> None:
    asked = questions(np.random.default_rng(1), 200)
    for digits, answer in zip(asked, traces(asked, NONE, np.random.default_rng(2)), strict=True):
        question = question_text(digits)
        assert len(question) == 10 and is_right(question, text(answer))
        assert first_slip(question, text(answer)) is None


def test_mistakes_happen_at_planted_entries_as_often_as_asked() -> None:
    table = plant(5)
    assert sorted(set(table.chance.ravel())) == [0.0, 0.3, 0.7]
    assert [(table.chance == chance).sum() for chance in (0.7, 0.3)] == [10, 40]
    right = np.add.outer(np.arange(10), np.arange(10)) % 10
    assert (table.wrong != right).all(), "a wrong digit is wrong"
    asked = questions(np.random.default_rng(3), 20_000)
    written = traces(asked, table, np.random.default_rng(4))
    first = (asked[:, 0] + asked[:, 1]) % 10 != written[:, 0]
    for chance in (0.0, 0.3, 0.7):
        at = table.chance[asked[:, 0], asked[:, 1]] == chance
        assert first[at].mean() == pytest.approx(chance, abs=0.02)
    slips = [first_slip(question_text(q), text(a)) for q, a in zip(asked[:2000], written, strict=False)]
    clean = np.array([slip is None for slip in slips])
    assert clean.mean() == pytest.approx((1 - 0.1 * 0.7 - 0.4 * 0.3) ** 8, abs=0.04)


def test_seeds_decide_tables() -> None:
    one, same, other = plant(0), plant(0), plant(1)
    assert (one.wrong == same.wrong).all() and (one.chance == same.chance).all()
    assert not (one.chance == other.chance).all()


def test_answers_that_are_cut_short_go_on_or_are_no_digits_are_wrong() -> None:
    assert is_right("345=", "7021")
    for answer in ("", "70", "702", "70210", "702100", "7022", "70=1", "70²1", "٧٠٢١", "12"):
        assert not is_right("345=", answer), answer


def test_steps_end_every_two_characters_behind_the_question() -> None:
    assert split_totals("345=") == [] and split_totals("345=7") == []
    assert split_totals("345=70") == [6] and split_totals("345=7021") == [6, 8]
    assert split_totals("345") == []


def test_tables_that_cannot_be_are_refused() -> None:
    with pytest.raises(CodealignError, match="60 \\+ 50"):
        plant(0, sure=60, unsure=50)
    with pytest.raises(CodealignError, match=r"chances \(1.2, 0.3\)"):
        plant(0, chances=(1.2, 0.3))
    with pytest.raises(CodealignError, match="digits is 1"):
        questions(np.random.default_rng(0), 3, 1)
