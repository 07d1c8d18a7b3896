"""`codealign reproduce ppo-ensemble`: do conservative ensembles hold off overoptimisation by PPO?

After Coste et al. 2023 (arXiv 2310.02743), in miniature.

The miniature world of overopt_world.py with a policy that can be trained (ppo_ensemble_world.py), through the
pure functions of alignment/onpolicy and our own aggregation. Departures from the paper: tokens instead of
language, a table of logits and small networks instead of language models; KL in a world of 16 tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from alignment.studies.figures import one_thread, svg_file
from alignment.studies.overopt_world import World
from alignment.studies.ppo_ensemble_runs import REWARDS, Settings, train
from alignment.studies.ppo_ensemble_world import game
from codegen_eval.config import Config
from codegen_eval.errors import unknown
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "PPO on a single reward model against WCO and UWO, in miniature."
_NAMES = {"single": "single", "mean": "mean", "wco": "WCO", "uwo": "UWO"}
# Okabe & Ito's colours.
_LOOK = {"single": "#d55e00", "mean": "#0072b2", "wco": "#009e73", "uwo": "#cc79a7"}
FALL = 0.25
"""Standard deviations of gold below its peak that count as overoptimised."""


class PPOEnsembleConfig(Config):
    """Settings of `codealign reproduce ppo-ensemble`."""

    out: Path = Path("runs/ppo-ensemble")
    """Run directory; results.json, tables.md and ppo_ensemble.svg appear in it."""
    seeds: int = Field(default=5, ge=1)
    """Number of worlds."""
    first_seed: int = Field(default=0, ge=0)
    """The first one; the others follow."""
    rewards: tuple[str, ...] = ("single", "wco", "uwo")
    """What is optimised: single, mean, wco, uwo."""
    betas: tuple[float, ...] = (0.0, 0.01)
    """Coefficients of the KL penalty."""
    single_members: int = Field(default=2, ge=1, le=World().members)
    """Members that are optimised alone, one training each; their mean is "single" (the paper takes all 5)."""
    steps: int = Field(default=150, ge=20)
    """Steps of PPO."""
    lam: float = Field(default=0.1, ge=0)
    """UWO's lambda; the paper's for PPO."""
    figure: Path | None = None
    """Where the figure is written besides, as for a page."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    # Each seed is a file of its own: a run takes more seeds on.
    not_identity = frozenset({"out", "overwrite", "figure", "seeds"})

    @field_validator("rewards")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in REWARDS:
                raise unknown("reward", name, REWARDS)
        return tuple(dict.fromkeys(value))

    @field_validator("betas")
    @classmethod
    def _not_negative(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) < 0:
            raise ValueError("give one or more numbers, 0 or more")
        return tuple(dict.fromkeys(value))

    def trainings(self) -> list[tuple[str, int, float]]:
        """(reward, member, beta) of all trainings of a seed."""
        runs = [(r, m) for r in self.rewards for m in range(self.single_members if r == "single" else 1)]
        return [(reward, member, beta) for beta in self.betas for reward, member in runs]


def run(config: PPOEnsembleConfig) -> RunDir:
    """Trains all; a training that was made survives a kill.

    Raises:
        CodealignError: matplotlib is missing.
    """
    directory = RunDir.open(
        config.out, "reproduce ppo-ensemble", config.identity(), overwrite=config.overwrite
    )
    trainings = config.trainings()
    settings = Settings(steps=config.steps, lam=config.lam)
    rows: list[dict[str, Any]] = []
    with one_thread():
        for seed in range(config.first_seed, config.first_seed + config.seeds):

            def produce(pending: list[int], seed: int = seed) -> Iterator[tuple[int, list[dict[str, Any]]]]:
                world = game(World(), seed)
                for part in track(pending, len(pending), f"training, seed {seed}"):
                    reward, member, beta = trainings[part]
                    curve = train(world, reward, member, beta, seed, settings)
                    yield part, [{"seed": seed, "reward": reward, "member": member, "beta": beta, **curve}]

            rows += read_jsonl(directory.build(f"seed{seed}", len(trainings), produce))
    directory.write_json("results.json", rows)
    directory.write_text("tables.md", table(rows, config))
    draw(rows, config, directory.path / "ppo_ensemble.svg")
    if config.figure is not None:
        draw(rows, config, config.figure)
    directory.finish(seeds=config.seeds)
    return directory


def curves(rows: Sequence[Mapping[str, Any]], reward: str, beta: float, key: str) -> NDArray[np.float64]:
    """One curve a seed, (seeds, evaluations): for `single` the mean over the members that were trained on."""
    of = [row for row in rows if row["reward"] == reward and row["beta"] == beta]
    seeds = sorted({row["seed"] for row in of})
    return np.array([np.mean([row[key] for row in of if row["seed"] == seed], axis=0) for seed in seeds])


def falls(rows: Sequence[Mapping[str, Any]], reward: str, beta: float) -> NDArray[np.float64]:
    """Peak of gold minus its end, of each training."""
    of = [row["gold"] for row in rows if row["reward"] == reward and row["beta"] == beta]
    return np.array([max(gold) - gold[-1] for gold in of])


def table(rows: Sequence[Mapping[str, Any]], config: PPOEnsembleConfig) -> str:
    """What each reward gave, in Markdown; means over seeds, ± their standard deviation."""
    lines = [
        "| reward | beta | gold, peak of the mean curve | gold, end | fall, mean over trainings | "
        f"trainings that fall by over {FALL} | proxy, end | KL, end | members' spread, end |",
        "|---" * 9 + "|",
    ]
    for beta in config.betas:
        for reward in config.rewards:
            gold, fall = curves(rows, reward, beta, "gold"), falls(rows, reward, beta)
            ends = [curves(rows, reward, beta, key)[:, -1].mean() for key in ("proxy", "kl", "spread")]
            shown = " | ".join(f"{value:.2f}" for value in ends)
            lines.append(
                f"| {_NAMES[reward]} | {beta:g} | {gold.mean(0).max():.2f} | {_spread(gold[:, -1])} | "
                f"{fall.mean():.2f} | {int((fall > FALL).sum())} of {len(fall)} | {shown} |"
            )
    if "single" in config.rewards and len(config.rewards) > 1:
        lines += ["", "Gold at the end, minus that of single on the same seed:", ""]
        for beta in config.betas:
            alone = curves(rows, "single", beta, "gold")[:, -1]
            for reward in config.rewards:
                if reward != "single":
                    apart = curves(rows, reward, beta, "gold")[:, -1] - alone
                    above = f"above 0 in {int((apart > 0).sum())} of {len(apart)}"
                    lines.append(f"- {_NAMES[reward]}, beta {beta:g}: {_spread(apart)}, {above}")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Mapping[str, Any]], config: PPOEnsembleConfig, path: Path) -> None:
    """Gold (full line) and what is optimised (dashed) over steps, a frame for each beta.

    Raises:
        CodealignError: matplotlib is missing.
    """
    steps = rows[0]["steps"]
    with svg_file(path, 5.2 * len(config.betas), 4.2, columns=len(config.betas)) as frames:
        for frame, beta in zip(frames, config.betas, strict=True):
            for reward in config.rewards:
                gold, proxy = (curves(rows, reward, beta, key) for key in ("gold", "proxy"))
                mean = gold.mean(0)
                error = gold.std(0, ddof=1) / np.sqrt(len(gold)) if len(gold) > 1 else np.zeros_like(mean)
                color = _LOOK[reward]
                frame.plot(steps, mean, color=color, linewidth=2, label=f"{_NAMES[reward]}: gold")
                frame.fill_between(steps, mean - error, mean + error, color=color, alpha=0.15, linewidth=0)
                frame.plot(
                    steps, proxy.mean(0), color=color, linewidth=1.2, linestyle="--",
                    label=f"{_NAMES[reward]}: what is optimised",
                )  # fmt: skip
            frame.set_title(f"KL penalty {beta:g}", fontsize=10)
            frame.set_xlabel("PPO steps")
        low = min(frame.get_ylim()[0] for frame in frames)
        high = max(frame.get_ylim()[1] for frame in frames)
        for frame in frames:
            frame.set_ylim(low, high)
        frames[0].set_ylabel("standard deviations of the policy's answers")
        frames[0].legend(fontsize=8)


def _spread(values: NDArray[np.float64]) -> str:
    if len(values) < 2:
        return f"{values.mean():.2f}"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    directory = run(
        PPOEnsembleConfig.parse(argv, prog="codealign reproduce ppo-ensemble", description=DESCRIPTION)
    )
    print((directory.path / "tables.md").read_text(encoding="utf-8"))
    print(f"results: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
