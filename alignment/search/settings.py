"""What a job of MCTS-DPO is told, and the parts that its settings stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from alignment.search import evaluators
from alignment.search.lockstep import Evaluator, SearchOptions
from alignment.search.pickers import VISITED, PairPicker
from alignment.search.rounds import Growth, MakeValues
from alignment.search.sampler import HFSampler, StepSampler, StepSampling
from alignment.search.tasks import TaskSet
from alignment.search.tree import Tree
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError

ValueKind = Literal["outcome", "self", "completions", "reward_model"]


class SearchConfig(Config):
    """How trees grow (MCTS-DPO, arXiv 2405.00451)."""

    iterations: int = Field(16, ge=1)
    """Paths from each root."""
    breadth: int = Field(2, ge=1)
    """Children of a node."""
    root_breadth: int | None = Field(None, ge=1)
    """Children of a root; as breadth where none."""
    depth_limit: int = Field(8, ge=1)
    """Look-ahead in steps from the present root."""
    force_end: bool = False
    """Whether a node at the depth limit gets one child that runs to the end."""
    walkers: int = Field(1, ge=1)
    """Paths of one tree that go down together, kept apart by virtual loss."""
    c_puct: float = Field(1.0, ge=0)
    """Weight of the prior."""
    moves: int = Field(0, ge=0)
    """How often the root moves on and is searched from again."""
    gamma: float = Field(1.0, ge=0, le=1)
    """Discount by step."""
    weights: Literal["visits", "max1"] = "visits"
    """Weights of the children in V: visits, or as in the authors' code at least 1."""
    length_penalty: float = Field(1.25, gt=0)
    """Of the priors: exp(log-probability / tokens^this)."""
    tree_tokens: int | None = Field(None, ge=1)
    """Most tokens sampled for one tree."""

    def options(self) -> SearchOptions:
        """As the lockstep search takes them."""
        return SearchOptions(
            iterations=self.iterations,
            breadth=self.breadth,
            root_breadth=self.root_breadth,
            depth_limit=self.depth_limit,
            walkers=self.walkers,
            c_puct=self.c_puct,
            force_end=self.force_end,
            tokens=self.tree_tokens,
        )

    def tree(self) -> dict[str, Any]:
        """Arguments of `Tree`."""
        return {"gamma": self.gamma, "weights": self.weights, "length_penalty": self.length_penalty}


class SamplingConfig(Config):
    """How steps are drawn."""

    step_tokens: int = Field(64, ge=1)
    """Most tokens sampled for a step."""
    answer_tokens: int = Field(512, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(1.0, ge=0)
    """Divides the logits."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus."""
    cache_mb: float = Field(512.0, ge=0)
    """Without vLLM: MiB for keys and values of prefixes; 0 computes every prefix anew."""
    rows: int = Field(256, ge=1)
    """Without vLLM: most continuations in one forward pass."""
    use_vllm: bool = False
    """Whether vLLM draws the steps; its prefix cache keeps what nodes share."""
    vllm_engine: dict[str, Any] = Field(default_factory=dict)
    """Of vLLM: further arguments of its `LLM`, as `gpu_memory_utilization`."""

    @model_validator(mode="after")
    def _fits(self) -> SamplingConfig:
        unread = {"vllm_engine"} if not self.use_vllm else {"cache_mb", "rows"}
        for name in sorted(unread & self.model_fields_set):
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                whether = "with" if self.use_vllm else "without"
                raise ValueError(f"sampling.{name} does nothing {whether} use_vllm: leave it out")
        return self

    def of(self, tasks: TaskSet) -> StepSampling:
        """The sampling of steps of these tasks."""
        return StepSampling(
            splitter=tasks.splitter,
            step_tokens=self.step_tokens,
            answer_tokens=self.answer_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tasks.stop,
            trigger=tasks.trigger,
        )


class ValueConfig(Config):
    """What a state is worth."""

    kind: ValueKind = "outcome"
    """outcome: of whole answers alone; self: and the policy's probability of "correct"; completions: mean
    outcome of completions; reward_model: outcome and sigmoid of a reward model's score."""
    completions: int = Field(4, ge=1)
    """Of `completions`: how many of each state."""
    reward_model: Path | None = None
    """Of `reward_model`: folder of a trained member."""

    @model_validator(mode="after")
    def _fits(self) -> ValueConfig:
        if (self.kind == "reward_model") != (self.reward_model is not None):
            raise ValueError("value.reward_model and the kind 'reward_model' need each other")
        if self.completions != 4 and self.kind != "completions":
            raise ValueError(f"value.completions does nothing for the kind {self.kind!r}: leave it out")
        return self


class PickConfig(Config):
    """Which pairs a tree gives."""

    level: Literal["steps", "answers"] = "steps"
    """steps: by tree search; answers: whole answers, right against wrong, with no search at all."""
    answers: int = Field(4, ge=2)
    """Of `answers`: how many of each prompt."""
    mode: str = "all_nodes"
    """Of `steps`: per_depth, selected_path or all_nodes."""
    rejected: Literal["worst", "second"] = "worst"
    """Of `steps`: the child against which the best one is set."""
    min_q_gap: float | None = Field(0.0, ge=0)
    """Of `steps`: pairs need a larger gap in Q; none keeps ties."""
    min_visits: int = Field(1, ge=0)
    """Of `steps`: visits that both sides need."""
    min_rejected_visits: int | None = Field(None, ge=0)
    """Of `steps`: visits that the rejected side needs instead; 0 takes children that selection left alone."""
    max_alpha: float | None = Field(None, ge=0, le=0.5)
    """Of `steps`: pairs that visit counts smooth more are left out."""
    smoothing: bool = True
    """Of `steps`: whether visit counts smooth the labels."""
    per_tree: int | None = Field(None, ge=1)
    """Most pairs of one tree."""

    @model_validator(mode="after")
    def _fits(self) -> PickConfig:
        if self.mode not in VISITED:
            raise ValueError(f"unknown pairs.mode {self.mode!r}; there are: {', '.join(VISITED)}")
        unread = (
            ("mode", "rejected", "min_q_gap", "min_visits", "min_rejected_visits", "max_alpha", "smoothing")
            if self.level == "answers"
            else ("answers",)
        )
        for name in unread:
            if getattr(self, name) != PickConfig.model_fields[name].default:
                raise ValueError(f"pairs.{name} does nothing at the level {self.level!r}: leave it out")
        return self

    def picker(self) -> PairPicker | None:
        """The picker; None for whole answers."""
        if self.level == "answers":
            return None
        return PairPicker(
            mode=self.mode,
            rejected=self.rejected,
            min_q_gap=self.min_q_gap,
            min_visits=self.min_visits,
            max_alpha=self.max_alpha,
            min_rejected_visits=self.min_rejected_visits,
        )


def growth(
    search: SearchConfig, pick: PickConfig, sampling: SamplingConfig, *, batch: int, tokens: int | None
) -> Growth:
    """How the trees of a round grow.

    Raises:
        CodealignError: For settings of a search where there is none, or a budget with which not one tree, or
            not one expansion, can be paid.
    """
    whole = pick.level == "answers"
    if whole and search != SearchConfig():
        raise CodealignError("settings of `search` do nothing at pairs.level 'answers': leave them out")
    found = Growth(
        search.options(),
        search.moves,
        pick.answers if whole else 0,
        search.tree(),
        batch=batch,
        tokens=tokens,
    )
    first = (search.root_breadth or search.breadth) * min(sampling.step_tokens, sampling.answer_tokens)
    if search.tree_tokens is not None and search.tree_tokens < first:
        raise CodealignError(
            f"search.tree_tokens is {search.tree_tokens}, less than one expansion may take ({first}): raise "
            "it, or lower the breadth or sampling.step_tokens"
        )
    found.affordable(sampling.answer_tokens, 0, 1)
    return found


def make_values(config: ValueConfig, tasks: TaskSet) -> MakeValues:
    """Makes the evaluators of batches.

    Raises:
        CodealignError: For an unknown kind, or a reward model that cannot be opened.
    """
    if config.kind not in get_args(ValueKind):
        raise CodealignError(f"unknown kind of value {config.kind!r}")
    reward_model: Any = None
    if config.kind == "reward_model":
        from alignment.reward_modeling.scoring import RewardModel

        assert config.reward_model is not None
        reward_model = RewardModel(config.reward_model)

    def make(
        sampler: StepSampler, numbers: Sequence[int], trees: Sequence[Tree]
    ) -> tuple[Evaluator, Callable[[int], int]]:
        texts = [tasks.texts[i] for i in numbers]
        verify = tasks.verifier(numbers)
        outcome = evaluators.outcome_evaluator(verify, texts)
        if config.kind == "completions":
            seeds = [tree.seed for tree in trees]
            drawn = evaluators.Completions(sampler, verify, texts, seeds, count=config.completions)
            return drawn, lambda t: drawn.sampled[t]
        if config.kind == "self":
            assert isinstance(sampler, HFSampler)  # or the job's settings are refused
            own = evaluators.SelfEvaluation(sampler.model, sampler.steps.tokenizer, texts)
            return evaluators.with_confidence(outcome, own), lambda _: 0
        if config.kind == "reward_model":
            scored = evaluators.reward_model_confidence(reward_model, texts)
            return evaluators.with_confidence(outcome, scored), lambda _: 0
        return outcome, lambda _: 0

    return make
