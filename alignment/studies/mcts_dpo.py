"""`codealign reproduce mcts-dpo`: do step pairs from tree search train better than pairs of whole answers?

The paper (Xie et al. 2024, arXiv 2405.00451) in miniature: small models that make known mistakes in running
sums (mcts_dpo_base.py), three on-policy rounds by `alignment.mcts_dpo`, against rounds on whole answers with
as many sampled tokens. Greedy and sampled accuracy on questions that no round sees.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alignment.mcts_dpo import MctsDpoConfig, located
from alignment.mcts_dpo import run as run_job
from alignment.search.settings import PickConfig, SamplingConfig, SearchConfig
from alignment.search.tasks import TaskOptions, running_sums
from alignment.studies.mcts_dpo_base import Base, train_base
from alignment.studies.mcts_dpo_page import curves, table, verdicts
from codegen_eval.config import Config
from codegen_eval.runs import RunDir, read_jsonl
from codegen_eval.tasks.running_sum import STEP, is_right

DESCRIPTION = (
    "Step pairs from tree search against pairs of whole answers, at equal numbers of sampled tokens."
)
ARMS = ("steps", "answers")
_POOL = 4096  # questions that rounds draw from
_EVALUATION = 1_000_003  # seed of the questions that no round sees


class StudyConfig(Config):
    """Settings of `codealign reproduce mcts-dpo`."""

    out: Path = Path("runs/mcts-dpo-study")
    """Run directory; results.json, table.md and curves.svg appear in it."""
    seeds: int = Field(5, ge=1)
    """Independent repetitions: base model, prompts, trees, training."""
    first_seed: int = Field(0, ge=0)
    """The first of them."""
    rounds: int = Field(3, ge=1)
    """On-policy rounds."""
    prompts: int = Field(128, ge=1, le=_POOL)
    """Prompts that a round searches."""
    iterations: int = Field(8, ge=1)
    """Paths of each tree."""
    breadth: int = Field(2, ge=2)
    """Children of a node."""
    answers: int = Field(4, ge=2)
    """Whole answers of a prompt in the other arm."""
    recipe: Path = Path("recipes/running-sum/step_dpo.yaml")
    """Recipe of every training."""
    questions: int = Field(600, ge=1)
    """Questions of the evaluation."""
    base: Base = Base()
    """The base model."""
    plot: bool = True
    """Draw curves.svg; needs matplotlib."""
    overwrite: bool = False
    """Start anew."""

    not_identity = frozenset({"out", "overwrite", "plot", "recipe"})


def run(config: StudyConfig) -> RunDir:
    """All seeds, each as far as it is not there yet; writes results.json, table.md, curves.svg."""
    import torch

    recipe = Path(located(str(config.recipe)))
    directory = RunDir.open(
        config.out,
        "reproduce mcts-dpo",
        config.identity(),
        overwrite=config.overwrite,
        inputs={"recipe": recipe},
    )
    if directory.finished:
        return directory
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two are many times slower than one

    def produce(parts: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for part in parts:
            yield part, [one_seed(config, directory.path, config.first_seed + part, recipe)]

    try:
        rows = list(read_jsonl(directory.build("seeds", config.seeds, produce)))
    finally:
        torch.set_num_threads(threads)
    directory.write_json("results.json", {"seeds": rows, "verdicts": verdicts(rows)})
    directory.write_text("table.md", table(rows))
    if config.plot:
        curves(rows, directory.path / "curves.svg")
    directory.finish(seeds=config.seeds, **verdicts(rows))
    return directory


def one_seed(config: StudyConfig, out: Path, seed: int, recipe: Path) -> dict[str, Any]:
    """The base model of a seed and both arms: accuracies before and after each round, pairs and tokens."""
    folder = out / f"seed-{seed}"
    base = folder / "base"
    if not (base / "tokenizer.json").exists():  # written last
        loss = train_base(config.base, seed, base)
        print(f"seed {seed}: base model trained, loss {loss:.3f}", file=sys.stderr, flush=True)
    found: dict[str, Any] = {"seed": seed, "base": accuracy(config, base)}
    tokens = None
    for arm in ARMS:
        job = arm_config(config, folder / arm, base, arm, seed, tokens)
        rounds = run_job(job, _trainer(recipe)).read_json("results.json")["rounds"]
        models = [folder / arm / f"round-{i}/train/model" for i in range(len(rounds)) if rounds[i]["pairs"]]
        scores = [accuracy(config, model) for model in models]
        scores += scores[-1:] * (config.rounds - len(scores))  # nothing was left to prefer
        found[arm] = {
            "greedy": [score["greedy"] for score in scores],
            "sampled": [score["sampled"] for score in scores],
            "pairs": [row["pairs"] for row in rounds],
            "tokens": [row["tokens"] for row in rounds],
        }
        # The other arm may sample as many tokens in each round as the trees took on average.
        tokens = round(sum(row["tokens"] for row in rounds) / len(rounds))
        print(f"seed {seed}, {arm}: {found[arm]['greedy']}", file=sys.stderr, flush=True)
    return found


def arm_config(
    config: StudyConfig, out: Path, base: Path, arm: str, seed: int, tokens: int | None
) -> MctsDpoConfig:
    """The job of one arm."""
    steps = config.base.digits - 1
    searching = arm == "steps"
    return MctsDpoConfig(
        out=out,
        model=str(base),
        rounds=config.rounds,
        prompts=config.prompts if searching else None,
        tokens=None if searching else tokens,
        batch=config.prompts,
        task=TaskOptions(kind="running-sum", questions=_POOL, digits=config.base.digits),
        search=(
            SearchConfig(iterations=config.iterations, breadth=config.breadth, depth_limit=steps)
            if searching
            else SearchConfig()
        ),
        sampling=SamplingConfig(step_tokens=STEP, answer_tokens=STEP * steps),
        pairs=(
            PickConfig(min_rejected_visits=0)
            if searching
            else PickConfig(level="answers", answers=config.answers)
        ),
        dtype="float32",
        device="cpu",
        seed=seed,
    )


def _trainer(recipe: Path) -> Any:
    """DPO in this process: starting one for each of many small trainings would cost more than they do."""

    def train(model: str, pairs: Path, out: Path, seed: int) -> str:
        from alignment import dpo

        words = ["--config", str(recipe), "--model_name_or_path", model, "--dataset_name", str(pairs)]
        dpo.run([*words, "--output_dir", str(out), "--seed", str(seed)])
        return str(out / "model")

    return train


def accuracy(config: StudyConfig, model: Path) -> dict[str, float]:
    """Share of right answers to the evaluation's questions, greedy and sampled at temperature 1."""
    from alignment.search.lockstep import Request
    from alignment.search.sampler import HFSampler
    from codegen_eval.generation.hf import load_model

    tasks = running_sums(config.questions, config.base.digits, _EVALUATION)
    loaded, tokenizer = load_model(str(model), dtype="float32", device="cpu")
    found = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        length = STEP * (config.base.digits - 1)
        sampling = SamplingConfig(step_tokens=STEP, answer_tokens=length, temperature=temperature)
        sampler = HFSampler(loaded, tokenizer, sampling.of(tasks), rows=len(tasks.texts))
        asked = [
            Request(i, 0, tuple(tokenizer.encode(text)), text, breadth=1, seed=i, depth=0, last=True)
            for i, text in enumerate(tasks.texts)
        ]
        answers = [steps[0].text for steps in sampler(asked)]
        right = [is_right(text, answer) for text, answer in zip(tasks.texts, answers, strict=True)]
        found[name] = float(np.mean(right))
    return found


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line; its status is 1 where the study's claims do not hold."""
    config = StudyConfig.parse(argv, prog="codealign reproduce mcts-dpo", description=DESCRIPTION)
    directory = run(config)
    print((directory.path / "table.md").read_text(encoding="utf-8"))
    print(f"results: {directory.path}")
    return 0 if all(directory.read_json("results.json")["verdicts"].values()) else 1


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
