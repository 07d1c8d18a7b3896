"""What is compared for each kind of vector; a handler raises AssertionError where the project is wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from codegen_eval.ranking.common import RANKERS, Ranking, consensus_sets, make_view

Case = dict[str, Any]


def read_matrix(case: Case) -> np.ndarray:
    """The matrix of a ranking vector; hex rows hold their bits most significant first."""
    rows, tests = case["matrix"]["rows"], case["tests"]
    if case["matrix"]["format"] == "bits":
        bits = [[int(c) for c in row] for row in rows]
    else:
        bits = [np.unpackbits(np.frombuffer(bytes.fromhex(r), dtype=np.uint8))[:tests].tolist() for r in rows]
    return np.array(bits, dtype=np.uint8).reshape(case["codes"], tests)


def _close(value: Any, expected: Any, relative: float, absolute: float = 0.0) -> None:
    np.testing.assert_allclose(value, expected, rtol=relative, atol=absolute)


def _check_sets(ranking: Ranking, expected: Case, sets: Any, relative: float, absolute: float) -> None:
    firsts = [group[0] for group in sets.members]
    _close(ranking.scores[firsts], expected["score"], relative, absolute)
    assert list(ranking.best) == sorted(expected["best_codes"])
    levels = [sorted({int(sets.set_of[i]) for i in level}) for level in ranking.levels]
    best = sorted(int(s) for s in {sets.set_of[i] for i in ranking.best})
    assert best == sorted(expected["best_sets"])
    if len(firsts) > 40:
        levels = levels[: len(expected["ranking"])]
    assert levels == [sorted(level) for level in expected["ranking"]]


def check_consensus_sets(case: Case) -> None:
    sets = consensus_sets(read_matrix(case))
    assert [list(group) for group in sets.members] == case["expected"]["consensus_sets"]


def check_b4(case: Case) -> None:
    matrix = read_matrix(case)
    for expected in case["expected"]["b4"]:
        view = make_view(matrix, alpha_xy=expected["alpha_xy"], beta_0=expected["beta_0"])
        _check_sets(RANKERS.get("b4")(view), expected, consensus_sets(matrix), 1e-8, 1e-8)


def check_codet(case: Case) -> None:
    matrix = read_matrix(case)
    ranking = RANKERS.get("codet")(make_view(matrix))
    _check_sets(ranking, case["expected"]["codet"], consensus_sets(matrix), 1e-12, 0.0)


def check_mbr_exec(case: Case) -> None:
    matrix = read_matrix(case)
    ranking = RANKERS.get("mbr_exec")(make_view(matrix))
    _check_sets(ranking, case["expected"]["mbr_exec"], consensus_sets(matrix), 0.0, 0.0)


def check_maxpass(case: Case) -> None:
    expected = case["expected"]["maxpass"]
    ranking = RANKERS.get("maxpass")(make_view(read_matrix(case)))
    assert ranking.scores.tolist() == expected["score_per_code"]
    assert list(ranking.best) == sorted(expected["best_codes"])


def check_codet_original(case: Case) -> None:
    expected = case["expected"]["codet_original"]
    matrix = read_matrix(case)
    codes, tests = matrix.shape
    view = make_view(
        matrix, case.get("code_multiplicity", [1] * codes), case.get("test_multiplicity", [1] * tests)
    )
    ranking = RANKERS.get("codet")(view)
    for group in expected["sets"]:
        _close(ranking.scores[group["codes"]], group["score"], 1e-12)
    if expected["sets"]:  # otherwise the authors' code draws from all programs
        assert list(ranking.best) == sorted(expected["best_codes"])


RANKING_PARTS: dict[str, Callable[[Case], None] | None] = {
    "consensus_sets": check_consensus_sets,
    "b4": check_b4,
    "codet": check_codet,
    "codet_original": check_codet_original,
    "mbr_exec": check_mbr_exec,
    "maxpass": check_maxpass,
    "codedpo": None,
    "dstc": None,
    "acecoder_pairs": None,
}


def check_pass_at_k(vector: Case) -> None:
    if importlib.util.find_spec("codegen_eval.metrics.pass_at_k") is None:
        pytest.skip("codegen_eval.metrics.pass_at_k is not implemented yet")
    from codegen_eval.metrics.pass_at_k import pass_at_k

    value = np.asarray(pass_at_k(vector["n"], vector["c"], vector["k"])).item()
    _close(value, vector["expected"], 0.0, 1e-12)


EFF_KINDS: dict[str, Callable[[Case], None] | None] = {
    "pass_at_k": check_pass_at_k,
    "eff_at_k": None,
    "eff_at_k_dataset": None,
    "hodges_lehmann": None,
    "efficiency_score": None,
}
