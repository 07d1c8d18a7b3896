"""Wrong programs made of a right one."""

from __future__ import annotations

import ast

from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.mutants import mutants, nothing

SOURCE = """def f(xs, n):
    if n < 2 and xs:
        return xs[0] + 1
    while n == 3:
        n -= 1
    return [x * 2 for x in xs if x in (1, 2)]
"""


def test_every_mutant_parses_differs_and_says_where() -> None:
    found = mutants(SOURCE, most=100)
    sources = [mutant.source for mutant in found]
    assert len(set(sources)) == len(sources) >= 14
    assert ast.unparse(ast.parse(SOURCE)) + "\n" not in sources
    for mutant in found:
        compile(mutant.source, "mutant", "exec")
        assert mutant.what.startswith("line ")


def test_each_kind_of_change_occurs() -> None:
    said = " ".join(mutant.what for mutant in mutants(SOURCE, most=100))
    for kind in ("Lt is LtE", "Eq is NotEq", "In is NotIn", "Add is Sub", "Mult is Add", "0 is 1", "swapped",
                 "negated", "returns None"):  # fmt: skip
        assert kind in said


def test_a_bound_spreads_them_over_the_source() -> None:
    few, every = mutants(SOURCE, most=4), mutants(SOURCE, most=100)
    assert len(few) == 4 and few[0] == every[0]
    assert int(few[-1].what.split()[1].rstrip(":")) > 3


def test_the_body_that_returns_nothing() -> None:
    found = nothing("import re\ndef g(): return 1\ndef f(x):\n    return g()\n", "f")
    scope: dict[str, object] = {}
    assert found is not None
    exec(found.source, scope)
    assert scope["f"](1) is None and scope["g"]() == 1  # type: ignore[operator]


def test_methods_are_found_by_their_name() -> None:
    found = nothing("class Solution:\n    def run(self, x):\n        return x\n", "Solution().run")
    assert found is not None and "return None" in found.source


def test_what_is_no_program_has_none() -> None:
    assert mutants("def f(:") == [] and nothing("def f(:", "f") is None and nothing("x = 1", "f") is None


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    assert len(mutants(text, most=3)) <= 3
