"""What on-policy training costs: ReMax against PPO, and RLOO and GRPO against TRL's trainers.

    python -m benchmarks.onpolicy_cost memory --parameters 5 50 --out runs/bench/onpolicy_memory.json
    python -m benchmarks.onpolicy_cost speed --parameters 5 50 --out runs/bench/onpolicy_speed.json
    python -m benchmarks.onpolicy_cost trl --parameters 1 5 --out runs/bench/onpolicy_trl.json

A Llama of random weights (float32, input and output embedding tied), prompts of one length, answers that
hardly ever end before the limit, a reward that costs nothing. PPO makes four epochs; its critic is a model
of its own ("critic") or a head on the policy's trunk ("head"). All keep a reference for the KL.

`memory`: each way in a process of its own. State is counted from the tensors that training holds: weights,
gradients, moments of all that is trained; the reference apart. The peak is that of the second step with its
generation: the largest sum of live tensor storage, seen at every operation, and the most that was resident
less what the process held before it made a model.

`speed` and `trl`: CPU seconds on one thread, all ways in one process in turn, ratios within a round. `speed`
times `OnPolicyTrainer.step`, and the drawing of its answers apart. `trl` times whole turns of both training
loops, logging and loading included: the loops run in two threads of which one works at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from benchmarks.dpo_step import SIZES, held, model_of, peak, tokenizer_of
from benchmarks.measuring import Bar, machine, paired, print_machine, print_table, write_json


@dataclass(frozen=True)
class Shape:
    """Tokens of a prompt and of an answer; answers a pass; passes an update."""

    prompt: int = 32
    answer: int = 64
    rows: int = 8
    passes: int = 2


WAYS: dict[str, dict[str, Any]] = {
    "ReMax": {"algorithm": "remax"},
    "PPO, critic": {"algorithm": "ppo", "value_model": "critic"},
    "PPO, head": {"algorithm": "ppo", "value_model": "head"},
}
GROUP = 4
"""Samples a prompt for RLOO and GRPO."""
RIVALS = {"RLOO": ("rloo", 0.05), "GRPO": ("grpo", 0.0)}
"""Algorithm, and the coefficient of the KL that TRL's config has by default."""
BARS = {"state": 0.55, "peak": 0.7, "step": 0.6, "trl": 1.0}


def share_of_odd_tokens(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """The reward: a number that differs between answers and costs nothing."""
    return [sum(token % 2 for token in ids) / max(1, len(ids)) for ids in completion_ids]


def prompts_of(vocabulary: int, length: int, count: int = 256) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(4, vocabulary) for _ in range(length)] for _ in range(count)]


def words_of(ids: list[int]) -> str:
    """The text that the tokenizer encodes as these tokens."""
    return " ".join(f"w{token}" for token in ids)


def ours(size: int, shape: Shape, asked: dict[str, Any], *, steps: int = 1000, callbacks: Any = ()) -> Any:
    """Our trainer of an algorithm on a fresh model."""
    from alignment.onpolicy.algorithms import ALGORITHMS
    from alignment.onpolicy.algorithms.base import resolved
    from alignment.onpolicy.building import build_module
    from alignment.onpolicy.options import OnPolicyConfig, OnPolicyOptions
    from alignment.onpolicy.prompts import PromptRow
    from alignment.onpolicy.trainer import OnPolicyTrainer

    vocabulary = SIZES[size][-1]
    options = OnPolicyOptions(max_completion_length=shape.answer, **asked)
    algorithm = resolved(
        ALGORITHMS[options.algorithm], options, {"max_completion_length": shape.answer, **asked}
    )
    module = build_module(
        model_of(size, 0),
        options.temperature,
        value_model=options.value_model if algorithm.needs_value else None,
    )
    rows = [PromptRow(words_of(ids), tuple(ids), {}) for ids in prompts_of(vocabulary, shape.prompt)]
    config = OnPolicyConfig(
        max_steps=steps,
        per_device_train_batch_size=shape.rows,
        gradient_accumulation_steps=shape.passes,
        learning_rate=1e-5,
        use_cpu=True,
    )
    return OnPolicyTrainer(
        module, tokenizer_of(vocabulary), config, algorithm, rows, share_of_odd_tokens, callbacks=callbacks
    )


# --- memory -------------------------------------------------------------------------------------------------


def nbytes(tensors: Any) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def state_of(trainer: Any, gradients: int) -> dict[str, int]:
    """Bytes that training holds between operations."""
    moments = [t for of in trainer.optimizer.state.values() for t in of.values() if t.dim()]
    reference = trainer.preparer.reference._module
    return {
        "weights": nbytes(trainer.module.parameters()),
        "gradients": gradients,
        "moments": nbytes(moments),
        "reference": nbytes(reference.parameters()),
    }


def memory_of(way: str, size: int, shape: Shape) -> dict[str, int]:
    """In a process of its own: state and peaks of one way's second step, in bytes."""
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401 - counts for the start, not for the model

    import alignment.onpolicy.trainer  # noqa: F401
    from benchmarks.memory_estimate import LiveStorage

    torch.set_num_threads(1)
    start = held()
    trainer = ours(size, shape, WAYS[way])
    live = LiveStorage()
    for parameter in [*trainer.module.parameters(), *trainer.preparer.reference._module.parameters()]:
        live.add(parameter)
    gradients = [0]
    update = trainer.optimizer.step

    def step(*args: Any, **kwargs: Any) -> Any:
        gradients[0] = nbytes(p.grad for p in trainer.module.parameters() if p.grad is not None)
        return update(*args, **kwargs)

    trainer.optimizer.step = step
    with live.watched():
        trainer.step(0)  # the first step has no moments yet
        gc.collect()
        live.peak = live.now
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
        trainer.step(1)
        found = {"live_peak": live.peak, "resident_peak": peak() - start}
    trainer.calls.close()
    return {**state_of(trainer, gradients[0]), **found}


def memory(sizes: list[int], shape: Shape) -> tuple[dict[str, Any], list[Bar]]:
    found: dict[str, Any] = {}
    body, bars = [], []
    for size in sizes:
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.onpolicy_cost", "memory", "--one", way, str(size)]
            for name, value in asdict(shape).items():
                command += [f"--{name}", str(value)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            one = json.loads(said.splitlines()[-1])
            one["state"] = one["weights"] + one["gradients"] + one["moments"]
            found[f"{size} M, {way}"] = one
            base = found[f"{size} M, ReMax"]
            whole, base_whole = (x["state"] + x["reference"] for x in (one, base))
            body.append(
                [
                    f"{size} M, {way}",
                    *(f"{value / 2**20:.0f}" for value in (one["state"], whole)),
                    *(f"{one[name] / 2**20:.0f}" for name in ("live_peak", "resident_peak")),
                    f"{base['state'] / one['state']:.2f}, {base_whole / whole:.2f}",
                    *(f"{base[name] / one[name]:.2f}" for name in ("live_peak", "resident_peak")),
                ]
            )
            if way == "PPO, critic":
                bars.append(Bar(f"{size} M: state", base["state"] / one["state"], most=BARS["state"]))
                bars.append(Bar(f"{size} M: and reference", base_whole / whole, most=BARS["state"]))
                for name in ("live_peak", "resident_peak"):
                    text = f"{size} M: {name.replace('_', ' ')}"
                    bars.append(Bar(text, base[name] / one[name], most=BARS["peak"]))
    heads = ["way", "state MiB", "and reference", "live peak", "resident peak"]
    heads += ["ReMax / it: state, and reference", "live peak", "resident peak"]
    print_table("Memory of a step", heads, body)
    return found, bars


# --- ReMax against PPO --------------------------------------------------------------------------------------


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The function, its CPU seconds appended at every call."""

    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.process_time() - began)

    return call


def speed(sizes: list[int], shape: Shape, rounds: int) -> tuple[dict[str, Any], list[Bar]]:
    found: dict[str, Any] = {}
    body, bars = [], []
    for size in sizes:
        trainers = {way: ours(size, shape, asked) for way, asked in WAYS.items()}
        whole: dict[str, list[float]] = {way: [] for way in WAYS}
        drawing: dict[str, list[float]] = {way: [] for way in WAYS}
        for way, trainer in trainers.items():
            trainer.step(0)  # warm
            trainer.draw = timed(trainer.draw, drawing[way])
        for turn in range(rounds):
            names = list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]
            for way in names:
                timed(trainers[way].step, whole[way])(turn + 1)
        for way, trainer in trainers.items():
            trainer.calls.close()
            rest = [a - b for a, b in zip(whole[way], drawing[way], strict=True)]
            ratios = [a / b for a, b in zip(whole["ReMax"], whole[way], strict=True)]
            found[f"{size} M, {way}"] = {"step": whole[way], "drawing": drawing[way]}
            body.append(
                [
                    f"{size} M, {way}",
                    *(f"{statistics.median(x):.2f}" for x in (whole[way], drawing[way], rest)),
                    f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                ]
            )
            if way != "ReMax":
                bars.append(Bar(f"{size} M: ReMax / {way}", statistics.median(ratios), most=BARS["step"]))
    print_table(
        f"CPU seconds of a step, median of {rounds}",
        ["way", "step", "drawing", "the rest", "ReMax / it (range)"],
        body,
    )
    return found, bars


# --- against TRL --------------------------------------------------------------------------------------------


class Baton:
    """Lets training loops in threads of their own work one at a time, a turn each."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.lengths: dict[str, list[float]] = {name: [] for name in names}
        self.turns = {name: threading.Semaphore(0) for name in names}
        self.left = set(names)
        self.began = 0.0
        self.errors: list[BaseException] = []

    def run(self, loops: dict[str, Callable[[], Any]]) -> None:
        """Runs all loops to their ends; the first error of any is raised."""
        threads = [threading.Thread(target=self._one, args=item, daemon=True) for item in loops.items()]
        for thread in threads:
            thread.start()
        self.began = time.process_time()
        self.turns[self.names[0]].release()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _one(self, name: str, loop: Callable[[], Any]) -> None:
        self.turns[name].acquire()
        try:
            loop()
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.left.discard(name)
            self._hand_on(name)

    def _hand_on(self, name: str) -> None:
        place = self.names.index(name)
        following = [n for n in self.names[place + 1 :] + self.names[: place + 1] if n in self.left]
        if following:
            self.began = time.process_time()
            self.turns[following[0]].release()

    def callback(self, name: str) -> Any:
        """A callback for the loop of this name: ends its turn at the end of every step."""
        from transformers import TrainerCallback

        baton = self

        class Turn(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **more: Any) -> None:
                baton.seconds[name].append(time.process_time() - baton.began)
                baton._hand_on(name)
                baton.turns[name].acquire()

            def on_log(self, *_: Any, logs: Any = None, **more: Any) -> None:
                if "completions/mean_length" in logs:
                    baton.lengths[name].append(logs["completions/mean_length"])

        return Turn()


def theirs(name: str, size: int, shape: Shape, folder: Path, beta: float, steps: int, callback: Any) -> Any:
    """TRL's trainer with the same model, prompts, batches and reward."""
    import trl
    from datasets import Dataset

    vocabulary = SIZES[size][-1]
    kind, config = getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")
    settings = config(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=shape.rows,
        gradient_accumulation_steps=shape.passes,
        num_generations=GROUP,
        max_completion_length=shape.answer,
        max_steps=steps,
        learning_rate=1e-5,
        beta=beta,
        temperature=1.0,
        top_p=1.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    data = Dataset.from_list([{"prompt": words_of(ids)} for ids in prompts_of(vocabulary, shape.prompt)])
    # With a KL it loads its reference from the folder that the model came from.
    return kind(
        str(folder / "model"),
        reward_funcs=share_of_odd_tokens,
        args=settings,
        train_dataset=data,
        processing_class=tokenizer_of(vocabulary),
        callbacks=[callback],
    )


def against_trl(sizes: list[int], shape: Shape, rounds: int) -> tuple[dict[str, Any], list[Bar]]:
    found: dict[str, Any] = {}
    body, bars = [], []
    warm = 2
    for size in sizes:
        for name, (algorithm, beta) in RIVALS.items():
            baton = Baton(["ours", "TRL"])
            with tempfile.TemporaryDirectory() as place, Path(os.devnull).open("w") as nowhere:
                folder = Path(place)
                model_of(size, 0).save_pretrained(folder / "model")
                steps = rounds + warm
                asked = {"algorithm": algorithm, "num_generations": GROUP, "kl_coef": beta}
                mine = ours(size, shape, asked, steps=steps, callbacks=[baton.callback("ours")])
                other = theirs(name, size, shape, folder, beta, steps, baton.callback("TRL"))
                with contextlib.redirect_stdout(nowhere):  # its logs
                    baton.run({"ours": mine.train, "TRL": other.train})
            lengths = {way: statistics.fmean(values[warm:]) for way, values in baton.lengths.items()}
            seconds = {way: values[warm:] for way, values in baton.seconds.items()}
            ratio = paired(seconds["ours"], seconds["TRL"])
            ratios = [a / b for a, b in zip(seconds["ours"], seconds["TRL"], strict=True)]
            found[f"{size} M, {name}"] = {**seconds, "mean_length": lengths}
            body.append(
                [
                    f"{size} M, {name}, KL {beta:g}",
                    *(f"{1e3 * statistics.median(seconds[way]):.0f}" for way in ("ours", "TRL")),
                    f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                    " / ".join(f"{length:.1f}" for length in lengths.values()),
                ]
            )
            bars.append(Bar(f"{size} M: our {name} / TRL's", ratio, most=BARS["trl"]))
    print_table(f"CPU ms of a step, median of {rounds}", ["way", "ours", "TRL", "ours / TRL (range)"], body)
    return found, bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("memory", "speed", "trl"))
    parser.add_argument("--parameters", type=int, nargs="+", choices=sorted(SIZES), help="in millions")
    parser.add_argument("--rounds", type=int, default=5)
    for option in fields(Shape):
        parser.add_argument(f"--{option.name}", type=int, default=option.default)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SIZE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    shape = Shape(given.prompt, given.answer, given.rows, given.passes)
    if given.one:
        print(json.dumps(memory_of(given.one[0], int(given.one[1]), shape)))
        return
    facts = machine()
    print_machine(facts)
    sizes = given.parameters or ([1, 5] if given.what == "trl" else [5, 50])
    if given.what == "memory":
        found, bars = memory(sizes, shape)
    else:
        found, bars = (speed if given.what == "speed" else against_trl)(sizes, shape, given.rounds)
    print_table("Bars", ["what", "ratio", "bar", ""], [bar.row() for bar in bars])
    write_json(given.out, {"machine": facts, "shape": asdict(shape), "found": found})


if __name__ == "__main__":
    main()
