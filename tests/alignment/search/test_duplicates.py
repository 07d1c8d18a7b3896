"""Steps that say the same are one; steps that differ in what they do are not."""

from __future__ import annotations

from alignment.search.duplicates import by_program, by_text, by_tokens, merge_steps
from alignment.search.tree import Step

HEAD = "def f(xs, k):\n    total = 0\n"


def merged(*texts: str, key=by_program, before: str = HEAD) -> list[int]:  # type: ignore[no-untyped-def]
    steps = [Step((i,), -1.0, text) for i, text in enumerate(texts)]
    return [step.copies for step in merge_steps(before, steps, key)]


def test_local_names_layout_and_comments_make_no_alternative() -> None:
    assert merged(
        "    for x in xs:\n        total += x\n",
        "    for item in xs:\n\n        total += item  # add\n",
        "    for i in xs:\n        total = total + i\n",
    ) == [2, 1]


def test_parameters_globals_and_built_ins_keep_their_meaning() -> None:
    assert merged("    y = xs\n", "    y = k\n", "    y = sum\n", "    y = len\n") == [1, 1, 1, 1]
    assert merged("    a = 1\n    return a + total\n", "    b = 1\n    return total + b\n") == [1, 1]
    assert merged("x = f(1)\n", "y = f(1)\n", before="") == [1, 1], "names of a module can be imported"
    assert merged("    xs = xs[1:]\n", "    k = k[1:]\n") == [1, 1]
    whole = "def f():\n    sum = 0\n    return sum\ndef g(v):\n    return sum(v)\n"
    assert merged(whole, whole.replace("sum", "max"), before="") == [1, 1]
    assert merged(whole, whole.replace("sum = 0\n    return sum", "s = 0\n    return s"), before="") == [1, 1]
    closure = "    a = 1\n    def h():\n        return a\n"
    assert merged(closure, closure.replace("h()", "h() "), closure.replace("a", "b")) == [2, 1]
    assert merged("    global a\n    a = 1\n", "    global b\n    b = 1\n") == [1, 1]
    shared = "    global a\n    a = 1\n    b = 2\n"
    assert merged(shared, "    global a\n    b = 1\n    a = 2\n") == [1, 1], "a is the module's"
    assert merged(shared, shared.replace("b =", "c =")) == [2]


def test_programs_too_deep_for_a_visitor_are_compared_as_text() -> None:
    deep = "    x = " + "(" * 80 + "1" + ")" * 80 + "\n    y = " + "-" * 5000 + "1\n"
    assert merged(deep, deep) == [2]


def test_swapped_names_are_told_apart() -> None:
    first = "    a = xs[0]\n    b = xs[1]\n    return a - b\n"
    assert merged(first, first.replace("return a - b", "return b - a")) == [1, 1]
    assert merged(first, "    p = xs[0]\n    q = xs[1]\n    return p - q\n") == [2]


def test_what_does_not_parse_is_compared_as_text() -> None:
    assert merged("    for x in xs:", "    for y in xs:", "    for x in xs: ") == [2, 1]


def test_the_first_is_kept_and_ends_are_told_apart() -> None:
    steps = [
        Step((1,), -1.0, "a "),
        Step((2, 0), -2.0, "a", terminal=True),
        Step((3,), -3.0, " a", copies=2),
    ]
    found = merge_steps("", steps, by_text)
    assert [(step.tokens, step.copies) for step in found] == [((1,), 3), ((2, 0), 1)]
    assert len(merge_steps("", steps, by_tokens)) == 3


def test_looking_does_not_change_what_others_see() -> None:
    """parse_statements may hand out the same trees again; renaming in them would spoil them."""
    text = "    for x in xs:\n        total += x\n"
    assert by_program(HEAD, Step((1,), -1.0, text)) == by_program(HEAD, Step((1,), -1.0, text))
    from codegen_eval.pairs.hygiene import normal_form

    by_program(HEAD, Step((1,), -1.0, text))
    assert "for x in xs" in normal_form(HEAD + text)
