"""`codealign quickstart`: every command of the chain in turn, from a model to a better one and a report.

The model writes programs and tests for training problems; the sandbox runs each on each; ranking finds the
programs that are probably right; DPO learns from pairs of better and worse; the hidden tests of other
problems say what it brought. Each step is a run directory of its own, so a stopped quickstart goes on where
it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from alignment.resources import recipe_path
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.execution import SOURCES, Source
from codegen_eval.runs import RunDir

DESCRIPTION = "Runs the whole chain: sample, execute, rank, pairs, train, eval, report."


class QuickstartConfig(Config):
    """Settings of `codealign quickstart`; recipes/tiny-coder/quickstart.yaml holds the tried ones."""

    out: Path = Path("runs/quickstart")
    """Directory of all steps."""
    model: str = "models/tiny-coder"
    """Model to start from: a folder, a shipped model, or a hub id."""
    recipe: Path = Path("recipes/tiny-coder/dpo.yaml")
    """Training recipe of `codealign train dpo`."""
    benchmark: str = "minipy"
    """Problems to learn from and to be measured on."""
    data_split: str = "train"
    """Split whose prompts the pairs come from."""
    eval_split: str = "test"
    """Split that measures before and after."""
    problems: int = Field(240, ge=1)
    """Prompts to draw pairs from."""
    programs: int = Field(12, ge=2)
    """Programs for each of them."""
    tests: int = Field(4, ge=0)
    """Test texts for each of them."""
    sources: tuple[Source, ...] = SOURCES
    """Tests that rank: own (written by the model), examples (of the prompt's docstring)."""
    temperature: float = Field(0.7, ge=0)
    """Of programs, in the data and in both evaluations."""
    test_temperature: float = Field(0.7, ge=0)
    """Of tests."""
    max_program_tokens: int = Field(72, ge=1)
    """Where a program ends at the latest."""
    max_test_tokens: int = Field(112, ge=1)
    """Where a test text ends at the latest."""
    ranker: str = "b4"
    """Ranker of the pairs."""
    pairs_per_problem: int = Field(2, ge=1)
    """Most pairs of each kind from one problem."""
    efficiency_share: float = Field(0.2, ge=0, lt=1)
    """Share of efficiency pairs to aim for."""
    eval_samples: int = Field(10, ge=1)
    """Programs for each problem in the evaluations."""
    slow_ratio: float = Field(5.0, gt=1)
    """A right program is slow when it takes more than this many times the reference's time."""
    seed: int = Field(0, ge=0)
    """Of everything that is drawn."""
    workers: int | None = Field(None, ge=1)
    """Processes for sampling and for the sandbox; default one a core."""
    until: Literal["pairs", "report"] = "report"
    """Stop after the preference pairs, or do all."""
    overwrite: bool = False
    """Start anew."""


class Chain:
    """The steps of one quickstart; each returns its run directory."""

    def __init__(self, config: QuickstartConfig) -> None:
        self.config = config
        self.started = time.monotonic()
        self.number = 0
        self.steps = 9 if config.until == "report" else 3

    def step(self, title: str, run: Callable[[], RunDir]) -> RunDir:
        """Runs one step and says so."""
        self.number += 1
        print(f"[{self.number}/{self.steps}] {title}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        directory = run()
        print(f"      {directory.path}  ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
        return directory

    def folder(self, name: str) -> dict[str, Any]:
        """Arguments that every step takes."""
        return {"out": self.config.out / name, "overwrite": self.config.overwrite}

    def draw(self, name: str, title: str, model: str, split: str, **more: Any) -> RunDir:
        """Has the model write programs (and tests) for a split."""
        from codegen_eval.commands import sample

        c = self.config
        asked = sample.SampleConfig(
            **self.folder(name),
            model=model,
            benchmark=c.benchmark,
            split=split,
            temperature=c.temperature,
            max_program_tokens=c.max_program_tokens,
            dtype="float32",
            seed=c.seed,
            workers=c.workers,
            **more,
        )
        return self.step(title, lambda: sample.run(asked))

    def evaluate(self, name: str, model: str) -> tuple[RunDir, RunDir]:
        """Draws programs for the evaluation split and scores them on its hidden tests."""
        from codegen_eval.commands import eval as eval_command

        c = self.config
        samples = self.draw(
            f"{name}-samples",
            f"{name}: the model writes programs for the {c.eval_split} split",
            model,
            c.eval_split,
            programs=c.eval_samples,
        )
        scored = eval_command.EvalConfig(
            **self.folder(f"{name}-eval"),
            benchmark=c.benchmark,
            split=c.eval_split,
            samples=samples.path / "programs.jsonl",
            slow_ratio=c.slow_ratio,
            model=f"{Path(c.model).name}, {name} training",
            temperature=c.temperature,
            workers=c.workers,
        )
        return samples, self.step(f"{name}: hidden tests score them", lambda: eval_command.run(scored))

    def pairs(self, model: str) -> RunDir:
        """From the model's own programs and tests to preference pairs."""
        from codegen_eval.commands import execute, pairs, rank

        c = self.config
        tests = c.tests if "own" in c.sources else 0
        samples = self.draw(
            "samples",
            "the model writes programs and tests for training problems",
            model,
            c.data_split,
            limit=c.problems,
            programs=c.programs,
            tests=tests,
            test_temperature=c.test_temperature,
            max_test_tokens=c.max_test_tokens,
        )
        executed = execute.ExecuteConfig(
            **self.folder("matrices"),
            programs=samples.path / "programs.jsonl",
            tests=samples.path / "tests.jsonl" if tests else None,
            sources=c.sources,
            benchmark=c.benchmark,
            split=c.data_split,
            workers=c.workers,
        )
        matrices = self.step("the sandbox runs every program on every test", lambda: execute.run(executed))
        ranked = rank.RankConfig(
            **self.folder("rankings"), matrices=matrices.path / "matrices.jsonl", ranker=c.ranker, seed=c.seed
        )
        paired = pairs.PairsConfig(
            **self.folder("pairs"),
            matrices=matrices.path / "matrices.jsonl",
            rankings=c.out / "rankings" / "rankings.jsonl",
            benchmark=c.benchmark,
            split=c.data_split,
            pairs_per_problem=c.pairs_per_problem,
            efficiency_share=c.efficiency_share,
            seed=c.seed,
            workers=c.workers,
        )

        def rank_and_pair() -> RunDir:
            rank.run(ranked)
            return pairs.run(paired)

        return self.step("ranking turns what passed into preference pairs", rank_and_pair)

    def train(self, model: str, pairs: RunDir) -> RunDir:
        """DPO in a process of its own."""
        from alignment.train_command import launch

        target = self.config.out / "train"
        overrides = ["--model_name_or_path", model, "--dataset_name", str(pairs.path / "pairs.jsonl")]
        overrides += ["--output_dir", str(target), "--seed", str(self.config.seed)]
        if self.config.overwrite:
            overrides.append("--overwrite")

        def run() -> RunDir:
            status = launch("dpo", self.config.recipe, overrides)
            if status in (130, 143):
                raise KeyboardInterrupt
            if status:
                raise CodealignError(f"training ended with status {status}; its message stands above")
            return RunDir(target)

        return self.step("DPO trains on them (accelerate launch)", run)


def run(config: QuickstartConfig) -> RunDir:
    """The chain; returns the run directory of its last step."""
    from codegen_eval.commands import report

    model = _located(config.model)
    config = config.model_copy(update={"recipe": Path(_located(str(config.recipe)))})
    _check(config, model)
    chain = Chain(config)
    if config.until == "pairs":
        pairs = chain.pairs(model)
        print(f"pairs: {pairs.path / 'pairs.jsonl'}")
        return pairs
    _, before = chain.evaluate("before", model)
    pairs = chain.pairs(model)
    trained = chain.train(model, pairs)
    _, after = chain.evaluate("after", str(trained.path / "model"))
    asked = report.ReportConfig(
        **chain.folder("report"),
        before=before.path,
        after=after.path,
        pairs=pairs.path,
        train=trained.path,
        title="Codealign quickstart",
    )
    written = chain.step("the report", lambda: report.run(asked))
    show(before, after)
    print(f"\nmodel:  {trained.path / 'model'}\npairs:  {pairs.path / 'pairs.jsonl'}")
    print(f"report: {written.path / 'report.html'}\n({time.monotonic() - chain.started:.0f} s)")
    return written


def _check(config: QuickstartConfig, model: str) -> None:
    """Refuses at once what a later step would refuse after minutes of work.

    Raises:
        CodealignError: For no source of tests, an unknown ranker, benchmark or split, more problems than
            there are, a missing model or recipe.
    """
    from codegen_eval.benchmarks.base import load
    from codegen_eval.generation.hf import check_folder
    from codegen_eval.ranking.common import RANKERS

    if not config.sources or (config.sources == ("own",) and not config.tests):
        raise CodealignError(
            "no source of tests: give --sources own, examples, or both, and --tests above 0 for own"
        )
    RANKERS.get(config.ranker)
    check_folder(model)
    if not config.recipe.is_file():
        raise CodealignError(f"no such recipe: {config.recipe}")
    there = len(load(config.benchmark, None, config.data_split))
    if config.problems > there:
        raise CodealignError(
            f"--problems {config.problems}, but the {config.data_split} split has only {there}"
        )
    if config.until == "report":
        load(config.benchmark, None, config.eval_split)


def show(before: RunDir, after: RunDir) -> None:
    """Prints the before-and-after table."""
    from rich.console import Console

    from codegen_eval.comparison import compare
    from codegen_eval.report import summary

    summary.show(compare(before.read_json("results.json"), after.read_json("results.json")), Console())


def _located(name: str) -> str:
    """A path as given, or the shipped recipe or model of that name when run outside a checkout."""
    path = Path(name)
    if path.exists() or path.is_absolute() or not path.parts or path.parts[0] not in ("recipes", "models"):
        return name
    if path.parts[0] == "recipes":
        return str(recipe_path("/".join(path.parts[1:])))
    from alignment.resources import model_path

    return str(model_path("/".join(path.parts[1:])))


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line; without `--config` it takes the shipped recipe."""
    arguments = list(argv)
    if not any(a == "--config" or a.startswith("--config=") for a in arguments):
        arguments = ["--config", str(recipe_path("tiny-coder/quickstart.yaml")), *arguments]
    run(QuickstartConfig.parse(arguments, prog="codealign quickstart", description=DESCRIPTION))
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
