"""Which ranker's pairs train best on MiniPy, from the same programs and tests.

    python -m benchmarks.rankers_minipy --seeds 0 1 2 --out runs/rankers

A seed's programs, tests and matrices are drawn once, with the quickstart's settings; each ranker makes pairs
of them; DPO with the quickstart's recipe trains the shipped model on each; the hidden tests of other problems
say what it brought. Right pairs are counted by the hidden tests of the training problems, afterwards.

`random` takes the first program of a random order, if it loads and passes a test, against the last. `random,
fewer tests` asks that the rejected program passes fewer tests, as all ways with the builder `ranked` do: that
is a choice already. `random`, CodeDPO and DSTC give one pair a problem, the others up to two; all train for
the same number of steps. A pair of DSTC counts as right if its chosen program and test are both right and its
rejected ones are not both. Efficiency pairs are left out (`--efficiency-share`), so that rankers alone make
the difference.

Every step is a run directory: stopped anywhere, the same command goes on. More seeds or rankers later only
add what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from alignment.quickstart import Chain, QuickstartConfig
from alignment.resources import model_path, recipe_path
from alignment.train_command import launch
from benchmarks.ranker_table import UNTRAINED, Audited, Way, table
from codegen_eval.benchmarks.base import load
from codegen_eval.commands import eval as eval_command
from codegen_eval.commands import execute, pairs, rank
from codegen_eval.config import load_config
from codegen_eval.errors import CodealignError
from codegen_eval.extraction import to_test
from codegen_eval.pairs.hygiene import sha
from codegen_eval.pairs.records import completion_of
from codegen_eval.records import Problem
from codegen_eval.runs import RunDir, read_jsonl
from sandbox import Program, Sandbox, Verdict


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a way ranks, builds pairs, and what it adds to the training recipe."""

    ranker: str
    builder: str = "ranked"
    training: tuple[str, ...] = ()


# What a soft label needs of the trainer; where it does not read confidences, that way is not offered.
_SOFT = ("--loss_type", "cdpo", "--confidence_as", "label_smoothing")
WAYS = {
    "random": Recipe("random", "codedpo"),
    "random, fewer tests": Recipe("random"),
    "maxpass": Recipe("maxpass"),
    "codet": Recipe("codet"),
    "b4": Recipe("b4"),
    "codedpo": Recipe("codedpo", "codedpo"),
    "dstc": Recipe("dstc", "dstc"),
    "posterior": Recipe("posterior", "posterior"),
}


def reads_confidence() -> bool:
    """Whether the trainer of this checkout takes a pair's confidence as its label smoothing."""
    if find_spec("alignment.preference.options") is None:
        return False
    from alignment.preference import options

    return "confidence_as" in getattr(options.PairOptions, "__dataclass_fields__", {})


def ways() -> dict[str, Recipe]:
    """All ways that this checkout can go."""
    soft = {"posterior, soft labels": Recipe("posterior", "posterior", _SOFT)} if reads_confidence() else {}
    return WAYS | soft


class Seed:
    """One seed's folder: what all ways share, and a folder a way."""

    def __init__(self, out: Path, seed: int, given: argparse.Namespace) -> None:
        values = {
            name: value
            for name in ("problems", "programs", "tests", "eval_samples", "eval_split", "workers")
            if (value := getattr(given, name)) is not None
        }
        values |= {"out": out / f"seed-{seed}", "seed": seed, "recipe": given.recipe}
        self.config = load_config(recipe_path("tiny-coder/quickstart.yaml"), QuickstartConfig, values)
        self.efficiency_share: float = given.efficiency_share
        self.model = str(model_path(Path(self.config.model).name))
        self.matrices = self.config.out / "matrices/matrices.jsonl"

    def evaluated(self, out: Path, name: str, model: str) -> Path:
        """Draws programs of a model for the evaluation split and scores them; results.json."""
        config = self.config.model_copy(update={"out": out})
        chain = _chain(config)
        samples = chain.draw(
            f"{name}-samples", f"{out.name}: programs", model, config.eval_split, programs=config.eval_samples
        )
        scored = eval_command.EvalConfig(
            out=out / f"{name}-eval",
            benchmark=config.benchmark,
            split=config.eval_split,
            samples=samples.path / "programs.jsonl",
            efficiency=False,
            workers=config.workers,
        )
        return chain.step(f"{out.name}: hidden tests", lambda: eval_command.run(scored)).path / "results.json"

    def shared(self) -> None:
        """Draws programs and tests, and runs each on each."""
        config = self.config
        chain = _chain(config)
        samples = chain.draw(
            "samples",
            f"seed {config.seed}: programs and tests",
            self.model,
            config.data_split,
            limit=config.problems,
            programs=config.programs,
            tests=config.tests,
            test_temperature=config.test_temperature,
            max_test_tokens=config.max_test_tokens,
        )
        asked = execute.ExecuteConfig(
            out=config.out / "matrices",
            programs=samples.path / "programs.jsonl",
            tests=samples.path / "tests.jsonl",
            sources=config.sources,
            benchmark=config.benchmark,
            split=config.data_split,
            workers=config.workers,
        )
        chain.step(f"seed {config.seed}: matrices", lambda: execute.run(asked))

    def pairs(self, name: str, recipe: Recipe) -> Path:
        """Ranks and makes pairs in a way; pairs.jsonl."""
        config, out = self.config, self.config.out / _folder(name)
        rank.run(
            rank.RankConfig(
                out=out / "rankings", matrices=self.matrices, ranker=recipe.ranker, seed=config.seed
            )
        )
        made = pairs.run(
            pairs.PairsConfig(
                out=out / "pairs",
                matrices=self.matrices,
                rankings=out / "rankings/rankings.jsonl",
                benchmark=config.benchmark,
                split=config.data_split,
                builder=recipe.builder,
                pairs_per_problem=config.pairs_per_problem,
                efficiency_share=self.efficiency_share,
                seed=config.seed,
                workers=config.workers,
            )
        )
        return made.path / "pairs.jsonl"

    def audited(self, name: str, file: Path, problems: Mapping[str, Problem]) -> list[Audited]:
        """The pairs by the hidden tests, kept in a run directory."""
        out = self.config.out / _folder(name) / "audit"
        inputs = {"pairs": file, "matrices": self.matrices}
        run_dir = RunDir.open(out, "rankers-audit", {}, inputs=inputs)

        def produce(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
            with Sandbox(workers=self.config.workers) as box:
                yield 0, audit(read_jsonl(file), read_jsonl(self.matrices), problems, box)

        rows = read_jsonl(run_dir.build("audit", 1, produce))
        found = [Audited(row["task_id"], row["chosen"], row["rejected"]) for row in rows]
        run_dir.finish(pairs=len(found))
        return found

    def trained(self, name: str, recipe: Recipe, file: Path) -> str:
        """DPO in a process of its own; the model's folder."""
        out = self.config.out / _folder(name) / "train"
        if not RunDir(out).finished:
            overrides = ["--model_name_or_path", self.model, "--dataset_name", str(file)]
            overrides += ["--output_dir", str(out), "--seed", str(self.config.seed), *recipe.training]
            if status := launch("dpo", self.config.recipe, overrides):
                raise CodealignError(
                    f"training for {name!r} ended with status {status}; see its message above"
                )
        return str(out / "model")


def audit(
    rows: Iterable[Mapping[str, Any]],
    matrices: Iterable[Mapping[str, Any]],
    problems: Mapping[str, Problem],
    box: Sandbox,
) -> list[dict[str, Any]]:
    """For each correctness or code_test pair: is its chosen text right, is its rejected one?

    A text is right if its program passes the hidden tests, and its test, where it has one, holds for the
    reference solution.

    Args:
        rows: Rows of pairs.jsonl.
        matrices: Rows of matrices.jsonl that the pairs were made from.
        problems: The benchmark by task id.
        box: A sandbox.
    """
    codes = {(str(m["task_id"]), sha(code)): str(code) for m in matrices for code in m["codes"]}
    sides: list[tuple[str, str, str]] = []
    wanted = [row for row in rows if row["kind"] != "efficiency"]
    for row in wanted:
        prompt = problems[row["task_id"]].public()
        for side in ("chosen", "rejected"):
            code = codes[row["task_id"], row[f"{side}_sha"]]
            completion = completion_of(code, prompt)
            test = row[side][len(completion.rstrip()) :].strip() if row["kind"] == "code_test" else ""
            sides.append((row["task_id"], code, test))
    right = _passing(dict.fromkeys((task, code) for task, code, _ in sides), problems, box)
    holds = _holding(dict.fromkeys((task, test) for task, _, test in sides if test), problems, box)
    good = [right[task, code] and (not test or holds[task, test]) for task, code, test in sides]
    return [
        {"task_id": row["task_id"], "chosen": good[2 * i], "rejected": good[2 * i + 1]}
        for i, row in enumerate(wanted)
    ]


def _passing(
    texts: Iterable[tuple[str, str]], problems: Mapping[str, Problem], box: Sandbox
) -> dict[tuple[str, str], bool]:
    """Which programs pass the hidden tests."""
    keys = list(texts)
    programs = [
        Program(code, problems[task].entry_point, tuple(problems[task].tests), id=task) for task, code in keys
    ]
    return dict(zip(keys, (r.verdict is Verdict.passed for r in box.run(programs)), strict=True))


def _holding(
    texts: Iterable[tuple[str, str]], problems: Mapping[str, Problem], box: Sandbox
) -> dict[tuple[str, str], bool]:
    """Which tests the reference solution passes."""
    keys = list(texts)
    programs = [
        Program(
            problems[task].reference, problems[task].entry_point, (to_test(test, problems[task].entry_point),)
        )
        for task, test in keys
    ]
    return dict(zip(keys, (r.verdict is Verdict.passed for r in box.run(programs)), strict=True))


def _folder(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _chain(config: QuickstartConfig) -> Chain:
    """The quickstart's steps, one at a time."""
    chain = Chain(config)
    chain.steps = 2
    return chain


def right_shares(results: Path) -> dict[str, float]:
    """Share of right programs by problem."""
    return {p["task_id"]: p["c"] / p["n"] for p in json.loads(results.read_text())["problems"]}


def measure(given: argparse.Namespace, recipes: Mapping[str, Recipe]) -> dict[str, Way]:
    """Runs, or takes up, everything, and gives the untrained model and each way with all its seeds."""
    shares: dict[str, list[dict[str, float]]] = {name: [] for name in (UNTRAINED, *recipes)}
    audits: dict[str, list[list[Audited]]] = {name: [] for name in recipes}
    asked = 0
    for number in given.seeds:
        seed = Seed(given.out, number, given)
        asked = seed.config.problems
        problems = {p.task_id: p for p in load(seed.config.benchmark, None, seed.config.data_split)}
        shares[UNTRAINED].append(right_shares(seed.evaluated(seed.config.out, "before", seed.model)))
        seed.shared()
        for name, recipe in recipes.items():
            begun = time.monotonic()
            file = seed.pairs(name, recipe)
            audits[name].append(seed.audited(name, file, problems))
            model = seed.trained(name, recipe, file)
            results = seed.evaluated(seed.config.out / _folder(name), "after", model)
            shares[name].append(right_shares(results))
            print(f"seed {number}, {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    order = sorted(shares[UNTRAINED][0])
    return {
        name: Way(audits.get(name, []), np.array([[seed[t] for t in order] for seed in found]), asked)
        for name, found in shares.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all seeds and ways and prints the table as Markdown; it is OUT/table.md as well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    offered = ways()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=offered, default=list(offered))
    parser.add_argument("--eval-split", default="test", help="tune while settings are chosen")
    parser.add_argument("--recipe", type=Path, default=recipe_path("tiny-coder/dpo.yaml"))
    parser.add_argument("--efficiency-share", type=float, default=0.0, help="of efficiency pairs (default 0)")
    for name in ("problems", "programs", "tests", "eval-samples"):
        parser.add_argument(f"--{name}", type=int, help="instead of the quickstart's")
    parser.add_argument("--workers", type=int, help="processes for sampling and for the sandbox")
    parser.add_argument("--out", type=Path, default=Path("runs/rankers"))
    given = parser.parse_args(argv)
    found = measure(given, {name: offered[name] for name in given.ways})
    text = table(found)
    (given.out / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
