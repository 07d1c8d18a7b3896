"""Entry point: trains tiny-coder from scratch on MiniPy's training split.

    accelerate launch -m alignment.pretrain --config recipes/tiny-coder/pretrain.yaml --out runs/pretrain

The run directory holds checkpoints, metrics.jsonl and, at the end, `model/`, a folder that
`AutoModelForCausalLM` and `AutoTokenizer` load. Killed anywhere, the same command goes on from the last
checkpoint and ends with the same weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from alignment.health.checkpoints import newest_usable, prune, save_whole
from alignment.tiny_coder.data import Weights
from alignment.tiny_coder.model import Architecture
from codegen_eval.benchmarks.minipy.corpus import Mixture
from codegen_eval.config import Config
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from alignment.tiny_coder.train import Pretrainer

STATE = "state.pt"
KEPT = 2  # so that one is whole should the newest be torn


class PretrainConfig(Config):
    """What `alignment.pretrain` takes; the recipe explains the values."""

    out: Path
    """Run directory."""
    seed: int = 0
    """Of the initial weights, the text and its order."""
    tokens: int = Field(18_000_000, ge=1)
    """Tokens to train on."""
    batch_tokens: int = Field(2048, ge=256)
    """Most tokens in a batch."""
    vocab_size: int = Field(1024, ge=258)
    """Entries of the tokenizer."""
    tokenizer_sequences: int = Field(20_000, ge=1)
    """Texts from which the tokenizer learns its entries."""
    matrix_lr: float = Field(0.02, gt=0)
    """Peak learning rate of Muon (matrices)."""
    other_lr: float = Field(0.003, gt=0)
    """Peak learning rate of AdamW (embeddings and norms)."""
    warmup_tokens: int = Field(100_000, ge=0)
    """Tokens of linear warm-up."""
    hold: float = Field(0.5, ge=0, lt=1)
    """Share of the run after which the learning rate falls."""
    bf16: bool = True
    """Matrix products in bfloat16, weights in float32."""
    threads: int = Field(1, ge=1)
    """Torch threads; more than one pays only on a quiet machine."""
    families: tuple[str, ...] = ()
    """Only these MiniPy families; all when empty."""
    log_steps: int = Field(50, ge=1)
    """Steps between rows of metrics.jsonl."""
    save_steps: int = Field(500, ge=1)
    """Steps between checkpoints."""
    architecture: Architecture = Architecture()
    """Sizes of the model."""
    mixture: Mixture = Mixture()
    """Shares of right, slow and wrong in the text."""
    weights: Weights = Weights()
    """What each kind of token counts in the loss."""
    overwrite: bool = False
    """Start anew."""

    not_identity = frozenset({"out", "overwrite", "threads", "log_steps", "save_steps"})


def run(config: PretrainConfig) -> RunDir:
    """Trains, or goes on training, and exports the model."""
    import torch

    from alignment.tiny_coder.model import build_model
    from alignment.tiny_coder.train import Pretrainer, Schedule

    torch.set_num_threads(config.threads)
    directory = RunDir.open(config.out, "pretrain", config.identity(), overwrite=config.overwrite)
    if directory.finished:
        return directory
    tokenizer = _tokenizer(config)
    model = build_model(config.architecture, tokenizer, config.seed)
    schedule = Schedule(config.tokens, min(config.warmup_tokens, config.tokens // 10), config.hold)
    trainer = Pretrainer(
        model, schedule, matrix_lr=config.matrix_lr, other_lr=config.other_lr, bf16=config.bf16
    )
    checkpoint = newest_usable(directory.path)
    if checkpoint is not None:
        trainer.load(checkpoint / STATE)
        print(f"going on after {trainer.seen:,} tokens", file=sys.stderr)
    final = _train(config, trainer, tokenizer, directory)
    model.save_pretrained(directory.path / "model")
    tokenizer.save_pretrained(directory.path / "model")
    directory.finish(loss=final, tokens=trainer.seen, parameters=model.num_parameters())
    return directory


def _tokenizer(config: PretrainConfig) -> PreTrainedTokenizerFast:
    from alignment.tiny_coder.tokenizer import train_tokenizer
    from codegen_eval.benchmarks.minipy.corpus import sequences

    texts = sequences(config.mixture, config.seed, config.tokenizer_sequences, config.families)
    return train_tokenizer((s.prompt + s.completion for s in texts), config.vocab_size)


def _train(
    config: PretrainConfig, trainer: Pretrainer, tokenizer: PreTrainedTokenizerFast, directory: RunDir
) -> float:
    """Steps until the token budget is spent; returns the mean loss since the last log row."""
    from alignment.tiny_coder.data import chunk_batches

    recent: list[float] = []
    step = 0
    mean = float("nan")
    started, first = time.perf_counter(), trainer.seen
    while trainer.seen < config.tokens:
        batches = chunk_batches(
            trainer.chunk,
            tokenizer,
            config.mixture,
            config.weights,
            seed=config.seed,
            batch_tokens=config.batch_tokens,
            families=config.families,
        )
        while trainer.position < len(batches) and trainer.seen < config.tokens:
            recent.append(trainer.step(batches[trainer.position]))
            trainer.position += 1
            step += 1
            if step % config.log_steps == 0 or trainer.seen >= config.tokens:
                rate = (trainer.seen - first) / (time.perf_counter() - started)
                mean = sum(recent) / len(recent)
                directory.log(tokens=trainer.seen, loss=mean, tokens_per_second=rate)
                print(f"{trainer.seen:>12,} tokens  loss {mean:.4f}  {rate:,.0f} tokens/s", file=sys.stderr)
                recent = []
            if step % config.save_steps == 0:
                _save(directory, trainer)
        if trainer.position == len(batches):
            trainer.chunk, trainer.position = trainer.chunk + 1, 0
    _save(directory, trainer)
    return mean


def _save(directory: RunDir, trainer: Pretrainer) -> None:
    save_whole(directory.path / f"checkpoint-{trainer.seen}", lambda folder: trainer.save(folder / STATE))
    prune(directory.path, KEPT)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.pretrain`."""
    config = PretrainConfig.parse(
        sys.argv[1:] if argv is None else argv, prog="alignment.pretrain", description="Pretrain tiny-coder."
    )
    directory = run(config)
    print(f"model: {directory.path / 'model'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
