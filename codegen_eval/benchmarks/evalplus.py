"""What HumanEval+, MBPP+ and EvalPerf share: EvalPlus (Liu et al. 2023, arXiv 2305.01210; version 0.3.1).

A right answer equals the reference's, or is close where that is a float or a list or tuple of floats. Departs
from its code, which compares by numpy within 1e-6 + 1e-7 |expected| and then asks for the same type: here
numbers may differ by 1e-6, absolutely or relatively (`CallTest.tolerance`), and any number may stand for
another one. So for small numbers the bound is up to a tenth narrower, for those above 1.1 wider, by ten times
for large ones (more where a row's `atol` is larger than 1e-6). The tolerance is chosen for each answer;
theirs, once set by a float, stays for the inputs behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from codegen_eval.benchmarks.fields import Row
from codegen_eval.errors import CodealignError
from sandbox import CallTest, CodeTest, Limits
from sandbox.program import Test

EOS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
STOP_HUMANEVAL = (*EOS, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
STOP_MBPP = (*EOS, '\n"""', "\nassert")
LIMITS = Limits(cpu_seconds=4.0, wall_seconds=16.0, memory_mb=4096)
_FLOATS = 1e-6
_INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code "
    "block:"
)

Judge = Callable[[tuple[Any, ...], Any], Test]

_SAME_SET = "set(out) == set(exp)"
_ONLY_SOMETHING = "out == exp if isinstance(out, bool) else exp == (out is not None)"
# Entry points whose answers are not compared with the reference's alone: a right answer `out` to `args`.
_SPECIAL_HUMANEVAL = {
    "find_zero": "abs(sum(c * math.pow(out, i) for i, c in enumerate(args[0]))) <= atol",
}
_SPECIAL_MBPP = {
    "are_equivalent": "True",
    "sum_div": "out == exp or out == 0",
    "surface_Area": "out == exp or abs(out - round(args[0] ** 2 + 2 * args[0] * math.sqrt((args[0] / 2) ** 2"
    " + args[1] ** 2))) <= atol",
    "digit_distance_nums": "out == exp or out == sum(abs(int(a) - int(b)) for a, b in"
    " zip(*(str(n).zfill(max(len(str(m)) for m in args)) for n in args)))",
    **dict.fromkeys(
        (
            *("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"),
            *("intersection_array", "find_dissimilar", "Diff"),
        ),
        _SAME_SET,
    ),
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), _ONLY_SOMETHING),
}


def chat(prompt: str) -> str:
    """What EvalPlus asks a chat model."""
    return f"{_INSTRUCTION}\n```\n{prompt.strip()}\n```\n"


def judge(entry_point: str, atol: float, mbpp: bool) -> Judge:
    """How a task's answers are judged.

    Args:
        entry_point: Some names have an oracle of their own, run in the test's process on the answer as data.
        atol: Of the row; where 0, floats may be off by 1e-6.
        mbpp: Whether it is a task of MBPP+.
    """
    condition = (_SPECIAL_MBPP if mbpp else _SPECIAL_HUMANEVAL).get(entry_point)
    if condition is None:
        return lambda args, expected: CallTest(args, expected, atol or _FLOATS * _floats(expected))
    return lambda args, expected: CodeTest(
        "import math\ninf, nan = math.inf, math.nan\n"
        f"def check(candidate):\n    args, exp, atol = {args!r}, {expected!r}, {atol!r}\n"
        f"    out = candidate(*args)\n    assert {condition}, out\n",
        trusted=True,
    )


def reference(source: str, entry_point: str, mbpp: bool) -> str:
    """The program whose answers are the right ones; where they only must not be None, it says whether."""
    if not mbpp or _SPECIAL_MBPP.get(entry_point) != _ONLY_SOMETHING:
        return source
    return f"{source}\n\n_{entry_point} = {entry_point}\n\n\ndef {entry_point}(*args):\n" + (
        f"    return _{entry_point}(*args) is not None\n"
    )


def inputs(row: Row, key: str, where: str) -> list[tuple[Any, ...]]:
    """A field with a list of lists of arguments."""
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise CodealignError(f"{where}: {key!r} must be a list with a list of arguments for each call")
    return [tuple(item) for item in value]


def tolerance(row: Row, where: str) -> float:
    """The field `atol`."""
    value = row.get("atol")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise CodealignError(f"{where}: atol must be a number from 0 to 1, got {value!r}")
    return float(value)


def groups(base: Sequence[Any], plus: Sequence[Any]) -> dict[str, tuple[int, int]]:
    """Which tests are which: places from and to, as `meta["groups"]` holds them."""
    return {"base": (0, len(base)), "plus": (len(base), len(base) + len(plus))}


def _floats(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)
