"""`codealign reproduce mrt-code`: does the embedded model mend programs by what the sandbox says of them?

    codealign reproduce mrt-code --out runs/mrt-code

tiny-coder never saw a program that is mended. It is measured on repair turns as it is, and after a warm
start: fine-tuning on pairs of its own failed and right drafts for training problems, with the feedback
between them (alignment/mrt/code_episodes.py). The control is a draft drawn anew, without feedback: for drafts
that failed their public tests, the share of the same problem's other first drafts that is right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alignment.mrt.code_episodes import Generate, RepairTrace, repair_curve, repair_pairs, sample_repairs
from codegen_eval.config import Config
from codegen_eval.generation.base import Request, Sampling
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "Repair turns with sandbox feedback on MiniPy: tiny-coder as it is, and after a warm start."
_AT_ONCE = 32


class MRTCodeConfig(Config):
    """Settings of `codealign reproduce mrt-code`."""

    out: Path = Path("runs/mrt-code")
    """Run directory; results.json and table.md appear in it."""
    model: str = "models/tiny-coder"
    """The model: a folder, the shipped one, or a hub id."""
    train_problems: int = Field(default=80, ge=1)
    """Training problems whose drafts make the warm start."""
    problems: int = Field(default=60, ge=1)
    """Test problems that are measured."""
    samples: int = Field(default=4, ge=2)
    """Traces of each problem."""
    turns: int = Field(default=3, ge=1)
    """Most drafts of a trace."""
    temperature: float = Field(default=0.7, gt=0)
    """Of all drafts."""
    max_new_tokens: int = Field(default=72, ge=1)
    """Where a draft ends at the latest."""
    updates: int = Field(default=40, ge=1)
    """Of the warm start."""
    batch: int = Field(default=8, ge=1)
    """Pairs an update."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Of the warm start."""
    seed: int = Field(default=0, ge=0)
    """Of everything that is drawn."""
    workers: int = Field(default=1, ge=1)
    """Sandbox workers."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def run(config: MRTCodeConfig) -> RunDir:
    """Measures, trains the warm start, measures again; a stopped run goes on with what is missing."""
    import torch

    from alignment.resources import model_path
    from codegen_eval.generation.hf import load_model
    from sandbox.executors.local import LocalExecutor

    shipped = config.model == "models/tiny-coder"
    folder = str(model_path("tiny-coder")) if shipped else config.model
    directory = RunDir.open(config.out, "reproduce mrt-code", config.identity(), overwrite=config.overwrite)
    if directory.finished:
        return directory
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with LocalExecutor(config.workers) as box:
            base = list(read_jsonl(_measure(directory, config, "base", lambda: load_model(folder), box)))
            pairs = list(read_jsonl(_pairs(directory, config, lambda: load_model(folder), box)))

            def warm() -> Any:
                model, tokenizer = load_model(folder)
                return _warm_started(config, model, tokenizer, pairs), tokenizer

            after = list(read_jsonl(_measure(directory, config, "warm", warm, box)))
    finally:
        torch.set_num_threads(threads)
    results = {"base": summary(base, config.turns), "warm start": summary(after, config.turns)}
    directory.write_json("results.json", {**results, "pairs": len(pairs)})
    directory.write_text("table.md", table(results, len(pairs), config.turns))
    directory.finish(pairs=len(pairs), **{f"mended {k}": of["mended"] for k, of in results.items()})
    return directory


def _traces(
    config: MRTCodeConfig, loaded: Any, box: Any, split: str, problems: int, turns: int
) -> list[RepairTrace]:
    from codegen_eval.benchmarks.minipy import load
    from codegen_eval.generation.hf import HFGenerator

    generator = HFGenerator(*loaded)

    def generate(requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
        found: list[list[str]] = []
        for start in range(0, len(requests), _AT_ONCE):
            found += generator.generate(requests[start : start + _AT_ONCE], sampling)
        return found

    every = load(None, split)
    rng = np.random.default_rng([config.seed, len(every)])
    chosen = [every[i] for i in sorted(rng.permutation(len(every))[:problems])]
    sampling = Sampling(config.temperature, 1.0, config.max_new_tokens, (), config.seed)
    fits: Generate = generate
    return sample_repairs(chosen, fits, box.run, sampling, count=config.samples, turns=turns)


def _measure(directory: RunDir, config: MRTCodeConfig, name: str, loaded: Any, box: Any) -> Path:
    def produce(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        print(f"{name}: repair turns on {config.problems} test problems", file=sys.stderr, flush=True)
        traces = _traces(config, loaded(), box, "test", config.problems, config.turns)
        yield 0, [plain(trace, traces, config.turns) for trace in traces]

    return directory.build(name, 1, produce)


def _pairs(directory: RunDir, config: MRTCodeConfig, loaded: Any, box: Any) -> Path:
    def produce(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        print(f"pairs: drafts for {config.train_problems} training problems", file=sys.stderr, flush=True)
        traces = _traces(config, loaded(), box, "train", config.train_problems, 1)
        yield 0, list(repair_pairs(traces))

    return directory.build("pairs", 1, produce)


def plain(trace: RepairTrace, traces: Sequence[RepairTrace], turns: int) -> dict[str, Any]:
    """A trace as a row: its rewards and feedback, its curve, the first drafts beside it."""
    same = [t for t in traces if t.problem.task_id == trace.problem.task_id]
    first = [t.drafts[0].reward for t in same]
    curve = repair_curve(trace, first, turns)
    return {
        "task_id": trace.problem.task_id,
        "sample": trace.number,
        "rewards": [draft.reward for draft in trace.drafts],
        "passed": [draft.passed for draft in trace.drafts],
        "completions": [draft.completion for draft in trace.drafts],
        "feedback": [list(draft.feedback) for draft in trace.drafts],
        "others": [t.drafts[0].reward for t in same if t.number != trace.number],
        "j": None if curve is None else curve.tolist(),
    }


def summary(rows: Sequence[dict[str, Any]], turns: int) -> dict[str, Any]:
    """J by turn as means over problems; of failed first drafts, how many were mended, and the control."""
    by_problem: dict[str, list[list[float]]] = {}
    mended, redrawn, repeated = [], [], []
    for row in rows:
        if row["j"] is not None:
            by_problem.setdefault(row["task_id"], []).append(row["j"])
        if row["passed"][0] is False and len(row["rewards"]) > 1 and row["rewards"][1] is not None:
            mended.append(row["rewards"][1])
            redrawn += [float(np.mean(of))] if (of := [r for r in row["others"] if r is not None]) else []
            repeated.append(row["completions"][1] == row["completions"][0])
    curves = [np.mean(of, axis=0) for of in by_problem.values()]
    return {
        "problems": len(by_problem),
        "traces": len(rows),
        "j": np.mean(curves, axis=0).tolist() if curves else [float("nan")] * (turns + 1),
        "failed": len(mended),
        "mended": float(np.mean(mended)) if mended else 0.0,
        "redrawn": float(np.mean(redrawn)) if redrawn else 0.0,
        "repeated": float(np.mean(repeated)) if repeated else 0.0,
    }


def _warm_started(config: MRTCodeConfig, model: Any, tokenizer: Any, pairs: Sequence[dict[str, str]]) -> Any:
    """The model after fine-tuning on the pairs, the completions alone counting."""
    from alignment.mrt.updates import Row, Updates, finetune
    from codegen_eval.errors import CodealignError

    if not pairs:
        raise CodealignError("no pair of a failed and a right draft was found: give more train_problems")
    rows = []
    for pair in pairs:
        read, learned = tokenizer.encode(pair["prompt"]), tokenizer.encode(pair["completion"])
        ids = (*read, *learned, tokenizer.eos_token_id)
        rows.append(Row(ids, (*[0.0] * len(read), *[1.0] * (len(learned) + 1))))
    updates = Updates(model, learning_rate=config.learning_rate, warmup_steps=4)
    finetune(updates, rows, steps=config.updates, batch=config.batch, micro_rows=4, seed=config.seed)
    return model


def table(results: dict[str, dict[str, Any]], pairs: int, turns: int) -> str:
    """Results in Markdown."""
    heads = " | ".join(f"J after {t}" for t in range(turns + 1))
    lines = [
        f"{pairs} pairs of the warm start; J is the private reward of the last draft, means over problems:",
        "",
        f"| model | problems | {heads} | failed first drafts | mended by one turn | drawn anew "
        "| same text again |",
        "|---" * (turns + 7) + "|",
    ]
    for name, of in results.items():
        js = " | ".join(f"{j:.3f}" for j in of["j"])
        lines.append(
            f"| {name} | {of['problems']} | {js} | {of['failed']} | {of['mended']:.3f} | "
            f"{of['redrawn']:.3f} | {of['repeated']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = MRTCodeConfig.parse(argv, prog="codealign reproduce mrt-code", description=DESCRIPTION)
    directory = run(config)
    print((directory.path / "table.md").read_text(encoding="utf-8"))
    print(f"results: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
