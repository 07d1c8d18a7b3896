"""Entry point: direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290).

    accelerate launch -m alignment.dpo --config recipes/tiny-coder/dpo.yaml --dataset_name RUN/pairs.jsonl

All options are TRL's: the fields of ScriptArguments, DPOConfig and ModelConfig. Training is TRL's
DPOTrainer; what we add is told in preference/trainer.py. `output_dir` is a run directory: metrics.jsonl,
checkpoints, `model/` at the end; `--overwrite` starts it anew. Killed anywhere, the same command goes on from
the last whole checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alignment.cli import guarded
from alignment.train_command import STATUS_FILE
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.runs import RunDir

_FULL = 1 << 20  # bytes free that no checkpoint fits into
# Where a run lives and how often it speaks is no part of what it makes.
_NOT_IDENTITY = ("output_dir", "dataset_name", "model_name_or_path", "logging_steps", "save_steps")


def parse(argv: Sequence[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Reads `--config FILE` and flags into TRL's three dataclasses, and returns the options that were given.

    Raises:
        CodealignError: For an unknown key (with the nearest name), a missing file, or a missing required
        option.
    """
    from trl import DPOConfig, ModelConfig, ScriptArguments, TrlParser

    words = [word for word in argv if word != "--overwrite"]
    classes = (ScriptArguments, DPOConfig, ModelConfig)
    known = {name for cls in classes for name in cls.__dataclass_fields__}
    given = _given(words)
    for key in given:
        if key not in known:
            raise unknown("config key", key, known)
    for required in ("model_name_or_path", "dataset_name", "output_dir"):
        if not given.get(required):
            raise CodealignError(f"--{required} is required (on the command line or in the recipe)")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            script, training, model = TrlParser(classes).parse_args_and_config(words)
    except (ValueError, TypeError) as error:
        raise CodealignError(f"the training options do not fit: {error}") from None
    except SystemExit as stop:
        if not stop.code:
            raise
        # The parser prints all its options first; what is wrong stands last.
        reason = (said.getvalue().strip().splitlines() or ["?"])[-1].partition("error: ")[2]
        raise CodealignError(f"the training options do not fit: {reason}") from None
    _check_numbers(training)
    return script, training, model, given


def _check_numbers(training: Any) -> None:
    """Refuses values with which training would run for nothing; TRL and transformers let them pass."""
    for name in ("beta", "learning_rate"):
        value = getattr(training, name)
        if not (math.isfinite(value) and value > 0):
            raise CodealignError(f"--{name} must be a finite number above 0 (given: {value})")
    if training.per_device_train_batch_size < 1 or training.gradient_accumulation_steps < 1:
        raise CodealignError(
            "--per_device_train_batch_size and --gradient_accumulation_steps must be 1 or more (given: "
            f"{training.per_device_train_batch_size}, {training.gradient_accumulation_steps})"
        )


def _given(argv: Sequence[str]) -> dict[str, Any]:
    """The keys that the recipe and the flags set; flags win."""
    from codegen_eval.config import read_yaml

    values: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    pending = list(argv)
    while pending:
        word = pending.pop(0)
        if not word.startswith("--"):
            continue
        key, _, value = word[2:].partition("=")
        if not value and pending and not pending[0].startswith("--"):
            value = pending.pop(0)
        flags[key.replace("-", "_")] = value
    if "config" in flags:
        values = read_yaml(Path(flags.pop("config")))
        values.pop("env", None)
    return {**values, **flags}


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used.
    """
    script, training, model_config, given = parse(argv)
    from transformers import PrinterCallback

    from alignment.preference.data import load_pairs
    from alignment.preference.trainer import PairTrainer, RunLog, last_whole_checkpoint

    inputs = {
        name: Path(path)
        for name, path in (
            ("dataset_name", script.dataset_name),
            ("model_name_or_path", model_config.model_name_or_path),
        )
        if Path(path).exists()
    }
    identity = {key: value for key, value in given.items() if key not in _NOT_IDENTITY}
    directory = RunDir.open(
        Path(training.output_dir), "dpo", identity, overwrite="--overwrite" in argv, inputs=inputs
    )
    if directory.finished:
        return directory
    pairs = load_pairs(script.dataset_name, script.dataset_train_split)
    policy, tokenizer = _load(model_config)
    needs_reference = not model_config.use_peft and not training.precompute_ref_log_probs
    reference = _load(model_config)[0] if needs_reference else None
    trainer = PairTrainer(
        model=policy,
        ref_model=reference,
        args=training,
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=_peft(model_config),
        callbacks=[RunLog(directory, training.beta)],
    )
    trainer.remove_callback(PrinterCallback)  # RunLog prints the same in fewer words
    if trainer.dropped:
        print(
            f"{trainer.dropped} of {len(pairs)} pairs are longer than max_length and left out",
            file=sys.stderr,
        )
    checkpoint = last_whole_checkpoint(directory.path)
    with _full_disk_named(directory.path):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model(str(directory.path / "model"))
    if trainer.is_world_process_zero():
        directory.finish(
            steps=trainer.state.global_step, pairs=len(pairs) - trainer.dropped, dropped=trainer.dropped
        )
    return directory


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
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


def _load(model_config: Any) -> tuple[Any, Any]:
    """Model and tokenizer on the CPU; the trainer moves the model to where it trains."""
    from codegen_eval.generation.hf import load_model

    dtype = "float32" if model_config.dtype in (None, "auto") else str(model_config.dtype)
    model, tokenizer = load_model(model_config.model_name_or_path, dtype=dtype, device="cpu")
    model.set_attn_implementation(model_config.attn_implementation or "sdpa")
    return model, tokenizer


def _peft(model_config: Any) -> Any:
    from trl import get_peft_config

    return get_peft_config(model_config)


def _main(argv: Sequence[str]) -> int:
    if not sys.stderr.isatty():
        # Libraries' progress bars are noise in a log; ours are lines. Read when tqdm is imported.
        os.environ.setdefault("TQDM_DISABLE", "1")
    directory = run(argv)
    print(f"model: {directory.path / 'model'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.dpo`; errors that a user can mend are one message."""
    status = guarded(_main, list(sys.argv[1:] if argv is None else argv))
    # A launcher makes every failure its own 1; `codealign train` wants ours.
    if STATUS_FILE in os.environ and os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            Path(os.environ[STATUS_FILE]).write_text(str(status))
    return status


if __name__ == "__main__":
    sys.exit(main())
