"""Correctness pairs: who may be chosen, who rejected, how often, and by which seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.pairs.correctness import PairOptions, correctness_pairs
from codegen_eval.pairs.hygiene import loads, normal_form
from codegen_eval.pairs.records import Pair, read_ranking_row
from codegen_eval.ranking.rows import MatrixRow, RankOptions, ranking_row


def made(
    passed: Sequence[Sequence[int]],
    *,
    codes: Sequence[str] | None = None,
    counts: Sequence[int] | None = None,
    broken: Sequence[int] = (),
    task_id: str = "t",
) -> MatrixRow:
    matrix = np.array(passed, dtype=bool).reshape(len(passed), -1 if passed else 0)
    n, m = matrix.shape
    return MatrixRow(
        task_id=task_id,
        entry_point="f",
        codes=tuple(codes or [f"def f(): return {i}" for i in range(n)]),
        tests=tuple(f"assert f({j})" for j in range(m)),
        sources=("own",) * m,
        passed=matrix,
        code_counts=np.array(counts or [1] * n, dtype=np.float64),
        test_counts=np.ones(m),
        unloadable=np.array([i in broken for i in range(n)], dtype=bool),
    )


def pairs_of(row: MatrixRow, ranker: str = "b4", **options: object) -> tuple[list[Pair], Counter[str]]:
    funnel: Counter[str] = Counter()
    ranked = read_ranking_row(ranking_row(row, RankOptions(ranker)), row)
    return correctness_pairs(row, ranked, PairOptions(**options), funnel), funnel  # type: ignore[arg-type]


def test_chosen_comes_from_the_best_set_and_rejected_passes_fewer_tests() -> None:
    row = made([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
    for seed in range(20):
        pairs, funnel = pairs_of(row, pairs_per_problem=3, seed=seed)
        assert len({(p.chosen, p.rejected) for p in pairs}) == 3
        assert {p.chosen for p in pairs} <= {0, 1} and {p.rejected for p in pairs} <= {2, 3}
        assert funnel["problem_with_pairs"] == 1
        for pair in pairs:
            assert pair.margin == pytest.approx((2 - row.passed[pair.rejected].sum()) / 3)


def test_lower_ranked_program_that_passes_as_many_tests_is_never_rejected() -> None:
    pairs, funnel = pairs_of(made([[1, 1, 0], [1, 1, 0], [0, 1, 1]]), "mbr_exec")
    assert pairs == []
    assert funnel["candidate_not_fewer_tests"] == 2 and funnel["problem_nothing_below"] == 1


@pytest.mark.parametrize("ranker", ["b4", "codet", "maxpass", "mbr_exec", "random"])
def test_confidence_lies_between_a_half_and_one(ranker: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        pairs, _ = pairs_of(made((rng.random((7, 5)) < 0.5).astype(int).tolist()), ranker)
        for pair in pairs:
            assert 0.5 <= pair.confidence <= 1.0
            assert (ranker != "random") or pair.confidence == 0.5


def test_confidence_is_the_posterior_share_for_b4_and_the_distance_of_levels_for_others() -> None:
    row = made([[1, 1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]])
    scores = ranking_row(row, RankOptions("b4"))["scores"]
    for pair in pairs_of(row, pairs_per_problem=4)[0]:
        high, low = (np.exp(scores[i] - max(scores)) for i in (pair.chosen, pair.rejected))
        assert pair.confidence == pytest.approx(high / (high + low))
    found = {p.rejected: p.confidence for p in pairs_of(row, "maxpass", pairs_per_problem=4)[0]}
    assert found == {2: 0.75, 3: 1.0}


def test_programs_are_drawn_by_how_often_they_were_sampled() -> None:
    rows = [made([[1, 1], [0, 1], [0, 0]], counts=[1, 30, 1], task_id=f"t{i}") for i in range(200)]
    drawn = Counter(pairs_of(row, "maxpass", pairs_per_problem=1)[0][0].rejected for row in rows)
    assert drawn[1] > 180


def test_pairs_depend_on_seed_and_task_alone() -> None:
    matrix = [[1, 1, 1]] * 6 + [[0, 0, 1]] * 6
    one, again = pairs_of(made(matrix), seed=1)[0], pairs_of(made(matrix), seed=1)[0]
    assert one == again
    draws = {tuple((p.chosen, p.rejected) for p in pairs_of(made(matrix), seed=s)[0]) for s in range(10)}
    tasks = {
        tuple((p.chosen, p.rejected) for p in pairs_of(made(matrix, task_id=f"t{i}"))[0]) for i in range(10)
    }
    assert len(draws) > 3 and len(tasks) > 3


def test_equal_programs_are_one_program_and_never_a_pair() -> None:
    codes = ["def f(): return 1", "def f():\n    '''Doc.'''\n    return 1  # one", "def f(): return  1"]
    pairs, funnel = pairs_of(made([[1], [1], [0]], codes=codes))
    assert pairs == [] and funnel["candidate_equal_code"] == 1
    pairs, _ = pairs_of(made([[1], [1], [0]], codes=[*codes[:2], "def f(): return 2"]), pairs_per_problem=5)
    assert [(p.chosen, p.rejected) for p in pairs] == [(0, 2)]


@pytest.mark.parametrize(
    ("loadable", "broken", "count", "expected"),
    [(3, 3, 2, 2), (1, 5, 2, 2), (0, 5, 2, 0), (1, 5, 4, 2), (2, 9, 4, 4), (5, 5, 1, 1)],
)
def test_broken_programs_make_up_at_most_half_of_the_pairs(
    loadable: int, broken: int, count: int, expected: int
) -> None:
    size = 1 + loadable + broken
    row = made([[1]] + [[0]] * (size - 1), broken=range(1 + loadable, size))
    for seed in range(10):
        pairs, funnel = pairs_of(row, "maxpass", pairs_per_problem=count, seed=seed)
        used = sum(p.rejected > loadable for p in pairs)
        assert len(pairs) == expected and 2 * used <= len(pairs)
        assert all(p.confidence == 1.0 for p in pairs if p.rejected > loadable)
    assert loadable or funnel["problem_only_unloadable_below"] == 1


def test_broken_programs_can_be_switched_off() -> None:
    pairs, funnel = pairs_of(
        made([[1], [0], [0]], broken=[2]), pairs_per_problem=4, unloadable_rejected=False
    )
    assert [p.rejected for p in pairs] == [1] and funnel["candidate_unloadable"] == 1


@pytest.mark.parametrize(
    ("passed", "broken", "reason"),
    [
        ([], [], "no_programs"),
        ([[], []], [], "no_tests"),
        ([[0], [0]], [0, 1], "no_program_loads"),
        ([[0, 0], [0, 0]], [], "nothing_passes"),
        ([[1, 1], [1, 1]], [], "uninformative"),
        ([[1, 1]], [], "uninformative"),
    ],
)
def test_problem_without_information_gives_no_pair_but_a_reason(
    passed: list[list[int]], broken: list[int], reason: str
) -> None:
    pairs, funnel = pairs_of(made(passed, broken=broken))
    assert pairs == [] and funnel == {f"problem_{reason}": 1}


def test_best_set_that_passes_nothing_gives_no_pair() -> None:
    pairs, funnel = pairs_of(made([[0, 0], [0, 0], [0, 0], [1, 0]]), "mbr_exec")
    assert pairs == [] and funnel["problem_best_passes_nothing"] == 1


@pytest.mark.parametrize(
    "change",
    [{"scores": [1.0]}, {"best": [9]}, {"kind": "guess"}, {"scores": None}, {"best": ["x"]}],
)
def test_ranking_that_does_not_fit_its_matrix_is_refused(change: dict[str, object]) -> None:
    row = made([[1], [0]])
    with pytest.raises(CodealignError, match="'t'"):
        read_ranking_row({**ranking_row(row, RankOptions("b4")), **change}, row)


def test_normal_form_drops_comments_docstrings_and_layout_only() -> None:
    assert normal_form("def f(a):\n  '''x'''\n  return a # b") == normal_form("def f(a):\n\n    return (a)")
    assert normal_form("def f(a): return 'x'") != normal_form("def f(a): return 'y'")
    assert normal_form("def f(): 'doc'") == "def f():\n    pass"
    assert normal_form("x = 'kept'\n'kept too'") != normal_form("x = 'kept'")
    assert normal_form("no python (\n") == "no python ("
    assert loads("x = 1") and not loads("x = ") and not loads("\0")
    assert normal_form("-" * 50_000 + "1").startswith("-")
