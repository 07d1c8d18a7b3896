"""The memory estimate: what is exact is exact, what is counted is what autograd keeps."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from alignment.memory import (
    Shape,
    Step,
    announce,
    estimate,
    longest_row,
    shape_of,
    size,
    state_bytes,
    step_of,
)
from codegen_eval.errors import CodealignError
from tests.alignment.reward_modeling import small

SHAPE = Shape(
    weight_bytes=4000,
    trainable=100,
    trainable_bytes=400,
    layers=3,
    hidden=8,
    intermediate=20,
    heads=2,
    kv_width=4,
    vocabulary=50,
)


def model(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        **changes,
    }
    return LlamaForCausalLM(LlamaConfig(**config))


def trained(a_model: Any, optimizer: Any) -> tuple[int, int]:
    """Bytes of gradients and of optimiser states (without step counters) after one real step."""
    import torch

    a_model(input_ids=torch.ones(1, 3, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    gradients = sum(
        p.grad.numel() * p.grad.element_size() for p in a_model.parameters() if p.grad is not None
    )
    states = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step" and torch.is_tensor(value)
    )
    return gradients, states


@pytest.mark.parametrize(
    ("name", "settings"),
    [("AdamW", {}), ("SGD", {}), ("RMSprop", {}), ("Adagrad", {})],
)
def test_weights_gradients_and_states_are_exact(name: str, settings: dict[str, Any]) -> None:
    import torch

    a_model = model(tie_word_embeddings=name == "AdamW")
    optimizer = getattr(torch.optim, name)(a_model.parameters(), lr=1e-3, **settings)
    gradients, states = trained(a_model, optimizer)
    shape = shape_of(a_model)
    assert shape is not None
    found = estimate(shape, Step(rows=1, length=3, state_bytes=state_bytes(name)))
    assert found.weights == sum(p.numel() * 4 for p in a_model.parameters())
    assert (found.gradients, found.optimizer) == (gradients, states)


def test_an_adapter_is_all_that_has_gradients_and_states() -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-3)
    gradients, states = trained(wrapped, optimizer)
    shape = shape_of(wrapped)
    assert shape is not None
    # q: 16 x 2 + 2 x 16, v: 16 x 2 + 2 x 8, two layers.
    assert shape.trainable == 2 * (64 + 48)
    found = estimate(shape, Step(rows=1, length=3))
    assert (found.gradients, found.optimizer) == (gradients, states)


def test_a_model_on_the_meta_device_needs_no_memory_to_be_counted() -> None:
    import torch

    with torch.device("meta"):
        shape = shape_of(model(hidden_size=4096, intermediate_size=11008, num_hidden_layers=4))
    assert shape is not None and shape.weight_bytes > 1 << 30
    assert shape.kv_width == 2048 and shape.vocabulary == 64
    half = shape_of(model().to(torch.bfloat16))
    assert half is not None and half.weight_bytes == 2 * half.trainable


def test_what_the_estimate_does_not_know_has_no_shape() -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(d_model=8))
    assert shape_of(SimpleNamespace(config=config)) is None
    with pytest.raises(CodealignError, match="no estimate for the optimiser 'muon'"):
        state_bytes("muon")
    assert state_bytes("adamw_torch_fused") == 8 and state_bytes("paged_adamw_8bit") == 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_what_autograd_keeps(attention: str) -> None:
    """Counts the bytes of the distinct storages that autograd saves, without parameters and inputs."""
    import torch

    a_model = model(num_hidden_layers=4, hidden_size=32, intermediate_size=80, attn_implementation=attention)
    own = {p.untyped_storage().data_ptr() for p in a_model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(1, 60, (4, 48))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = a_model.model(input_ids=ids, use_cache=False).last_hidden_state
    shape = shape_of(a_model)
    assert shape is not None and hidden.requires_grad
    found = estimate(shape, Step(rows=4, length=48, eager=attention == "eager"))
    assert sum(kept.values()) == pytest.approx(found.activations, rel=0.05)


def test_the_parts_by_hand() -> None:
    found = estimate(SHAPE, Step(rows=2, length=5))
    # 10 tokens of 4 bytes; a block keeps 8 x 8 + 2 x 4 + 4 x 20 + 2 = 154, the ends 3 x 8.
    assert found.activations == 10 * 4 * (3 * 154 + 24)
    assert found.logits == 10 * 50 * 4 * 4
    assert (found.weights, found.gradients, found.optimizer) == (4000, 400, 800)
    assert found.peak == 4000 + 800 + found.activations + found.logits
    eager = estimate(SHAPE, Step(rows=2, length=5, eager=True))
    assert eager.activations - found.activations == 10 * 4 * 3 * 2 * 5


def test_every_setting_moves_its_part_alone() -> None:
    plain = estimate(SHAPE, Step(rows=2, length=5))
    assert estimate(SHAPE, Step(rows=4, length=5)).activations == 2 * plain.activations
    half = estimate(replace(SHAPE, cast_bytes=700), Step(rows=2, length=5, compute_bytes=2))
    # Norms and the attention's H stay float32: 3 blocks x (4 x 8 + 2) + 2 x 8 numbers.
    assert half.activations == (plain.activations + 10 * 4 * (3 * 34 + 16)) / 2 + 700
    assert estimate(SHAPE, Step(rows=2, length=5, reference_bytes=4000)).peak == plain.peak + 4000
    assert estimate(SHAPE, Step(rows=2, length=5, accumulation=2)).peak == plain.peak + 400
    assert estimate(SHAPE, Step(rows=2, length=5, logit_rows=2)).logits == plain.logits / 5
    saved = estimate(SHAPE, Step(rows=2, length=5, checkpointing=True))
    assert saved.activations == 10 * 4 * (3 * 8 + 24 + 154)
    assert saved.peak == 4000 + 800 + 10 * 4 * (3 * 8 + 24) + saved.logits, "the block comes after the logits"


def test_what_is_divided_over_processes_hangs_on_the_stage() -> None:
    parts = {stage: estimate(SHAPE, Step(rows=2, length=5, shards=4, shard_from=stage)) for stage in range(4)}
    assert [parts[stage].optimizer for stage in range(4)] == [800, 200, 200, 200]
    assert [parts[stage].gradients for stage in range(4)] == [800, 400, 100, 100], "DDP keeps buckets too"
    assert [parts[stage].weights for stage in range(4)] == [4000, 4000, 4000, 1000]


def test_steps_without_rows_are_refused() -> None:
    with pytest.raises(CodealignError, match="1 or more, got 0, 5"):
        estimate(SHAPE, Step(rows=0, length=5))


def test_training_arguments_give_the_step() -> None:
    from trl import RewardConfig

    training = RewardConfig(
        output_dir="x", bf16=False, use_cpu=True, gradient_checkpointing=True, gradient_accumulation_steps=4
    )
    step = step_of(training, rows=8, length=100)
    assert step == Step(rows=8, length=100, checkpointing=True, accumulation=4)


def test_the_line_says_the_parts_and_the_longest_row_counts() -> None:
    from datasets import Dataset
    from trl import RewardConfig

    from alignment.tiny_coder.model import build_model

    rows = Dataset.from_list(
        [{"chosen_ids": [1] * 9, "rejected_ids": [1] * 4}, {"chosen_ids": [1], "rejected_ids": [1] * 11}]
    )
    assert longest_row(rows) == 11
    split = Dataset.from_list([{"prompt_ids": [1] * 5, "chosen_ids": [1] * 3, "rejected_ids": [1] * 4}])
    assert longest_row(split) == 9
    arguments = RewardConfig(
        output_dir="x", bf16=False, use_cpu=True, gradient_checkpointing=False, per_device_train_batch_size=4
    )
    trainer = SimpleNamespace(
        model=build_model(small.SMALL, small.tokenizer(), 0),
        args=arguments,
        train_dataset=rows,
        ref_model=None,
    )
    said: list[str] = []
    announce(trainer, say=said.append)
    trainer.train_dataset = rows.rename_columns(
        {"chosen_ids": "prompt_ids", "rejected_ids": "completion_ids"}
    )
    announce(trainer, say=said.append)
    assert said[0].startswith("memory a process, estimated: ") and said[0] != said[1]
    assert all(name in said[0] for name in ("weights", "gradients", "optimiser", "activations", "logits"))
    trainer.train_dataset = Dataset.from_list([{"text": "x"}])
    announce(trainer, say=said.append)
    assert len(said) == 2, "nothing is said of rows that are no tokens"


def test_sizes_are_for_people() -> None:
    assert size(3 << 20) == "3 MiB" and size(1.5 * (1 << 30)) == "1.5 GiB"
