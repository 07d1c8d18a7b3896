"""Test hygiene before ranking: which tests say nothing and which programs detect tests, each step counted.

In this order, all on the matrix and the texts alone (`rechecks.py` runs things again):

1. A program that passes two tests which contradict each other (`f(1) == 2`, `f(1) == 3`) detects tests and is
   put aside.
2. Tests without an assertion that depends on a call of the entry point are dropped (`assert True`; an
   assertion whose failure is swallowed).
3. Tests that are equal but for layout become one, counted as often as both were written; if their columns
   differ, both are unreliable and are dropped.
4. Of tests that contradict each other only those are kept that are most probably right (`posterior.py`); ties
   are kept.
5. Tests that every program passes are dropped. Those that nobody passes are counted and kept: they leave most
   rankers alone, and B4 learns from them.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from codegen_eval.extraction import calls_entry_point, parse_statements, to_test
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.ranking.common import TIE_TOLERANCE, BoolArray, FloatArray, make_view
from codegen_eval.ranking.posterior import posterior
from codegen_eval.ranking.rows import MatrixRow
from sandbox import CallTest


@dataclass(slots=True)
class Cleaned:
    """What hygiene leaves of a row.

    Attributes:
        tests: Indices of the tests that stay, ascending.
        test_counts: (all tests,) multiplicities, those of merged tests summed at the first.
        aside: Programs that take no part.
        counts: What was dropped, by step; all keys that can occur.
    """

    tests: list[int]
    test_counts: FloatArray
    aside: set[int]
    counts: Counter[str] = field(default_factory=Counter)

    def row(self, row: MatrixRow) -> MatrixRow:
        """The row with the tests that stay and their counts."""
        return replace(row, test_counts=self.test_counts).with_tests(self.tests)


def asserts_something(test: str, entry_point: str) -> bool:
    """Whether a failing call of the entry point can fail the test.

    An assertion must hold such a call, or read a name that was assigned from one, and must not stand in a
    `try` whose handler swallows the failure. In a `check(candidate)` the entry point is `candidate`. Text
    that does not parse asserts nothing.
    """
    statements = parse_statements(test)
    if statements is None:
        return False
    tree = ast.Module(statements, [])
    names = {entry_point.rsplit(".", 1)[-1], "candidate"}
    tainted: set[str] = set()
    nodes = list(ast.walk(tree))
    for _ in range(3):  # a name assigned from a name assigned from a call is as far as tests go
        for node in nodes:
            if not isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) or node.value is None:
                continue
            if _depends(node.value, names, tainted):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                tainted |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    swallowed = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.Try) and any(_swallows(handler) for handler in node.handlers)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    return any(
        isinstance(node, ast.Assert) and id(node) not in swallowed and _depends(node.test, names, tainted)
        for node in nodes
    )


def _depends(node: ast.AST, names: set[str], tainted: set[str]) -> bool:
    if any(calls_entry_point(node, name) for name in names):
        return True
    return any(isinstance(n, ast.Name) and n.id in tainted for n in ast.walk(node)) or any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in names
        for n in ast.walk(node)
    )


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches a failed assertion and neither raises nor asserts in turn."""
    caught = [] if handler.type is None else [n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)]
    broad = handler.type is None or bool({"AssertionError", "Exception", "BaseException"} & set(caught))
    return broad and not any(isinstance(n, ast.Raise | ast.Assert) for n in ast.walk(handler))


def contradictions(tests: Sequence[str], entry_point: str) -> list[list[list[int]]]:
    """Groups of tests that ask for different values of one call: for each call the indices by value."""
    calls: dict[str, dict[str, list[int]]] = {}
    for j, text in enumerate(tests):
        test = to_test(text, entry_point)
        if isinstance(test, CallTest):
            calls.setdefault(repr(test.args), {}).setdefault(_value(test.expected), []).append(j)
    return [list(values.values()) for values in calls.values() if len(values) > 1]


def _value(expected: object) -> str:
    """1, 1.0 and True are equal in Python, so they are no contradiction."""
    if isinstance(expected, bool | int | float) and expected == expected:
        number = float(expected) if abs(expected) < 2**53 else expected
        return repr(number + 0.0 if isinstance(number, float) else number)
    return repr(expected)


def clean(row: MatrixRow, taking_part: Sequence[int]) -> Cleaned:
    """Applies the five steps of this module's head.

    Args:
        row: Programs, tests, results.
        taking_part: The programs that are ranked.
    """
    row.need_full("test hygiene")
    left = Cleaned(list(range(len(row.tests))), row.test_counts.copy(), set())
    left.counts.update(tests=len(row.tests), programs=len(taking_part))
    if row.known is not None:
        left.counts["unknown_cells"] = int((~row.known[list(taking_part)]).sum())
    groups = contradictions(row.tests, row.entry_point)
    for i in taking_part:
        if any(sum(bool(row.passed[i, js].any()) for js in group) > 1 for group in groups):
            left.aside.add(i)
    left.counts["programs_contradicting"] = len(left.aside)
    codes = [i for i in taking_part if i not in left.aside]
    passed = row.passed[codes]
    _drop(left, "no_call", {j for j in left.tests if not asserts_something(row.tests[j], row.entry_point)})
    _merge(row, left, passed)
    _settle(row, left, passed, codes, groups)
    _drop(left, "constant", {j for j in left.tests if codes and passed[:, j].all()})
    left.counts["tests_never_passed"] = sum(not passed[:, j].any() for j in left.tests)
    return left


def _drop(left: Cleaned, step: str, dropped: set[int]) -> None:
    left.tests = [j for j in left.tests if j not in dropped]
    left.counts[f"tests_{step}"] += len(dropped)


def _merge(row: MatrixRow, left: Cleaned, passed: BoolArray) -> None:
    """Step 3."""
    forms: dict[str, list[int]] = {}
    for j in left.tests:
        forms.setdefault(normal_form(row.tests[j]), []).append(j)
    merged, unsteady = set(), set()
    for same in forms.values():
        if (passed[:, same] == passed[:, same[:1]]).all():
            left.test_counts[same[0]] = row.test_counts[same].sum()
            merged |= set(same[1:])
        else:
            unsteady |= set(same)
    _drop(left, "repeated", merged)
    _drop(left, "unsteady", unsteady)


def _settle(
    row: MatrixRow, left: Cleaned, passed: BoolArray, codes: list[int], groups: list[list[list[int]]]
) -> None:
    """Step 4."""
    view = make_view(passed[:, left.tests], row.code_counts[codes], left.test_counts[left.tests])
    scored = posterior(view).test_scores
    score = dict(zip(left.tests, [] if scored is None else scored.tolist(), strict=True))
    dropped = set()
    for group in groups:
        values = [[j for j in js if j in score] for js in group]
        best = max((score[j] for js in values for j in js), default=0.0)
        kept = [js for js in values if js and max(score[j] for j in js) >= best - TIE_TOLERANCE]
        left.counts["contradictions"] += sum(map(bool, values)) > 1
        left.counts["contradictions_undecided"] += len(kept) > 1
        dropped |= {j for js in values if js not in kept for j in js}
    _drop(left, "contradicting", dropped)
