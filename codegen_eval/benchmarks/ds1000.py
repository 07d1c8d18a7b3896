"""DS-1000 (Lai et al. 2022, arXiv 2211.11501) in its simplified form (`ds1000.jsonl.gz`, `xlangai/DS-1000`).

An answer is a fragment of code that goes where a context says `[insert]`. The row's `code_context` defines
`test_execution(solution)`, which runs it, and for some tasks `test_string(solution)`, which looks at its
text; both must end without an exception. They run answers themselves, so test and answer share a process: an
answer can forge a pass, and every result says `verdict_trust="forgeable"`.

The program is `solution = '...'`, the answer's text as data. Almost every task needs a library
(`meta["needs"]`, and `meta["library"]` as the benchmark names it); `needs.missing_libraries` says which tasks
cannot be run. Scores are meant for the library versions that the benchmark pins: run the references first.

Departs in: 120 s of CPU instead of wall time, no file larger than 16 MiB. The older form, a folder a task, is
not read.
"""

from __future__ import annotations

from pathlib import Path

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.needs import imported, third_party
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

_STOP = ("</code>", "# SOLUTION END", "\nEND SOLUTION")
_LIMITS = Limits(cpu_seconds=120.0, wall_seconds=240.0, memory_mb=8 * 1024)
_ASK = (
    "Write a short code following the given format and indentation. Place the executable code between <code> "
    "and </code> tags, without any other non-executable things.\n"
)
_PACKAGES = {"Pytorch": "torch"}  # the others are called as their packages


@BENCHMARKS.register("ds1000")
def ds1000(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a DS-1000 file, in its order.

    Args:
        dataset: ds1000.jsonl.gz, or the hub's file.
        split: There is only "test".

    Raises:
        CodealignError: Without a file, for a row that is no row of DS-1000, for another split.
    """
    fields.only_split("ds1000", split)
    return fields.read("ds1000", dataset, "ds1000.jsonl.gz", _problem)


def _problem(row: fields.Row, where: str) -> Problem:
    prompt, reference, context = (
        fields.text(row, key, where) for key in ("prompt", "reference_code", "code_context")
    )
    if "def test_execution(" not in context:
        raise CodealignError(f"{where}: code_context does not define test_execution(solution)")
    metadata = row.get("metadata")
    if not isinstance(metadata, dict):
        raise CodealignError(f"{where}: metadata must be an object, got {metadata!r}")
    library = fields.text(metadata, "library", where)
    test = f"{context}\ntest_execution(solution)\n"
    if "def test_string(" in context:
        test += "test_string(solution)\n"
    return Problem(
        task_id=f"DS-1000/{fields.whole(metadata, 'problem_id', where)}",
        prompt=prompt,
        entry_point="solution",
        tests=(CodeTest(test, in_process=True),),
        canonical_solution=reference,
        continues=False,
        stop=_STOP,
        assemble=_as_text,
        limits=_LIMITS,
        chat=_ASK + prompt,
        meta={
            "library": library,
            "perturbation_type": metadata.get("perturbation_type"),
            "needs": third_party([_PACKAGES.get(library, library.lower()), *imported(context, reference)]),
        },
    )


def _as_text(answer: str) -> str:
    return f"import os\nos.environ['MPLBACKEND'] = 'Agg'\nsolution = {answer!r}\n"
