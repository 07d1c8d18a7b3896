"""`codealign bon`: what best-of-n by each proxy is worth by the gold score, from one scored pool."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from codegen_eval.config import Config
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.bon_curves import Curve
    from alignment.bon_pool import Pool

DESCRIPTION = "Curves of gold reward over n for single members and ensembles, from a scored pool."


class BonConfig(Config):
    """Settings of `codealign bon`."""

    pool: Path | None = None
    """JSON lines: {"task_id": ..., "scores": {member: number}, "gold": number}, one a sample."""
    samples: Path | None = None
    """Instead of a pool: JSON lines with task_id, prompt, completion and gold, which `reward` scores."""
    reward: Path | None = None
    """A folder of `codealign train reward`: its members score the samples, on their own scales."""
    out: Path
    """Run directory; curves.json, table.md and curves.svg appear in it."""
    select: tuple[str, ...] = ("single", "mean", "wco", "uwo")
    """What selects: single (mean over members alone), mean, wco, uwo."""
    n: tuple[int, ...] = ()
    """Values of n; default: powers of two and the pool's size."""
    ties: str = "average"
    """Which of equal scores wins: average (a random one), last, first."""
    lam: float = Field(default=0.5, ge=0)
    """UWO's lambda."""
    ddof: int = Field(default=0, ge=0, le=1)
    """0: population variance, 1: sample variance."""
    calibration: Path | None = None
    """A scored pool (gold not needed) that gives each member's mean and standard deviation."""
    floor: float = Field(default=0.0, ge=0)
    """Least standard deviation of a member in the calibration."""
    uncalibrated: bool = False
    """Take the members' scores as they are, e.g. pass rates, which share a scale."""
    resamples: int = Field(default=2000, ge=0)
    """Bootstrap samples over prompts; 0 for no intervals."""
    seed: int = Field(default=0, ge=0)
    """Of the bootstrap."""
    plot: bool = True
    """Write curves.svg (needs matplotlib)."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    @field_validator("select")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one of single, mean, wco, uwo")
        for name in value:
            if name not in ("single", "mean", "wco", "uwo"):
                raise unknown("selector", name, ("single", "mean", "wco", "uwo"))
        return tuple(dict.fromkeys(value))


def run(config: BonConfig) -> RunDir:
    """Writes curves.json, table.md and curves.svg.

    Raises:
        CodealignError: For a pool that cannot be read, an n that it is too small for, or members without a
            common scale.
    """
    if (config.pool is None) == (config.samples is None) or (config.samples is None) != (
        config.reward is None
    ):
        raise CodealignError("give --pool FILE, or --samples FILE with --reward FOLDER")
    named = {key: getattr(config, key) for key in ("pool", "samples", "reward", "calibration")}
    inputs = {key: path for key, path in named.items() if path is not None}
    directory = RunDir.open(config.out, "bon", config.identity(), overwrite=config.overwrite, inputs=inputs)
    if directory.finished:
        return directory
    from alignment.bon_curves import Settings, curve
    from alignment.bon_plot import Panel, curves_svg

    pool = _scaled_pool(config, directory)
    settings: Any = Settings(
        ns=config.n or None,
        ties=config.ties,  # type: ignore[arg-type]
        lam=config.lam,
        ddof=config.ddof,
        resamples=config.resamples,
        seed=config.seed,
    )
    curves = [curve(pool.scores, pool.gold, name, settings) for name in config.select]  # type: ignore[arg-type]
    directory.write_json(
        "curves.json",
        {"members": pool.members, "prompts": len(pool.tasks), "curves": [c.to_json() for c in curves]},
    )
    directory.write_text("table.md", table(curves))
    if config.plot:
        heading = f"best of n, {len(pool.tasks)} prompts, {len(pool.members)} members"
        directory.write_text("curves.svg", curves_svg([Panel(heading, curves)]))
    directory.finish(prompts=len(pool.tasks), members=len(pool.members), samples=sum(map(len, pool.gold)))
    return directory


def _scaled_pool(config: BonConfig, directory: RunDir) -> Pool:
    """The pool that was given, or the samples scored by reward models, with its members on their scales."""
    from alignment.bon_pool import read_pool, score_pool

    if config.pool is not None:
        return _on_one_scale(read_pool(config.pool), config)
    assert config.samples is not None and config.reward is not None
    from alignment.reward_modeling.scoring import load_members
    from codegen_eval.runs import read_jsonl

    members = load_members(config.reward)
    pool = read_pool(score_pool(list(read_jsonl(config.samples)), members, directory))
    scales = {name: member.calibration for name, member in members.items()}
    if config.calibration is None and not config.uncalibrated:
        known = {name: scale for name, scale in scales.items() if scale is not None}
        if len(known) == len(members):
            return pool.calibrated(known)
    return _on_one_scale(pool, config)


def _on_one_scale(pool: Pool, config: BonConfig) -> Pool:
    """The pool on its members' scales; refuses ensembles of scores that nobody made comparable."""
    from alignment.bon_pool import read_pool

    if config.calibration is not None:
        return pool.calibrated(read_pool(config.calibration, gold=False).scales(config.floor))
    if len(pool.members) > 1 and set(config.select) != {"single"} and not config.uncalibrated:
        raise CodealignError(
            f"the {len(pool.members)} members are on no common scale: give --calibration FILE (a scored "
            "pool), or --uncalibrated if their scores are comparable as they are, e.g. pass rates"
        )
    return pool


def table(curves: Sequence[Curve]) -> str:
    """The curves as a table in Markdown: gold by n, with 95 % intervals where there are any, and the laws."""
    lines = ["| n | KL | " + " | ".join(curve.selector for curve in curves) + " |"]
    lines.append("|---" * (2 + len(curves)) + "|")
    for i, n in enumerate(curves[0].ns):
        cells = [
            f"{curve.gold[i]:.3f}"
            if curve.low is None or curve.high is None
            else f"{curve.gold[i]:.3f} [{curve.low[i]:.3f}, {curve.high[i]:.3f}]"
            for curve in curves
        ]
        lines.append(f"| {n} | {curves[0].kl[i]:.2f} | " + " | ".join(cells) + " |")
    lines += ["", "| selector | best n | gold there | falls by | a | b | fitted peak, KL |", "|---" * 7 + "|"]
    for curve in curves:
        law = curve.law
        fitted = ["-"] * 3
        if law is not None:
            top = "none" if law.peak is None else f"{law.peak[0] ** 2:.2f}"
            fitted = [f"{law.a:.3f}", f"{law.b:.3f}", top]
        cells = [curve.selector, str(curve.peak), f"{curve.gold.max():.3f}", f"{curve.drop:.3f}", *fitted]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    directory = run(BonConfig.parse(argv, prog="codealign bon", description=DESCRIPTION))
    print((directory.path / "table.md").read_text(encoding="utf-8"))
    print(f"curves: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
