"""One run of on-policy training: recipe, run directory, model, prompts, reward, checkpoints."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from alignment.health.options import NAMES as HEALTH_OPTIONS
from alignment.onpolicy.options import OnPolicyConfig, OnPolicyOptions, check_numbers
from alignment.preference.arguments import Arguments
from alignment.preference.arguments import parse as read
from alignment.preference.job import full_disk_named, out_of_memory
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.runs import RunDir

# Where a run lives, how often it speaks, and what it puts up with are no part of what it makes.
_NOT_IDENTITY = frozenset(
    {
        *("output_dir", "logging_steps", "save_steps", "save_total_limit", "report_to", "completions_steps"),
        *("reward_retries", "max_failed_rewards", "failed_rewards_window"),
        *HEALTH_OPTIONS,
        *("vllm_server_base_url", "vllm_server_timeout"),
    }
)
_SCRIPT = frozenset({"dataset_name", "dataset_train_split"})
_MODEL = frozenset(
    {"model_name_or_path", "dtype", "attn_implementation", "use_peft", "use_rslora", "use_dora"}
)

_KNOWN = {field.name for cls in (OnPolicyConfig, OnPolicyOptions) for field in fields(cls)}
_KNOWN |= {*_SCRIPT, *_MODEL, *HEALTH_OPTIONS} - {"peak_tflops"}  # generation has no utilisation


def parse(argv: Sequence[str], algorithm: str) -> Arguments:
    """Reads recipe and flags; options that nobody set are the algorithm's.

    Args:
        argv: The command line.
        algorithm: What trains where `algorithm` is not given.

    Raises:
        CodealignError: As `preference.arguments.parse`, for an unknown algorithm, and for options that do
            nothing or do not fit.
    """
    from alignment.onpolicy.algorithms import ALGORITHMS
    from alignment.onpolicy.algorithms.base import resolved

    arguments = read(argv, OnPolicyConfig, OnPolicyOptions, _takes)
    options, given = arguments.options, arguments.given
    for key in given:
        if not _takes(key):  # of TRL's script and model options, which nothing here would read
            raise unknown("config key of on-policy training", key, sorted(_KNOWN))
    if "algorithm" not in given:
        options.algorithm = algorithm
    if options.algorithm not in ALGORITHMS:
        raise unknown("algorithm", options.algorithm, ALGORITHMS)
    resolved(ALGORITHMS[options.algorithm], options, given)
    check_numbers(arguments.training, options)
    if not options.rewards:
        raise CodealignError("--rewards is required: the name of a reward, or a list of them in the recipe")
    return arguments


def _takes(key: str) -> bool:
    return key in _KNOWN or key.startswith("lora_")


def run(argv: Sequence[str], command: str) -> RunDir:
    """Trains, or goes on from the newest whole checkpoint, and saves the model.

    Args:
        argv: The command line.
        command: The entry point's name, which is its algorithm where none is given.

    Raises:
        CodealignError: For options, prompts, models or rewards that cannot be used; a full disk.
    """
    arguments = parse(argv, command)
    from alignment.health.attach import resume_point
    from alignment.health.checkpoints import step_of
    from alignment.health.loops import watching
    from alignment.rewards.protocol import close

    directory = _open(arguments, command)
    if directory.finished:
        return directory
    trainer, dropped = build(arguments, directory)
    resume = resume_point(directory.path)
    if trainer.accelerator.is_main_process:
        trainer.callbacks[0].go_on_from(0 if resume is None else step_of(resume))
    processes = trainer.accelerator
    try:
        with (
            full_disk_named(directory.path),
            _memory_named(arguments.training, arguments.options),
            watching(
                directory.path,
                arguments.health,
                rank=processes.process_index,
                world=processes.num_processes,
            ) as watch,
        ):
            state = trainer.train(resume, watch)
            trainer.save_model(directory.path / "model")
    finally:
        close(trainer.calls.reward)
    if trainer.accelerator.is_main_process:
        directory.finish(
            steps=state.global_step,
            answers=state.global_step * trainer.order.per_step * trainer.num_generations,
            dropped_prompts=dropped,
        )
    return directory


def build(arguments: Arguments, directory: RunDir | None) -> tuple[Any, int]:
    """The trainer of a parsed command line, and how many prompts were too long.

    Args:
        arguments: Of `parse`.
        directory: Of the run; None writes nothing.
    """
    from transformers import set_seed

    from alignment.onpolicy.algorithms import ALGORITHMS
    from alignment.onpolicy.building import build_module
    from alignment.onpolicy.prompts import encode_rows, load_rows
    from alignment.onpolicy.runlog import StepLog
    from alignment.onpolicy.trainer import OnPolicyTrainer
    from alignment.preference.job import adapters, load_model
    from alignment.rewards.registry import make_rewards

    config, options = arguments.training, arguments.options
    algorithm = ALGORITHMS[options.algorithm](options)
    reward = make_rewards(options.rewards)
    rows = load_rows(arguments.script.dataset_name, arguments.script.dataset_train_split)
    model, tokenizer = load_model(arguments.model)
    set_seed(config.seed)  # new adapters and heads
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    prompts, dropped = encode_rows(rows, tokenizer, longest_prompt(options, window))
    if dropped:
        print(f"{dropped} of {len(rows)} prompts are too long and left out", file=sys.stderr)
    if options.top_p < 1 and not options.importance_correction:
        print(
            f"warning: with top_p {options.top_p} samples are not quite the policy's and their gradient is "
            "biased; importance_correction weighs them",
            file=sys.stderr,
        )
    module = build_module(
        model,
        options.temperature,
        peft_config=adapters(arguments.model),
        value_model=options.value_model if algorithm.needs_value else None,
        value_model_path=options.value_model_path,
        checkpointing=config.gradient_checkpointing,
    )
    trainer = OnPolicyTrainer(
        module,
        tokenizer,
        config,
        algorithm,
        prompts,
        reward,
        sampler=_sampler(arguments, tokenizer, model) if options.use_vllm else None,
        folder=None if directory is None else directory.path,
        callbacks=[] if directory is None else [StepLog(directory, options.completions_steps)],
    )
    return trainer, dropped


def _sampler(arguments: Arguments, tokenizer: Any, model: Any) -> Any:
    """vLLM's, in this process or on a server, which takes weights from the run directory."""
    options = arguments.options
    if options.vllm_mode == "server":
        from alignment.onpolicy.vllm_server import ServerSampler

        return ServerSampler(
            tokenizer,
            options.vllm_server_base_url,
            Path(arguments.training.output_dir) / "vllm_weights",
            timeout=options.vllm_server_timeout,
        )
    from alignment.onpolicy.vllm_rollout import VLLMSampler

    return VLLMSampler(
        tokenizer,
        arguments.model.model_name_or_path,
        dtype=str(model.dtype).removeprefix("torch."),
        engine=options.vllm_engine,
    )


def longest_prompt(options: OnPolicyOptions, window: int | None) -> int:
    """Most tokens of a prompt: `max_prompt_length`, or what answers leave of the window.

    Raises:
        CodealignError: If answers alone fill the window.
    """
    left = sys.maxsize if window is None else window - options.max_completion_length
    if left < 1:
        raise CodealignError(
            f"max_completion_length {options.max_completion_length} leaves no room for a prompt in the "
            f"model's window of {window}"
        )
    return left if options.max_prompt_length is None else min(left, options.max_prompt_length)


def _open(arguments: Arguments, command: str) -> RunDir:
    """The run directory; what exists on the disk counts by its content, not its name."""
    given = dict(arguments.given)
    paths = {
        "dataset_name": arguments.script.dataset_name,
        "model_name_or_path": arguments.model.model_name_or_path,
        "value_model_path": arguments.options.value_model_path,
    }
    inputs = {name: Path(path) for name, path in paths.items() if path and Path(path).exists()}
    identity = {key: value for key, value in given.items() if key not in _NOT_IDENTITY and key not in inputs}
    path = Path(arguments.training.output_dir)
    with arguments.training.main_process_first(local=False, desc="opening the run directory"):
        if arguments.training.process_index:
            return RunDir(path)  # the first process holds it for all
        return RunDir.open(path, command, identity, overwrite=arguments.overwrite, inputs=inputs)


@contextlib.contextmanager
def _memory_named(config: OnPolicyConfig, options: OnPolicyOptions) -> Iterator[None]:
    """Says which settings need less memory where there was too little of it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not out_of_memory(error):
            raise
        size, passes = config.per_device_train_batch_size, config.gradient_accumulation_steps
        advice = [f"local_rollout_forward_batch_size (now {options.local_rollout_forward_batch_size})"]
        if size > 1:
            advice.append(
                f"per_device_train_batch_size (now {size}; with gradient_accumulation_steps {2 * passes} "
                "half of it learns the same)"
            )
        advice.append(f"max_completion_length (now {options.max_completion_length})")
        more = [] if config.gradient_checkpointing else ["gradient_checkpointing: true"]
        more += ["use_peft: true", "kl_coef: 0 (no reference)"]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise CodealignError(
            f"out of memory ({reason}). Lower {', or '.join(advice)}; or set {', '.join(more)}. Whole "
            "checkpoints are kept"
        ) from error
