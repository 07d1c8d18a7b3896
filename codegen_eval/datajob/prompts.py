"""Where prompts come from, and which of them are used: repeated and contaminated ones are dropped by name."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.base import load
from codegen_eval.datajob.contamination import Index
from codegen_eval.datajob.duplicates import near_duplicates
from codegen_eval.datajob.seeds import Seed, read_tree
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.extraction import parse_statements
from codegen_eval.records import Prompt

NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt and where it comes from.

    Attributes:
        prompt: What the model sees.
        origin: Benchmark and split, `FILE:LINE`, or file and line in a source tree.
        licence: Of the prompt.
        hidden: Text that belongs to the prompt and is not shown, as a seed's body: it is looked at for
            contamination alone.
    """

    prompt: Prompt
    origin: str
    licence: str
    hidden: str = ""


def row_of(candidate: Candidate) -> dict[str, Any]:
    """A row of `prompts.jsonl`."""
    prompt = candidate.prompt
    return {
        "task_id": prompt.task_id,
        "prompt": prompt.prompt,
        "entry_point": prompt.entry_point,
        "chat": prompt.chat,
        "stop": list(prompt.stop),
        "origin": candidate.origin,
        "licence": candidate.licence,
    }


def candidate_of(row: Mapping[str, Any]) -> Candidate:
    """The candidate that `row_of` wrote, without its hidden text."""
    prompt = Prompt(
        row["task_id"], row["prompt"], row["entry_point"], chat=row["chat"], stop=tuple(row["stop"])
    )
    return Candidate(prompt, row["origin"], row["licence"])


def from_benchmark(
    name: str, dataset: Path | None, split: str | None, licence: str, counts: Counter[str]
) -> list[Candidate]:
    """The prompts of a benchmark whose answers are Python functions; its hidden tests are never read."""
    prompts = [problem.public() for problem in load(name, dataset, split)]
    usable = [p for p in prompts if p.continues and p.language == "python" and p.entry_point.isidentifier()]
    counts["prompts"] += len(prompts)
    counts["prompts_no_python_function"] += len(prompts) - len(usable)
    origin = name if split is None else f"{name}/{split}"
    return [Candidate(prompt, origin, licence) for prompt in usable]


def from_table(
    path: Path, prompt_column: str, entry_point_column: str, licence: str, chat: bool, counts: Counter[str]
) -> list[Candidate]:
    """The prompts of a data set: JSON lines, a JSON array or Parquet, a folder of them, or a folder that
    `datasets` saved.

    A prompt is a function's head up to its body; the function is the one that the entry point column names
    (where there is none, or it is null, the last one that the prompt defines). In a chat a prompt that is no
    head is prose and needs the column. `task_id`, `license` and `licence` are read where they are texts.

    Raises:
        CodealignError: Nothing is there, the prompt column is missing (with the nearest name) or no text, or
            a task id comes twice.
    """
    found: dict[str, Candidate] = {}
    for number, (where, row) in enumerate(_rows(path)):
        if prompt_column not in row:
            raise CodealignError(f"{where}: {unknown('column', prompt_column, row)}; give --prompt-column")
        text = row[prompt_column]
        if not isinstance(text, str):
            raise CodealignError(f"{where}: the prompt must be text, it is {type(text).__name__}")
        counts["prompts"] += 1
        named = row.get(entry_point_column)
        entry_point = named if isinstance(named, str) else ""
        reason = ""
        if any("\ud800" <= c <= "\udfff" for c in text):
            reason = "not_utf8"
        else:
            entry_point, reason = _entry_point(text, entry_point, chat)
        if reason:
            counts[f"prompts_{reason}"] += 1
            continue
        own_id = row.get("task_id")
        task_id = own_id if isinstance(own_id, str) and own_id else f"{path.stem}/{number}"
        if task_id in found:
            raise CodealignError(f"{where}: task id {task_id!r} occurs twice")
        stated = next((row[k] for k in ("license", "licence") if isinstance(row.get(k), str)), licence)
        prompt = Prompt(task_id, text, entry_point)
        found[task_id] = Candidate(prompt, _short(where, path), stated or NOT_STATED)
    return list(found.values())


def _entry_point(text: str, named: str, chat: bool) -> tuple[str, str]:
    """The entry point, and why the prompt is not used (empty where it is)."""
    statements = parse_statements(text) or parse_statements(text.rstrip() + "\n    pass\n") or []
    defined = [node.name for node in statements if isinstance(node, ast.FunctionDef)]
    if named and not named.isidentifier():
        return named, "entry_point_is_no_name"
    if not defined:
        return named, "" if chat and named else "no_function"
    if named and named not in defined:
        return named, "entry_point_not_defined"
    return named or defined[-1], ""


def _short(where: str, path: Path) -> str:
    """A row's place without the folders above its data set."""
    return where.removeprefix(f"{path.parent}/")


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
        yield from _saved_rows(path)
        return
    for file in fields.files("the prompts", path, "prompts.jsonl"):
        yield from fields.rows(file)


def _saved_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from datasets import load_from_disk
    except ModuleNotFoundError:
        raise CodealignError(
            f"{path} was saved by datasets, which is not installed: pip install 'codealign[train]'"
        ) from None
    saved = load_from_disk(str(path))
    for split, rows in saved.items() if isinstance(saved, dict) else [("", saved)]:
        for number, row in enumerate(rows):
            yield f"{path}/{split}:{number + 1}".replace("/:", ":"), row


def from_seeds(root: Path, licence: str, counts: Counter[str]) -> list[Candidate]:
    """The documented functions of a Python source tree as prompts."""
    return [seed_candidate(seed, licence) for seed in read_tree(root, counts)]


def seed_candidate(seed: Seed, licence: str) -> Candidate:
    """A function of a source tree as a prompt; its body is hidden."""
    prompt = Prompt(f"seed/{seed.place}/{seed.name}", seed.prompt, seed.name)
    return Candidate(prompt, seed.place, seed.licence or licence, hidden=seed.source)


def chosen(
    candidates: Sequence[Candidate],
    counts: Counter[str],
    *,
    similarity: float | None,
    index: Index | None,
    most_chars: int | None = None,
) -> tuple[list[Candidate], list[dict[str, Any]]]:
    """The prompts to draw for, and a row for every other one: what it is, and because of what.

    Args:
        candidates: In order of preference.
        counts: Counts `prompts_too_long`, `prompts_contaminated`, `prompts_near_duplicate`.
        similarity: Least similarity of near duplicates; None keeps them.
        index: What the prompts must not share a run of words with.
        most_chars: Longest prompt that is kept; None for any.
    """
    dropped: list[dict[str, Any]] = []
    clean = []
    for candidate in candidates:
        length = len(candidate.prompt.prompt)
        if most_chars is not None and length > most_chars:
            counts["prompts_too_long"] += 1
            dropped.append({**_named(candidate), "reason": "too_long", "chars": length})
            continue
        text = f"{candidate.prompt.prompt}\n{candidate.prompt.chat}\n{candidate.hidden}"
        hit = index.find(text) if index else None
        if hit is None:
            clean.append(candidate)
            continue
        counts["prompts_contaminated"] += 1
        dropped.append(
            {**_named(candidate), "reason": "contaminated", "benchmark": hit.benchmark}
            | {"of": hit.task_id, "words": hit.words}
        )
    doubles = near_duplicates([c.prompt.prompt for c in clean], similarity) if similarity else []
    for double in doubles:
        counts["prompts_near_duplicate"] += 1
        dropped.append(
            {**_named(clean[double.index]), "reason": "near_duplicate"}
            | {"of": clean[double.of].prompt.task_id, "similarity": round(double.similarity, 4)}
        )
    gone = {double.index for double in doubles}
    used = [candidate for i, candidate in enumerate(clean) if i not in gone]
    return used, dropped


def _named(candidate: Candidate) -> dict[str, Any]:
    return {"task_id": candidate.prompt.task_id, "origin": candidate.origin}
