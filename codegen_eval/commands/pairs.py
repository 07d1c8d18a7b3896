"""`codealign pairs`: preference pairs in TRL's format from matrices and rankings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from codegen_eval.benchmarks.base import load
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.pairs.credible import credible_race, time_credible
from codegen_eval.pairs.efficiency import Timer, race, time_races
from codegen_eval.pairs.job import Ranked, join, preference_rows
from codegen_eval.pairs.kto import kto_rows
from codegen_eval.pairs.options import BUILDERS, EfficiencyMethod, PairOptions
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl
from sandbox import Level, Sandbox

DESCRIPTION = "Builds preference pairs from what the model's own programs did on its own tests."
PROBLEMS_PER_PART = 16


class PairsConfig(Config):
    """Settings of `codealign pairs`."""

    matrices: Path
    """matrices.jsonl of `codealign execute`."""
    rankings: Path
    """rankings.jsonl of `codealign rank`."""
    out: Path
    """Run directory; pairs.jsonl, funnel.json, timings.jsonl and kto.jsonl appear in it."""
    benchmark: str = "minipy"
    """Where the prompts come from; its hidden tests are never read."""
    split: str | None = None
    """Split of the benchmark."""
    dataset: Path | None = None
    """Data of the benchmark, where it does not ship with the project."""
    builder: str = "ranked"
    """ranked (best-ranked against lower ones), posterior (B4's probabilities), codedpo (best against worst),
    acecoder (pass rates far apart), dstc (program and test on either side), or one that another distribution
    registers.
    """
    pairs_per_problem: int = Field(default=2, ge=1)
    """Most pairs of each kind that a problem gives."""
    unloadable_rejected: bool = True
    """ranked: programs that do not compile may be rejected ones, in at most half of a problem's pairs."""
    min_confidence: float = Field(default=0.5, ge=0.5, le=1)
    """Pairs whose order is less sure are not made."""
    min_gap: float = Field(default=0.0, ge=0, le=1)
    """codedpo: least difference of the scores, as a share of the higher one."""
    keep_same_code: bool = False
    """dstc: keep pairs that differ in the test alone."""
    kto: bool = False
    """Write kto.jsonl as well: each text once, with a label and a weight."""
    efficiency_share: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of efficiency pairs to aim for; 0 = none, and nothing is timed."""
    efficiency: EfficiencyMethod = "enlarged"
    """Inputs that programs are timed on: enlarged ones, or those of the credible tests (CodeDPO)."""
    min_ratio: float = Field(default=1.2, ge=1)
    """credible: the rejected program takes at least this many times as long."""
    timing_repeats: int = Field(default=2, ge=1)
    """Runs of a timed call, of which the fastest counts; credible: the median of at least 5."""
    seed: int = Field(default=0, ge=0)
    """Seed of all draws."""
    isolation: Level = "full"
    """Isolation to insist on; `codealign doctor` shows what this machine allows."""
    workers: int | None = Field(default=None, ge=1)
    """Sandbox workers for timing; default by the machine."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def _time(run_dir: RunDir, problems: Sequence[Ranked], timer: Timer, config: PairsConfig) -> None:
    """Writes timings.jsonl and, beside it, why problems were not timed."""
    skipped: Counter[str] = Counter()
    run_races: Callable[[list[Any], Timer, int], Iterator[dict[str, Any]]]
    if config.efficiency == "credible":
        races: list[Any] = [credible_race(p.row, p.ranked, skipped) for p in problems]
        run_races = time_credible
    else:
        races = [race(p.row, p.ranked, skipped) for p in problems]
        run_races = time_races
    run_dir.write_json("untimed.json", dict(skipped))
    parts = [races[i : i + PROBLEMS_PER_PART] for i in range(0, len(races), PROBLEMS_PER_PART)]

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for part in track(pending, len(pending), "timing"):
            wanted = [r for r in parts[part] if r is not None]
            yield part, list(run_races(wanted, timer, config.timing_repeats))

    run_dir.build("timings", len(parts), produce)


def _options(config: PairsConfig) -> PairOptions:
    return PairOptions(
        pairs_per_problem=config.pairs_per_problem,
        unloadable_rejected=config.unloadable_rejected,
        seed=config.seed,
        builder=config.builder,
        min_confidence=config.min_confidence,
        min_gap=config.min_gap,
        keep_same_code=config.keep_same_code,
        efficiency=config.efficiency,
        min_ratio=config.min_ratio,
    )


def _describe(funnel: dict[str, int]) -> str:
    return "\n".join(f"  {name:40} {count}" for name, count in sorted(funnel.items()))


def run(config: PairsConfig, timer: Timer | None = None) -> RunDir:
    """Writes pairs.jsonl and funnel.json.

    Args:
        config: The settings.
        timer: A sandbox to use instead of one of its own.

    Raises:
        CodealignError: If no problem gives a usable pair; the message holds the funnel.
    """
    BUILDERS.get(config.builder)
    run_dir = RunDir.open(
        config.out,
        "pairs",
        config.identity(),
        overwrite=config.overwrite,
        inputs={"matrices": config.matrices, "rankings": config.rankings},
    )
    if run_dir.finished:
        return run_dir
    prompts = {p.task_id: p.public() for p in load(config.benchmark, config.dataset, config.split)}
    problems = join(prompts, read_jsonl(config.matrices), read_jsonl(config.rankings))
    if not problems:
        raise CodealignError(f"{config.matrices} holds no matrices")
    timings: dict[str, dict[str, Any]] = {}
    funnel: Counter[str] = Counter(problems=len(problems))
    if config.efficiency_share > 0:
        if not (run_dir.path / "timings.jsonl").exists():
            if timer is not None:
                _time(run_dir, problems, timer, config)
            else:
                with Sandbox(workers=config.workers, require=config.isolation) as own:
                    _time(run_dir, problems, own, config)
        timings = {row["task_id"]: row for row in read_jsonl(run_dir.path / "timings.jsonl")}
        funnel.update(run_dir.read_json("untimed.json"))
    rows = preference_rows(problems, timings, _options(config), config.efficiency_share, funnel)
    singles = kto_rows(rows, funnel) if config.kto else []
    run_dir.write_json("funnel.json", dict(funnel))
    if not rows:
        raise CodealignError(
            f"no usable pair in {len(problems)} problems, so {run_dir.path / 'pairs.jsonl'} was not written. "
            f"What became of them (also in funnel.json):\n{_describe(dict(funnel))}\n"
            "Draw more programs or tests per problem, at a higher temperature, "
            "or add --sources examples to execute"
        )
    run_dir.build("pairs", 1, lambda _: iter([(0, rows)]))
    if config.kto:
        run_dir.build("kto", 1, lambda _: iter([(0, singles)]))
    run_dir.finish(
        problems=len(problems),
        correctness=funnel["pairs_correctness"],
        code_test=funnel["pairs_code_test"],
        efficiency=funnel["pairs_efficiency"],
    )
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    run_dir = run(PairsConfig.parse(argv, prog="codealign pairs", description=DESCRIPTION))
    funnel = run_dir.read_json("funnel.json")
    print(_describe(funnel))
    print(f"pairs: {run_dir.path / 'pairs.jsonl'}")
    return 0
