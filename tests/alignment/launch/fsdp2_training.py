"""Two steps of our modules, sharded by torch's own `fully_shard` over gloo, beside one process that is not.

    torchrun --nproc_per_node 2 -m tests.alignment.launch.fsdp2_training FOLDER

FOLDER holds a small model. Blocks and the whole are sharded as recipes/accelerate/fsdp2.yaml says: Accelerate
would do the same, but falls back to DDP on CPU processes. Everything is in float64, so that what differs is
more than rounding.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PAIRS = 8
STEPS = 2
Loss = Callable[[Any, range, int], Tensor]
"""Of the module, some rows and the number of processes; the mean over processes is the global batch's."""


def main(folder: Path) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    found = {}
    for name, make in CASES.items():
        module, loss = make(folder)
        alone = copy.deepcopy(module)
        shard(module)
        local = sum(p.to_local().numel() for p in module.parameters())
        each = PAIRS // world
        losses = train(module, loss, range(rank * each, (rank + 1) * each), world)
        weights = {key: p.full_tensor().detach() for key, p in module.named_parameters()}
        sizes: list[Any] = [None] * world
        dist.all_gather_object(sizes, (local, losses))
        start = {key: p.detach().clone() for key, p in alone.named_parameters()}
        expected = train(alone, loss, range(PAIRS), 1)
        now = dict(alone.named_parameters())
        found[name] = {
            "losses": [sum(of[step] for _, of in sizes) / world for step in range(STEPS)],
            "expected": expected,
            "apart": max(float((weights[key] - now[key]).detach().abs().max()) for key in now),
            "moved": min(float((weights[key] - start[key]).abs().max()) for key in now),
            "held": [held for held, _ in sizes],
            "whole": sum(p.numel() for p in now.values()),
        }
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def shard(module: nn.Module) -> None:
    """Each decoder block, then what is left, over all processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    blocks = [part for part in module.modules() if type(part).__name__ == "LlamaDecoderLayer"]
    assert blocks, "the model has no blocks to shard"
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(module, mesh=mesh, reshard_after_forward=True)


def train(module: Any, loss: Loss, rows: range, world: int) -> list[float]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(STEPS):
        value = loss(module, rows, world)
        value.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(value.detach()))
    return losses


def texts(seed: int, shortest: int, longest: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(3, 60) for _ in range(draw.randint(shortest, longest))] for _ in range(PAIRS)]


def language_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)


def policy(folder: Path) -> tuple[nn.Module, Loss]:
    """Policy and value head under PPO's losses; answers of unequal lengths on the two processes."""
    from alignment.onpolicy.batch import Tokens
    from alignment.onpolicy.losses import aggregate, ppo_losses, value_losses
    from alignment.onpolicy.policy import ActorCritic

    tokens = Tokens.of(texts(0, 2, 5), texts(1, 1, 9), torch.device("cpu"), 0)
    mask, draw = tokens.mask, torch.Generator().manual_seed(0)
    advantages, returns, values = (
        torch.randn(mask.shape, generator=draw, dtype=torch.float64) for _ in range(3)
    )
    old = -6.0 + torch.rand(mask.shape, generator=draw, dtype=torch.float64)  # some ratios are clipped

    def loss(module: Any, rows: range, world: int) -> Tensor:
        chosen = list(rows)
        flat = module(**tokens.inputs(chosen), values=True, statistics=True)
        scores = {name: tokens.spread(of, chosen) for name, of in flat.items()}
        here = mask[chosen]
        found = ppo_losses(scores["logps"], old[chosen], advantages[chosen], here)
        critic = value_losses(scores["values"], values[chosen], returns[chosen], here, clip=0.2)
        parts = (aggregate(x.losses, here, "token_mean", mask.sum()) for x in (found, critic))
        return world * sum(parts, torch.zeros(()))

    return ActorCritic(language_model(folder), 0.7, "head"), loss


def preference(folder: Path) -> tuple[nn.Module, Loss]:
    """DPO on rows that share their prompts, through the forward pass that `install` gives a model."""
    from alignment.losses.base import make_loss
    from alignment.preference.layout import lay_out
    from alignment.preference.scoring import install, score, tensors_of

    model = language_model(folder)
    install(model)
    groups = [
        (prompt, [good, bad])
        for prompt, good, bad in zip(texts(0, 2, 5), texts(1, 2, 9), texts(2, 2, 9), strict=True)
    ]
    dpo = make_loss("dpo", beta=0.5)

    def loss(module: Any, rows: range, world: int) -> Tensor:
        batch = tensors_of(lay_out([groups[row] for row in rows], share=True), masked=True)
        chosen, rejected = score(module, batch)["logps"].sum(1).chunk(2)
        reference = torch.arange(PAIRS, dtype=torch.float64)[list(rows)]
        logps = {"chosen_logps": chosen, "rejected_logps": rejected}
        return dpo({**logps, "ref_chosen_logps": -reference, "ref_rejected_logps": -2 * reference}).loss()

    return model, loss


def reward(folder: Path) -> tuple[nn.Module, Loss]:
    """A reward model with a new head under the pairwise loss."""
    from alignment.reward_modeling.members import Seeds, draw_member

    model, _ = draw_member(str(folder / "model"), Seeds(1, 2), dtype="float64")
    sides = [[[*p, *a] for p, a in zip(texts(0, 2, 5), texts(seed, 2, 9), strict=True)] for seed in (1, 2)]

    def loss(module: Any, rows: range, world: int) -> Tensor:
        asked = [side[row] for side in sides for row in rows]
        width = max(map(len, asked))
        ids = torch.tensor([[*row, *[module.config.pad_token_id] * (width - len(row))] for row in asked])
        seen = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in asked])
        chosen, rejected = module(input_ids=ids, attention_mask=seen).logits.squeeze(-1).chunk(2)
        return -torch.nn.functional.logsigmoid(chosen - rejected).mean()

    return model, loss


CASES: dict[str, Callable[[Path], tuple[nn.Module, Loss]]] = {
    "policy": policy,
    "preference": preference,
    "reward": reward,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
