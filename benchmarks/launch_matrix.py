"""Trainer x launch mode: does every trainer learn the same on two processes as on one?

    python -m benchmarks.launch_matrix --out runs/launch/matrix.json
    python -m benchmarks.launch_matrix --modes ddp --methods dpo

Each mode is one call of Accelerate's launcher with the shipped configuration and two CPU processes; its
processes run every method's entry point in turn, on a model of a few thousand weights, with the global
batch of the single process. What is compared is the loss of every step; of on-policy training policy loss,
reward, KL and norm of the gradient. A mode that this machine cannot run
is only parsed, and the table says why. A new method is a line of METHODS.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from alignment.launch_options import launcher_flags
from alignment.resources import model_path, recipe_path

STEPS = 4
BATCH = 8
TOLERANCE = 1e-5
PROCESSES = 2
OFFLOAD = ("zero3-offload",)
THINKER = "thinker"
"""Folder of the model that writes the episodes of the embedded task."""
ODD = "odd_tokens"
"""Name of the on-policy trainers' reward: the share of tokens with odd numbers."""
LORA = ("--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj")


@dataclass(frozen=True)
class Method:
    """A trainer's entry point, its recipe, data (a file, or a name that the trainer knows) and options on top
    of the recipe, what is compared, the modes that it must refuse with a message (these are launched even
    where others are only parsed), the model that it starts from, and settings of `arguments_of` that it does
    not have.
    """

    module: str
    recipe: str
    data: str
    options: tuple[str, ...] = ()
    figures: tuple[str, ...] = ("loss",)
    refuses: tuple[str, ...] = ()
    model: str = "model"
    without: tuple[str, ...] = ()


def on_policy(name: str, *options: str) -> Method:
    """An on-policy trainer with its shipped recipe, short answers and a reward that costs nothing."""
    figures = ("loss/policy_avg", "reward/sampled", "objective/kl", "grad_norm")
    words = ("--rewards", ODD, "--max_completion_length", "8", *options)
    recipe = f"tiny-coder/{name}.yaml"
    return Method(f"alignment.{name}", recipe, "prompts.jsonl", words, figures, OFFLOAD)


def thinking(name: str, figures: tuple[str, ...], *options: str, without: tuple[str, ...] = ()) -> Method:
    """A trainer of MRT on the embedded task, from a model that is right now and then."""
    words = ("--max_thinking_length", "40", "--use_cpu", *options)
    recipe = f"episodes/{name.replace('_', '-')}.yaml"
    return Method(f"alignment.{name}", recipe, "episodes", words, figures, OFFLOAD, THINKER, without)


METHODS: dict[str, Method] = {
    "dpo": Method("alignment.dpo", "tiny-coder/dpo.yaml", "pairs.jsonl"),
    "dpo, own step, live reference": Method(
        "alignment.dpo",
        "tiny-coder/dpo.yaml",
        "pairs.jsonl",
        ("--precompute_ref_log_probs", "false", "--loss_type", "sigmoid", "--loss_weights", "1.0"),
    ),
    "dpo, LoRA": Method(
        "alignment.dpo",
        "tiny-coder/dpo.yaml",
        "pairs.jsonl",
        ("--use_peft", "true", "--lora_r", "2", "--lora_target_modules", "q_proj", "v_proj"),
    ),
    "simpo, shared prompts": Method("alignment.dpo", "tiny-coder/simpo.yaml", "pairs.jsonl"),
    "kto": Method("alignment.kto", "tiny-coder/kto.yaml", "kto.jsonl"),
    "reward": Method("alignment.reward", "tiny-coder/reward.yaml", "pairs.jsonl", ("--members", "2")),
    "rrhf": Method("alignment.rrhf", "tiny-coder/rrhf.yaml", "scored.jsonl"),
    "raft": Method("alignment.raft", "tiny-coder/raft.yaml", "scored.jsonl"),
    "mezo": Method("alignment.mezo", "tiny-coder/mezo.yaml", "pairs.jsonl"),
    "mezo, sparse LoRA": Method(
        "alignment.mezo",
        "tiny-coder/mezo.yaml",
        "pairs.jsonl",
        ("--sparsity", "0.5", "--eps", "0.01", *LORA, "--lora_r", "2"),
    ),
    "mezo, reward": Method(
        "alignment.mezo",
        "tiny-coder/mezo-pass-rate.yaml",
        "prompts.jsonl",
        ("--reward", "benchmarks.launch_matrix:odd_letters", "--max_completion_length", "8"),
        ("reward",),
    ),
    "mrt-star": thinking(
        "mrt_star",
        ("loss", "kept", "accuracy", "trace_tokens"),
        *("--questions", "24", "--rounds", "2", "--no-right_only"),
    ),
    "mrt-rl": thinking(
        "mrt_rl",
        ("loss", "outcome", "j_prefix", "progress", "rollout_tokens"),
        *("--prompts_per_step", "7", "--prefix_steps", "3"),
        without=("per_device_train_batch_size",),
    ),
    "remax": on_policy("remax"),
    "rloo": on_policy("rloo"),
    "grpo": on_policy("rloo", "--algorithm", "grpo"),
    "ppo, head": on_policy("ppo", "--value_model", "head", "--critic_warmup_steps", "1"),
    "ppo, own critic": on_policy("ppo", "--critic_warmup_steps", "1"),
    "ppo, LoRA": on_policy("ppo", "--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj"),
}

MODES: dict[str, str | None] = {
    "single": None,
    "ddp": None,
    "zero1": None,
    "zero2": None,
    "zero3": None,
    "zero3-offload": "its Adam is compiled at the first start; not run here",
    "fsdp2": "Accelerate 1.15 does not shard on CPU processes (it becomes ddp there); not run here",
}
"""Launch configurations; with a reason where the mode is only parsed."""


def make_data(folder: Path) -> None:
    """A model of a few thousand weights, pairs and labelled programs."""
    from transformers import AutoTokenizer

    from alignment.tiny_coder.model import Architecture, build_model

    tokenizer = AutoTokenizer.from_pretrained(str(model_path("tiny-coder")))
    shape = Architecture(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    build_model(shape, tokenizer, 0).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    pairs, labelled, prompts, scored = [], [], [], []
    for i in range(8 * BATCH):
        prompt = f'def f(xs):\n    """Return {i}."""\n'
        good, bad = f"    return {i}\n", f"    return {i + 1} + xs\n"
        prompts.append({"prompt": prompt})
        pairs.append({"prompt": prompt, "chosen": good, "rejected": bad})
        scored.append({"prompt": prompt, "completions": [bad, good], "rewards": [0.0, 1.0]})
        labelled += [
            {"prompt": prompt, "completion": good, "label": True, "weight": 1.0},
            {"prompt": prompt, "completion": bad, "label": False, "weight": 1.0},
        ]
    written = {"pairs": pairs, "kto": labelled, "prompts": prompts, "scored": scored}
    for name, rows in written.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_thinker(folder: Path) -> None:
    """A model that writes the episodes of the embedded task and guesses, trained in seconds."""
    from alignment.studies.mrt_world import BaseRecipe, train_base
    from codegen_eval.tasks.episodes import EpisodeTask

    recipe = BaseRecipe(steps=100, rows=24, learning_rate=8e-3, width=32, layers=1)
    for part in train_base(recipe, EpisodeTask(idle=0.2), 0):
        part.save_pretrained(folder / THINKER)


def arguments_of(method: Method, folder: Path, out: Path, processes: int) -> list[str]:
    """The command line of one method's run."""
    data = folder / method.data
    settings = {
        "model_name_or_path": folder / method.model,
        "dataset_name": data if data.exists() else method.data,
        "output_dir": out,
        "per_device_train_batch_size": BATCH // processes,
        "max_steps": STEPS,
        "warmup_steps": 1,
        "logging_steps": 1,
        "save_steps": STEPS,
        "learning_rate": 2e-3,
    }
    words = ["--config", str(recipe_path(method.recipe))]
    for name, value in settings.items():
        if name not in method.without:
            words += [f"--{name}", str(value)]
    return [*words, *method.options]


def losses_of(out: Path, figures: Sequence[str] = ("loss",)) -> list[float]:
    """The figures of every step (and member), in order."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [float(row[name]) for row in rows for name in figures if name in row and "step" in row]


def odd_letters(completions: Sequence[str], **_: Any) -> list[float]:
    """A reward of texts: the share of letters with odd codes."""
    return [sum(ord(letter) % 2 for letter in text) / max(len(text), 1) for text in completions]


def register_reward() -> None:
    """Adds `ODD` to the rewards that a recipe may name."""
    from alignment.rewards.registry import REWARDS

    def odd(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [sum(token % 2 for token in ids) / max(len(ids), 1) for ids in completion_ids]

    if ODD not in REWARDS.names():
        REWARDS.register(ODD)(lambda: odd)


def work(folder: Path, mode: str, methods: Sequence[str]) -> int:
    """Runs in every process of a launch: each method in turn; an error of one does not end the others."""
    first = os.environ.get("RANK", "0") == "0"
    processes = int(os.environ.get("WORLD_SIZE") or 1)
    register_reward()
    for name in methods:
        method, out = METHODS[name], folder / mode / name
        try:
            importlib.import_module(method.module).run(arguments_of(method, folder, out, processes))
            result: dict[str, Any] = (
                {"losses": losses_of(out, method.figures), "processes": processes} if first else {}
            )
        except Exception as error:
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}"}
        if first:
            (folder / mode).mkdir(exist_ok=True)
            (folder / mode / f"{name}.json").write_text(json.dumps(result))
    return 0


def launch(folder: Path, mode: str, methods: Sequence[str], timeout: float) -> dict[str, dict[str, Any]]:
    """Launches one mode; the result of each method."""
    configuration = recipe_path(f"accelerate/{mode}.yaml")
    counts = {} if mode == "single" else {"num_processes": PROCESSES, "main_process_port": 0}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
    command += [*launcher_flags(configuration, counts), "-m", "benchmarks.launch_matrix"]
    command += ["--worker", str(folder), mode, *methods]
    reason = "the launcher wrote nothing"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        (folder / f"{mode}.log").write_text(done.stdout + done.stderr)
    except subprocess.TimeoutExpired:
        reason = f"no end within {timeout:.0f} s"
    found = {}
    for name in methods:
        path = folder / mode / f"{name}.json"
        found[name] = json.loads(path.read_text()) if path.exists() else {"error": reason}
    return found


def matrix(methods: Sequence[str], modes: Sequence[str], timeout: float, folder: Path) -> dict[str, Any]:
    """Every method in every mode against the single process; see `cell`."""
    make_data(folder)
    if any(METHODS[name].model == THINKER for name in methods):
        make_thinker(folder)
    base = launch(folder, "single", methods, timeout)
    table: dict[str, dict[str, Any]] = {name: {"single": cell(base[name], base[name], 1)} for name in methods}
    for mode in modes:
        if mode == "single":
            continue
        reason = MODES[mode]
        tried = [name for name in methods if reason is None or mode in METHODS[name].refuses]
        found = launch(folder, mode, tried, timeout) if tried else {}
        for name in methods:
            table[name][mode] = (
                cell(found[name], base[name], PROCESSES, mode in METHODS[name].refuses)
                if name in found
                else {"state": "parsed only", "why": reason}
            )
    return {"steps": STEPS, "batch": BATCH, "tolerance": TOLERANCE, "processes": PROCESSES, "table": table}


def cell(
    result: dict[str, Any], base: dict[str, Any], processes: int, refuses: bool = False
) -> dict[str, Any]:
    """`equal`, `differs`, `refused` or `failed`, and by how much the losses differ at most."""
    if refuses:
        said = result.get("error", "it ran, and should have been refused")
        return {"state": "refused" if said.startswith("CodealignError") else "failed", "why": said[:300]}
    if "error" in result:
        return {"state": "failed", "why": result["error"].splitlines()[0][:300]}
    if result["processes"] != processes:
        return {"state": "failed", "why": f"{result['processes']} processes ran, not {processes}"}
    if "error" in base or len(base["losses"]) != len(result["losses"]) or not base["losses"]:
        return {"state": "failed", "why": "no losses of the single process to compare with"}
    apart = max(abs(a - b) for a, b in zip(result["losses"], base["losses"], strict=True))
    state = "equal" if apart <= TOLERANCE else "differs"
    return {"state": state, "difference": apart, "losses": result["losses"]}


def markdown(found: dict[str, Any]) -> str:
    """The table of docs/launch.md."""
    modes = list(dict.fromkeys(mode for row in found["table"].values() for mode in row))
    lines = ["| trainer | " + " | ".join(modes) + " |", "|---" * (len(modes) + 1) + "|"]
    for name, row in found["table"].items():
        lines.append(f"| {name} | " + " | ".join(_text(mode, row.get(mode)) for mode in modes) + " |")
    return "\n".join(lines)


def _text(mode: str, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    if "difference" in entry:
        if mode == "single":
            return "tried"
        return f"{entry['state']}, {entry['difference']:.0e}" if entry["difference"] else "bit-equal"
    return entry["state"] if entry["state"] in ("parsed only", "refused") else f"failed: {entry['why'][:80]}"


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--worker"]:
        return work(Path(words[1]), words[2], words[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds a launch")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--keep", type=Path, help="keep runs and logs in this folder")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = matrix(options.methods, options.modes, options.timeout, folder)
    print(markdown(found))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1, sort_keys=True))
    bad = [
        cell
        for row in found["table"].values()
        for cell in row.values()
        if cell["state"] in ("failed", "differs")
    ]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
