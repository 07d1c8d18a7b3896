"""EvalPerf (Liu et al. 2024, arXiv 2408.06450): 118 tasks of HumanEval+ and MBPP+ with one heavy input each.

A row has reference solutions from slow to fast with their scores, and `pe_input`, JSON in text, a list with
one list of arguments. Here that input is the largest (and only) of the problem's `sizes`, so what times right
programs against a reference times these; the fastest reference is the canonical solution, and all of them are
in `meta["references"]` with `meta["scores"]`, for DPS.

Departs in two points. EvalPerf takes for right what passes all tests of HumanEval+ or MBPP+: its rows have
none, so here right is what gives the fastest reference's answer to the heavy input; evaluate the same samples
on those benchmarks as well. And it counts instructions, here CPU time decides (`Timing.instructions` where
the machine counts them). Limits: 45 s, 12 GiB.
"""

from __future__ import annotations

import json
from pathlib import Path

from codegen_eval.benchmarks import evalplus, fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.mbppplus import typed_inputs
from codegen_eval.errors import CodealignError
from codegen_eval.records import Oracle, Problem
from sandbox import Limits

_LIMITS = Limits(cpu_seconds=45.0, wall_seconds=180.0, memory_mb=12 * 1024)


@BENCHMARKS.register("evalperf")
def evalperf(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of an EvalPerf file, in its order.

    Args:
        dataset: Its JSON lines or the hub's Parquet.
        split: There is only "test".

    Raises:
        CodealignError: Without a file, for a row that is no row of EvalPerf, for another split.
    """
    fields.only_split("evalperf", split)
    return fields.read("evalperf", dataset, "evalperf.jsonl", _problem)


def _problem(row: fields.Row, where: str) -> Problem:
    prompt = fields.text(row, "prompt", where)
    entry_point = fields.name_of(row, "entry_point", where)
    task_id = fields.text(row, "task_id", where)
    references, scores = _references(row, where)
    mbpp = task_id.startswith("Mbpp/")
    heavy = _heavy(row, prompt if mbpp else "", entry_point, where)
    fastest = prompt + "\n" + references[-1]
    return Problem(
        task_id=task_id,
        prompt=prompt,
        entry_point=entry_point,
        tests=(),
        canonical_solution="\n" + references[-1],
        sizes=((heavy,),),
        oracle=Oracle(
            evalplus.reference(fastest, entry_point, mbpp),
            (heavy,),
            judge=evalplus.judge(entry_point, 0.0, mbpp),
        ),
        stop=evalplus.STOP_MBPP if mbpp else evalplus.STOP_HUMANEVAL,
        limits=_LIMITS,
        chat=evalplus.chat(prompt),
        meta={"references": references, "scores": scores},
    )


def _references(row: fields.Row, where: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    references = fields.texts(row, "reference", where)
    scores = row.get("scores")
    if not isinstance(scores, list) or not all(isinstance(score, int | float) for score in scores):
        raise CodealignError(f"{where}: scores must be a list of numbers, got {scores!r}")
    if not references or len(scores) != len(references):
        raise CodealignError(f"{where}: {len(references)} references and {len(scores)} scores do not fit")
    return references, tuple(map(float, scores))


def _heavy(row: fields.Row, prompt: str, entry_point: str, where: str) -> tuple[object, ...]:
    """The one list of arguments, with the types that the prompt's assert shows."""
    packed = row.get("pe_input")
    try:
        value = json.loads(packed) if isinstance(packed, str) else packed
    except (ValueError, RecursionError) as error:
        raise CodealignError(f"{where}: pe_input is not JSON ({error})") from None
    asserts = prompt.strip().strip('"')
    asserts = asserts[max(0, asserts.find("\nassert")) :]
    ((*found,),) = typed_inputs({"pe_input": value}, ("pe_input",), asserts, entry_point, where)
    if len(found) != 1:
        raise CodealignError(f"{where}: pe_input must hold one list of arguments, it has {len(found)}")
    return tuple(found[0])
