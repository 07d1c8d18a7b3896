"""`codealign rank`: which programs are probably right, from pass matrices alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.ranking.calibration import fit_hyperparameters
from codegen_eval.ranking.common import RANKERS, Weights
from codegen_eval.ranking.hygiene import Cleaned, clean
from codegen_eval.ranking.rechecks import MatrixRunner, recheck
from codegen_eval.ranking.rows import (
    MatrixRow,
    RankOptions,
    programs_taking_part,
    ranking_row,
    read_matrix_row,
)
from codegen_eval.runs import RunDir, read_jsonl
from sandbox import Level, Limits, Sandbox

Hygiene = Literal["off", "static", "full"]
DESCRIPTION = "Ranks the programs of each problem by what passed."


class RankConfig(Config):
    """Settings of `codealign rank`."""

    matrices: Path
    """matrices.jsonl of `codealign execute`."""
    out: Path
    """Run directory; rankings.jsonl appears in it."""
    ranker: str = "b4"
    """b4, posterior, codet, codedpo, maxpass, mbr_exec, acecoder, plum, dstc, random, or one that another
    distribution registers.
    """
    weights: Weights = "counts"
    """Count equal programs and tests as often as they were written (counts), programs only (codes), or once
    (ones).
    """
    alpha_xy: float | None = None
    """B4: prior count of right programs and tests; default by the matrix's size."""
    beta_0: float | None = None
    """B4: prior count of failures of wrong programs on wrong tests; default by the matrix's size."""
    fit: bool = False
    """b4, posterior: take the alpha_xy and beta_0 under which all matrices together are most probable (at
    least 20 problems); without labels, but it makes probabilities mean what they say.
    """
    damping: float = Field(default=0.85, ge=0, le=1)
    """CodeDPO: how much of a score comes from the other side at each sweep."""
    sweeps: int = Field(default=10, ge=0)
    """CodeDPO: how often scores are updated."""
    hygiene: Hygiene = "off"
    """Tests that say nothing or contradict, and programs that detect tests, are left out: by matrix and texts
    (static), and by running contested cells and canaries in the sandbox as well (full).
    """
    drop_unloadable: bool = True
    """Leave out programs that do not compile (they may still be rejected examples)."""
    drop_trivial_tests: bool = False
    """Leave out tests that every program passes."""
    seed: int = Field(default=0, ge=0)
    """Seed of rankers that draw."""
    isolation: Level = "full"
    """Isolation to insist on where programs are run again (hygiene full)."""
    workers: int | None = Field(default=None, ge=1)
    """Sandbox workers; default by the machine."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    @field_validator("alpha_xy", "beta_0")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError("must be a finite number above 0")
        return value


def _cleaned(
    config: RankConfig, rows: Sequence[MatrixRow], options: RankOptions, runner: MatrixRunner | None
) -> list[Cleaned | None]:
    """What hygiene leaves of each row; None where it is off."""
    if config.hygiene == "off":
        return [None] * len(rows)
    taking_part = [programs_taking_part(row, options) for row in rows]
    found = [clean(row, codes) for row, codes in zip(rows, taking_part, strict=True)]
    if config.hygiene == "full":
        # Cells are run under the limits that `codealign execute` has by default.
        limits = Limits(1.0, 6.0, 512)
        if runner is not None:
            recheck(rows, found, taking_part, runner, limits=limits, seed=config.seed)
        else:
            with Sandbox(workers=config.workers, require=config.isolation) as own:
                recheck(rows, found, taking_part, own, limits=limits, seed=config.seed)
    return list(found)


def _fitted(
    options: RankOptions, rows: Sequence[MatrixRow], cleaned: Sequence[Cleaned | None]
) -> RankOptions:
    """The options with hyper-parameters fitted to what is ranked of all rows."""
    matrices = []
    for row, left in zip(rows, cleaned, strict=True):
        row.need_full("--fit")
        aside = left.aside if left else set()
        codes = [i for i in programs_taking_part(row, options) if i not in aside]
        tests = left.tests if left else range(len(row.tests))
        matrices.append(row.passed[codes][:, list(tests)])
    alpha_xy, beta_0 = fit_hyperparameters(matrices)
    return replace(options, alpha_xy=alpha_xy, beta_0=beta_0)


def run(config: RankConfig, runner: MatrixRunner | None = None) -> RunDir:
    """Writes rankings.jsonl, one row a problem, and with hygiene hygiene.json, its counts over all problems.

    Args:
        config: The settings.
        runner: A sandbox to use instead of one of its own, where hygiene runs programs.

    Raises:
        CodealignError: For an unknown ranker, a file that holds no matrices or broken ones.
    """
    RANKERS.get(config.ranker)
    if config.fit and (config.ranker not in ("b4", "posterior") or config.alpha_xy or config.beta_0):
        raise CodealignError(
            "--fit finds alpha_xy and beta_0 of the rankers b4 and posterior; give it with one of these, and "
            "without --alpha-xy and --beta-0"
        )
    options = RankOptions(
        ranker=config.ranker,
        weights=config.weights,
        alpha_xy=config.alpha_xy,
        beta_0=config.beta_0,
        drop_unloadable=config.drop_unloadable,
        drop_trivial_tests=config.drop_trivial_tests,
        seed=config.seed,
        damping=config.damping,
        sweeps=config.sweeps,
    )
    run_dir = RunDir.open(
        config.out,
        "rank",
        config.identity(),
        overwrite=config.overwrite,
        inputs={"matrices": config.matrices},
    )

    def produce(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        matrices = [read_matrix_row(row) for row in read_jsonl(config.matrices)]
        if not matrices:
            raise CodealignError(f"{config.matrices} holds no matrices")
        cleaned = _cleaned(config, matrices, options, runner)
        chosen = _fitted(options, matrices, cleaned) if config.fit else options
        yield 0, [ranking_row(row, chosen, left) for row, left in zip(matrices, cleaned, strict=True)]

    path = run_dir.build("rankings", 1, produce)
    rows = list(read_jsonl(path))
    if config.hygiene != "off":
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update(row["hygiene"])
        run_dir.write_json("hygiene.json", dict(counts))
    run_dir.finish(problems=len(rows), informative=sum(row["informative"] for row in rows))
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    run_dir = run(RankConfig.parse(argv, prog="codealign rank", description=DESCRIPTION))
    print(f"rankings: {run_dir.path / 'rankings.jsonl'}")
    return 0
