"""The table of rankers says what its numbers are: right pairs, paired differences, and who differs."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from benchmarks import rankers_minipy
from benchmarks.ranker_table import (
    UNTRAINED,
    Audited,
    Way,
    differences,
    inverted_pairs,
    right_pairs,
    table,
    verdict,
)
from codegen_eval.pairs.hygiene import sha
from codegen_eval.records import Problem
from sandbox import CallTest, Sandbox


def way(shares: np.ndarray, pairs: list[list[Audited]] | None = None) -> Way:
    return Way(pairs or [], shares, 4)


def exact_p(first: np.ndarray, second: np.ndarray) -> float:
    """Share of all sign changes of the differences whose mean is as far from 0 as theirs."""
    moved = second - first
    means = [abs(float(np.dot(signs, moved))) for signs in product((1, -1), repeat=len(moved))]
    return float(np.mean([m >= abs(moved.sum()) - 1e-12 for m in means]))


def test_a_pair_is_right_only_if_chosen_is_right_and_rejected_wrong() -> None:
    pairs = [Audited(f"t{i}", *sides) for i, sides in enumerate(product((True, False), repeat=2))]
    assert right_pairs([pairs]).value == inverted_pairs([pairs]).value == 0.25
    assert right_pairs([pairs[1:2], pairs[1:3]]).value == pytest.approx(2 / 3)


def test_a_problem_s_pairs_are_resampled_together() -> None:
    together = [[Audited("a", True, False)] * 20 + [Audited("b", False, False)] * 20]
    apart = [[Audited(f"{i}", i < 20, False) for i in range(40)]]
    wide, narrow = right_pairs(together), right_pairs(apart)
    assert wide.value == narrow.value == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_every_two_trained_ways_are_compared_over_problems_and_corrected() -> None:
    rng = np.random.default_rng(3)
    shares = {name: rng.random((2, 9)) for name in (UNTRAINED, "random", "b4", "dstc")}
    shares["b4"] = shares["random"] + 0.5
    found = {(d.first, d.second): d for d in differences({n: way(s) for n, s in shares.items()})}
    assert set(found) == {("random", "b4"), ("random", "dstc"), ("b4", "dstc")}
    means = {name: values.mean(axis=0) for name, values in shares.items()}
    raw = {(a, b): exact_p(means[a], means[b]) for a, b in found}
    smallest = min(raw, key=lambda key: raw[key])
    assert found[smallest].p_value == pytest.approx(3 * raw[smallest])
    for (a, b), difference in found.items():
        assert difference.p_value >= raw[a, b]
        assert difference.value == pytest.approx(float((means[b] - means[a]).mean()))


def test_the_verdict_names_the_ways_that_differ_and_says_so_when_none_does() -> None:
    high, low = np.full((1, 30), 0.9), np.full((1, 30), 0.2)
    sure = verdict(differences({"random": way(low), "b4": way(high)}))
    assert "1 of 1 differences" in sure and "- b4 - random: +0.700, p < 0.001" in sure
    equal = verdict(differences({"random": way(low), "b4": way(low)}))
    assert "no two ways are shown to differ" in equal and "p = 1.000" in equal
    assert verdict(differences({UNTRAINED: way(low), "b4": way(high)})).startswith("One way alone")


def test_the_table_has_a_row_a_way_with_intervals_against_both_bases() -> None:
    pairs = [[Audited("a", True, False), Audited("b", False, False)], [Audited("a", True, False)]]
    ways = {
        UNTRAINED: way(np.full((2, 5), 0.4)),
        "random": way(np.full((2, 5), 0.5), pairs),
        "b4": way(np.array([[0.6] * 5, [0.8] * 5]), pairs),
    }
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in table(ways).splitlines()
        if line.startswith("|")
    ]
    assert len({len(row) for row in rows}) == 1
    body = {row[0]: row[1:] for row in rows[2:]}
    assert body["untrained"][:4] == ["–"] * 4 and body["untrained"][5] == "–"
    # Two and one pair; two of four and one of four problems; two of three right.
    assert body["b4"][0] == "2" and body["b4"][1] == "0.38" and body["b4"][2].startswith("0.67 [")
    assert body["b4"][4:] == [
        "0.700", "+0.300 [+0.300, +0.300]", "+0.200 [+0.200, +0.200]", "0.600, 0.800",
    ]  # fmt: skip
    assert body["random"][6] == "–"


def test_soft_labels_are_offered_only_where_the_trainer_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = {"posterior, soft labels"}
    monkeypatch.setattr(rankers_minipy, "reads_confidence", lambda: False)
    assert set(rankers_minipy.ways()) == set(rankers_minipy.WAYS)
    monkeypatch.setattr(rankers_minipy, "reads_confidence", lambda: True)
    assert set(rankers_minipy.ways()) - set(rankers_minipy.WAYS) == soft


@pytest.mark.sandbox
def test_the_audit_asks_the_hidden_tests_for_programs_and_the_reference_for_tests() -> None:
    prompt = "def double(x):\n"
    tests = (CallTest((3,), 6), CallTest((0,), 0))
    problem = Problem("t", prompt, "double", tests, "    return 2 * x\n")
    codes = [problem.reference, f"{prompt}    return x\n"]
    example, false = "assert double(2) == 4", "assert double(2) == 5"

    def pair(chosen: int, rejected: int, tests: tuple[str, str] | None = None) -> dict[str, Any]:
        texts = [codes[side].removeprefix(problem.prompt) for side in (chosen, rejected)]
        if tests:
            texts = [f"{text.rstrip()}\n\n{test}\n" for text, test in zip(texts, tests, strict=True)]
        return {
            "task_id": problem.task_id,
            "kind": "code_test" if tests else "correctness",
            "chosen": texts[0],
            "rejected": texts[1],
            "chosen_sha": sha(codes[chosen]),
            "rejected_sha": sha(codes[rejected]),
        }

    rows = [pair(0, 1), pair(1, 0), pair(0, 0, (example, false)), pair(1, 0, (example, example))]
    rows.append(pair(0, 1) | {"kind": "efficiency"})
    with Sandbox(workers=1) as box:
        found = rankers_minipy.audit(
            rows, [{"task_id": problem.task_id, "codes": codes}], {problem.task_id: problem}, box
        )
    assert [(row["chosen"], row["rejected"]) for row in found] == [
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]
