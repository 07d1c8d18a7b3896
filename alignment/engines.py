"""From losses to a step: alone and data parallel, or with DeepSpeed's ZeRO, behind one interface.

The passes of an update add up to the global batch's loss, and behind the last pass the trainer may decide
not to step. Under ZeRO therefore Accelerate's `backward`, which steps by itself at once, is passed by: the
engine gets one accumulation step, and is told which pass is the last. Losses weigh as for DDP, since
DeepSpeed averages over processes, too. Norm, clipping and dropping a gradient work on the averaged gradients,
of which each process holds a part from the last pass on (DeepSpeed itself knows the norm only after a step).

Under ZeRO-3 weights are divided as well. Passes gather them layer by layer, which all processes do alike;
drawing answers does not go alike (processes draw different numbers of tokens), so that `whole` gathers the
model once for all of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from alignment.compat import next_accelerator, plain_loading, without_zero3_hooks
from alignment.divided import gathered
from alignment.processes import deepspeed_on_cpu
from codegen_eval.errors import CodealignError


class Stepping(Protocol):
    """How an update's gradient comes to be, is used and is kept.

    Attributes:
        model: The module for passes with gradients.
        optimizer: Has `param_groups`.
        divided: Whether each process has an optimiser state of its own.
    """

    model: Any
    optimizer: Any
    divided: bool

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around a pass, forward and backward; processes exchange gradients after the last one."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a pass's loss."""

    def clip(self, most: float) -> float:
        """The norm of the global gradient, which is then scaled down to `most` where it is above."""
        ...

    def step(self) -> None:
        """The optimiser's step; the gradient is used up."""

    def drop(self) -> None:
        """Throws the gradient away."""

    def whole(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Within, a part of the module has its whole weights and may be called without the others."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Trained weights by name, whole; for the main process alone. All processes call it."""
        ...

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Takes them back, as `load_weights`. All processes call it."""

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state; this process's where it is divided."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it back.

        Raises:
            CodealignError: If it was divided in another way.
        """


class Engine(Stepping, Protocol):
    """What the on-policy trainer needs beside that.

    Attributes:
        accelerator: Of the processes.
    """

    accelerator: Any

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The precision in which `model` computes, for passes that do not go through it."""
        ...

    def frozen(self, module: nn.Module) -> Any:
        """A module that is never trained, as it is to be called: divided where the trained weights are."""
        ...


class Whole:
    """What goes alike wherever each process holds all of weights and optimiser.

    Args:
        module: What is trained.
        model: The module for passes with gradients.
        optimizer: Of its trained parameters.
    """

    divided = False

    def __init__(self, module: nn.Module, model: Any, optimizer: Any) -> None:
        self.module, self.model, self.optimizer = module, model, optimizer

    def step(self) -> None:
        """As `Stepping.step`."""
        self.optimizer.step()
        self.drop()

    def drop(self) -> None:
        """As `Stepping.drop`."""
        self.optimizer.zero_grad(set_to_none=True)

    def whole(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """As `Stepping.whole`."""
        return contextlib.nullcontext()

    def weights(self) -> dict[str, Tensor]:
        """As `Stepping.weights`."""
        return {name: parameter.detach() for name, parameter in trained(self.module).items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As `Stepping.load_weights`."""
        load_weights(trained(self.module), weights)

    def state_dict(self) -> dict[str, Any]:
        """As `Stepping.state_dict`."""
        return dict(self.optimizer.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `Stepping.load_state_dict`."""
        self.optimizer.load_state_dict(state)


class Plain(Whole):
    """One process, or DDP.

    Args:
        module: What is trained.
        optimizer: Of its trained parameters.
        accelerator: Of the processes.
    """

    def __init__(self, module: nn.Module, optimizer: Any, accelerator: Any) -> None:
        super().__init__(module, *accelerator.prepare(module, optimizer))
        self.accelerator = accelerator

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """As `Engine.accumulating`."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)

    def backward(self, loss: Tensor) -> None:
        """As `Engine.backward`."""
        self.accelerator.backward(loss)

    def clip(self, most: float) -> float:
        """As `Engine.clip`."""
        return float(self.accelerator.clip_grad_norm_(self.model.parameters(), most))

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """As `Engine.autocast`."""
        return self.accelerator.autocast()  # type: ignore[no-any-return]

    def frozen(self, module: nn.Module) -> Any:
        """As `Engine.frozen`."""
        return module


class Zero:
    """DeepSpeed's ZeRO, stages 1 to 3.

    Weights are float32 and computed with in bfloat16 by autocast, as in DDP: with DeepSpeed's own bf16 the
    policy that draws would be another than the one whose float32 weights learn.

    Args:
        module: What is trained.
        optimizer: Of its trained parameters.
        accelerator: Of the processes.
        rows: Of a pass, for DeepSpeed's own figures.
        bf16: Compute in bfloat16.

    Raises:
        CodealignError: For weights that are not float32.
    """

    divided = True

    def __init__(
        self, module: nn.Module, optimizer: Any, accelerator: Any, *, rows: int, bf16: bool = False
    ) -> None:
        odd = {str(p.dtype).removeprefix("torch.") for p in module.parameters()} - {"float32"}
        if odd:
            raise CodealignError(
                f"under ZeRO weights are float32 (these: {', '.join(sorted(odd))}): set dtype float32; where "
                "the trainer has bf16, that computes in bfloat16"
            )
        self.module, self.accelerator, self.bf16 = module, accelerator, bf16
        settings = accelerator.state.deepspeed_plugin.deepspeed_config
        settings |= {
            "train_micro_batch_size_per_gpu": rows,
            "train_batch_size": rows * accelerator.num_processes,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0,
            "bf16": {"enabled": False},
            # No module is safe to exchange in bfloat16: gradients and gathered weights stay float32.
            "torch_autocast": {
                "enabled": bf16,
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],
            },
        }
        self.stage = int(settings["zero_optimization"]["stage"])
        self.model, self.optimizer = accelerator.prepare(module, optimizer)

    @property
    def _zero(self) -> Any:
        """DeepSpeed's optimiser, around ours."""
        return self.model.optimizer

    @contextlib.contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """As `Engine.accumulating`."""
        self.model.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: Tensor) -> None:
        """As `Engine.backward`."""
        self.model.backward(loss)

    def clip(self, most: float) -> float:
        """As `Engine.clip`."""
        own = [part for parts in self._zero.averaged_gradients.values() for part in parts]
        squares = torch.stack([part.double().square().sum() for part in own]).sum()
        norm = float(self.accelerator.reduce(squares, "sum").sqrt())
        factor = most / (norm + 1e-6)  # as torch.nn.utils.clip_grad_norm_
        if factor < 1:
            for part in own:
                part.mul_(factor)
        return norm

    def step(self) -> None:
        """As `Engine.step`."""
        self.model.step()

    def drop(self) -> None:
        """As `Engine.drop`."""
        self._zero.zero_grad()
        for group in self._zero.averaged_gradients:
            self._zero.averaged_gradients[group] = None

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """As `Engine.autocast`."""
        device = self.accelerator.device.type
        return torch.autocast(device, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def frozen(self, module: nn.Module) -> Any:
        """As `Engine.frozen`."""
        if self.stage < 3:
            return module
        import deepspeed

        settings = self.accelerator.state.deepspeed_plugin.deepspeed_config
        names = ("train_micro_batch_size_per_gpu", "zero_optimization", "torch_autocast")
        return deepspeed.initialize(model=module, config={name: settings[name] for name in names})[0]

    @contextlib.contextmanager
    def whole(self, module: nn.Module) -> Iterator[None]:
        """As `Engine.whole`."""
        if self.stage < 3:
            yield
            return
        # With its hooks a layer would be divided again as soon as it has been passed.
        with gathered(module.parameters()), without_zero3_hooks(self.model):
            yield

    def weights(self) -> dict[str, Tensor]:
        """As `Engine.weights`; one at a time is whole on the device."""
        found = {}
        for name, parameter in trained(self.module).items():
            with gathered([parameter]):
                if self.accelerator.is_main_process:
                    found[name] = parameter.detach().to("cpu", copy=True)
        return found

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As `Engine.load_weights`."""
        own = trained(self.module)
        check_names(own, weights)
        for name, parameter in own.items():
            with gathered([parameter], changed=True):
                load_weights({name: parameter}, {name: weights[name]})
        self._zero.refresh_fp32_params()

    def state_dict(self) -> dict[str, Any]:
        """As `Engine.state_dict`."""
        states = self._zero.optimizer.state
        return {
            "division": self._division,
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "states": [dict(states.get(part, {})) for part in self._parts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `Engine.load_state_dict`."""
        if state["division"] != self._division:
            raise CodealignError(
                f"the checkpoint's optimiser is divided as {state['division']}, this run as "
                f"{self._division}: go on with the same launch configuration and number of processes"
            )
        for group, rate in zip(self.optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate
        for part, saved in zip(self._parts, state["states"], strict=True):
            if saved:
                # Adam counts its steps on the CPU.
                self._zero.optimizer.state[part] = {
                    name: value.to(part.device) if value.dim() else value for name, value in saved.items()
                }

    @property
    def _division(self) -> str:
        return f"ZeRO-{self.stage} over {self.accelerator.num_processes}"

    @property
    def _parts(self) -> list[Tensor]:
        """What this process's optimiser moves: one flat tensor a group of parameters."""
        zero = self._zero
        parts = zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups
        return list(parts)


def load_weights(own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Copies weights into the trained parameters of the same names.

    Args:
        own: Of `trained`.
        weights: Of a checkpoint.

    Raises:
        CodealignError: If names or shapes differ: another model or critic wrote them.
    """
    check_names(own, weights)
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != weights[name].shape:
                raise CodealignError(f"the checkpoint's {name} has another shape than this model's")
            parameter.copy_(weights[name])


def check_names(own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Raises CodealignError if another model or critic wrote the weights."""
    if own.keys() != weights.keys():
        odd = sorted(own.keys() ^ weights.keys())
        raise CodealignError(
            f"the checkpoint has other weights than this model ({', '.join(odd[:3])} and so on): start anew "
            "with --overwrite"
        )


def trained(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def dividing(who: str, *, cpu: bool) -> Any:
    """The Accelerator of a launch under DeepSpeed, for a trainer whose config is not transformers'.

    Args:
        who: The trainer, for messages.
        cpu: Whether its processes compute on the CPU.

    Raises:
        CodealignError: As `check_zero`, and without DeepSpeed.
    """
    from accelerate import Accelerator, PartialState

    if cpu:
        deepspeed_on_cpu(os.environ)
    next_accelerator()  # an earlier run in this process may have made one
    PartialState(backend="gloo" if cpu else None)  # the first to be asked makes it
    accelerator = Accelerator()
    check_zero(accelerator.state.deepspeed_plugin.deepspeed_config, who)
    plain_loading()
    return accelerator


def check_zero(settings: Mapping[str, Any], who: str) -> None:
    """Refuses what a trainer on these engines cannot do with a DeepSpeed configuration.

    Args:
        settings: DeepSpeed's.
        who: The trainer, for messages.

    Raises:
        CodealignError: With what to take instead.
    """
    zero = settings.get("zero_optimization", {})
    if not zero.get("stage"):
        raise CodealignError(
            f"{who} takes DeepSpeed for ZeRO 1 to 3 alone, and stage 0 was asked for: take --accelerate ddp"
        )
    if settings.get("fp16", {}).get("enabled") is True:
        raise CodealignError(
            f"{who} has no fp16: take it out of the launch configuration (where the trainer has the option "
            "bf16, set bf16 true)"
        )
    for name in ("optimizer", "scheduler"):
        if name in settings:
            raise CodealignError(
                f"the DeepSpeed configuration has a section {name}, which is the recipe's: take it out"
            )
    for what in ("optimizer", "param"):
        if (zero.get(f"offload_{what}") or {}).get("device", "none") != "none":
            raise CodealignError(
                f"{who} does not offload (offload_{what}_device): DeepSpeed would put another "
                "optimiser in the place of ours; take --accelerate zero3, or adapters (use_peft)"
            )
