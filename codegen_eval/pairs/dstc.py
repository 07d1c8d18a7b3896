"""DSTC: a program with a test it passes against a program with a test it fails (arXiv 2411.13611).

    j+ = argmax_j passes of program j
    k+ = argmin_k passes of test k, among those that j+ passes      the hardest test that it passes
    k- = argmax_k passes of test k, among those that some fail      the easiest test that some program fails
    j- = argmin_j passes of program j, among those that fail k-

Chosen is the text of j+ followed by k+, rejected that of j- followed by k-: the label belongs to both parts
together, so that a right program beside a wrong test is still rightly dispreferred. The rule for j- is
reconstructed from digests of the paper ("the program most likely to fail"). Ties are drawn by the seed. A
cell that the sandbox left unknown is no pass, and no failure either: j- needs a failure that was seen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from codegen_eval.pairs.correctness import confidence, pair_of
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.common import BoolArray, FloatArray, as_passed, as_weights
from codegen_eval.ranking.rows import MatrixRow, task_rng


@dataclass(frozen=True, slots=True)
class DstcChoice:
    """All equally good choices.

    Attributes:
        reason: Why there is no pair; None if there is one.
        chosen_codes: j+.
        chosen_tests: k+ for each j+.
        rejected_tests: k-.
        rejected_codes: j- for each k-.
    """

    reason: str | None
    chosen_codes: tuple[int, ...] = ()
    chosen_tests: dict[int, tuple[int, ...]] | None = None
    rejected_tests: tuple[int, ...] = ()
    rejected_codes: dict[int, tuple[int, ...]] | None = None


def _where(values: FloatArray, allowed: BoolArray, best: float) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(allowed & (values == best)))


def dstc_choice(
    passed: ArrayLike,
    failed: ArrayLike | None = None,
    code_counts: ArrayLike | None = None,
    test_counts: ArrayLike | None = None,
) -> DstcChoice:
    """The minimax choice, with all ties.

    Args:
        passed: (codes, tests) of 0 and 1.
        failed: (codes, tests) cells known to fail; all that did not pass when absent.
        code_counts: (codes,) multiplicities, ones when absent.
        test_counts: (tests,) multiplicities, ones when absent.
    """
    matrix = as_passed(passed)
    fails = ~matrix if failed is None else as_passed(failed)
    by_code = matrix @ as_weights(test_counts, matrix.shape[1], "test_counts")
    by_test = as_weights(code_counts, matrix.shape[0], "code_counts") @ matrix
    if not matrix.any():
        return DstcChoice("no code passes any test")
    failing = np.asarray(fails.any(axis=0))
    if not failing.any():
        return DstcChoice("every code passes every test" if matrix.all() else "no failure is known")
    everyone = np.ones(matrix.shape[0], dtype=np.bool_)
    chosen = _where(by_code, everyone, by_code.max())
    chosen_tests = {j: _where(by_test, matrix[j], by_test[matrix[j]].min()) for j in chosen}
    rejected_tests = _where(by_test, failing, by_test[failing].max())
    rejected = {k: _where(by_code, fails[:, k], by_code[fails[:, k]].min()) for k in rejected_tests}
    return DstcChoice(None, chosen, chosen_tests, rejected_tests, rejected)


@BUILDERS.register("dstc")
def dstc_pairs(row: MatrixRow, ranked: RankedRow, options: PairOptions, funnel: Counter[str]) -> list[Pair]:
    """At most one pair of a problem.

    Args:
        row: Programs, tests, results.
        ranked: A ranking of the same row: gives scores and confidence, not the choice.
        options: `keep_same_code` and the seed count.
        funnel: Counts `problem_*`; `problem_same_code` where the two sides differ in the test alone.
    """
    choice = dstc_choice(row.passed, row.failed, row.code_counts, row.test_counts)
    if choice.reason is not None:
        funnel[f"problem_{_FUNNEL[choice.reason]}"] += 1
        return []
    assert choice.chosen_tests is not None
    assert choice.rejected_codes is not None
    rng = task_rng(options.seed, "dstc", row.task_id)
    rejected = [(k, j) for k in choice.rejected_tests for j in choice.rejected_codes[k]]
    for place in rng.permutation(len(rejected)):
        k, j = rejected[place]
        chosen = [
            c
            for c in choice.chosen_codes
            if options.keep_same_code or normal_form(row.codes[c]) != normal_form(row.codes[j])
        ]
        if not chosen:
            continue
        best = chosen[int(rng.integers(len(chosen)))]
        if confidence(ranked, best, j) < options.min_confidence:
            funnel["candidate_low_confidence"] += 1
            continue
        tests = choice.chosen_tests[best]
        hardest = tests[int(rng.integers(len(tests)))]
        ties = len(rejected) * len(chosen) * len(tests)
        funnel["problem_with_pairs"] += 1
        return [pair_of(row, ranked, best, j, kind="code_test", tests=(hardest, k), ties=ties)]
    funnel["problem_same_code"] += 1
    return []


_FUNNEL = {
    "no code passes any test": "nothing_passes",
    "every code passes every test": "nothing_fails",
    "no failure is known": "nothing_fails",
}
