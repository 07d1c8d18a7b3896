"""The pretraining recipe, cut to a few families: it learns, resumes to the bit, and exports a model that
loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from alignment import pretrain
from alignment.pretrain import PretrainConfig
from alignment.tiny_coder.data import Weights, chunk_batches, encode
from alignment.tiny_coder.tokenizer import train_tokenizer
from alignment.tiny_coder.train import Schedule
from codegen_eval.benchmarks.minipy.corpus import Mixture, Sequence, sequences
from codegen_eval.config import load_config
from codegen_eval.generation.hf import load_model
from codegen_eval.runs import read_jsonl
from tests.alignment import tiny
from tests.conftest import REPO

RECIPE = REPO / "recipes/tiny-coder/pretrain.yaml"
FEW = {
    "families": ["has_over", "count_over", "keep_over"],
    "vocab_size": 600,
    "tokenizer_sequences": 2_000,
    "log_steps": 5,
    "save_steps": 10,
}


def config(out: Path, **changes: object) -> PretrainConfig:
    small = {"architecture": tiny.SMALL.model_dump(), "tokens": 60_000, **FEW, "out": out}
    return load_config(RECIPE, PretrainConfig, {**small, **changes})


@pytest.mark.slow
def test_the_recipe_on_three_families_lowers_the_loss_and_exports_a_model_that_loads(tmp_path: Path) -> None:
    directory = pretrain.run(config(tmp_path / "run", tokens=150_000))
    losses = [
        row["loss"] for row in read_jsonl(directory.path / "metrics.jsonl") if "tokens_per_second" in row
    ]
    assert losses[-1] < 0.5 * losses[0]
    model, tokenizer = load_model(str(directory.path / "model"))
    assert model.num_parameters() < 3_000_000
    text = "def has_over(xs):\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alignment.tiny_coder.train import Pretrainer

    whole = pretrain.run(config(tmp_path / "whole", tokens=40_000))
    step = Pretrainer.step
    steps = 0

    def stopping(self: Pretrainer, batch: object) -> float:
        nonlocal steps
        steps += 1
        if steps == 14:
            raise KeyboardInterrupt
        return step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Pretrainer, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(config(tmp_path / "stopped", tokens=40_000))
    again = pretrain.run(config(tmp_path / "stopped", tokens=40_000))
    weights = [(d.path / "model/model.safetensors").read_bytes() for d in (whole, again)]
    assert weights[0] == weights[1]


def test_batches_hold_every_sequence_once_and_stay_within_their_size() -> None:
    tokenizer = tiny.tokenizer()
    batches = chunk_batches(0, tokenizer, Mixture(), Weights(), seed=0, batch_tokens=1024)
    filled = sum(int((row > 0).any()) for b in batches for rows in b.parts for row in rows.weights)
    assert 0.85 * 2048 < filled <= 2048
    assert sum(b.size for b in batches) / len(batches) == pytest.approx(1024, rel=0.05)
    again = chunk_batches(0, tokenizer, Mixture(), Weights(), seed=0, batch_tokens=1024)
    for one, other in zip(batches, again, strict=True):
        assert all((a.tokens == b.tokens).all() for a, b in zip(one.parts, other.parts, strict=True))


def test_a_tokenizer_that_makes_most_sequences_too_long_is_an_error() -> None:
    small = train_tokenizer((s.prompt for s in sequences(Mixture(), 0, 100)), 258)
    with pytest.raises(ValueError, match="raise vocab_size"):
        chunk_batches(0, small, Mixture(), Weights(), seed=0, batch_tokens=1024)


def test_a_batch_is_a_random_draw_of_the_corpus_and_not_of_one_length() -> None:
    batches = chunk_batches(0, tiny.tokenizer(), Mixture(), Weights(), seed=0, batch_tokens=2048)
    for batch in batches[:-1]:
        lengths = [int((row > 0).sum()) for rows in batch.parts for row in rows.weights]
        assert max(lengths) > 1.5 * min(n for n in lengths if n)


def test_the_value_of_an_assertion_weighs_more_than_its_call() -> None:
    tokenizer = tiny.tokenizer()
    text = "assert f([1, 2]) == [3]\nassert f([]) == []\n"
    tokens, weights = encode(
        Sequence("t", "tests", "p\n", text), tokenizer, Weights(prompt=0, test_input=0.25)
    )
    pieces = [(tokenizer.decode([t]), w) for t, w in zip(tokens, weights, strict=True)]
    assert {w for piece, w in pieces if piece.strip() in ("3", "[]", "]\n", "\n") and piece != "\n"} == {1.0}
    assert {w for piece, w in pieces if piece in ("1", "2", "assert")} == {0.25}
    assert weights[0] == 0 and len(tokens) == len(weights)


def test_a_program_counts_whole_with_its_end() -> None:
    tokenizer = tiny.tokenizer()
    tokens, weights = encode(Sequence("t", "program", "p\n", "    return 1\n"), tokenizer, Weights())
    assert tokens[-1] == tokenizer.eos_token_id and weights[-1] == 1.0
    assert set(weights[len(tokenizer.encode("p\n")) :]) == {1.0}


def test_the_schedule_warms_up_holds_and_falls() -> None:
    schedule = Schedule(total=1000, warmup=100, hold=0.5, final=0.02)
    assert schedule.factor(0) < 0.02
    assert schedule.factor(100) == schedule.factor(500) == 1.0
    assert schedule.factor(750) == pytest.approx(0.51)
    assert schedule.factor(1000) == pytest.approx(0.02)
    assert schedule.factor(2000) == 0.02


def test_text_survives_the_tokenizer_and_digits_stand_alone() -> None:
    tokenizer = train_tokenizer((s.prompt + s.completion for s in sequences(Mixture(), 0, 500)), 600)
    for s in sequences(Mixture(), 1, 200):
        assert tokenizer.decode(tokenizer.encode(s.prompt + s.completion)) == s.prompt + s.completion
    odd = "x = '\t\u00e9\U0001f600'\r\n\x00 \u2028"
    assert tokenizer.decode(tokenizer.encode(odd)) == odd
    pieces = tokenizer.tokenize("return 1234 + f('abc')")
    assert [p for p in pieces if p.strip("Ġ").isdigit()] == ["1", "2", "3", "4"]
    assert [p for p in pieces if p in ("a", "b", "c")] == ["a", "b", "c"]


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size=100"):
        train_tokenizer([], 100)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    from alignment.tiny_coder.data import Batch, Rows
    from alignment.tiny_coder.train import Pretrainer

    model = tiny.model()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    trainer = Pretrainer(model, Schedule(1000, 10), matrix_lr=0.02, other_lr=0.003, bf16=False)
    batch = Batch((Rows(np.ones((2, 8), dtype=np.int64), np.ones((2, 8), dtype=np.float32)),))
    with pytest.raises(FloatingPointError, match="lower the learning rates"):
        trainer.step(batch)
