"""How much memory a training step takes, before it is tried: a sum over what is kept, per process.

Weights, gradients and optimiser states are exact counts. Activations are those of a Llama-like block
(RMSNorm, rotary attention, gated MLP; Qwen, Mistral and their kin), counted from what autograd keeps for the
backward pass: with hidden size h, key-value width kv, MLP width i and H heads, per token and layer

    8 h + 2 kv + 4 i + H          plus H x length with eager attention, which keeps its probabilities

numbers; under bf16 the four of the two norms stay float32, and so do H and eager attention's softmax. For an
adapter this is an upper bound: a frozen layer need not keep its input. docs/memory.md has the measured peaks.
What is not counted: the allocator's cache and fragmentation, the libraries' own few hundred MB on a GPU,
communication buffers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codegen_eval.errors import CodealignError

# Bytes of optimiser state a trainable parameter, in float32 training. Adafactor keeps a row and a column.
_STATES = {
    "adamw": 8.0,
    "adam": 8.0,
    "sgd": 0.0,
    "adafactor": 0.0,
    "lion": 4.0,
    "rmsprop": 4.0,
    "adagrad": 4.0,
}
_GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its memory.

    Attributes:
        weight_bytes: Of all parameters as they are stored.
        trainable: Number of parameters that are trained.
        trainable_bytes: Their bytes as they are stored.
        layers: Blocks.
        hidden: Width of the residual stream.
        intermediate: Width of the MLP.
        heads: Attention heads.
        kv_width: Width of keys (and of values): key-value heads x head size.
        vocabulary: Rows of the unembedding; 0 for a reward model, which has none.
        cast_bytes: Of the half-precision copies of float32 matrices that autocast keeps during a step.
    """

    weight_bytes: int
    trainable: int
    trainable_bytes: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_width: int
    vocabulary: int
    cast_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What of a training step decides its memory; all for one process.

    Attributes:
        rows: Sequences of a forward pass with gradients (two a pair).
        length: Tokens of the longest row.
        compute_bytes: Of an activation: 4, or 2 under bf16 or fp16.
        state_bytes: Optimiser state a trainable parameter (see `state_bytes`).
        reference_bytes: Weights of a reference model that is kept beside the policy.
        checkpointing: Only each block's input is kept; one block at a time is computed again.
        eager: Attention keeps its probabilities.
        accumulation: Forward passes an optimiser step; with more than one, gradients stay in between.
        logit_rows: Tokens whose logits exist at once; None for all.
        shards: Processes over which the weights (ZeRO-3, FSDP), gradients and states are divided.
        shard_from: 1: states are divided, 2: gradients too, 3: weights too, 0: nothing (DDP).
    """

    rows: int
    length: int
    compute_bytes: int = 4
    state_bytes: float = 8.0
    reference_bytes: int = 0
    checkpointing: bool = False
    eager: bool = False
    accumulation: int = 1
    logit_rows: int | None = None
    shards: int = 1
    shard_from: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes a process, by what they are; `peak` is the largest sum that exists at one moment."""

    weights: float
    reference: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    peak: float

    def line(self) -> str:
        """The estimate in one line."""
        parts = {
            "weights": self.weights,
            "reference": self.reference,
            "gradients": self.gradients,
            "optimiser": self.optimizer,
            "activations": self.activations,
            "logits": self.logits,
        }
        shown = ", ".join(f"{name} {size(value)}" for name, value in parts.items() if value)
        return f"memory a process, estimated: {size(self.peak)} at the peak ({shown})"


def size(count: float) -> str:
    """A number of bytes for people: MiB below one GiB."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / (1 << 20):.0f} MiB"


def state_bytes(optimizer: str, bits: int = 32) -> float:
    """Bytes of state a trainable parameter for one of transformers' optimiser names.

    Raises:
        CodealignError: For an optimiser whose states are not known here.
    """
    name = optimizer.lower()
    family = next((f for f in sorted(_STATES, key=len, reverse=True) if f in name), None)
    if family is None:
        raise CodealignError(f"no estimate for the optimiser {optimizer!r}; known are: {', '.join(_STATES)}")
    if "8bit" in name:
        bits = 8
    return _STATES[family] * bits / 32


def estimate(shape: Shape, step: Step) -> Estimate:
    """What one training step keeps at once.

    Raises:
        CodealignError: For a step without rows or tokens, or shards below 1.
    """
    if min(step.rows, step.length, step.accumulation, step.shards) < 1:
        raise CodealignError(
            f"a step needs rows, length, accumulation and shards of 1 or more, got {step.rows}, "
            f"{step.length}, {step.accumulation}, {step.shards}"
        )
    divided = [step.shards if step.shard_from >= level else 1 for level in (3, 2, 1)]
    weights = shape.weight_bytes / divided[0]
    reference = step.reference_bytes / divided[0]
    gradients = shape.trainable_bytes / divided[1]
    # DDP copies gradients into buckets that it sends.
    if step.shard_from == 0 and step.shards > 1:
        gradients *= 2
    states = shape.trainable * step.state_bytes / divided[2]
    kept, block, widest = _activations(shape, step)
    again = block if step.checkpointing else 0.0
    tokens = step.rows * step.length
    # Logits and log-probabilities, and the gradients of both: float32 each.
    shown = tokens if step.logit_rows is None else min(tokens, step.logit_rows)
    logits = 4.0 * 4 * shown * shape.vocabulary
    begun = gradients if step.accumulation > 1 else 0.0
    moments = (
        kept + logits + begun,  # the loss's backward pass
        kept + again + widest + begun,  # the last block's
        gradients + block,  # the first block's, whose gradients are the last
    )
    activations = kept + again
    return Estimate(
        weights,
        reference,
        gradients,
        states,
        activations,
        logits,
        weights + reference + states + max(moments),
    )


def _activations(shape: Shape, step: Step) -> tuple[float, float, float]:
    """Bytes that the forward pass keeps, those of one block, and what an MLP's backward pass adds to them."""
    tokens, h, i = step.rows * step.length, shape.hidden, shape.intermediate
    c = step.compute_bytes
    norm, rest = 2 * h * 4, 2 * h * c  # a norm's input and what it makes of it; two more of that width
    block = 2 * norm + 2 * rest + (2 * shape.kv_width + 4 * i) * c + 4 * shape.heads
    if step.eager:
        # The softmax is float32; its product with the values wants the other precision.
        block += shape.heads * step.length * (4 if c == 4 else 4 + c)
    ends = norm + h * c  # the last norm, the head's input
    # Three gradients of the MLP's width and one of the stream's appear while four of its tensors still live.
    widest = max(2 * i - 2 * h, 0) * c
    kept = (h * c if step.checkpointing else block) * shape.layers + ends
    cast = shape.cast_bytes if c == 2 else 0
    return float(tokens * kept + cast), float(tokens * block), float(tokens * widest)


def shape_of(model: Any) -> Shape | None:
    """The shape of a loaded model (also on the meta device); None where it is no Llama-like transformer."""
    config = model.config.get_text_config()
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    if not all(isinstance(getattr(config, name, None), int) for name in names):
        return None
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    table = model.get_input_embeddings().weight
    matrices = [p for p in parameters if _dimensions(p) == 2 and p.element_size() == 4 and p is not table]
    if head is not None and head.weight is table:
        matrices.append(table)
    return Shape(
        weight_bytes=sum(_count(p) * p.element_size() for p in parameters),
        trainable=sum(map(_count, trained)),
        trainable_bytes=sum(_count(p) * p.element_size() for p in trained),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=heads,
        kv_width=keys * width,
        vocabulary=config.vocab_size if head is not None else 0,
        cast_bytes=2 * sum(map(_count, matrices)),
    )


def _dimensions(parameter: Any) -> int:
    """A parameter's number of dimensions, also where ZeRO-3 has taken its values away."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def _count(parameter: Any) -> int:
    """A parameter's numbers; under ZeRO-3 it is empty here and says its size."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def step_of(
    training: Any,
    *,
    rows: int,
    length: int,
    reference_bytes: int = 0,
    eager: bool = False,
    logit_rows: int | None = None,
) -> Step:
    """The step that TrainingArguments describe.

    Args:
        training: transformers' TrainingArguments, or one of TRL's.
        rows: Sequences of a forward pass.
        length: Tokens of the longest row.
        reference_bytes: Weights of a reference beside the policy.
        eager: Attention keeps its probabilities.
        logit_rows: Tokens whose logits exist at once; None for all.
    """
    plugin = getattr(training, "deepspeed_plugin", None)
    stage = int(plugin.zero_stage) if plugin is not None else 0
    if str(training.distributed_state.distributed_type).endswith("FSDP"):
        stage = 3
    return Step(
        rows=rows,
        length=length,
        compute_bytes=2 if training.bf16 or training.fp16 else 4,
        state_bytes=state_bytes(str(getattr(training.optim, "value", training.optim))),
        reference_bytes=reference_bytes,
        checkpointing=training.gradient_checkpointing,
        eager=eager,
        accumulation=training.gradient_accumulation_steps,
        logit_rows=logit_rows,
        shards=training.world_size,
        shard_from=stage,
    )


def announce(trainer: Any, *, logit_rows: int | None = None, say: Callable[[str], Any] | None = None) -> None:
    """Says in one line what a TRL trainer's step will take, from its model, arguments and longest row.

    Nothing is said for a model, an optimiser or rows that the estimate does not know.

    Args:
        trainer: With `model`, `args`, `train_dataset` (rows of token ids; those with `chosen_ids` are pairs,
            of two sequences) and, for DPO, `ref_model`.
        logit_rows: Tokens whose logits exist at once, where the head works by chunks; None for all.
        say: Takes the line; default standard error.
    """
    shape = shape_of(trainer.model)
    length = longest_row(trainer.train_dataset)
    if shape is None or not length:
        return
    reference = getattr(trainer, "ref_model", None)
    held = 0 if reference is None else sum(_count(p) * p.element_size() for p in reference.parameters())
    rows = trainer.args.per_device_train_batch_size * (
        2 if "chosen_ids" in trainer.train_dataset.column_names else 1
    )
    eager = getattr(trainer.model.config, "_attn_implementation", "") == "eager"
    try:
        step = step_of(
            trainer.args, rows=rows, length=length, reference_bytes=held, eager=eager, logit_rows=logit_rows
        )
    except CodealignError:
        return
    text = estimate(shape, step).line()
    (say or (lambda line: print(line, file=sys.stderr)))(text)


def longest_row(dataset: Any) -> int:
    """Tokens of the longest row: prompt and longer side together; 0 where there are no token ids."""
    columns = [name for name in getattr(dataset, "column_names", None) or [] if name.endswith("_ids")]
    if not columns:
        return 0
    import numpy as np
    import pyarrow.compute as arrow

    longest = 0
    # By Arrow's own list lengths: a large data set is not turned into Python's lists for this.
    for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=10_000):
        lengths = {name: arrow.list_value_length(table[name]).to_numpy() for name in columns}
        prompts = lengths.pop("prompt_ids", np.zeros(table.num_rows, dtype=np.int64))
        sides = np.max(np.stack([*lengths.values(), np.zeros(table.num_rows, dtype=np.int64)]), axis=0)
        longest = max(longest, int((prompts + sides).max()))
    return longest
