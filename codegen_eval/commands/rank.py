"""`codealign rank`: which programs are probably right, from pass matrices alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.ranking.common import RANKERS, Weights
from codegen_eval.ranking.rows import RankOptions, ranking_row, read_matrix_row
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "Ranks the programs of each problem by what passed."


class RankConfig(Config):
    """Settings of `codealign rank`."""

    matrices: Path
    """matrices.jsonl of `codealign execute`."""
    out: Path
    """Run directory; rankings.jsonl appears in it."""
    ranker: str = "b4"
    """b4, codet, maxpass, mbr_exec, random, or one that another distribution registers."""
    weights: Weights = "counts"
    """Count equal programs and tests as often as they were written (counts), programs only (codes), or once
    (ones).
    """
    alpha_xy: float | None = None
    """B4: prior count of right programs and tests; default by the matrix's size."""
    beta_0: float | None = None
    """B4: prior count of failures of wrong programs on wrong tests; default by the matrix's size."""
    drop_unloadable: bool = True
    """Leave out programs that do not compile (they may still be rejected examples)."""
    drop_trivial_tests: bool = False
    """Leave out tests that every program passes."""
    seed: int = Field(default=0, ge=0)
    """Seed of rankers that draw."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    @field_validator("alpha_xy", "beta_0")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError("must be a finite number above 0")
        return value


def run(config: RankConfig) -> RunDir:
    """Writes rankings.jsonl, one row a problem.

    Raises:
        CodealignError: For an unknown ranker, a file that holds no matrices or broken ones.
    """
    RANKERS.get(config.ranker)
    options = RankOptions(
        ranker=config.ranker,
        weights=config.weights,
        alpha_xy=config.alpha_xy,
        beta_0=config.beta_0,
        drop_unloadable=config.drop_unloadable,
        drop_trivial_tests=config.drop_trivial_tests,
        seed=config.seed,
    )
    run_dir = RunDir.open(
        config.out,
        "rank",
        config.identity(),
        overwrite=config.overwrite,
        inputs={"matrices": config.matrices},
    )

    def produce(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        ranked = [ranking_row(read_matrix_row(row), options) for row in read_jsonl(config.matrices)]
        if not ranked:
            raise CodealignError(f"{config.matrices} holds no matrices")
        yield 0, ranked

    path = run_dir.build("rankings", 1, produce)
    rows = list(read_jsonl(path))
    run_dir.finish(problems=len(rows), informative=sum(row["informative"] for row in rows))
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    run_dir = run(RankConfig.parse(argv, prog="codealign rank", description=DESCRIPTION))
    print(f"rankings: {run_dir.path / 'rankings.jsonl'}")
    return 0
