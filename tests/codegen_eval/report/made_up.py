"""Made-up results and pairs in the schemas of the chain's run directories."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAMILIES = (
    "count_vowels",
    "two_sum",
    "longest_run",
    "is_prime",
    "flatten",
    "roman",
    "merge",
    "gcd",
    "rotate",
    "anagram",
    "digits",
    "balanced",
    "median",
    "unique",
    "caesar",
    "fibonacci",
    "transpose",
)
PROMPT = '''def sum_of_squares(numbers):
    """Sum of the squares of the positive numbers.

    >>> sum_of_squares([1, -2, 3])
    10
    """
'''
CHOSEN = """    total = 0
    for number in numbers:
        if number > 0:
            total += number ** 2  # squares only
    return total
"""
REJECTED = """    total = 0
    for number in numbers:
        if number >= 0:
            total += number * 2
    print("debug", total)
    return total + 1
"""
SLOW = """    total = 0
    for i in range(len(numbers)):
        if numbers[i] > 0 and numbers[i] in sorted(numbers):
            total += numbers[i] ** 2
    return total
"""


def eval_results(skill: float, *, seed: int = 0, n_problems: int = 170, samples: int = 10) -> dict[str, Any]:
    """Results of a made-up model: `skill` shifts every problem's chance of a right program."""
    rng = random.Random(seed)
    problems, verdicts = [], Counter[str]()
    for i in range(n_problems):
        family = FAMILIES[i % len(FAMILIES)]
        chance = min(1.0, max(0.0, random.Random(f"{family}{i}").random() * 0.9 + skill))
        right = sum(rng.random() < chance for _ in range(samples))
        counts = Counter({"passed": right})
        counts.update(
            rng.choices(
                ("wrong_answer", "runtime_error", "syntax_error", "timeout"), (8, 3, 2, 1), k=samples - right
            )
        )
        verdicts += counts
        problems.append(
            {
                "task_id": f"minipy/{family}/{i:03d}",
                "n": samples,
                "c": right,
                "slow": right // 6,
                "verdicts": {k: v for k, v in counts.items() if v},
            }
        )
    first = sum(p["c"] for p in problems) / (samples * n_problems)
    tenth = sum(p["c"] > 0 for p in problems) / n_problems
    estimates = {"1": first, "5": (first + 2 * tenth) / 3, "10": tenth}
    return {
        "benchmark": "minipy",
        "split": "test",
        "model": "models/tiny-coder",
        "n_problems": n_problems,
        "samples_per_problem": samples,
        "temperature": 0.8,
        "verdicts": dict(verdicts),
        "problems": problems,
        "pass_at_k": {
            k: {"value": v, "low": max(0, v - 0.045), "high": min(1, v + 0.045)} for k, v in estimates.items()
        },
        "slow_share": {"value": 0.12 - skill / 10, "low": 0.09 - skill / 10, "high": 0.16 - skill / 10},
    }


def with_eff(results: dict[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """The same results with efficiency scores, as an evaluation on graded inputs gives them."""
    rng = random.Random(seed)
    for problem in results["problems"]:
        scores = [round(rng.uniform(0.2, 1.0), 3) for _ in range(problem["c"])]
        problem["eff"] = scores + [0.0] * (problem["n"] - problem["c"])
    mean = sum(sum(p["eff"]) / p["n"] for p in results["problems"]) / len(results["problems"])
    values = {"1": mean, "10": min(1.0, 2 * mean)}
    return results | {
        "eff_at_k": {k: {"value": v, "low": v - 0.04, "high": v + 0.04} for k, v in values.items()}
    }


CAUSES = {
    "wrong_answer": "",
    "runtime_error": "IndexError",
    "syntax_error": "SyntaxError",
    "timeout": "cpu time",
}


def sample_rows(results: Mapping[str, Any], *, seed: int = 0, varied: int = 40) -> list[dict[str, Any]]:
    """Rows of sample_results.jsonl that fit to results: `varied` bounds the distinct programs."""
    rng = random.Random(seed)
    rows = []
    for problem in results["problems"]:
        verdicts = [name for name, count in problem["verdicts"].items() for _ in range(count)]
        rng.shuffle(verdicts)
        for number, verdict in enumerate(verdicts):
            passed = verdict == "passed"
            body = (CHOSEN if passed else REJECTED) * rng.randint(1, 3)
            row = {
                "task_id": problem["task_id"],
                "sample": number,
                "completion": f"{body}    # variant {verdict} {rng.randrange(varied)}\n",
                "passed": passed,
                "result": "passed" if passed else f"failed: {verdict}",
                "verdict": verdict,
                "cause": CAUSES.get(verdict, ""),
            }
            if not passed:
                row["failed_test"] = "assert sum_of_squares([1, -2, 3, 4]) == 26"
                row["message"] = f"{CAUSES.get(verdict) or 'AssertionError'}: got {rng.randint(0, 99)}"
            rows.append(row)
    return rows


def pair_row(index: int, kind: str = "correctness", **changes: Any) -> dict[str, Any]:
    """One row of pairs.jsonl."""
    rng = random.Random(f"{index}{kind!a}")
    return {
        "prompt": PROMPT,
        "chosen": CHOSEN,
        "rejected": REJECTED if kind == "correctness" else SLOW,
        "kind": kind,
        "confidence": rng.betavariate(6, 2),
        "margin": rng.uniform(0.2, 1.0),
        "task_id": f"minipy/{FAMILIES[index % 17]}/{index}",
        "chosen_sha": "0" * 64,
        "rejected_sha": "1" * 64,
        "ranker": "b4",
        "sources": ["own", "example"],
        **changes,
    }


EVIL = (
    "</style></title></svg></pre><script>document.title='pwned'</script><img src=x onerror=alert(1)>"
    "<!-- ]]> --> {{ 7*7 }} {% raw %} &lt;b&gt; "
    '\' onload="x" $\\frac{1}{2}$ \x1b[31mred\x1b[0m \x00 \ud800 \u202egnp.exe'
)


def hostile_results(skill: float, *, seed: int = 0) -> dict[str, Any]:
    """Results in which every text that comes from elsewhere attacks the page."""
    results = eval_results(skill, seed=seed, n_problems=17)
    results |= {"benchmark": EVIL, "split": EVIL, "model": EVIL}
    results["verdicts"][EVIL] = 7
    for number, problem in enumerate(results["problems"]):
        problem["task_id"] = f"minipy/{number}{EVIL}/{EVIL}"
    return results


def hostile_rows(results: dict[str, Any], count: int = 6) -> list[dict[str, Any]]:
    """Rows of sample_results.jsonl in which every text attacks the page."""
    texts = dict.fromkeys(("completion", "cause", "failed_test", "message", "verdict", "result"), EVIL)
    return [
        {"task_id": problem["task_id"], "sample": i, "passed": False, **texts, "completion": f"{i}{EVIL}"}
        for problem in results["problems"]
        for i in range(count)
    ]


def write_eval(folder: Path, results: Mapping[str, Any], rows: list[dict[str, Any]] | None = None) -> Path:
    """Writes an evaluation run directory, with a row a sample where rows are given."""
    folder.mkdir()
    protocol = {
        "format": "codealign-run-1",
        "command": "eval",
        "config": {"slow_ratio": 3.0, "cpu_seconds": 3.0},
        "seeds": {"seed": 0},
        "versions": {"python": "3.11.2", "numpy": "2.4.6"},
        "machine": {"cpus": 2, "system": "Linux"},
        "inputs": {"samples": {"path": "run/samples.jsonl", "sha256": "ab" * 32}},
        "started": "2026-01-01T00:00:00+00:00",
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "protocol.json").write_text(json.dumps(protocol))
    if rows is not None:
        (folder / "sample_results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_pairs(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes a pairs run directory."""
    folder.mkdir()
    funnel = {
        "problem_no_test": 61,
        "problem_all_alike": 118,
        "problem_with_pairs": 321,
        "efficiency_no_input": 9,
        "pairs_correctness": len(rows),
    }
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "funnel.json").write_text(json.dumps(funnel))
    return folder


def training_series(steps: int = 120) -> dict[str, list[tuple[float, float]]]:
    """The series of a training that goes well."""
    rng = random.Random(0)
    at = [(float(step), step / steps) for step in range(1, steps + 1)]
    return {
        "loss": [(step, 0.693 - 0.4 * done + rng.gauss(0, 0.02)) for step, done in at],
        "rewards/margins": [(step, 1.8 * done + rng.gauss(0, 0.08)) for step, done in at],
        "rewards/accuracies": [(step, min(1.0, 0.5 + 0.4 * done + rng.gauss(0, 0.03))) for step, done in at],
        "learning_rate": [(step, 1e-4) for step, _ in at],
    }
