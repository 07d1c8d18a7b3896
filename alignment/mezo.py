"""Entry point: MeZO and Sparse MeZO, training by forward passes alone (arXiv 2305.17333, 2402.15751).

    accelerate launch -m alignment.mezo --config recipes/tiny-coder/mezo.yaml --dataset_name RUN/pairs.jsonl

The objective is any loss on pairs (docs/losses.md, `sft` among them), or with `--reward` what greedy programs
are worth: `--reward pass_rate --dataset_name minipy`. Options are TRL's where they mean something here, and
those of zeroth_order/options.py; others are refused. `output_dir` is a run directory: metrics.jsonl,
steps.jsonl (the log that is the checkpoint), snapshots, `model/` at the end. Killed anywhere, the same
command goes on and ends with the same weights. Launch it with single, ddp or zero3, which divides the weights
(zero1 and zero2 run as ddp); with `--reward` zero3 gathers the whole model to write programs.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from alignment.preference.arguments import Arguments
from alignment.processes import refuse_fsdp
from alignment.zeroth_order.launching import without_idle_zero, zero3_settings
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.zeroth_order.loop import Objective


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; see `zeroth_order.options.parse`."""
    from alignment.zeroth_order.options import parse as read

    return read(argv)


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data, models or launches that cannot be used.
    """
    refuse_fsdp("zeroth-order training")
    with without_idle_zero():
        return _run(parse(argv))


def _run(arguments: Arguments) -> RunDir:
    from alignment.cards import publish, write_card
    from alignment.health.loops import watching
    from alignment.preference.job import full_disk_named, memory_named, open_run
    from alignment.ranks import Ranks
    from alignment.zeroth_order.loop import train
    from alignment.zeroth_order.options import settings_of
    from alignment.zeroth_order.trainer import PATIENCE, ZerothOrder
    from alignment.zeroth_order.zero3 import save_model

    directory = open_run(arguments, "mezo")
    if directory.finished:
        return publish(directory, arguments)
    training = arguments.training
    # What would help a gradient does nothing here.
    limits = SimpleNamespace(
        per_device_train_batch_size=training.per_device_train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        max_length=training.max_length,
        gradient_checkpointing=True,
    )
    with full_disk_named(directory.path), memory_named(limits), _objective(arguments) as made:
        objective, model, tokenizer, rows = made
        trainer = ZerothOrder(model, settings_of(training, arguments.options), training.seed)
        plan = _plan(arguments, len(objective))
        # Steps without a factor are nothing new here: the trainer gives up by itself, later than the guard.
        with watching(
            directory.path,
            arguments.health,
            rank=training.process_index,
            world=training.world_size,
            patience=PATIENCE + 1,
        ) as watch:
            ranks = Ranks(training.process_index, training.world_size)
            found = train(directory, trainer, objective, plan, rows, watch, ranks)
        save_model(model, directory.path / "model", writes=training.process_index == 0)
        if training.process_index == 0:
            tokenizer.save_pretrained(directory.path / "model")
            write_card(directory, directory.path / "model", found)
            directory.finish(**found)
    return publish(directory, arguments)


def _plan(arguments: Arguments, rows: int) -> Any:
    from alignment.zeroth_order.loop import Plan

    training = arguments.training
    size = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    steps = (
        training.max_steps if training.max_steps > 0 else math.ceil(rows * training.num_train_epochs / size)
    )
    if steps < 1:
        raise CodealignError(
            f"no step to do: max_steps {training.max_steps}, {training.num_train_epochs} epochs"
        )
    every = training.logging_steps
    return Plan(
        steps=steps,
        rate=_rate(arguments, steps),
        batch=training.per_device_train_batch_size,
        micro_batches=training.gradient_accumulation_steps,
        seed=training.seed,
        log_every=int(every) if every >= 1 else max(1, math.ceil(every * steps)),
        save_every=int(training.save_steps),
        reward=arguments.options.reward is not None,
    )


def _rate(arguments: Arguments, steps: int) -> Callable[[int], float]:
    """The learning rate of each step: a schedule file's, or transformers' by its name."""
    training, file = arguments.training, arguments.options.lr_schedule_file
    if file is not None:
        from pathlib import Path

        from alignment.schedules import factor, load_schedule

        curve = load_schedule(Path(file))
        return lambda step: training.learning_rate * factor(curve, step, steps)
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        training.lr_scheduler_type,
        optimizer,
        num_warmup_steps=training.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=training.lr_scheduler_kwargs or {},
    )
    if not hasattr(scheduler, "lr_lambdas"):
        raise CodealignError(
            f"lr_scheduler_type {training.lr_scheduler_type}: its rate is no function of the step"
        )
    by_step = scheduler.lr_lambdas[0]
    return lambda step: training.learning_rate * float(by_step(step))


@contextmanager
def _objective(arguments: Arguments) -> Iterator[tuple[Objective, Any, Any, str]]:
    """The objective, the model that it looks at, its tokenizer, and a hash of its rows."""
    with ExitStack() as stack:
        make = _pair_loss if arguments.options.reward is None else _greedy_reward
        yield make(arguments, stack)


def _pair_loss(arguments: Arguments, stack: ExitStack) -> tuple[Objective, Any, Any, str]:
    from transformers import set_seed

    from alignment.preference.data import load_pairs
    from alignment.preference.job import adapters, load_model
    from alignment.preference.reference import rows_hash
    from alignment.preference.trainer import PairTrainer
    from alignment.zeroth_order.pair_loss import PairLoss
    from alignment.zeroth_order.zero3 import loading_as

    options, script = arguments.options, arguments.script
    extra = ["confidence"] if options.confidence_as != "none" else []
    extra += [options.weight_column] if options.weight_column else []
    pairs = load_pairs(script.dataset_name, script.dataset_train_split, extra)
    with loading_as(arguments.model.dtype):
        model, tokenizer = load_model(arguments.model)
    set_seed(arguments.training.seed)  # new adapters: a log is replayed on the weights that it began with
    trainer = PairTrainer(
        model, arguments.training, pairs, tokenizer, options=options, peft_config=adapters(arguments.model)
    )
    _say_dropped(trainer.dropped, len(pairs))
    return PairLoss(trainer), trainer.model, tokenizer, rows_hash(trainer.train_dataset)


def _greedy_reward(arguments: Arguments, stack: ExitStack) -> tuple[Objective, Any, Any, str]:
    from peft import get_peft_model
    from transformers import set_seed

    from alignment.preference.job import adapters, load_model
    from alignment.zeroth_order.greedy_reward import GreedyReward, fitting
    from alignment.zeroth_order.zero3 import divide, loading_as

    training, options = arguments.training, arguments.options
    rows, reward = _rows_and_reward(arguments, stack)
    with loading_as(arguments.model.dtype):
        model, tokenizer = load_model(arguments.model)
    settings = zero3_settings(training)
    if settings is None:
        model = model.to(training.device)
    config = adapters(arguments.model)
    if config is not None:
        set_seed(training.seed)
        model = get_peft_model(model, config)
    if settings is not None:
        divide(model, settings)
    rows = rows[: options.problems]
    room = None if training.max_length is None else training.max_length - options.max_completion_length
    kept, dropped = fitting(rows, tokenizer, room)
    _say_dropped(dropped, len(rows))
    content = json.dumps([[row.prompt, sorted(map(str, row.columns.items()))] for row in kept])
    objective = GreedyReward(model, tokenizer, kept, reward, options.max_completion_length)
    return objective, model, tokenizer, hashlib.sha256(content.encode()).hexdigest()


def _rows_and_reward(arguments: Arguments, stack: ExitStack) -> tuple[list[Any], Any]:
    """A benchmark's problems and their tests, or rows with a prompt and a function of the user's."""
    from alignment.preference.data import load
    from alignment.rewards.execution import PRESETS
    from alignment.zeroth_order.greedy_reward import Row, TestReward, benchmark_rows, function_of
    from codegen_eval.oracles import answered
    from sandbox import Sandbox

    options, script = arguments.options, arguments.script
    name, split = script.dataset_name, script.dataset_train_split
    if options.reward in PRESETS:
        rows, problems = benchmark_rows(name, split)
        box = stack.enter_context(Sandbox(workers=options.workers))
        ready = answered(problems[: options.problems], box)
        return rows, TestReward({problem.task_id: problem for problem in ready}, options.reward, lambda: box)
    reward = function_of(options.reward)
    dataset = load(name, split, "prompts.jsonl")
    if "prompt" not in dataset.column_names:
        raise CodealignError(f"{name} lacks the column prompt; found: {', '.join(dataset.column_names)}")
    rows = [Row(r["prompt"], (), {k: v for k, v in r.items() if k != "prompt"}) for r in dataset]
    for i, row in enumerate(rows):
        if not isinstance(row.prompt, str) or not row.prompt:
            raise CodealignError(f"{name}, row {i}: prompt is no text, or empty")
    return rows, reward


def _say_dropped(dropped: int, rows: int) -> None:
    if dropped:
        print(f"{dropped} of {rows} rows are longer than max_length and left out", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.mezo`."""
    from alignment.preference.job import entry_point

    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
