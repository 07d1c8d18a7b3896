"""The configuration of `codealign generate-data`, and what of it cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from codegen_eval.commands.sample import SampleConfig
from codegen_eval.datajob import dataset, prompts
from codegen_eval.datajob.contamination import parse_target
from codegen_eval.datajob.instruct import TEMPLATE
from codegen_eval.errors import CodealignError
from codegen_eval.execution import SOURCES, Source
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.ranking.adaptive import AdaptiveOptions
from codegen_eval.ranking.common import RANKERS, Weights
from codegen_eval.ranking.rows import RankOptions
from sandbox import Level, Limits

_BENCHMARK_KEYS = ("benchmark", "split", "dataset")
_OURS = ("local", "ray")
_ADAPTIVE_KEYS = ("tests_at_a_time", "least")
_ADAPTIVE_NEEDS = {
    "ranker": ("b4", "the rule asks who can still be B4's best; other rankers need every cell"),
    "weights": ("ones", "the rule counts every distinct program and test once"),
    "hygiene": ("off", "it compares whole columns and judges tests by who fails them"),
    "builder": ("ranked", "the others count failures or rank tests"),
    "fit": (False, "it reads whole matrices"),
    "drop_trivial_tests": (False, "whether all pass a test is not known"),
}


class GenerateDataConfig(SampleConfig):
    """Settings of `codealign generate-data`, beside those of `codealign sample`."""

    not_identity: ClassVar[frozenset[str]] = SampleConfig.not_identity | {
        "executor",
        "executor_options",
        "sandbox_workers",
        "push_to_hub",
        "hub_private",
    }

    out: Path
    """Run directory; the dataset is its folder `dataset`."""
    prompt_data: Path | None = None
    """Prompts from a data set in place of a benchmark: JSON lines, Parquet, a folder of them."""
    prompt_column: str = "prompt"
    """Column of the prompts."""
    entry_point_column: str = "entry_point"
    """Column of the functions' names; where it is missing, the last function that the prompt defines."""
    source_tree: Path | None = None
    """Prompts from the documented functions of a Python source tree, in place of a benchmark."""
    instruct: bool = False
    """source_tree: the model writes a new task for each function (OSS-Instruct) that is used in its place."""
    task_template: str = TEMPLATE
    """instruct: what the model is asked; `{seed}` is the function."""
    max_task_tokens: int = Field(default=384, ge=1)
    """instruct: where a task ends at the latest."""
    licence: str = prompts.NOT_STATED
    """Of the prompts, for the data card; columns and SPDX lines of the prompts' own win."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many of the prompts that are left, drawn by the seed."""
    max_prompt_chars: int | None = Field(default=4000, ge=1)
    """Longer prompts are dropped: one that the model's window does not hold would end the job."""
    near_duplicates: float = Field(default=0.8, ge=0, le=1)
    """Prompts this similar (Jaccard of 3-token shingles) to an earlier one are dropped; 0 keeps all."""
    decontaminate: tuple[str, ...] = ()
    """Benchmarks to keep out: NAME, NAME:PATH or NAME@SPLIT:PATH."""
    overlap_words: int = Field(default=10, ge=6)
    """Length of a run of words that is too much to share with one of them."""
    programs: int = Field(default=10, ge=2)
    """Programs for each prompt."""
    tests: int = Field(default=4, ge=0)
    """Test texts for each prompt; each holds several assertions."""
    sources: tuple[Source, ...] = SOURCES
    """Where tests come from: own (written by the model), examples (shown by the prompt's docstring)."""
    workers: int | None = Field(default=None, ge=1)
    """hf: processes that draw, each with the model and one thread; default 1, as the sandbox runs beside."""
    cpu_seconds: float = Field(default=1.0, gt=0)
    """CPU time of one program on one test."""
    wall_seconds: float = Field(default=6.0, gt=0)
    """Backstop for programs that wait instead of computing."""
    memory_mb: int = Field(default=512, gt=0)
    """Memory of one program."""
    isolation: Level = "full"
    """local, ray: isolation to insist on; `codealign doctor` shows what this machine allows."""
    executor: str = "local"
    """Where programs run: local, ray, http, or another distribution's (docs/executors.md)."""
    executor_options: str = "{}"
    """Further options of the executor as JSON, as '{"address": "auto"}' for ray."""
    sandbox_workers: int | None = Field(default=None, ge=1)
    """local, ray: programs that run at a time (ray: on each node); default by the machine."""
    execution: Literal["full", "adaptive"] = "full"
    """full: every program runs every test; adaptive: only while B4 holds it possible that it is right."""
    tests_at_a_time: int = Field(default=4, ge=1)
    """adaptive: tests that programs run before it is decided anew who runs on."""
    least: float = Field(default=1e-4, ge=0, lt=1)
    """adaptive: probability of being right, under flat priors, below which a program runs no further."""
    hygiene: Literal["off", "static", "full"] = "static"
    """As in `codealign rank`: by matrix and texts (static), by running cells and canaries too (full)."""
    ranker: str = "b4"
    """Any registered ranker."""
    weights: Weights = "counts"
    """Multiplicities that count in the ranking: counts, codes, ones."""
    alpha_xy: float | None = Field(default=None, gt=0)
    """B4: prior count of right programs and tests; default by the matrix's size."""
    beta_0: float | None = Field(default=None, gt=0)
    """B4: prior count of failures of wrong programs on wrong tests; default by the matrix's size."""
    fit: bool = False
    """b4, posterior: hyper-parameters under which all matrices together are most probable."""
    damping: float = Field(default=0.85, ge=0, le=1)
    """CodeDPO: how much of a score comes from the other side at each sweep."""
    sweeps: int = Field(default=10, ge=0)
    """CodeDPO: how often scores are updated."""
    drop_unloadable: bool = True
    """Leave programs that do not compile out of the ranking (they may still be rejected examples)."""
    drop_trivial_tests: bool = False
    """Leave out tests that every program passes (hygiene does so in any case)."""
    builder: str = "ranked"
    """Any registered builder of pairs."""
    pairs_per_problem: int = Field(default=2, ge=1)
    """Most pairs that a problem gives."""
    unloadable_rejected: bool = True
    """ranked: programs that do not compile may be rejected ones, in at most half of a problem's pairs."""
    min_confidence: float = Field(default=0.5, ge=0.5, le=1)
    """Pairs whose order is less sure are not made."""
    min_gap: float = Field(default=0.0, ge=0, le=1)
    """codedpo: least difference of the scores, as a share of the higher one."""
    keep_same_code: bool = False
    """dstc: keep pairs that differ in the test alone."""
    test_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the prompts whose pairs make the test split."""
    push_to_hub: str | None = None
    """OWNER/NAME of a dataset repository to upload to; nothing is uploaded without it."""
    hub_private: bool = True
    """A repository that is made for it is private."""

    @field_validator("task_template")
    @classmethod
    def _has_seed(cls, value: str) -> str:
        if "{seed}" not in value:
            raise ValueError("must contain {seed}")
        return value

    @field_validator("executor_options")
    @classmethod
    def _is_mapping(cls, value: str) -> str:
        return cls._is_object(value)

    def rank_options(self) -> RankOptions:
        """How matrices are ranked."""
        names = RankOptions.__dataclass_fields__
        return RankOptions(**{name: getattr(self, name) for name in names})

    def pair_options(self) -> PairOptions:
        """How pairs are made."""
        shared = PairOptions.__dataclass_fields__.keys() & type(self).model_fields.keys()
        return PairOptions(**{name: getattr(self, name) for name in shared})

    def adaptive_options(self) -> AdaptiveOptions | None:
        """Which cells are run; None for all."""
        if self.execution == "full":
            return None
        return AdaptiveOptions(
            batch=self.tests_at_a_time, least=self.least, alpha_xy=self.alpha_xy, beta_0=self.beta_0
        )

    def limits(self) -> Limits:
        """Of one execution."""
        return Limits(self.cpu_seconds, self.wall_seconds, self.memory_mb)


def check(config: GenerateDataConfig) -> None:
    """Refuses, before anything is drawn, what cannot work.

    Raises:
        CodealignError: For two sources of prompts, no source of tests, an unknown ranker, builder, executor
            or benchmark, options that do not fit each other, or a missing library.
    """
    from sandbox.executors.registry import names

    dataset.need_pyarrow()
    fields = GenerateDataConfig.model_fields
    given = [key for key in _BENCHMARK_KEYS if getattr(config, key) != fields[key].default]
    others = [key for key in ("prompt_data", "source_tree") if getattr(config, key) is not None]
    if len(others) > 1 or (others and given):
        both = ", ".join(f"--{key.replace('_', '-')}" for key in [*others, *given])
        raise CodealignError(f"prompts come from one place, {both} name several; leave all but one out")
    if config.instruct and config.source_tree is None:
        raise CodealignError("--instruct writes tasks from functions of a source tree: give --source-tree")
    if not config.sources:
        raise CodealignError("no source of tests: give --sources own, examples, or both")
    if "own" in config.sources and not config.tests:
        raise CodealignError("--sources own needs tests of the model: give --tests, or --sources examples")
    RANKERS.get(config.ranker)
    BUILDERS.get(config.builder)
    if config.fit and (config.ranker not in ("b4", "posterior") or config.alpha_xy or config.beta_0):
        raise CodealignError(
            "--fit finds alpha_xy and beta_0 of the rankers b4 and posterior; give it with one of these, and "
            "without --alpha-xy and --beta-0"
        )
    _check_adaptive(config)
    if config.executor not in names():
        raise CodealignError(f"unknown executor {config.executor!r}; there are: {', '.join(names())}")
    if config.executor not in _OURS and config.sandbox_workers is not None:
        raise CodealignError(
            "--sandbox-workers is for the executors local and ray; "
            f"what {config.executor} takes goes into --executor-options"
        )
    if config.push_to_hub is not None and config.push_to_hub.count("/") != 1:
        raise CodealignError(f"--push-to-hub {config.push_to_hub!r}: give OWNER/NAME")


def _check_adaptive(config: GenerateDataConfig) -> None:
    """Refuses adaptive execution with anything that would take unknown cells for failures."""
    fields = GenerateDataConfig.model_fields
    if config.execution == "full":
        idle = [key for key in _ADAPTIVE_KEYS if getattr(config, key) != fields[key].default]
        if idle:
            named = " and ".join(f"--{key.replace('_', '-')}" for key in idle)
            raise CodealignError(
                f"{named} is for adaptive execution: add --execution adaptive, or leave it out"
            )
        return
    wrong = [
        f"--{key.replace('_', '-')} {str(value).lower()} ({reason})"
        for key, (value, reason) in _ADAPTIVE_NEEDS.items()
        if getattr(config, key) != value
    ]
    if wrong:
        raise CodealignError(
            "--execution adaptive leaves cells unknown, which is not failed, so it goes only with "
            f"{'; '.join(wrong)}; give these, or --execution full"
        )


def inputs(config: GenerateDataConfig) -> dict[str, Path]:
    """Files whose content decides what the job makes."""
    found = {key: getattr(config, key) for key in ("prompt_data", "source_tree", "dataset")}
    folder = Path(config.model)
    if folder.is_dir() and config.backend != "openai":
        found["model"] = folder
    for target in map(parse_target, config.decontaminate):
        found[f"decontaminate {target.name}"] = target.path
    return {name: path for name, path in found.items() if path is not None}
