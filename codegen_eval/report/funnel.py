"""The funnel: from what was drawn to the pairs that were kept, each loss with its reason.

Lanes come from the counts of funnel.json and, where the matrices are there, from them. A count that nobody
here knows keeps its own name: builders of others may count what they like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from codegen_eval.pairs.hygiene import sha
from codegen_eval.pairs.records import PairKind, RankedRow
from codegen_eval.ranking.rows import MatrixRow
from codegen_eval.report.text import short

# docs/pairs.md has the long form of each.
_REASONS = {
    "no_programs": "no programs",
    "no_tests": "no tests",
    "no_program_loads": "no program compiles",
    "nothing_passes": "no program passes any test",
    "best_passes_nothing": "the best-ranked programs pass no test",
    "uninformative": "all programs tie",
    "nothing_below": "no program is ranked lower and passes fewer tests",
    "only_unloadable_below": "the only lower ones do not compile",
    "gap_too_small": "best and worst score are too near",
    "equal_code": "the same program but for layout",
    "few_tests": "too few tests",
    "no_gap": "no two pass rates far enough apart",
    "nothing_fails": "no failure was seen",
    "same_code": "both sides would hold one program",
    "not_fewer_tests": "the lower-ranked one passes no fewer tests",
    "low_confidence": "too unsure",
    "unloadable": "the rejected one does not compile",
    "one_program": "fewer than two different best programs",
    "no_input": "no test input that can be enlarged",
    "no_contrast": "no fast and slow program",
    "repeated": "the same as another",
    "contaminated": "hold a text of a benchmark",
    "intervals_overlap": "their times overlap",
    "ratio_too_small": "their times are too near",
}
# Steps that are left out where they took nothing.
_IF_ANY = ("ranked", "in the race to its end", "left by hygiene")
# Counts of programs or pairs that stand among the counts of timed problems.
_NOT_PROBLEMS = ("efficiency_disagreeing_programs", "efficiency_pairs_over_share", "efficiency_with_pairs")


@dataclass(frozen=True, slots=True)
class Step:
    """What is left after a step, what went and why; `share` is in per cent of the lane's first step, and None
    where there is only one.
    """

    name: str
    count: int
    share: float | None
    dropped: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """One unit (problems, programs, ...) from the first step to the last."""

    name: str
    steps: tuple[Step, ...]


def count_matrix(
    raw: Mapping[str, Any], row: MatrixRow, ranked: RankedRow | None, chosen: Collection[str]
) -> Counter[str]:
    """What one matrix adds to the lanes of programs, tests and cells.

    Args:
        raw: The row of matrices.jsonl.
        row: The same, checked.
        ranked: Its ranking, if there is one.
        chosen: Hashes of the programs that are chosen in a pair of the problem.
    """
    found: Counter[str] = Counter(matrices=1)
    found["programs_drawn"] = int(row.code_counts.sum())
    found["programs_distinct"] = len(row.codes)
    loads = ~row.unloadable
    found["programs_compile"] = int(loads.sum())
    taking = loads if ranked is None else loads & np.array([s is not None for s in ranked.scores], np.bool_)
    found["programs_ranked"] = int(taking.sum())
    found["programs_left_race"] = 0 if ranked is None else len(ranked.left_race)
    passes = taking & row.passed.any(axis=1)
    found["programs_passing"] = int(passes.sum())
    found["programs_chosen"] = sum(sha(row.codes[i]) in chosen for i in np.flatnonzero(passes))
    found["tests_usable"] = int(row.test_counts.sum())
    found["tests_distinct"] = len(row.tests)
    kept = list(range(len(row.tests))) if ranked is None or ranked.tests is None else list(ranked.tests[0])
    found["tests_kept"] = len(kept)
    columns = row.passed[taking][:, kept]
    someone = columns.any(axis=0)
    found["tests_passed"] = int(someone.sum())
    found["tests_telling"] = int((someone & ~columns.all(axis=0)).sum())
    unknown = 0 if row.known is None else int((~row.known).sum())
    found["cells"], found["cells_passed"] = row.passed.size, int(row.passed.sum())
    found["cells_unknown"] = unknown
    counts = raw.get("counts")
    for name, count in counts.items() if isinstance(counts, Mapping) else ():
        if str(name).startswith("test_") and name not in ("test_kept", "test_example"):
            found[f"cut_{name.removeprefix('test_')}"] += int(count)
    return found


def lanes(funnel: Mapping[str, float], totals: Counter[str] | None) -> list[Lane]:
    """The lanes that the counts allow, in the order of the work.

    Args:
        funnel: funnel.json, flat.
        totals: The sum of `count_matrix` over all matrices; None where there are none.
    """
    counts = {name: round(count) for name, count in funnel.items()}
    found = []
    if totals:
        found += [_programs(totals), _tests(totals)]
    found += [_problems(counts), *_timed(counts), *_combinations(counts), _pairs(counts)]
    return [lane for lane in found if lane.steps and lane.steps[0].count]


def reason(name: str) -> str:
    """A count's reason in words; an unknown one keeps its name."""
    return _REASONS.get(name, short(name.replace("_", " "), 60))


def _lane(name: str, steps: Sequence[tuple[str, int, Sequence[tuple[int, str]]]]) -> Lane:
    """Steps with their shares of the first one; reasons that took nothing are left out, greatest first."""
    first = max(1, steps[0][1]) if steps else 1
    return Lane(
        name,
        tuple(
            Step(
                title,
                count,
                round(min(100.0, 100 * count / first), 1) if len(steps) > 1 else None,
                tuple(sorted(((n, why) for n, why in dropped if n > 0), key=lambda d: (-d[0], d[1]))),
            )
            for title, count, dropped in steps
        ),
    )


def _chain(name: str, steps: Sequence[tuple[str, int, str]]) -> Lane:
    """Steps of which each loses for one reason what is missing to the step before."""
    found: list[tuple[str, int, Sequence[tuple[int, str]]]] = []
    for title, count, why in steps:
        lost = found[-1][1] - count if found else 0
        if lost or title not in _IF_ANY:
            found.append((title, count, [(lost, why)]))
    return _lane(name, found)


def _programs(t: Counter[str]) -> Lane:
    return _chain(
        "programs",
        [
            ("drawn from the model", t["programs_drawn"], ""),
            ("distinct within their problem", t["programs_distinct"], "drawn more than once"),
            ("that compile", t["programs_compile"], "do not compile"),
            ("ranked", t["programs_ranked"] + t["programs_left_race"], "put aside: they detect tests"),
            ("in the race to its end", t["programs_ranked"], "probably wrong, so they were run no further"),
            ("that pass a test", t["programs_passing"], "pass no test"),
            ("chosen in a pair", t["programs_chosen"], "chosen in no pair"),
        ],
    )


def _tests(t: Counter[str]) -> Lane:
    cuts = [(n, reason(name.removeprefix("cut_"))) for name, n in t.items() if name.startswith("cut_")]
    written = t["tests_usable"] + sum(n for n, _ in cuts)
    used = _chain(
        "tests",
        [
            ("usable", t["tests_usable"], ""),
            ("distinct within their problem", t["tests_distinct"], "written more than once"),
            ("left by hygiene", t["tests_kept"], "say nothing, contradict or repeat others"),
            ("passed by some program", t["tests_passed"], "passed by none"),
            ("that tell programs apart", t["tests_telling"], "passed by all"),
        ],
    )
    later = [(step.name, step.count, step.dropped) for step in used.steps[1:]]
    first = [("written by the model or in the prompt", written, ()), ("usable", t["tests_usable"], cuts)]
    return _lane("tests", [*first, *later])


def _problems(counts: Mapping[str, int]) -> Lane:
    dropped = [
        (n, reason(name.removeprefix("problem_")))
        for name, n in counts.items()
        if name.startswith("problem_") and name != "problem_with_pairs"
    ]
    kept = counts.get("problem_with_pairs", 0)
    total = counts.get("problems", kept + sum(n for n, _ in dropped))
    return _lane("problems", [("all", total, ()), ("with a pair of programs", kept, dropped)])


def _timed(counts: Mapping[str, int]) -> list[Lane]:
    dropped = [
        (n, reason(name.removeprefix("efficiency_")))
        for name, n in counts.items()
        if name.startswith("efficiency_") and name not in _NOT_PROBLEMS
    ]
    kept = counts.get("efficiency_with_pairs", 0)
    total = kept + sum(n for n, _ in dropped)
    steps: list[tuple[str, int, Sequence[tuple[int, str]]]] = [
        ("looked at for efficiency", total, ()),
        ("with a faster and a slower right program", kept, dropped),
    ]
    return [_lane("problems, timed", steps)] if total else []


def _combinations(counts: Mapping[str, int]) -> list[Lane]:
    dropped = [
        (n, reason(name.removeprefix("candidate_")))
        for name, n in counts.items()
        if name.startswith("candidate_")
    ]
    total = sum(n for n, _ in dropped)
    return [_lane("combinations of two programs", [("not used", total, dropped)])] if total else []


def _pairs(counts: Mapping[str, int]) -> Lane:
    """Kinds are counted when pairs are made; every other count of this name is of pairs dropped later."""
    named = {name.removeprefix("pairs_"): n for name, n in counts.items() if name.startswith("pairs_")}
    kinds = sum(n for name, n in named.items() if name in get_args(PairKind))
    later = [(n, reason(name)) for name, n in named.items() if name not in get_args(PairKind)]
    over = counts.get("efficiency_pairs_over_share", 0)
    written = kinds - sum(n for n, _ in later)
    dropped = [(over, "efficiency pairs beyond their share"), *later]
    return _lane("pairs", [("made", kinds + over, ()), ("written", written, dropped)])
