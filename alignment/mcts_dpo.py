"""`codealign mcts-dpo`: step-level preferences from tree search, DPO on them, again (arXiv 2405.00451).

    codealign mcts-dpo --config recipes/tiny-coder/mcts_dpo.yaml --out runs/mcts-dpo

A round: trees over a fresh draw of prompts with the present policy, step pairs smoothed by visit counts, DPO
on their token ids; its model is the policy of the next round, and the reference of its DPO. The search runs
in this process, training in processes of its own by `accelerate launch -m alignment.dpo` with a recipe: a job
of several GPUs would otherwise hold a copy of every tree, and the search's memory is free while DPO trains.

Departures from the authors' code: no reference solution in any prompt, batches of prompts instead of one
update a prompt, the reference moves with the rounds, trees without right answers are used too.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from alignment.resources import model_path, recipe_path
from alignment.search import rounds
from alignment.search.rounds import Growth, MakeValues, prompt_order
from alignment.search.sampler import HFSampler, StepSampler
from alignment.search.settings import PickConfig, SamplingConfig, SearchConfig, ValueConfig
from alignment.search.tasks import TaskOptions, TaskSet
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.search.evaluators import Runner

DESCRIPTION = "Rounds of tree search and DPO on step pairs; killed anywhere, the same command goes on."

Train = Callable[[str, Path, Path, int], str]
"""(model, pairs, run directory, seed) -> the trained model's folder; called again after a kill."""


class MctsDpoConfig(Config):
    """Settings of `codealign mcts-dpo`."""

    out: Path
    """Run directory: round-0, round-1, ... with trees, pairs and training; results.json."""
    model: str
    """The first policy: folder or hub id."""
    recipe: Path = Path("recipes/tiny-coder/step_dpo.yaml")
    """Recipe of `alignment.dpo` for each round (docs/dpo.md)."""
    accelerate: str = "single"
    """Launch configuration of the training, as for `codealign train`."""
    rounds: int = Field(3, ge=1)
    """How many rounds."""
    prompts: int | None = Field(None, ge=1)
    """Prompts of a round, drawn anew for each; all where none."""
    tokens: int | None = Field(None, ge=1)
    """Most tokens sampled in a round; prompts beyond are left out."""
    batch: int = Field(32, ge=1)
    """Prompts that are searched in lockstep, and stored together."""
    task: TaskOptions = TaskOptions()
    """Prompts and verifier."""
    search: SearchConfig = SearchConfig()
    """How trees grow."""
    sampling: SamplingConfig = SamplingConfig()
    """How steps are drawn."""
    value: ValueConfig = ValueConfig()
    """What states are worth."""
    pairs: PickConfig = PickConfig()
    """Which pairs are taken."""
    dtype: str = "auto"
    """Of the policy's weights in the search; float64 with sdpa makes trees independent of `batch`."""
    device: str | None = None
    """Torch device of the search; the first GPU if there is one."""
    workers: int | None = Field(None, ge=1)
    """Processes of the sandbox; default one a core."""
    seed: int = Field(0, ge=0)
    """Of prompts, trees and training."""
    overwrite: bool = False
    """Start anew."""

    not_identity = frozenset({"out", "overwrite", "workers", "device", "model", "recipe", "accelerate"})

    @model_validator(mode="after")
    def _fits(self) -> MctsDpoConfig:
        if self.sampling.use_vllm and self.device is not None:
            raise ValueError("device does nothing with sampling.use_vllm: leave one of them out")
        if self.sampling.use_vllm and self.value.kind == "self":
            raise ValueError(
                "value.kind 'self' needs the model in this process, where vLLM does not hold it: leave "
                "sampling.use_vllm out, or take another value"
            )
        return self


def run(config: MctsDpoConfig, train: Train | None = None) -> RunDir:
    """All rounds; returns the finished run directory.

    Args:
        config: The settings.
        train: What trains a round; by default DPO in processes of its own.

    Raises:
        CodealignError: For settings, data or a model that cannot be used, a budget less than one tree, or a
            first round without a pair.
    """
    from alignment.search.settings import growth, make_values
    from alignment.search.tasks import load_tasks

    shipped = {"model": located(config.model), "recipe": Path(located(str(config.recipe)))}
    config = config.model_copy(update=shipped)
    inputs = _inputs(config, launched=train is None)
    grown = growth(config.search, config.pairs, config.sampling, batch=config.batch, tokens=config.tokens)
    with _sandbox(config.workers) as box:
        # What can be refused is refused before the directory is made, so that a mended command has it.
        tasks = load_tasks(config.task, box, seed=config.seed)
        prompt_order(config.seed, 0, len(tasks.texts), config.prompts)
        values = make_values(config.value, tasks)
        directory = RunDir.open(
            config.out, "mcts-dpo", config.identity(), overwrite=config.overwrite, inputs=inputs
        )
        if not directory.finished:
            _rounds(config, directory, train or _launched(config), tasks, grown, values)
    return directory


def located(name: str) -> str:
    """A path as given, or the shipped recipe or model of that name when run outside a checkout."""
    path = Path(name)
    if (
        path.exists()
        or path.is_absolute()
        or len(path.parts) < 2
        or path.parts[0] not in ("recipes", "models")
    ):
        return name
    rest = "/".join(path.parts[1:])
    return str(recipe_path(rest) if path.parts[0] == "recipes" else model_path(rest))


def _inputs(config: MctsDpoConfig, *, launched: bool) -> dict[str, Path]:
    """The files that decide what the job makes."""
    from codegen_eval.generation.hf import check_folder

    check_folder(config.model)
    found = {"model": Path(config.model)} if Path(config.model).exists() else {}
    if launched:
        if not config.recipe.is_file():
            raise CodealignError(f"no such recipe: {config.recipe}")
        found["recipe"] = config.recipe
    if config.task.dataset is not None:
        found["dataset"] = config.task.dataset
    if config.value.reward_model is not None:
        found["reward_model"] = config.value.reward_model
    return found


def _rounds(
    config: MctsDpoConfig, directory: RunDir, train: Train, tasks: TaskSet, grown: Growth, values: MakeValues
) -> None:
    model, done = config.model, []
    for number in range(config.rounds):
        found = _round(config, directory, number, model, tasks, grown, values)
        if not found["pairs"]:
            if not number:
                raise CodealignError(
                    f"round 0 gave no pair from {found['trees']} trees: the answers to each prompt are worth "
                    "the same. Take other prompts, more iterations or breadth, a higher temperature, or "
                    "another value"
                )
            print(f"round {number} gave no pair: nothing is left to prefer, so it ends here", file=sys.stderr)
            done.append(found)
            break
        folder = directory.path / f"round-{number}"
        model = train(model, folder / "pairs.jsonl", folder / "train", config.seed + number)
        done.append(found)
    directory.write_json("results.json", {"model": model, "rounds": done})
    directory.finish(rounds=len(done), tokens=sum(row["tokens"] for row in done))


def _round(
    config: MctsDpoConfig,
    directory: RunDir,
    number: int,
    model: str,
    tasks: TaskSet,
    grown: Growth,
    values: MakeValues,
) -> dict[str, Any]:
    """Trees and pairs of a round, as far as they are not there yet; its figures."""
    name = f"round-{number}"
    folder = directory.path / name
    folder.mkdir(exist_ok=True)
    if not (folder / "summary.json").exists():
        files = rounds.grow_round(
            directory,
            name,
            prompt_order(config.seed, number, len(tasks.texts), config.prompts),
            grown,
            tasks,
            lambda: _policy(config, model, tasks),
            values,
            seed=config.seed,
            number=number,
        )
        smoothing = config.pairs.smoothing and config.pairs.level == "steps"
        rows = list(
            rounds.pair_rows(
                files, config.pairs.picker(), smoothing=smoothing, per_tree=config.pairs.per_tree
            )
        )
        directory.write_text(
            f"{name}/pairs.jsonl", "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
        )
        found = rounds.summary(files, len(rows))
        directory.write_json(f"{name}/summary.json", found)
        print(
            f"round {number}: {found['trees']} trees, {found['tokens']:,} tokens, {found['pairs']} pairs",
            file=sys.stderr,
            flush=True,
        )
    return dict(directory.read_json(f"{name}/summary.json"))


def _policy(config: MctsDpoConfig, model: str, tasks: TaskSet) -> StepSampler:
    """The sampler of a policy."""
    if config.sampling.use_vllm:
        from alignment.search.vllm_sampler import open_sampler

        return open_sampler(
            model, config.sampling.of(tasks), dtype=config.dtype, engine=config.sampling.vllm_engine
        )
    from codegen_eval.generation.hf import load_model

    loaded, tokenizer = load_model(model, dtype=config.dtype, device=config.device)
    return HFSampler(
        loaded,
        tokenizer,
        config.sampling.of(tasks),
        cache_mb=config.sampling.cache_mb,
        rows=config.sampling.rows,
    )


def _launched(config: MctsDpoConfig) -> Train:
    """DPO by `accelerate launch`, with the recipe."""
    from alignment.train_command import launch

    def train(model: str, pairs: Path, out: Path, seed: int) -> str:
        words = ["--model_name_or_path", model, "--dataset_name", str(pairs), "--output_dir", str(out)]
        status = launch("dpo", config.recipe, [*words, "--seed", str(seed)], accelerate=config.accelerate)
        if status in (130, 143):
            raise KeyboardInterrupt
        if status:
            raise CodealignError(f"training ended with status {status}; its message stands above")
        return str(out / "model")

    return train


@contextlib.contextmanager
def _sandbox(workers: int | None) -> Iterator[Callable[[], Runner]]:
    """A sandbox that starts with the first program; one that breaks says so instead of a verdict."""
    with contextlib.ExitStack() as stack:
        opened: list[Runner] = []

        def box() -> Runner:
            if not opened:
                from sandbox.executors.local import LocalExecutor

                opened.append(stack.enter_context(LocalExecutor(workers)))
            return opened[0]

        yield box


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = MctsDpoConfig.parse(argv, prog="codealign mcts-dpo", description=DESCRIPTION)
    directory = run(config)
    print(f"model: {directory.read_json('results.json')['model']}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
