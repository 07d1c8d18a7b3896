"""One training run: run directory, model, checkpoints, the trained model at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alignment.cli import guarded
from alignment.health.options import NAMES as HEALTH_OPTIONS
from alignment.preference.arguments import Arguments
from alignment.preference.help import heading, wanted
from alignment.processes import end_with_launcher
from alignment.train_command import STATUS_FILE
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir

_FULL = 1 << 20  # bytes free that no checkpoint fits into
# Where a run lives and how often it speaks is no part of what it makes.
_NOT_IDENTITY = (
    "output_dir",
    "dataset_name",
    "model_name_or_path",
    "logging_steps",
    "save_steps",
    "log_gradient_norms",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
    "hub_token",
    "reference_cache",
    *HEALTH_OPTIONS,
)


def open_run(arguments: Arguments, command: str) -> RunDir:
    """The run directory of these arguments; see `RunDir.open`."""
    inputs = {
        name: Path(path)
        for name, path in (
            ("dataset_name", arguments.script.dataset_name),
            ("model_name_or_path", arguments.model.model_name_or_path),
            ("lr_schedule_file", arguments.options.lr_schedule_file),
        )
        if path and Path(path).exists()
    }
    identity = {key: value for key, value in arguments.given.items() if key not in _NOT_IDENTITY}
    path = Path(arguments.training.output_dir)
    with arguments.training.main_process_first(local=False, desc="opening the run directory"):
        if arguments.training.process_index:
            return RunDir(path)  # the first process holds it for all
        return RunDir.open(path, command, identity, overwrite=arguments.overwrite, inputs=inputs)


def train(directory: RunDir, trainer: Any, rows: int, arguments: Arguments) -> None:
    """Trains, or goes on from the last whole checkpoint, and saves the model.

    Args:
        directory: The run directory.
        trainer: A trainer of ours.
        rows: Number of rows of the data before long ones were dropped.
        arguments: What the command was told: schedule, health.

    Raises:
        CodealignError: For a full disk or too little memory, with what to do about it.
    """
    from transformers import PrinterCallback

    from alignment.health.attach import resume_point, watched
    from alignment.memory import announce
    from alignment.preference.logprobs import CHUNK

    trainer.remove_callback(PrinterCallback)  # RunLog prints the same in fewer words
    if trainer.dropped:
        print(
            f"{trainer.dropped} of {rows} rows are longer than max_length and left out",
            file=sys.stderr,
        )
    if trainer.is_world_process_zero():
        vocabulary = trainer.model.config.get_text_config().vocab_size
        rows_at_once = CHUNK.get(trainer.args.device.type, CHUNK["cuda"]) // vocabulary
        announce(trainer, logit_rows=max(1, rows_at_once))
    follow(trainer, arguments.options, directory.path)
    checkpoint = resume_point(directory.path)
    with (
        full_disk_named(directory.path),
        memory_named(trainer.args),
        watched(trainer, directory.path, arguments.health),
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model(str(directory.path / "model"))
    if trainer.is_world_process_zero():
        from alignment.cards import write_card

        figures = {
            "steps": trainer.state.global_step,
            "pairs": rows - trainer.dropped,
            "dropped": trainer.dropped,
        }
        write_card(directory, directory.path / "model", figures)
        directory.finish(**figures)


def follow(trainer: Any, options: Any, folder: Path) -> None:
    """Has a trainer keep to a schedule file, and log its gradients' norms, where the options say so."""
    if options.lr_schedule_file:
        from alignment.schedules import use_schedule

        use_schedule(trainer, Path(options.lr_schedule_file))
    if options.log_gradient_norms:
        from alignment.gradient_norms import GradientNorms

        trainer.add_callback(GradientNorms(trainer, folder))


@contextlib.contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Says that the disk is full where it is: torch and safetensors report it as errors of their formats."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free > _FULL:
            raise
        raise CodealignError(
            f"the disk of {folder} is full ({error}); whole checkpoints are kept. Make room and run the same "
            "command again"
        ) from error


@contextlib.contextmanager
def memory_named(args: Any) -> Iterator[None]:
    """Says which settings need less memory where there was too little of it.

    Args:
        args: The training arguments; settings that are at their lowest are not named.

    Raises:
        CodealignError: In place of torch's errors for a full GPU or a refused allocation.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not out_of_memory(error):
            raise
        size, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
        advice = []
        if size > 1:
            advice.append(
                f"per_device_train_batch_size (now {size}; with gradient_accumulation_steps {2 * steps} half "
                "of it learns the same)"
            )
        if args.max_length is None or args.max_length > 1:
            advice.append(f"max_length (now {args.max_length})")
        more = [] if args.gradient_checkpointing else ["gradient_checkpointing: true"]
        more += [] if getattr(args, "precompute_ref_log_probs", True) else ["precompute_ref_log_probs: true"]
        more.append("use_peft: true")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise CodealignError(
            f"out of memory ({reason}). Lower {', or '.join(advice)}; or set {', '.join(more)}. Whole "
            "checkpoints are kept"
        ) from error


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device, or the system, had too little memory for an allocation."""
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or any(
        sign in text for sign in ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )


def load_model(model_config: Any) -> tuple[Any, Any]:
    """Model and tokenizer on the CPU; the trainer moves the model to where it trains."""
    from codegen_eval.generation.hf import load_model as load

    dtype = "float32" if model_config.dtype in (None, "auto") else str(model_config.dtype)
    model, tokenizer = load(model_config.model_name_or_path, dtype=dtype, device="cpu")
    model.set_attn_implementation(model_config.attn_implementation or "sdpa")
    return model, tokenizer


def adapters(model_config: Any) -> Any:
    """The PEFT configuration that TRL's model options ask for; None without `use_peft`."""
    from trl import get_peft_config

    return get_peft_config(model_config)


def _model_told(directory: RunDir) -> str:
    return f"model: {directory.path / 'model'}"


def entry_point(
    run: Callable[[Sequence[str]], Any],
    argv: Sequence[str] | None,
    told: Callable[[Any], str] = _model_told,
) -> int:
    """Command line of a trainer; errors that a user can mend are one message.

    Args:
        run: The job; its module's docstring is the head of `--help`.
        argv: The command line; None takes the process's own.
        told: What to say of what `run` gives.
    """
    end_with_launcher()

    def command(words: Sequence[str]) -> int:
        if not sys.stderr.isatty():
            # Libraries' progress bars are noise in a log; ours are lines. Read when tqdm is imported.
            os.environ.setdefault("TQDM_DISABLE", "1")
        if wanted(words):
            print(heading(sys.modules[run.__module__]), end="\n\n")
        found = run(words)
        if os.environ.get("RANK", "0") == "0":
            print(told(found))
        return 0

    status = guarded(command, list(sys.argv[1:] if argv is None else argv))
    # A launcher makes every failure its own 1; `codealign train` wants ours.
    if STATUS_FILE in os.environ and os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            Path(os.environ[STATUS_FILE]).write_text(str(status))
    return status
