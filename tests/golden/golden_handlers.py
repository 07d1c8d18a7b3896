"""What is compared for each kind of vector; a handler raises AssertionError where the project is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen_eval.metrics.eff_at_k import eff_at_k, eff_values
from codegen_eval.metrics.enamel import efficiency_score, hodges_lehmann
from codegen_eval.metrics.pass_at_k import pass_at_k
from codegen_eval.pairs.acecoder import acecoder_choice
from codegen_eval.pairs.dstc import dstc_choice
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


def check_codedpo(case: Case) -> None:
    for expected in case["expected"]["codedpo"]:
        view = make_view(read_matrix(case), damping=expected["d"], sweeps=expected["T"])
        ranking = RANKERS.get("codedpo")(view)
        _close(ranking.scores, expected["code_scores"], 1e-9)
        _close(ranking.test_scores, expected["test_scores"], 1e-9)
        assert list(ranking.best) == sorted(expected["best_codes"])
        assert list(ranking.levels[-1]) == sorted(expected["worst_codes"])
        assert ranking.informative == expected["pair_possible"]


def check_dstc(case: Case) -> None:
    expected = case["expected"]["dstc"]
    choice = dstc_choice(read_matrix(case))
    assert choice.reason == expected["reason"]
    assert (choice.reason is None) == expected["feasible"]
    if not expected["feasible"]:
        return
    assert list(choice.chosen_codes) == expected["chosen_codes"]
    assert list(choice.rejected_tests) == expected["rejected_tests"]
    for name in ("chosen_tests", "rejected_codes"):
        found = {str(k): list(v) for k, v in getattr(choice, name).items()}
        assert found == expected[name]
    either = {j for group in choice.rejected_codes.values() for j in group}
    assert bool(either & set(choice.chosen_codes)) == expected["same_code_on_both_sides_possible"]
    forced = len(either | set(choice.chosen_codes)) == 1
    assert forced == expected["same_code_on_both_sides_forced"]


def check_acecoder_pairs(case: Case) -> None:
    expected = case["expected"]["acecoder_pairs"]
    found = acecoder_choice(read_matrix(case))
    assert len(found) == expected["pairs"]
    if "list" in expected:
        assert [list(pair) for pair in found] == expected["list"]


RANKING_PARTS: dict[str, Callable[[Case], None] | None] = {
    "consensus_sets": check_consensus_sets,
    "b4": check_b4,
    "codet": check_codet,
    "codet_original": check_codet_original,
    "mbr_exec": check_mbr_exec,
    "maxpass": check_maxpass,
    "codedpo": check_codedpo,
    "dstc": check_dstc,
    "acecoder_pairs": check_acecoder_pairs,
}


def check_pass_at_k(vector: Case) -> None:
    value = np.asarray(pass_at_k(vector["n"], vector["c"], vector["k"])).item()
    _close(value, vector["expected"], 0.0, 1e-12)


def read_scores(vector: Case) -> list[float]:
    if "scores" in vector:
        return list(vector["scores"])
    rule = vector["scores_rule"]
    return [SCORE_RULES[rule["rule"]](i, rule) for i in range(rule["n"])]


SCORE_RULES: dict[str, Callable[[int, Case], float]] = {
    "linear": lambda i, rule: ((i * rule["a"] + rule["b"]) % rule["m"]) / rule["m"],
    "quantised": lambda i, rule: (
        ((i * rule["a"] + rule["b"]) % rule["m"]) // rule["step"] * rule["step"] / rule["m"]
    ),
    "sparse": lambda i, rule: float(i % rule["every"] == rule["at"]),
}


def check_eff_at_k(vector: Case) -> None:
    _close(eff_at_k(read_scores(vector), vector["k"]), vector["expected"], 0.0, 1e-12)


def check_eff_at_k_dataset(vector: Case) -> None:
    value = float(np.mean(eff_values(vector["scores"], vector["k"])))
    _close(value, vector["expected"], 0.0, 1e-12)


def check_hodges_lehmann(vector: Case) -> None:
    _close(hodges_lehmann(vector["seconds"]), vector["expected"], 0.0, 1e-12)


def check_efficiency_score(vector: Case) -> None:
    found = efficiency_score(
        vector["reference_seconds"],
        vector["candidate_seconds"],
        vector["hardness"],
        vector["alpha"],
        correct=vector.get("correct", True),
    )
    _close(found.value, vector["expected"], 0.0, 1e-12)
    if "expected_time_limit" in vector:
        _close(found.time_limit, vector["expected_time_limit"], 0.0, 1e-12)
    for level, expected in zip(found.levels, vector.get("expected_level_scores", found.levels), strict=True):
        assert (level is None) == (expected is None)
        if level is not None:
            _close(level, expected, 0.0, 1e-12)


EFF_KINDS: dict[str, Callable[[Case], None] | None] = {
    "pass_at_k": check_pass_at_k,
    "eff_at_k": check_eff_at_k,
    "eff_at_k_dataset": check_eff_at_k_dataset,
    "hodges_lehmann": check_hodges_lehmann,
    "efficiency_score": check_efficiency_score,
}
