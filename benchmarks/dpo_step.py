"""One DPO step, ours against TRL's DPOTrainer: same model, same batch, paired in one run.

    python benchmarks/dpo_step.py --parameters 5 --rounds 7
    python benchmarks/dpo_step.py --parameters 5 --memory
    python benchmarks/dpo_step.py --parameters 5 --loop

Times are CPU seconds of `training_step` (reference, forward, backward), each round all ways once in turn, the
ratio taken within rounds. Tokens are those of separate rows for every way. `--memory` runs each way in a
process of its own and reports how far the peak lies above what it held before the step. `--loop` measures
what the Trainer does around a step.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

SIZES = {1: (128, 344, 4, 4, 2_048), 5: (256, 688, 4, 4, 8_192), 50: (512, 1408, 10, 8, 32_000)}
"""Millions of parameters: width, inner width, layers, heads, vocabulary."""

# Tokens of prompt and of each side: from, to.
BATCHES = {
    "equal lengths": ((32, 32), (96, 96), 8),
    "mixed lengths": ((16, 64), (24, 160), 8),
    "long prompts": ((384, 448), (48, 80), 4),
}

WAYS: dict[str, dict[str, Any] | None] = {
    "TRL": None,
    "separate rows": {},
    "padding_free": {"padding_free": True},
    "shared_prompt": {"shared_prompt": True},
    "both": {"padding_free": True, "shared_prompt": True},
}


def rows_of(batch: str, vocabulary: int, count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    prompt, side, _ = BATCHES[batch]

    def ids(span: tuple[int, int]) -> list[int]:
        return [draw.randrange(4, vocabulary) for _ in range(draw.randint(*span))]

    return [
        {"prompt_ids": ids(prompt), "chosen_ids": ids(side), "rejected_ids": ids(side)} for _ in range(count)
    ]


def model_of(size: int, seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, inner, layers, heads, vocabulary = SIZES[size]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def tokenizer_of(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w1")


def trainer_of(way: str, size: int, batch: str, folder: str, **changes: Any) -> Any:
    """A trainer of that way on a fresh model; the reference is another random model, kept alive."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from alignment.preference.options import PairOptions
    from alignment.preference.trainer import PairTrainer

    class Stock(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # tokens already

    vocabulary = SIZES[size][-1]
    told = WAYS[way]
    settings: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": BATCHES[batch][2],
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": None,
        "save_strategy": "no",
        **changes,
    }
    data = Dataset.from_list(rows_of(batch, vocabulary, 4 * BATCHES[batch][2]))
    model, reference, tokenizer = model_of(size, 0), model_of(size, 1), tokenizer_of(vocabulary)
    if told is None:
        return Stock(
            model,
            ref_model=reference,
            args=DPOConfig(**settings),
            train_dataset=data,
            processing_class=tokenizer,
        )
    settings |= {"padding_free": told.get("padding_free", False)}
    settings |= {"loss_weights": [1.0]}  # asked for, so that the step is ours
    options = PairOptions(shared_prompt=told.get("shared_prompt", False))
    return PairTrainer(model, DPOConfig(**settings), data, tokenizer, options=options, ref_model=reference)


def step_of(trainer: Any) -> Any:
    """The first batch's training step; it returns the loss."""
    rows = [trainer.train_dataset[i] for i in range(trainer.args.per_device_train_batch_size)]
    batch = trainer.data_collator(rows)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # `train` sets it

    def step() -> float:
        trainer.model.zero_grad()
        return float(trainer.training_step(trainer.model, dict(batch)))

    return step


def speed(size: int, rounds: int, batches: list[str]) -> None:
    print(f"{size} M parameters, vocabulary {SIZES[size][-1]}; CPU time, one thread, {rounds} rounds")
    print("| batch | way | loss | minus TRL | tokens/s | times TRL (range) |\n|---|---|---|---|---|---|")
    for batch in batches:
        rows = rows_of(batch, SIZES[size][-1], BATCHES[batch][2])
        tokens = sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows)
        with tempfile.TemporaryDirectory() as folder:
            steps = {way: step_of(trainer_of(way, size, batch, folder)) for way in WAYS}
            losses = {way: step() for way, step in steps.items()}  # and warm
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for turn in range(rounds):
                names = list(WAYS) if turn % 2 == 0 else list(reversed(WAYS))
                for way in names:
                    begun = time.process_time()
                    steps[way]()
                    seconds[way].append(time.process_time() - begun)
        for way in WAYS:
            ratios = [a / b for a, b in zip(seconds["TRL"], seconds[way], strict=True)]
            print(
                f"| {batch} | {way} | {losses[way]:.6f} | {losses[way] - losses['TRL']:+.1e} "
                f"| {tokens / statistics.median(seconds[way]):.0f} | {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}-{max(ratios):.2f}) |",
                flush=True,
            )


def held() -> int:
    """Bytes of this process's memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def memory_of(way: str, size: int, batch: str) -> None:
    """In a process of its own: MiB of the step's peak above what was held."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(way, size, batch, folder)
        step = step_of(trainer)
        for parameter in trainer.model.parameters():
            parameter.grad = torch.zeros_like(parameter)  # gradients belong to training, not to the step
        before = held()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
        step()
        print(f"{(peak() - before) / 2**20:.0f}")


def memory(size: int, batches: list[str]) -> None:
    print(f"{size} M parameters, vocabulary {SIZES[size][-1]}; peak above what was held before the step, MiB")
    print(f"| batch | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for batch in batches:
        found = []
        for way in WAYS:
            command = [sys.executable, __file__, "--parameters", str(size), "--one", way, batch]
            told = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(told.stdout.strip().splitlines()[-1])
        print(f"| {batch} | {' | '.join(found)} |", flush=True)


def loop(size: int, steps: int = 12) -> None:
    """What the Trainer costs around a step: a whole `train` less the steps and the optimiser in it."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of("separate rows", size, "mixed lengths", folder, max_steps=steps, logging_steps=5)
        inside = [0.0]

        def timed(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                begun = time.process_time()
                try:
                    return function(*args, **kwargs)
                finally:
                    inside[0] += time.process_time() - begun

            return call

        trainer.training_step = timed(trainer.training_step)
        trainer.create_optimizer()
        trainer.optimizer.step = timed(trainer.optimizer.step)
        begun = time.process_time()
        trainer.train()
        total = time.process_time() - begun
    print(
        f"{size} M parameters: {1000 * total / steps:.0f} ms of CPU a step, of which "
        f"{1000 * (total - inside[0]) / steps:.1f} ms are not the step or the optimiser ({steps} steps)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parameters", type=int, choices=sorted(SIZES), default=5, help="in millions")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", nargs="+", choices=list(BATCHES), default=list(BATCHES))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "BATCH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if given.one:
        memory_of(given.one[0], given.parameters, given.one[1])
    elif given.memory:
        memory(given.parameters, given.batch)
    elif given.loop:
        loop(given.parameters)
    else:
        speed(given.parameters, given.rounds, given.batch)


if __name__ == "__main__":
    main()
