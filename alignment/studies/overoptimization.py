"""`codealign reproduce overoptimization`: do reward ensembles hold off overoptimisation? (arXiv 2310.02743)

A miniature for best-of-n in minutes: the world of overopt_world.py, our own aggregation and best-of-n code.
Departures from the paper: tokens instead of language, small networks instead of language models, best-of-n
alone. Its controls say what the effect rests on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from alignment.bon_curves import SELECTORS, Curve, Settings, curve
from alignment.bon_plot import Panel, curves_svg
from alignment.rewards.aggregation import FloatArray, calibrate
from alignment.studies.overopt_world import Data, Members, World, draw
from codegen_eval.config import Config
from codegen_eval.errors import unknown
from codegen_eval.runs import RunDir

MAIN = "25 % label noise"
CONTROLS: dict[str, tuple[World, str]] = {
    "no-noise": (World(noise=0.0), "labels are right: hardly any fall"),
    "no-loop": (World(loop=0.0), "the degenerate mode does not repeat a token: no overoptimisation"),
    "neutral": (World(tail_penalty=0.0), "tail tokens cost nothing in gold: a fall by lost chances alone"),
    "shared-trunk": (World(shared_trunk=True), "members start from one trunk: ensembles gain less"),
    "fold": (World(fold=True, enter=0.0), "an error that all members share, no tail: ensembles do not help"),
}
DESCRIPTION = "Overoptimisation by best-of-n in miniature: single reward models against ensembles."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting gave, averaged over seeds.

    Attributes:
        curves: By selector; `by_prompt` holds one row a seed, intervals are over seeds.
        accuracy: Of members on clean validation pairs.
        tail_share: Share of the pool's answers with a tail token.
        odd_spread: Standard deviation of member scores on answers with 8 or more tail tokens, in units of
            that on validation answers; NaN where there are none.
    """

    curves: dict[str, Curve]
    accuracy: float
    tail_share: float
    odd_spread: float

    def criterion(self) -> dict[str, bool]:
        """The claims of the study on the average curve; all true where ensembles hold and single falls."""
        single, wco, uwo = (self.curves[name] for name in ("single", "wco", "uwo"))
        return {
            "single falls by more than 0.2": single.drop > 0.2,
            "WCO within 0.1 of its peak": wco.drop <= 0.1,
            "UWO within 0.1 of its peak": uwo.drop <= 0.1,
            "WCO ends more than 0.5 above single": bool(wco.gold[-1] - single.gold[-1] > 0.5),
            "UWO ends more than 0.5 above single": bool(uwo.gold[-1] - single.gold[-1] > 0.5),
        }


def study(world: World, seeds: Sequence[int], lam: float = 0.5) -> Outcome:
    """Draws, trains, scores and selects, for all seeds at once; one torch thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two are many times slower than one
    try:
        data = [draw(world, seed) for seed in seeds]
        members = Members(world, list(seeds))
        members.train(
            *(torch.from_numpy(np.stack([getattr(d, side) for d in data])) for side in ("chosen", "rejected"))
        )
        validation = _scores(members, [d.validation for d in data])
        pools = _scores(members, [d.pool for d in data])
    finally:
        torch.set_num_threads(threads)
    return _outcome(world, data, validation, pools, lam)


def _scores(members: Members, answers: Sequence[FloatArray | Any]) -> FloatArray:
    """Member scores (seeds, groups, answers, members) for answers (groups, answers, tokens) a seed."""
    import torch

    flat = torch.from_numpy(np.stack([a.reshape(-1, a.shape[-1]) for a in answers]))
    scores: FloatArray = members.score(flat).double().numpy()
    return scores.reshape(len(answers), *answers[0].shape[:2], -1)


def _outcome(
    world: World, data: Sequence[Data], validation: FloatArray, pools: FloatArray, lam: float
) -> Outcome:
    """Calibrates on the validation answers and averages every seed's curves."""
    settings = Settings(lam=lam, resamples=0)
    by_seed: dict[str, list[Curve]] = {name: [] for name in SELECTORS}
    spreads = []
    for seed, drawn in enumerate(data):
        scales = [calibrate(validation[seed, ..., j]) for j in range(world.members)]
        scores = np.stack([s.apply(pools[seed, ..., j]) for j, s in enumerate(scales)], axis=-1)
        tails = drawn.pool[..., world.common :].sum(axis=-1) * np.sqrt(world.length)
        if (tails >= 7.5).any():
            spreads.append(scores[tails >= 7.5].std(axis=0).mean())
        for name in SELECTORS:
            by_seed[name].append(curve(list(scores), list(drawn.pool_gold), name, settings))
    return Outcome(
        curves={name: averaged(curves) for name, curves in by_seed.items()},
        accuracy=float((validation[:, 0] > validation[:, 1]).mean()),
        tail_share=float(np.mean([(d.pool[..., world.common :].sum(axis=-1) > 0).mean() for d in data])),
        odd_spread=float(np.mean(spreads)) if spreads else float("nan"),
    )


def averaged(curves: Sequence[Curve]) -> Curve:
    """The mean curve over seeds, with one standard error on each side where there are two seeds or more."""
    from alignment.scaling_laws import fit_law

    gold = np.stack([c.gold for c in curves])
    mean = gold.mean(axis=0)
    error = gold.std(axis=0, ddof=1) / np.sqrt(len(curves)) if len(curves) > 1 else None
    return replace(
        curves[0],
        gold=mean,
        proxy=np.mean([c.proxy for c in curves], axis=0),
        low=None if error is None else mean - error,
        high=None if error is None else mean + error,
        by_prompt=gold,
        law=fit_law(np.sqrt(curves[0].kl), mean - mean[0]),
    )


class OveroptimizationConfig(Config):
    """Settings of `codealign reproduce overoptimization`."""

    out: Path = Path("runs/overoptimization")
    """Run directory; results.json, table.md and curves.svg appear in it."""
    seeds: int = Field(default=5, ge=1)
    """Number of worlds that are averaged."""
    first_seed: int = Field(default=0, ge=0)
    """The first one; the others follow."""
    control: tuple[str, ...] = ("no-noise",)
    """Controls to run beside the main setting: no-noise, no-loop, neutral, shared-trunk, fold."""
    lam: float = Field(default=0.5, ge=0)
    """UWO's lambda."""
    plot: bool = True
    """Write curves.svg (needs matplotlib)."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    @field_validator("control")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CONTROLS:
                raise unknown("control", name, CONTROLS)
        return tuple(dict.fromkeys(value))


def run(config: OveroptimizationConfig) -> RunDir:
    """Runs the main setting and the controls; writes results.json, table.md and curves.svg."""
    directory = RunDir.open(
        config.out, "reproduce overoptimization", config.identity(), overwrite=config.overwrite
    )
    if directory.finished:
        return directory
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    worlds = {MAIN: World(), **{name: CONTROLS[name][0] for name in config.control}}
    outcomes = {name: study(world, seeds, config.lam) for name, world in worlds.items()}
    directory.write_json("results.json", {name: plain(outcome) for name, outcome in outcomes.items()})
    directory.write_text("table.md", table(outcomes, config.seeds))
    if config.plot:
        panels = [
            Panel(name.replace("-", " "), list(outcome.curves.values())) for name, outcome in outcomes.items()
        ]
        directory.write_text("curves.svg", curves_svg(panels, gold="gold, standard deviations"))
    directory.finish(seeds=config.seeds, **outcomes[MAIN].criterion())
    return directory


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data, for results.json."""
    return {
        "curves": {name: c.to_json() for name, c in outcome.curves.items()},
        "by_seed": {name: c.by_prompt.tolist() for name, c in outcome.curves.items()},
        "accuracy": outcome.accuracy,
        "tail_share": outcome.tail_share,
        "odd_spread": None if np.isnan(outcome.odd_spread) else outcome.odd_spread,
        "criterion": outcome.criterion(),
    }


def table(outcomes: dict[str, Outcome], seeds: int) -> str:
    """The outcomes in Markdown: gold over n in the main setting, laws, all settings' ends, criterion."""
    main = outcomes[MAIN]
    first = next(iter(main.curves.values()))
    lines = [f"Gold over n, {MAIN}, mean of {seeds} seeds:", ""]
    lines.append("| n | " + " | ".join(str(n) for n in first.ns) + " |")
    lines.append("|---" * (len(first.ns) + 1) + "|")
    lines.append("| KL | " + " | ".join(f"{kl:.2f}" for kl in first.kl) + " |")
    for name, c in main.curves.items():
        lines.append(f"| {name} | " + " | ".join(_two(gold) for gold in c.gold) + " |")
    lines += ["", "Fits of d (a - b d) with d = sqrt(KL), gold counted from n = 1:", ""]
    lines += ["| selector | a | b | residual | fitted peak, KL |", "|---" * 5 + "|"]
    for name, c in main.curves.items():
        if c.law is not None:
            peak = "none" if c.law.peak is None else f"{c.law.peak[0] ** 2:.2f}"
            lines.append(f"| {name} | {c.law.a:.2f} | {c.law.b:.2f} | {c.law.residual:.2f} | {peak} |")
    lines += ["", f"Gold at the peak and at n = {first.ns[-1]}, by setting:", ""]
    lines += ["| setting | " + " | ".join(SELECTORS) + " | member accuracy | spread on odd answers |"]
    lines.append("|---" * (3 + len(SELECTORS)) + "|")
    for name, outcome in outcomes.items():
        ends = [f"{_two(c.gold.max())} to {_two(c.gold[-1])}" for c in outcome.curves.values()]
        spread = "-" if np.isnan(outcome.odd_spread) else f"{outcome.odd_spread:.1f}"
        lines.append(f"| {name} | " + " | ".join(ends) + f" | {outcome.accuracy:.2f} | {spread} |")
    lines += ["", f"Criterion, {MAIN}:", ""]
    lines += [f"- {'yes' if held else 'no'}: {claim}" for claim, held in main.criterion().items()]
    return "\n".join(lines) + "\n"


def _two(value: float) -> str:
    """Two decimals, without a minus sign before 0."""
    return f"{round(float(value), 2) + 0.0:.2f}"


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = OveroptimizationConfig.parse(
        argv, prog="codealign reproduce overoptimization", description=DESCRIPTION
    )
    directory = run(config)
    print((directory.path / "table.md").read_text(encoding="utf-8"))
    for name in config.control:
        print(f"{name}: {CONTROLS[name][1]}")
    print(f"results: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
