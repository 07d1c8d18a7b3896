"""`codealign generate-data`: prompts to a `datasets` folder of preference pairs, in one resumable job."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from random import Random
from typing import Any

from codegen_eval.commands.data_config import GenerateDataConfig, check, inputs
from codegen_eval.commands.data_drawing import Drawing, Inventing
from codegen_eval.commands.sample import open_backend, requests_for
from codegen_eval.datajob import card, dataset, instruct, prompts
from codegen_eval.datajob.contamination import Index, index_of, parse_target
from codegen_eval.datajob.flow import Finish, Meter, Runner, cleaned_rows, run_parts
from codegen_eval.datajob.pairing import Sieve, conversational, fitted, problem_pairs, rankings
from codegen_eval.datajob.prompts import Candidate
from codegen_eval.datajob.racing import raced_rows, spared
from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import Backend
from codegen_eval.hub import Hub
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl, write_jsonl

DESCRIPTION = (
    "Has a model write programs and tests for prompts, runs all on all, and writes preference pairs as a "
    "datasets folder. Resumes."
)


def _candidates(config: GenerateDataConfig, counts: Counter[str]) -> list[Candidate]:
    if config.prompt_data is not None:
        return prompts.from_table(
            config.prompt_data,
            config.prompt_column,
            config.entry_point_column,
            config.licence,
            config.chat,
            counts,
        )
    if config.source_tree is not None:
        return prompts.from_seeds(config.source_tree, config.licence, counts)
    return prompts.from_benchmark(config.benchmark, config.dataset, config.split, config.licence, counts)


def _select(
    config: GenerateDataConfig, run_dir: RunDir, backend: Backend, index: Index | None
) -> list[Candidate]:
    """The prompts to draw for; prompts.jsonl, and dropped.jsonl with the others."""
    path = run_dir.path / "prompts.jsonl"
    if not path.exists():
        counts: Counter[str] = Counter()
        used, dropped = _left(config, _candidates(config, counts), counts, index)
        if config.instruct:
            tasks = _invented(config, run_dir, backend, used, counts)
            used, more = _left(config, tasks, counts, index)
            dropped += more
        counts["prompts_used"] = len(used)
        if not used:
            raise CodealignError(f"no prompt is left to draw for. What became of them:\n{describe(counts)}")
        write_jsonl(run_dir.path / "dropped.jsonl", dropped)
        run_dir.write_json("prompts.json", dict(counts))
        write_jsonl(path, map(prompts.row_of, used))
    return [prompts.candidate_of(row) for row in read_jsonl(path)]


def _left(
    config: GenerateDataConfig, found: Sequence[Candidate], counts: Counter[str], index: Index | None
) -> tuple[list[Candidate], list[dict[str, Any]]]:
    """What is neither repeated nor contaminated, at most `limit` of it; and rows of what was dropped."""
    used, dropped = prompts.chosen(
        found,
        counts,
        similarity=config.near_duplicates or None,
        index=index,
        most_chars=config.max_prompt_chars,
    )
    if config.limit is not None and config.limit < len(used):
        drawn = Random(f"generate-data/{config.seed}").sample(range(len(used)), config.limit)
        counts["prompts_over_limit"] += len(used) - config.limit
        used = [used[i] for i in sorted(drawn)]
    return used, dropped


def _invented(
    config: GenerateDataConfig,
    run_dir: RunDir,
    backend: Backend,
    seeds: Sequence[Candidate],
    counts: Counter[str],
) -> list[Candidate]:
    """The tasks that the model writes for the seeds; its answers are kept in tasks.jsonl."""
    inventing = Inventing(config, backend, seeds)

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        return iter(track(inventing.answers(pending), len(pending), "writing tasks, parts"))

    counts["seeds_used"] = len(seeds)
    answers = read_jsonl(run_dir.build("tasks", len(inventing.parts), produce))
    made = [
        instruct.invented(seed, row["completion"], counts) for seed, row in zip(seeds, answers, strict=True)
    ]
    return [task for task in made if task is not None]


def _execute(config: GenerateDataConfig, run_dir: RunDir, drawing: Drawing, runner: Runner) -> None:
    """Writes matrices.jsonl; the figures of the flow go to metrics.jsonl as it goes."""
    meter, adaptive = Meter(), config.adaptive_options()
    shared: dict[str, Any] = {"runner": runner, "limits": config.limits(), "meter": meter}
    finish: Finish = (
        partial(cleaned_rows, hygiene=config.hygiene, options=config.rank_options(), **shared)
        if adaptive is None
        else partial(raced_rows, options=adaptive, drop_unloadable=config.drop_unloadable, **shared)
    )
    ahead = runner if adaptive is None else None

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        numbers: list[int] = []

        def rows() -> Iterator[dict[str, Any]]:
            for number, made in run_parts(drawing.tasks(pending), ahead, finish, meter, config.limits()):
                numbers.append(number)
                yield from made

        total = sum(len(drawing.parts[number]) for number in pending)
        stream = track(rows(), total, "generating and executing")
        for first in stream:
            number = numbers[-1]
            yield number, [first, *(next(stream) for _ in drawing.parts[number][1:])]
            run_dir.log(event="part", part=number, **meter.figures())
            normal_form.cache_clear()

    run_dir.build("matrices", len(drawing.parts), produce)


def _open_executor(config: GenerateDataConfig) -> Any:
    from sandbox.executors import make_executor

    options = json.loads(config.executor_options)
    if config.executor in ("local", "ray"):
        name = "workers" if config.executor == "local" else "workers_per_node"
        options = {name: config.sandbox_workers, "require": config.isolation, **options}
    try:
        return make_executor(config.executor, **options)
    except TypeError as error:
        raise CodealignError(
            f"--executor-options do not fit the executor {config.executor}: {error}"
        ) from None


def _rank(config: GenerateDataConfig, run_dir: RunDir) -> None:
    """Writes rankings.jsonl."""
    matrices, path = run_dir.path / "matrices.jsonl", run_dir.path / "rankings.jsonl"
    if path.exists():
        return
    options = config.rank_options()
    if config.fit:
        options = fitted(options, read_jsonl(matrices))
    write_jsonl(path, rankings(read_jsonl(matrices), options))


def _pair(
    config: GenerateDataConfig, run_dir: RunDir, candidates: Sequence[Candidate], index: Index | None
) -> None:
    """Writes pairs.jsonl and funnel.json.

    Raises:
        CodealignError: There is no usable pair; the message holds the funnel.
    """
    path = run_dir.path / "pairs.jsonl"
    if path.exists() and (run_dir.path / "funnel.json").exists():
        return
    funnel: Counter[str] = Counter()
    dropped: list[dict[str, Any]] = []
    rows = _pairs(config, run_dir, candidates, Sieve(index), funnel, dropped)
    first = next(rows, None)
    if first is None:
        run_dir.write_json("funnel.json", dict(funnel))
        raise CodealignError(
            f"no usable pair in {len(candidates)} problems, so no dataset was written. What became of them "
            f"(also in funnel.json):\n{describe(funnel)}\nDraw more programs or tests for each prompt, at a "
            "higher temperature, or add the source examples"
        )
    write_jsonl(path, chain([first], rows))
    write_jsonl(run_dir.path / "dropped_pairs.jsonl", dropped)
    run_dir.write_json("funnel.json", dict(funnel))


def _pairs(
    config: GenerateDataConfig,
    run_dir: RunDir,
    candidates: Sequence[Candidate],
    sieve: Sieve,
    funnel: Counter[str],
    dropped: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """The rows of pairs.jsonl, in the order of the prompts."""
    files = [read_jsonl(run_dir.path / f"{name}.jsonl") for name in ("matrices", "rankings")]
    options = config.pair_options()
    for candidate, matrix, ranking in zip(candidates, *files, strict=True):
        made, found = problem_pairs(candidate, matrix, ranking, options, config.chat)
        kept = [row for row in made if sieve.keep(row, found, dropped)]
        found["pairs_kept"] += len(kept)
        found.update(spared(matrix))
        found["problems_with_kept_pairs"] += bool(kept)
        funnel.update(found)
        normal_form.cache_clear()
        for row in kept:
            if not config.chat:
                yield row
                continue
            asked = requests_for("programs", [candidate.prompt], config)[0].prompt
            yield conversational(row, asked)


def _write(config: GenerateDataConfig, run_dir: RunDir) -> dict[str, int]:
    """Writes the dataset's folder, the card last; returns the rows by split."""
    folder = run_dir.path / "dataset"
    path = run_dir.path / "pairs.jsonl"
    counts = dataset.write_dataset(lambda: read_jsonl(path), folder, config.test_share, config.chat)
    execution, hygiene = _counted(run_dir)
    seen: dict[str, dict[str, Any]] = {}
    for row in read_jsonl(path):
        seen.setdefault(row["task_id"], {"licence": row["licence"]})
    protocol = run_dir.read_json("protocol.json")
    facts = card.Facts(
        config=config.identity(),
        rows=counts,
        prompts=run_dir.read_json("prompts.json"),
        licences=card.licences(list(seen.values())),
        execution=execution,
        hygiene=hygiene,
        funnel=run_dir.read_json("funnel.json"),
        versions=protocol["versions"],
        inputs={name: given["sha256"] for name, given in protocol["inputs"].items()},
    )
    run_dir.write_text("dataset/README.md", card.render(facts))
    return counts


def _counted(run_dir: RunDir) -> tuple[dict[str, int], dict[str, int]]:
    """Sums over all matrices: what was written and run, and what hygiene did."""
    execution: Counter[str] = Counter()
    hygiene: Counter[str] = Counter()
    for row in read_jsonl(run_dir.path / "matrices.jsonl"):
        shape = row["matrix"]["shape"]
        execution.update(programs_distinct=shape[0], tests_distinct=shape[1], cells=shape[0] * shape[1])
        execution.update(row["counts"])
        execution.update(spared(row))
        hygiene.update(row.get("hygiene", {}).get("counts", {}))
    return dict(sorted(execution.items())), dict(sorted(hygiene.items()))


def describe(counts: Counter[str]) -> str:
    """Counts as lines, for messages."""
    return "\n".join(f"  {name:40} {count}" for name, count in sorted(counts.items()))


def run(
    config: GenerateDataConfig,
    runner: Runner | None = None,
    backend: Backend | None = None,
    hub: Hub | None = None,
) -> RunDir:
    """Writes prompts, matrices, rankings and pairs, and the folder `dataset`; uploads it if asked.

    Args:
        config: The settings.
        runner: An executor to use instead of one of its own.
        backend: What draws, instead of the configuration's.
        hub: The hub's interface, instead of huggingface_hub's.

    Raises:
        CodealignError: For a bad configuration, no prompt, no usable pair.
        IsolationUnavailable: If this machine cannot isolate programs.
    """
    check(config)
    if backend is None:
        one = config.backend == "hf" and config.workers is None
        backend = open_backend(config.model_copy(update={"workers": 1}) if one else config)
    run_dir = RunDir.open(
        config.out, "generate-data", config.identity(), overwrite=config.overwrite, inputs=inputs(config)
    )
    if not run_dir.finished:
        targets = [parse_target(text) for text in config.decontaminate]
        index = index_of(targets, config.overlap_words) if targets else None
        candidates = _select(config, run_dir, backend, index)
        if not (run_dir.path / "matrices.jsonl").exists():
            drawing = Drawing(config, backend, [candidate.prompt for candidate in candidates])
            if runner is not None:
                _execute(config, run_dir, drawing, runner)
            else:
                with _open_executor(config) as own:
                    _execute(config, run_dir, drawing, own)
        _rank(config, run_dir)
        _pair(config, run_dir, candidates, index)
        counts = _write(config, run_dir)
        run_dir.finish(prompts=len(candidates), **counts)
    if config.push_to_hub is not None:
        dataset.push(run_dir.path / "dataset", config.push_to_hub, config.hub_private, hub)
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = GenerateDataConfig.parse(argv, prog="codealign generate-data", description=DESCRIPTION)
    run_dir = run(config)
    print(describe(Counter(run_dir.read_json("funnel.json"))))
    print(f"dataset: {run_dir.path / 'dataset'}")
    if config.push_to_hub:
        print(f"uploaded to {config.push_to_hub}")
    return 0
