"""Processes of one run, for trainers with a loop of their own (MRT, MeZO): each does its share, all hold the
same model, the first writes the files.

What MRT draws of a row depends on seed, key and number alone, so rows may be drawn anywhere; only a logit's
last bits depend on the rows beside it, as with `batch_rows`. Gradients are summed, and clipping and the
optimiser's step are then the same in every process: no wrapper of the model is needed. Under ZeRO the model
is divided by DeepSpeed (alignment/engines.py), drawing is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from alignment.engines import dividing
from alignment.health.monitor import phase
from alignment.processes import check_processes, launched_with, refuse_fsdp
from codegen_eval.errors import CodealignError

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: Its number.
        world: How many there are.
        device: Where its model lies; None for the first GPU if there is one, else the CPU.
        zero: Under ZeRO, the Accelerator that divides the model; else None.
    """

    rank: int = 0
    world: int = 1
    device: str | None = None
    zero: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Every `world`-th item: in a list sorted by length all ranks get as much."""
        return list(items[self.rank :: self.world])

    def spread(self, items: Sequence[T], work: Callable[[list[T]], list[U]]) -> list[U]:
        """`work` of all items, each rank on its share; every rank gets all results, in the items' order.

        Args:
            items: The same in every rank.
            work: Gives one result an item; it must not exchange anything itself.

        Raises:
            CodealignError: In all ranks, where one of them raised it.
        """
        if self.world == 1:
            return work(list(items))
        found = self.each(lambda: work(self.share(items)))
        return [found[i % self.world][i // self.world] for i in range(len(items))]

    def each(self, work: Callable[[], T]) -> list[T]:
        """What `work` gives in every rank, in their order; every rank gets all of it.

        Args:
            work: It must not exchange anything itself: a rank that fails in it says so to the others, who may
                have gone on.

        Raises:
            CodealignError: In all ranks, where one of them raised it.
        """
        if self.world == 1:
            return [work()]
        mine, fault = None, None
        try:
            mine = work()
        except CodealignError as error:
            fault = str(error)
        found: list[Any] = self.gathered((mine, fault))
        for _, fault in found:
            if fault is not None:
                raise CodealignError(fault)
        return [value for value, _ in found]

    def gathered(self, value: T) -> list[T]:
        """Every rank's value, in their order, in all ranks."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        with phase("gather"):  # waiting for the others is no work of one's own
            dist.all_gather_object(found, value)
        return found

    def told(self, value: T) -> T:
        """The first rank's value, in all ranks."""
        if self.world == 1:
            return value
        found = [value if self.first else None]
        with phase("gather"):
            dist.broadcast_object_list(found, src=0)
        return found[0]  # type: ignore[return-value]

    def led(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first rank, which alone does it; the others wait.

        Raises:
            Exception: What `work` raised; in the other ranks a CodealignError that says the same.
        """
        if self.world == 1:
            return work()
        if not self.first:
            value, fault = self.told((None, None))
            if fault is not None:
                raise CodealignError(fault)
            return value  # type: ignore[return-value]
        try:
            value = work()
        except Exception as error:
            own = isinstance(error, CodealignError)
            self.told((None, str(error) if own else f"rank 0: {type(error).__name__}: {error}"))
            raise
        self.told((value, None))
        return value

    def together(self) -> None:
        """Goes on when all ranks are here."""
        if self.world > 1:
            with phase("gather"):
                dist.barrier()

    def total(self, value: float, device: Any) -> float:
        """The sum of all ranks' values, the same in each; exchanged on `device`."""
        if self.world == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(found)
        return float(found)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sums the gradients of all ranks in place.

        A parameter that no rank has a gradient of is left without one, as in a single process: AdamW would
        move it by its momentum.
        """
        of = list(parameters)
        if self.world == 1 or not of:
            return
        holders = torch.tensor([p.grad is not None for p in of], dtype=torch.uint8, device=of[0].device)
        dist.all_reduce(holders, dist.ReduceOp.MAX)
        pending = []
        for parameter, holding in zip(of, holders.tolist(), strict=True):
            if not holding:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            pending.append(dist.all_reduce(parameter.grad, async_op=True))
        for one in pending:
            one.wait()

    def align(self, model: Any) -> None:
        """Gives every rank the first one's weights, whatever was drawn when they were made."""
        if self.world > 1:
            for parameter in model.parameters():
                dist.broadcast(parameter.data, src=0)


ALONE = Ranks()
"""A single process."""


def joined(command: str, *, cpu: bool = False) -> Ranks:
    """Meets the other processes of this launch, over NCCL on GPUs, over gloo on CPUs.

    Args:
        command: The trainer, for messages.
        cpu: Leave GPUs alone.

    Raises:
        CodealignError: Under FSDP, for a DeepSpeed configuration that cannot be used, and for fewer GPUs than
            processes on a machine.
    """
    zero = launched_with("DEEPSPEED")
    if not zero:
        refuse_fsdp(command)
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return Ranks(device="cpu" if cpu else None)
    from accelerate import PartialState

    gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if not cpu and 0 < gpus < here:
        raise CodealignError(
            f"{command}: {here} processes on a machine with {gpus} GPU{'s' if gpus > 1 else ''}; give "
            f"--num_processes {gpus} a machine, or --use_cpu"
        )
    cpu = cpu or not gpus
    accelerator = dividing(command, cpu=cpu) if zero else None
    state = PartialState(cpu=cpu)
    world, rank = int(state.num_processes), int(state.process_index)
    check_processes(SimpleNamespace(world_size=world, process_index=rank, distributed_state=state))
    return Ranks(rank, world, "cpu" if cpu else str(state.device), accelerator)
