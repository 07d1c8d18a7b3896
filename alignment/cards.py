"""Model cards: README.md of a trained model's folder, with the YAML front matter that the hub reads.

Made from the run directory alone (what the run was told, on which data, with which versions, what it ended
with), so whoever has the run can make it again. Nothing of the machine is in it: no folder, no host, no time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from codegen_eval.datajob.card import cell, table
from codegen_eval.errors import CodealignError
from codegen_eval.hub import Hub, check_repo_id, push_folder
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.preference.arguments import Arguments

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Method:
    """What a training command does, and whose idea it was: (title, authors, year, arXiv number)."""

    title: str
    sources: tuple[tuple[str, str, int, str], ...]
    pipeline: str = "text-generation"


METHODS = {
    "dpo": Method(
        "direct preference optimisation",
        (
            (
                "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
                "Rafailov et al.",
                2023,
                "2305.18290",
            ),
        ),
    ),
    "kto": Method(
        "KTO",
        (
            (
                "KTO: Model Alignment as Prospect Theoretic Optimization",
                "Ethayarajh et al.",
                2024,
                "2402.01306",
            ),
        ),
    ),
    "reward": Method(
        "reward modelling (Bradley-Terry), one member of an ensemble",
        (
            (
                "Reward Model Ensembles Help Mitigate Overoptimization",
                "Coste et al.",
                2023,
                "2310.02743",
            ),
        ),
        "text-classification",
    ),
    "mezo": Method(
        "MeZO: zeroth-order optimisation, forward passes alone",
        (("Fine-Tuning Language Models with Just Forward Passes", "Malladi et al.", 2023, "2305.17333"),),
    ),
}
_SPARSE = (
    "Sparse MeZO: Less Parameters for Better Performance in Zeroth-Order LLM Fine-Tuning",
    "Liu et al.",
)
_ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
# Whose values name files or folders, and what concerns the hub: no part of a recipe that others can use.
_PRIVATE = ("output_dir", "reference_cache", "hub_token", "push_to_hub", "hub_model_id", "hub_private_repo")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is made of.

    Attributes:
        command: The training command, a key of `METHODS` where we know it.
        config: What it was told.
        inputs: SHA-256 of its inputs by name.
        versions: Of what made it.
        figures: What the run ended with.
        evaluations: Contents of results.json of `codealign eval`, and whose they are.
        adapter: Whether the folder holds an adapter, not a whole model.
        licence: That of the base model, where its card says so.
    """

    command: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    versions: Mapping[str, str]
    figures: Mapping[str, Any] = field(default_factory=dict)
    evaluations: Sequence[Mapping[str, Any]] = ()
    adapter: bool = False
    licence: str | None = None


def facts_of(
    run: Path, folder: Path, figures: Mapping[str, Any] | None = None, evaluations: Sequence[Path] = ()
) -> Facts:
    """The facts of a run directory.

    Args:
        run: The run directory.
        folder: The model's folder.
        figures: What the run ended with; None reads finished.json, where there is one.
        evaluations: Run directories of `codealign eval`.

    Raises:
        CodealignError: If there is no run, or an evaluation is none.
    """
    from codegen_eval.results import read_object

    protocol = RunDir(run).read_json("protocol.json")
    if figures is None:
        figures = RunDir(run).read_json("finished.json") if (run / "finished.json").exists() else {}
    config = protocol["config"]
    results = []
    for path in evaluations:
        found = read_object(path / "results.json" if path.is_dir() else path, "an evaluation")
        if "pass_at_k" not in found:
            raise CodealignError(f"{path} is no evaluation of `codealign eval`: it has no pass_at_k")
        results.append(found)
    return Facts(
        command=protocol["command"],
        config=config,
        inputs={name: entry["sha256"] for name, entry in protocol["inputs"].items()},
        versions=protocol["versions"],
        figures=figures,
        evaluations=results,
        adapter=(folder / "adapter_config.json").exists(),
        licence=_licence(Path(str(config.get("model_name_or_path", "")))),
    )


def _licence(base: Path) -> str | None:
    """The licence that the base model's own card names; None where nothing is known."""
    try:
        text = (base / CARD).read_text(encoding="utf-8")
        front = yaml.safe_load(text.split("---\n", 2)[1])
        found = front.get("license")
    except (OSError, UnicodeDecodeError, IndexError, AttributeError, yaml.YAMLError):
        return None
    return found if isinstance(found, str) else None


def shown(value: Any) -> Any:
    """A value of the configuration without the folders of the machine that ran it."""
    if isinstance(value, Mapping):
        return {key: shown(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown(entry) for entry in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith(("./", "../", "~"))):
        return Path(value).name
    return value


def front_matter(facts: Facts) -> dict[str, Any]:
    """What the hub reads."""
    method = METHODS.get(facts.command)
    base, data = facts.config.get("model_name_or_path"), facts.config.get("dataset_name")
    tags = ["code", "codealign", facts.command]
    front: dict[str, Any] = {"license": facts.licence or "unknown"}
    if base is not None and _is_hub_id(base, facts, "model_name_or_path"):
        front["base_model"] = base
    if data is not None and _is_hub_id(data, facts, "dataset_name"):
        front["datasets"] = [data]
    front |= {
        "library_name": "peft" if facts.adapter else "transformers",
        "pipeline_tag": method.pipeline if method else "text-generation",
        "tags": tags,
    }
    index = [
        {
            "task": {"type": "text-generation"},
            "dataset": {
                "name": str(result.get("benchmark", "benchmark")),
                "type": str(result.get("benchmark")),
            },
            "metrics": [
                {"type": f"pass@{k}", "value": round(found["value"], 4)}
                for k, found in result["pass_at_k"].items()
            ],
        }
        for result in facts.evaluations
    ]
    if index:
        front["model-index"] = [{"name": str(shown(base) or "model"), "results": index}]
    return front


def _is_hub_id(name: str, facts: Facts, key: str) -> bool:
    """Whether a name is of the hub: what lay on this machine has a hash among the inputs."""
    return key not in facts.inputs and name.count("/") == 1 and not Path(name).is_absolute()


def render(facts: Facts) -> str:
    """The whole of README.md."""
    method = METHODS.get(facts.command)
    base = cell(shown(str(facts.config.get("model_name_or_path", "a model"))))
    config = {key: shown(value) for key, value in facts.config.items() if key not in _PRIVATE}
    recipe = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).replace("```", "'''")
    what = "An adapter for" if facts.adapter else "Trained from"
    front = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---\n",
        f"# {base}, by `codealign train {facts.command}`\n",
        f"{what} `{base}` by {method.title if method else facts.command}. Programs that it writes may be "
        "wrong, slow or harmful: run them in a sandbox.\n",
        f"## Recipe\n\n```yaml\n{recipe}```\n",
        table("Training ended with", ("what", "value"), _flat(facts.figures)),
        _evaluations(facts.evaluations),
        table("Data and base model, SHA-256", ("input", "hash"), facts.inputs),
        table("Versions", ("package", "version"), facts.versions),
        _citation(facts),
    ]
    return "\n".join(part for part in parts if part)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping) and "value" in value:
            ends = f" [{value['low']:.3f}, {value['high']:.3f}]" if value.get("low") is not None else ""
            found[f"{prefix}{key}"] = f"{value['value']:.3f}{ends}"
        elif isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key} ")
        elif value is not None:
            found[f"{prefix}{key}"] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return found


def _evaluations(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return ""
    lines = ["## Evaluation", "", "Intervals are 95 %, from resampling problems.", ""]
    lines += ["| benchmark | problems | measure | value | interval |", "|---|---|---|---|---|"]
    for result in results:
        for name, by_k in (("pass", result["pass_at_k"]), ("eff", result.get("eff_at_k") or {})):
            for k, found in by_k.items():
                ends = f"[{found['low']:.3f}, {found['high']:.3f}]" if found.get("low") is not None else "-"
                about = f"{cell(result.get('benchmark'))} | {cell(result.get('n_problems'))}"
                lines.append(f"| {about} | {name}@{cell(k)} | {found['value']:.3f} | {ends} |")
    return "\n".join(lines) + "\n"


def _citation(facts: Facts) -> str:
    """Papers of the method, and of its loss where that names one."""
    method = METHODS.get(facts.command)
    lines = [
        f"- {authors} {year}: {title}. arXiv {number}"
        for title, authors, year, number in (method.sources if method else ())
    ]
    if facts.config.get("sparsity"):
        lines.append(f"- {_SPARSE[1]} 2024: {_SPARSE[0]}. arXiv 2402.15751")
    told = {number for line in lines for number in _ARXIV.findall(line)}
    for name in _losses(facts.config):
        numbers = [number for number in _loss_sources(name) if number not in told]
        if numbers:
            lines.append(f"- The loss `{name}`: arXiv {', '.join(numbers)}")
    return "## Citation\n\n" + "\n".join(lines) + "\n" if lines else ""


def _losses(config: Mapping[str, Any]) -> list[str]:
    given = config.get("loss_type") or []
    return [given] if isinstance(given, str) else [str(name) for name in given]


def _loss_sources(name: str) -> list[str]:
    """Numbers on arXiv in the loss's own docstring; none for a name that is not ours."""
    try:
        from alignment.losses.base import LOSSES
        from alignment.preference.objective import resolve

        return list(dict.fromkeys(_ARXIV.findall(LOSSES.get(resolve(name)).__doc__ or "")))
    except (CodealignError, ModuleNotFoundError):
        return []


def write_card(
    directory: RunDir,
    folder: Path,
    figures: Mapping[str, Any] | None = None,
    evaluations: Sequence[Path] = (),
) -> Path:
    """Writes a model folder's README.md; the one that PEFT or transformers left is replaced.

    Args:
        directory: The run that made the model.
        folder: The model's folder, in the run directory.
        figures: As for `facts_of`.
        evaluations: Run directories of `codealign eval`.
    """
    text = render(facts_of(directory.path, folder, figures, evaluations))
    return directory.write_text(str((folder / CARD).relative_to(directory.path)), text)


def write_cards(directory: RunDir, report: Mapping[str, Any]) -> None:
    """Cards of a reward ensemble: one for each member, with its accuracy, and one for the folder of all.

    Args:
        directory: The run, with `members/0` and so on.
        report: What `reward_modeling.report.agreement` found.
    """
    accuracy = report["accuracy"]
    common = {"held-out pairs": report["pairs"], "held-out prompts": report["prompts"]}
    for folder in (directory.path / "members").iterdir():
        if folder.is_dir():
            write_card(directory, folder, {**common, "accuracy": accuracy[f"member{folder.name}"]})
    write_card(directory, directory.path / "members", {**common, "accuracy": accuracy})


def publish(directory: RunDir, arguments: Arguments, name: str = "model", hub: Hub | None = None) -> RunDir:
    """Pushes the trained model to the hub where `--push_to_hub` asks for it; returns the run directory.

    Args:
        directory: The finished run.
        arguments: What the command was told: `push_to_hub`, `hub_model_id`, `hub_private_repo`.
        name: The folder in the run directory.
        hub: As for `hub.push_folder`.

    Raises:
        CodealignError: The hub refuses; the model is complete on disk.
    """
    training = arguments.training
    if arguments.push_to_hub and training.process_index == 0:
        push_folder(
            directory.path / name,
            training.hub_model_id,
            "model",
            f"codealign train {RunDir(directory.path).read_json('protocol.json')['command']}",
            private=bool(training.hub_private_repo),
            token=training.hub_token,
            hub=hub,
        )
        print(f"pushed to {training.hub_model_id}")
    return directory


def check_push(training: Any) -> bool:
    """Whether the trained model is to be pushed; takes the wish from transformers' own trainer.

    That one would push the whole run directory, checkpoints and all, at every save.

    Raises:
        CodealignError: If `push_to_hub` comes without a `hub_model_id` of the form OWNER/NAME.
    """
    if not getattr(training, "push_to_hub", False):
        return False
    if not training.hub_model_id:
        raise CodealignError("--push_to_hub needs --hub_model_id OWNER/NAME")
    check_repo_id(training.hub_model_id, "--hub_model_id")
    training.push_to_hub = False
    return True
