"""Memory of a MeZO step beside a forward pass and an AdamW step: peak resident memory, a process each.

    python -m benchmarks.mezo_memory --out runs/bench/mezo_memory.json

A random Llama in float32 and one batch, its cross-entropy as the loss. Given is what the second step adds to
what the process held once the model and the batch were there, so the interpreter and the libraries do not
count; the first step, in which torch sets itself up, is not counted either but for what it leaves behind
(AdamW's moments). "At 4x the rows" is the same with four times as many rows at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

WAYS = ("forward", "mezo", "sparse mezo", "adamw")


def resident() -> float:
    """MiB resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak() -> float:
    """The most MiB that were resident since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def child(way: str, hidden: int, layers: int, rows: int, length: int) -> dict[str, float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from alignment.zeroth_order.trainer import Settings, ZerothOrder

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    ids = torch.randint(4096, (rows, length))
    weights = sum(p.numel() * 4 for p in model.parameters()) / 2**20

    def loss() -> Any:
        return model(input_ids=ids, labels=ids, use_cache=False).loss

    def value() -> list[float | None]:
        with torch.no_grad():
            return [float(loss())]

    held = resident()
    if way == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def step() -> Any:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    elif way == "forward":
        step = value
    else:
        trainer = ZerothOrder(model, Settings(sparsity=0.75 if way == "sparse mezo" else 0.0))

        def step() -> Any:
            trainer.step(1e-6, value, lambda _: None)

    step()
    forget_peak()
    step()
    return {"weights": weights, "added": peak() - held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", choices=WAYS)
    given = parser.parse_args()
    sizes = {"hidden": given.hidden, "layers": given.layers, "rows": given.rows, "length": given.length}
    if given.child:
        print(json.dumps(child(given.child, **sizes)))
        return
    found: list[dict[str, Any]] = []
    for number in range(given.rounds):
        for factor in (1, 4):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.mezo_memory", "--child", way]
                for name, value in {**sizes, "rows": given.rows * factor}.items():
                    command += [f"--{name}", str(value)]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                row = {"round": number, "way": way, "factor": factor, **json.loads(said.splitlines()[-1])}
                found.append(row)
                print(row, file=sys.stderr, flush=True)
    print(f"weights: {found[0]['weights']:.0f} MiB; batch of {given.rows} x {given.length} tokens\n")
    print("| step | added, MiB | times the weights | at 4x the rows, MiB |\n|---|---|---|---|")
    for way in WAYS:
        one, four = (
            sum(row["added"] for row in found if row["way"] == way and row["factor"] == factor) / given.rounds
            for factor in (1, 4)
        )
        print(f"| {way} | {one:.0f} | {one / found[0]['weights']:.2f} | {four:.0f} |")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
