"""The data card: README.md of the dataset's folder, with the YAML front matter that the hub reads.

It says what the job was told and what it counted, and nothing of the machine, the paths or the time, so that
the same job writes the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codegen_eval.datajob.dataset import COLUMNS
from codegen_eval.datajob.prompts import NOT_STATED

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUB_LICENCE = re.compile(r"[a-z0-9][a-z0-9.\-]*")
_PATHS = ("model", "dataset", "prompt_data", "source_tree")

_TEXT = """\
# Preference pairs for code, made by `codealign generate-data`

Each row holds a prompt and two answers of one model, of which `chosen` is probably the better one. A model
wrote programs and tests for each prompt; {ran}; `{ranker}` ranked the
programs by what passed, and `{builder}` made the pairs. **No reference solution and no hidden test was used:
labels are inferred from agreement, and some are wrong** (`confidence` says how sure the order is).

```python
from datasets import load_dataset

pairs = load_dataset("PATH_OR_ID")
```

The columns are TRL's for DPO and what is known of each pair{form}. The split is by prompt: a hash of its
text decides, so all pairs of a prompt are on one side.
"""

_RAN = {
    "full": "a sandbox ran every program on every test",
    "adaptive": "a sandbox ran programs on tests as long as they were in the race",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card is made of.

    Attributes:
        config: The job's identity, as in config.yaml.
        rows: Rows by split.
        prompts: Counts of the prompts' stage.
        licences: Prompts that gave pairs, by licence.
        execution: Counts of programs, tests and executions.
        hygiene: Counts of test hygiene; empty where it was off.
        funnel: Counts of the pairs' stage.
        versions: Of what made it.
        inputs: SHA-256 of the job's inputs by name.
    """

    config: Mapping[str, Any]
    rows: Mapping[str, int]
    prompts: Mapping[str, int]
    licences: Mapping[str, int]
    execution: Mapping[str, int]
    hygiene: Mapping[str, int]
    funnel: Mapping[str, int]
    versions: Mapping[str, str]
    inputs: Mapping[str, str]


def front_matter(facts: Facts) -> dict[str, Any]:
    """What the hub reads."""
    names = sorted(facts.licences)
    one = names[0].lower() if len(names) == 1 else ""
    licence: dict[str, Any] = {"license": "unknown" if names in ([], [NOT_STATED]) else "other"}
    if licence["license"] == "other":
        licence["license_name"] = "; ".join(names)
        if _HUB_LICENCE.fullmatch(one):
            licence = {"license": one}
    total = sum(facts.rows.values())
    files = [{"split": s, "path": f"data/{s}-*.parquet"} for s, count in facts.rows.items() if count]
    return {
        **licence,
        "task_categories": ["text-generation"],
        "tags": ["code", "preference", "dpo", "trl", "codealign", "synthetic"],
        "size_categories": [next((name for most, name in _SIZES if total < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the folders of the machine that ran it."""
    shown = dict(config)
    for key in _PATHS:
        if shown.get(key) is not None and Path(str(shown[key])).is_absolute():
            shown[key] = Path(str(shown[key])).name
    targets = shown.get("decontaminate") or []
    shown["decontaminate"] = [_without_folder(str(target)) for target in targets]
    return shown


def _without_folder(target: str) -> str:
    name, colon, path = target.partition(":")
    return name + colon + Path(path).name


def render(facts: Facts) -> str:
    """The whole of README.md."""
    front = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True)
    config = public_config(facts.config)
    form = "; texts are messages" if config.get("chat") else ""
    ran = _RAN["adaptive" if config.get("execution") == "adaptive" else "full"]
    parts = [
        f"---\n{front}---\n",
        _TEXT.format(ranker=config["ranker"], builder=config["builder"], form=form, ran=ran),
        table("Rows", ("split", "pairs"), facts.rows),
        table("Licences of the prompts", ("licence", "prompts with pairs"), facts.licences),
        "The programs and tests were written by the model: its own licence and terms hold for them.\n",
        table("Prompts", ("what", "count"), facts.prompts),
        table("Programs, tests, executions", ("what", "count"), facts.execution),
        table("Test hygiene", ("what", "count"), facts.hygiene),
        table("Funnel: from problems to pairs", ("what", "count"), facts.funnel),
        table("Columns", ("column", "what"), COLUMNS),
        "## Configuration\n\n```yaml\n"
        + yaml.safe_dump(config, sort_keys=False, allow_unicode=True).replace("```", "'''")
        + "```\n",
        table("Versions", ("package", "version"), facts.versions),
        table("Inputs", ("input", "SHA-256"), facts.inputs),
    ]
    return "\n".join(part for part in parts if part)


def table(title: str, heads: tuple[str, str], rows: Mapping[str, Any]) -> str:
    """A section with a table of two columns; empty without rows."""
    if not rows:
        return ""
    lines = [f"## {title}", "", f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    lines += [f"| {cell(name)} | {cell(value)} |" for name, value in rows.items()]
    return "\n".join(lines) + "\n"


def cell(value: object) -> str:
    """Text of others in a table's cell: one line, and no mark-up."""
    text = " ".join(str(value).split())
    return re.sub(r"([|<>\[\]\\])", r"\\\1", text)


def licences(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Prompts by licence, the most frequent first."""
    counts = Counter(row["licence"] for row in rows)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
