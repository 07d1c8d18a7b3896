"""Options of on-policy training, under the names that TRL's PPO, RLOO and GRPO configs gave them."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from alignment.kl import Estimator, Penalty
from alignment.onpolicy.advantages import Discounting, Scale
from alignment.onpolicy.importance import Excess
from alignment.onpolicy.losses import Aggregation, RatioLevel
from alignment.onpolicy.whitening import Variance
from codegen_eval.errors import CodealignError

Baseline = Literal["batch", "running", "none"]
PolicyLoss = Literal["reinforce", "clipped"]
ValueModel = Literal["head", "critic"]
VLLMMode = Literal["colocate", "server"]


# ruff: noqa: RUF009 - a field, by a shorter name
def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class OnPolicyConfig:
    """The loop and the optimiser; names and units are those of transformers' TrainingArguments."""

    output_dir: str = _option("", "Run directory.")
    max_steps: int = _option(100, "Steps: one rollout and the updates on it.")
    per_device_train_batch_size: int = _option(16, "Answers in one pass with gradients.")
    gradient_accumulation_steps: int = _option(
        1, "Such passes over one rollout: answers a step and process are the product of both."
    )
    learning_rate: float = _option(1e-6, "Peak learning rate.")
    lr_scheduler_type: str = _option("constant", "One of transformers' schedules, by steps.")
    warmup_steps: int = _option(0, "Steps of linear warm-up.")
    weight_decay: float = _option(0.0, "Of matrices; biases and norms never decay.")
    adam_beta1: float = _option(0.9, "AdamW.")
    adam_beta2: float = _option(0.999, "AdamW.")
    adam_epsilon: float = _option(1e-5, "AdamW; larger than usual, as in PPO's reference code.")
    max_grad_norm: float = _option(1.0, "Gradients are clipped to this norm.")
    bf16: bool = _option(False, "Mixed precision.")
    use_cpu: bool = _option(False, "Train on the CPU where there is a GPU.")
    ddp_backend: str | None = _option(None, "Between processes: nccl, gloo, ...; default by device.")
    gradient_checkpointing: bool = _option(False, "Keep block inputs alone, compute the rest again.")
    seed: int = _option(0, "Of the order of prompts, every sample, and new weights.")
    logging_steps: int = _option(1, "Write metrics every so many steps.")
    save_steps: int = _option(50, "Checkpoint every so many steps, and at the end.")
    save_total_limit: int = _option(2, "Checkpoints that are kept.")
    report_to: str = _option("none", "tensorboard, wandb, trackio, several with commas, or none.")

    def main_process_first(self, local: bool = True, desc: str = "") -> AbstractContextManager[Any]:
        """As transformers': the first process enters, the others wait."""
        state = self.distributed_state
        first: AbstractContextManager[Any] = (
            state.local_main_process_first() if local else state.main_process_first()
        )
        return first

    @property
    def distributed_state(self) -> Any:
        """Accelerate's state of this process."""
        from accelerate import PartialState

        return PartialState(cpu=self.use_cpu, backend=self.ddp_backend)

    @property
    def process_index(self) -> int:
        """Number of this process."""
        return int(self.distributed_state.process_index)

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return int(self.distributed_state.num_processes)

    @property
    def rollout_rows(self) -> int:
        """Sampled answers a step and process."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


@dataclass
class OnPolicyOptions:
    """Rollouts, rewards, the algorithm. None takes the algorithm's own value (docs/onpolicy.md)."""

    algorithm: str = _option("remax", "reinforce, remax, rloo, reinforce_pp, grpo or ppo.")
    num_generations: int | None = _option(None, "Samples of a prompt.")
    temperature: float = _option(1.0, "Divides the logits, in sampling and in every log-probability.")
    top_p: float = _option(1.0, "Nucleus of the samples; below 1 they are not quite the policy's.")
    max_completion_length: int = _option(256, "Tokens at which an answer is cut.")
    max_prompt_length: int | None = _option(
        None, "Longer prompts are left out; default: what the model's window leaves."
    )
    stop: list[str] | None = _option(None, "Texts that end an answer, beside the end token.")
    local_rollout_forward_batch_size: int = _option(64, "Answers that are generated at once.")
    rewards: dict[str, Any] | str | None = _option(
        None, "A reward's name, a mapping of name, weight and options, or a list of them (docs/rewards.md)."
    )
    reward_retries: int = _option(2, "Further attempts of a reward call that raised.")
    max_failed_rewards: float = _option(
        0.2, "Training stops when more than this share of a window's answers have no reward."
    )
    failed_rewards_window: int = _option(10, "Steps of that window.")
    missing_eos_penalty: float = _option(0.0, "Taken off the reward of an answer that was cut.")
    normalize_rewards: bool = _option(False, "Divide rewards by their running deviation, mean taken off.")

    kl_coef: float = _option(0.05, "Coefficient of the KL to the starting model; 0 needs no reference.")
    kl_estimator: Estimator | None = _option(None, "k1, k2 or k3.")
    kl_form: Penalty | None = _option(None, "return_to_go or one_step, where the KL is in advantages.")
    kl_target: float | None = _option(None, "Nats a sequence: kl_coef adapts to hold it.")
    kl_horizon: int = _option(10_000, "Answers over which it adapts.")

    gamma: float = _option(1.0, "Discount by token.")
    lam: float = _option(0.95, "GAE's lambda.")
    advantage_clip: float | None = _option(None, "Bound of ReMax's difference.")
    discounting: Discounting = _option("standard", "repo: the last token is discounted too (ReMax's).")
    baseline: Baseline = _option("batch", "REINFORCE: mean of the batch, of earlier steps, or none.")
    scale_rewards: Scale | None = _option(None, "GRPO: divide by the deviation of group, batch, or none.")
    group_baseline: bool = _option(False, "REINFORCE++-baseline: group mean first, KL as a k2 loss.")
    whiten_advantages: bool | None = _option(None, "Over all tokens of the global batch.")
    whiten_rewards: bool = _option(False, "PPO: token rewards over their deviation, mean kept.")
    whiten_variance: Variance = _option("sample", "sample (n - 1) or population (n).")

    num_ppo_epochs: int | None = _option(None, "Passes over a rollout.")
    num_mini_batches: int = _option(1, "Optimiser steps of a pass.")
    policy_loss: PolicyLoss | None = _option(None, "reinforce: plain policy gradient; clipped: PPO's.")
    loss_aggregation: Aggregation | None = _option(None, "How token losses of the global batch add up.")
    ratio_level: RatioLevel | None = _option(None, "The clipped ratio of a token or of an answer.")
    cliprange: float = _option(0.2, "Of the ratio, downwards; upwards too without cliprange_high.")
    cliprange_high: float | None = _option(None, "Upwards.")
    dual_clip: float | None = _option(None, "Bound of the loss where the advantage is negative.")
    max_approxkl: float | None = _option(None, "No further epoch or mini-batch above this.")

    value_model: ValueModel = _option(
        "head", "head: on the policy's trunk; critic: weights (or adapters) of its own."
    )
    value_model_path: str | None = _option(None, "Start of the critic; default: the policy's weights.")
    value_learning_rate: float | None = _option(None, "Default: learning_rate.")
    vf_coef: float = _option(0.1, "Weight of the value loss.")
    cliprange_value: float | None = _option(0.2, "Of the value; null for none.")
    critic_warmup_steps: int = _option(0, "First steps, in which the value alone learns.")

    use_vllm: bool = _option(False, "Draw answers by vLLM, with the policy's weights.")
    vllm_mode: VLLMMode = _option("colocate", "colocate: an engine in this process; server: one that runs.")
    vllm_server_base_url: str | None = _option(
        None, "Of the server, as http://127.0.0.1:8000 (docs/onpolicy.md says how it is started)."
    )
    vllm_server_timeout: float = _option(240.0, "Seconds to wait for the server, and for an answer of it.")
    vllm_engine: dict[str, Any] | str | None = _option(
        None, "Arguments of vLLM's LLM, e.g. {gpu_memory_utilization: 0.3}; JSON on the command line."
    )
    importance_correction: bool | None = _option(
        None, "Weigh tokens by the trainer's over the sampler's probability; default: with use_vllm."
    )
    importance_cap: float = _option(3.0, "Largest weight.")
    importance_excess: Excess = _option("truncate", "What larger ratios become: the cap, or 0 (mask).")
    gradient_variance_steps: int = _option(
        0, "Estimate the gradient's variance every so many steps (one process; a copy of the gradient)."
    )
    completions_steps: int = _option(0, "Write a step's answers to completions.jsonl every so many steps.")

    def __post_init__(self) -> None:
        """Reads JSON where rewards and the engine come from the command line.

        Raises:
            CodealignError: For JSON that is none, or an engine that is no mapping.
        """
        if isinstance(self.rewards, str) and self.rewards.lstrip()[:1] in ("{", "["):
            self.rewards = _from_json("rewards", self.rewards)
        if isinstance(self.vllm_engine, str):
            self.vllm_engine = _from_json("vllm_engine", self.vllm_engine)
        if not isinstance(self.vllm_engine, dict | None):
            raise CodealignError(f"vllm_engine must be a mapping of names to values: {self.vllm_engine!r}")


def _from_json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CodealignError(f"--{name} is not valid JSON: {error}") from None


_POSITIVE = (
    "learning_rate",
    "max_grad_norm",
    "adam_epsilon",
    "temperature",
    "value_learning_rate",
    "kl_target",
    "vllm_server_timeout",
)
_NOT_NEGATIVE = ("weight_decay", "kl_coef", "missing_eos_penalty", "vf_coef", "max_approxkl")
_COUNTS = (
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "num_generations",
    "max_completion_length",
    "max_prompt_length",
    "local_rollout_forward_batch_size",
    "failed_rewards_window",
    "kl_horizon",
    "num_ppo_epochs",
    "num_mini_batches",
)
_NOT_NEGATIVE_COUNTS = (
    "warmup_steps",
    "seed",
    "reward_retries",
    "critic_warmup_steps",
    "gradient_variance_steps",
    "completions_steps",
)


def check_numbers(config: OnPolicyConfig, options: OnPolicyOptions) -> None:
    """Refuses numbers with which training would run for nothing or not at all.

    Raises:
        CodealignError: The option and its value are named.
    """
    values = {**vars(config), **vars(options)}
    for name in (*_POSITIVE, *_NOT_NEGATIVE, *_COUNTS, *_NOT_NEGATIVE_COUNTS):
        value = values[name]
        if value is None:
            continue
        whole = name in _COUNTS or name in _NOT_NEGATIVE_COUNTS
        low = name in _POSITIVE or name in _COUNTS
        if whole and (isinstance(value, bool) or not isinstance(value, int)):
            raise CodealignError(f"--{name} must be a whole number (given: {value!r})")
        if not math.isfinite(value) or value < 0 or (low and value == 0):
            kind = ("1 or more" if whole else "above 0") if low else "0 or more"
            raise CodealignError(f"--{name} must be a finite number, {kind} (given: {value})")
    if not 0 < options.top_p <= 1:
        raise CodealignError(f"--top_p must lie in (0, 1] (given: {options.top_p})")
    if not 0 <= options.max_failed_rewards <= 1:
        raise CodealignError(
            f"--max_failed_rewards is a share from 0 to 1 (given: {options.max_failed_rewards})"
        )
    for name, low_open in (("gamma", True), ("lam", False)):
        value = values[name]
        if not (0 < value <= 1 or (value == 0 and not low_open)):
            raise CodealignError(f"--{name} must lie {'in (0, 1]' if low_open else 'in [0, 1]'} ({value})")
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= values[name] < 1:
            raise CodealignError(f"--{name} must lie in [0, 1) (given: {values[name]})")


def check_batch(config: OnPolicyConfig, options: OnPolicyOptions, prompts: int, processes: int) -> None:
    """Refuses batches that cannot be divided, before anything is drawn.

    Args:
        config: The loop.
        options: `num_generations` resolved.
        prompts: How many there are.
        processes: That train.

    Raises:
        CodealignError: With the numbers and what to change.
    """
    rows, n = config.rollout_rows, options.num_generations or 1
    product = (
        f"{config.per_device_train_batch_size} answers a pass x {config.gradient_accumulation_steps} passes"
    )
    if rows % n:
        raise CodealignError(
            f"{product} = {rows} answers a step and process are not whole groups of num_generations {n}: "
            f"change one of them"
        )
    if config.gradient_accumulation_steps % options.num_mini_batches:
        raise CodealignError(
            f"gradient_accumulation_steps {config.gradient_accumulation_steps} cannot be divided into "
            f"num_mini_batches {options.num_mini_batches}: make it a multiple"
        )
    if options.gradient_variance_steps and (processes > 1 or _passes(config, options) < 2):
        raise CodealignError(
            "gradient_variance_steps compares the passes of one optimiser step: it needs one process and "
            "gradient_accumulation_steps of 2 x num_mini_batches or more"
        )
    wanted = rows // n * processes
    if wanted > prompts:
        raise CodealignError(
            f"a step takes {wanted} prompts ({product}, {n} answers a prompt, {processes} processes), but "
            f"there are {prompts}: lower the batch, or raise num_generations"
        )


def _passes(config: OnPolicyConfig, options: OnPolicyOptions) -> int:
    return config.gradient_accumulation_steps // options.num_mini_batches
