"""The memory estimate against measured peaks: real training steps of small models on the CPU.

    python -m benchmarks.memory_estimate --out runs/bench/memory.json

Measured is the largest sum of live tensor storage at any moment of the second step, seen at every operation:
the part that an estimate can know. The process's own memory, the allocator's cache and kernels' scratch
buffers come on top.
"""

from __future__ import annotations

import argparse
import json
import warnings
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.memory import Step, estimate, shape_of, size

VOCABULARY = 4096


@dataclass(frozen=True)
class Case:
    """One training step; `method` is "reward" (scalar head) or "dpo" (log-probabilities from full logits)."""

    name: str
    method: str = "reward"
    rows: int = 8
    length: int = 128
    hidden: int = 128
    layers: int = 4
    kv_heads: int = 4
    attention: str = "sdpa"
    checkpointing: bool = False
    lora: bool = False
    bf16: bool = False
    accumulation: int = 1
    optimizer: str = "AdamW"


CASES = (
    Case("reward model"),
    Case("reward model, long rows", length=384),
    Case("reward model, grouped keys", kv_heads=1),
    Case("reward model, eager attention", attention="eager", length=256),
    Case("reward model, checkpointing", checkpointing=True, layers=8),
    Case("reward model, LoRA", lora=True),
    Case("reward model, accumulation", accumulation=2),
    Case("reward model, SGD, wide", hidden=512, layers=2, rows=2, optimizer="SGD"),
    Case("reward model, bf16 autocast", bf16=True),
    Case("reward model, wide and deep", hidden=384, layers=8, rows=4),
    Case("DPO, full logits", method="dpo"),
    Case("DPO, full logits, checkpointing", method="dpo", checkpointing=True),
    Case("DPO, full logits, few tokens", method="dpo", rows=2, length=16, hidden=256),
)


def build(case: Case) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=case.hidden,
        intermediate_size=case.hidden * 11 // 4,
        num_hidden_layers=case.layers,
        num_attention_heads=4,
        num_key_value_heads=case.kv_heads,
        num_labels=1,
        pad_token_id=0,
        attn_implementation=case.attention,
    )
    model: Any = (LlamaForSequenceClassification if case.method == "reward" else LlamaForCausalLM)(config)
    if case.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS")
        )
    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def loss_of(model: Any, ids: Any, case: Case) -> tuple[Any, Any]:
    """The loss of one batch, chosen sides first, and the logits, which trainers hold on to."""
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    if case.method == "reward":
        scores = out.float().squeeze(-1)
    else:
        logps = torch.log_softmax(out[:, :-1].float(), -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        scores = 0.1 * logps.sum(-1)
    chosen, rejected = scores.chunk(2)
    return -torch.nn.functional.logsigmoid(chosen - rejected).mean(), out


class LiveStorage:
    """Counts the bytes of all tensor storages that are alive, and the most there ever were."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Any) -> None:
        """Counts a tensor's storage until it dies."""
        storage = tensor.untyped_storage()
        key, count = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += count
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, count)

    def _gone(self, key: int, count: int) -> None:
        self._known.discard(key)
        self.now -= count

    def watched(self) -> Any:
        """A context in which every operation's results are counted."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_leaves

        live = self

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = func(*args, **(kwargs or {}))
                for leaf in tree_leaves(out):
                    if isinstance(leaf, torch.Tensor):
                        live.add(leaf)
                return out

        return Watch()


def measure(case: Case) -> dict[str, Any]:
    """Peaks of one case, in bytes."""
    import torch

    model = build(case)
    trained = [p for p in model.parameters() if p.requires_grad]
    options = {"fused": True} if case.optimizer == "AdamW" else {}
    optimizer = getattr(torch.optim, case.optimizer)(trained, lr=1e-4, **options)
    ids = torch.randint(1, VOCABULARY, (case.rows, case.length))
    live = LiveStorage()
    for parameter in model.parameters():
        live.add(parameter)
    with live.watched():
        for _ in range(2):
            live.peak = 0  # the first step has no optimiser states yet
            for _ in range(case.accumulation):
                loss, logits = loss_of(model, ids, case)
                loss.backward()
                del loss, logits
            optimizer.step()
            optimizer.zero_grad()
    shape = shape_of(model)
    assert shape is not None
    from alignment.memory import state_bytes

    step_ = Step(
        rows=case.rows,
        length=case.length,
        compute_bytes=2 if case.bf16 else 4,
        state_bytes=state_bytes(case.optimizer),
        checkpointing=case.checkpointing,
        eager=case.attention == "eager",
        accumulation=case.accumulation,
    )
    expected = estimate(shape, step_)
    return {
        "case": case.name,
        "measured": live.peak,
        "estimated": expected.peak,
        "ratio": expected.peak / live.peak,
        "weights": expected.weights,
        "optimizer": expected.optimizer,
        "activations": expected.activations,
        "logits": expected.logits,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| step | measured | estimated | estimated / measured |", "|---|---|---|---|"]
    lines += [
        f"| {row['case']} | {size(row['measured'])} | {size(row['estimated'])} | {row['ratio']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = [measure(case) for case in CASES]
    print(table(rows))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
