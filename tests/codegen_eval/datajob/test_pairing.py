"""Pairs kept once, none that holds a benchmark's text, and pairs as messages."""

from __future__ import annotations

from collections import Counter
from typing import Any

from codegen_eval.datajob.contamination import Index
from codegen_eval.datajob.pairing import Sieve, conversational


def pair(prompt: str, chosen: str, rejected: str, kind: str = "correctness") -> dict[str, Any]:
    texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": kind}
    return texts | {"task_id": "t", "origin": "here", "prefix_chars": 0, "suffix_chars": 0}


ONE = 'def f(x):\n    """One way to say it."""\n'
OTHER = 'def f(x):\n    """Quite another way."""\n'


def test_equal_programs_under_another_docstring_are_one_pair() -> None:
    sieve, funnel, dropped = Sieve(None), Counter[str](), []
    keep = lambda row: sieve.keep(row, funnel, dropped)  # noqa: E731
    assert keep(pair(ONE, "    return x + 1\n", "    return x\n"))
    assert not keep(pair(OTHER, "    # more\n    return (x + 1)\n", "    return x\n"))
    # The other way round, of another kind, or with another program, it is another pair.
    assert keep(pair(ONE, "    return x\n", "    return x + 1\n"))
    assert keep(pair(ONE, "    return x + 1\n", "    return x\n", kind="code_test"))
    assert keep(pair(ONE, "    return x + 1\n", "    return 2\n"))
    assert funnel == {"pairs_repeated": 1} and dropped == []


def test_a_side_that_holds_a_benchmarks_solution_drops_its_pair_by_name() -> None:
    solution = "total = sum(value * weight for value, weight in zip(values, weights, strict=True))"
    index = Index(10)
    index.add("bench", "b/7", solution)
    funnel: Counter[str] = Counter()
    dropped: list[dict[str, Any]] = []
    sieve = Sieve(index)
    assert not sieve.keep(pair(ONE, "    return 1\n", f"    {solution}\n    return total\n"), funnel, dropped)
    assert sieve.keep(pair(ONE, "    return 1\n", "    return 2\n"), funnel, dropped)
    assert funnel == {"pairs_contaminated": 1}
    (row,) = dropped
    assert (row["side"], row["benchmark"], row["of"]) == ("rejected", "bench", "b/7")


def test_messages_hold_whole_programs_and_say_where_they_differ() -> None:
    row = conversational(pair("", "def f(x):\n    return 1\n", "def f(x):\n    return 22\n"), "Write f.")
    assert row["prompt"] == [{"role": "user", "content": "Write f."}]
    chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
    assert chosen == "```python\ndef f(x):\n    return 1\n```"
    start, end = row["prefix_chars"], row["suffix_chars"]
    assert (chosen[start : len(chosen) - end], rejected[start : len(rejected) - end]) == ("1", "22")
