"""Builds report.html: one file that needs no network and no font of anybody's, readable without scripts.

Every value goes through `visible` (hidden characters become escapes) and Jinja2's autoescape; the only markup
that is not the templates' own are the figures, whose text is escaped when they are made. The page's policy
allows the one style sheet and the one script (search and filter), by their hashes, and nothing else: a text
that became an element could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from codegen_eval.comparison import unlike
from codegen_eval.report import plots
from codegen_eval.report.canvas import Plot, Side
from codegen_eval.report.funnel import lanes
from codegen_eval.report.health import TrainingHealth
from codegen_eval.report.loading import PairsRun
from codegen_eval.report.matrices import MatricesRun
from codegen_eval.report.pairs import shown_pairs
from codegen_eval.report.samples import explore
from codegen_eval.report.summary import Comparison, Metric, change_counts, headline, p_text
from codegen_eval.report.text import number, percent, points, short, visible
from codegen_eval.report.thinking import Thinking, thinking_plots
from codegen_eval.report.training import training as training_plots
from codegen_eval.report.trees import TreesRun
from codegen_eval.results import EvalResults, Evaluation

_SETTINGS = ("benchmark", "split", "model", "temperature", "samples_per_problem", "n_problems")


def render(
    before: Evaluation | None = None,
    after: Evaluation | None = None,
    *,
    comparison: Comparison | None = None,
    pairs: PairsRun | None = None,
    matrices: MatricesRun | None = None,
    training: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    health: TrainingHealth | None = None,
    trees: TreesRun | None = None,
    thinking: Thinking | None = None,
    title: str = "Before and after",
    samples_shown: int = 4,
) -> str:
    """The page as text; equal arguments give equal text.

    Args:
        before: The evaluation before training, or the only one; None for a page of preference data alone.
        after: The evaluation after training.
        comparison: The paired differences of the two, from `codegen_eval.comparison.compare`.
        pairs: The preference data that was trained on.
        matrices: The matrices behind it.
        training: Series of the training log (see `load_training`).
        health: What happened to the training run (see `load_health`).
        trees: Search trees, see `codegen_eval.report.trees`.
        thinking: The arms of an MRT study (see `load_thinking`).
        title: The page's title.
        samples_shown: How many programs of a problem the page holds, for each evaluation.

    Raises:
        CodealignError: matplotlib or Pygments is not installed, or the rows of an evaluation are broken.
    """
    context = {
        "title": title,
        "training": [*training_plots(training or {}), *thinking_plots(thinking)],
        "health": health,
        "trees": trees,
        **_evaluations(before, after, comparison, samples_shown),
        **_preference_data(pairs, matrices),
    }
    if before is None:
        context["sentence"] = (
            _data_sentence(pairs) or _trees_sentence(trees) or (health.sentence if health else "")
        )
    return str(_environment().get_template("page.html.j2").render(context | _inlined()))


def _evaluations(
    before: Evaluation | None, after: Evaluation | None, comparison: Comparison | None, samples_shown: int
) -> dict[str, Any]:
    """What the template wants to know of the evaluations."""
    if before is None:
        return {"evaluated": False, "single": True, "protocols": []}
    runs = [before] + ([after] if after else [])
    sides = [Side("before", before.results)] + ([Side("after", after.results)] if after else [])
    metrics = headline(before.results, after.results if after else None, comparison)
    return {
        "evaluated": True,
        "single": after is None,
        "metrics": metrics,
        "sentence": _sentence(metrics, before.results, after.results if after else None),
        "differing": _differing(before, after) if after else [],
        "changes": change_counts(before.results, after.results) if after else None,
        "settings": _settings(sides),
        "plots": _plots(sides),
        "problem_plots": _problem_plots(before.results, after.results) if after else [],
        "sides": [side.name for side in sides],
        "explorer": explore(sides, [run.rows() for run in runs], shown=samples_shown),
        "protocols": [(side.name, _protocol(run.protocol)) for side, run in zip(sides, runs, strict=True)],
    }


def _preference_data(pairs: PairsRun | None, matrices: MatricesRun | None) -> dict[str, Any]:
    """What the template wants to know of the preference data."""
    if pairs is None:
        return {"pairs": None}
    return {
        "pairs": pairs,
        "confidences": plots.confidences(pairs.confidences),
        "lanes": lanes(pairs.funnel, matrices.totals if matrices else None),
        "funnel": _funnel(pairs.funnel),
        "shown": shown_pairs(pairs, matrices),
        "matrices": matrices,
        "linked": set(pairs.numbers),
    }


def _data_sentence(pairs: PairsRun | None) -> str:
    """The preference data in words, where there is no evaluation to speak of."""
    if pairs is None:
        return ""
    kinds = ", ".join(
        f"{count:,} {short(kind.replace('_', ' '), 30)}" for kind, count in pairs.counts.items()
    )
    total = pairs.funnel.get("problems")
    of = f" of {round(total):,}" if total else ""
    return f"{pairs.total:,} preference pairs ({kinds}) from {len(pairs.refs):,}{of} problems."


def _trees_sentence(trees: TreesRun | None) -> str:
    """Trees in words, where there is nothing else to speak of."""
    return f"{trees.total:,} search trees with {trees.nodes:,} nodes." if trees else ""


def _environment() -> Any:
    """Templates with autoescape; every printed text is made visible first, markup made by us excepted."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("codegen_eval.report", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "number": number, "short": short}
    environment.filters["p_text"] = p_text
    # The one door for markup: a figure's SVG, in which every text is escaped already.
    environment.filters["figure"] = lambda plot: Markup(plot.svg)
    return environment


def _inlined() -> dict[str, Any]:
    """The style sheet and the script, and their hashes for the Content-Security-Policy."""
    from markupsafe import Markup

    found: dict[str, Any] = {}
    for name, file in (("style", "style.css"), ("script", "explore.js")):
        text = (files("codegen_eval.report") / "templates" / file).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found |= {name: Markup(text), f"{name}_hash": digest}
    return found


def _sentence(metrics: Sequence[Metric], before: EvalResults, after: EvalResults | None) -> str:
    """The result in words; it claims a change only where the interval of the difference leaves 0 out."""
    first = metrics[0]
    if after is None or first.before is None or first.after is None:
        value = first.before or first.after
        return (
            f"{first.label} is {percent(value.value if value else None)} on {before.n_problems:,} problems."
        )
    verb = {"better": "rose", "worse": "fell", "unsure": "went"}[first.verdict]
    moved = f"{first.label} {verb} from {percent(first.before.value)} to {percent(first.after.value)}"
    difference = first.difference
    if difference is None or difference.low is None or difference.high is None:
        return f"{moved}."
    interval = f"95 % interval {points(difference.low)} to {points(difference.high)}"
    unsure = ", which holds 0: no change is shown" if first.verdict == "unsure" else ""
    return f"{moved}: {points(difference.value)} points ({interval}){unsure}."


def _settings(sides: Sequence[Side]) -> list[tuple[str, list[str]]]:
    rows = []
    for key in _SETTINGS:
        values = [getattr(side.results, key) for side in sides]
        if any(value is not None for value in values):
            rows.append(
                (key.replace("n_problems", "problems").replace("_", " "), [_plain(v) for v in values])
            )
    return rows


def _differing(before: Evaluation, after: Evaluation) -> list[str]:
    """Settings in which two runs differ although a fair comparison wants them equal."""
    return [
        f"{key.replace('_', ' ')}: {_plain(a)} before, {_plain(b)} after"
        for key, a, b in unlike(before.raw, after.raw)
    ]


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return number(value) if isinstance(value, int | float) else short(str(value), 120)


def _plots(sides: Sequence[Side]) -> list[Plot]:
    """pass@k, eff@k where a side has it, verdicts where they are known."""
    curves = [plots.at_k(sides, "pass"), plots.at_k(sides, "eff")]
    known = any(count for side in sides for count in side.results.verdicts.values())
    return [plot for plot in curves if plot] + ([plots.verdicts(sides)] if known else [])


def _problem_plots(before: EvalResults, after: EvalResults) -> list[Plot]:
    common = {p.task_id for p in before.problems} & {p.task_id for p in after.problems}
    if not common:
        return []
    families = plots.families(before, after)
    return [plots.problems(before, after)] + ([families] if families else [])


def _funnel(counts: Mapping[str, float]) -> list[tuple[str, list[tuple[str, float]]]]:
    """The counts grouped by their names' first word (`problem_no_test`: problem, no test), greatest first."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, count in counts.items():
        group, _, rest = name.replace(".", "_").partition("_")
        label = short(rest.replace("_", " "), 60) or "in all"
        groups.setdefault(short(group, 30), []).append((label, count))
    return [(group, sorted(rows, key=lambda row: (-row[1], row[0]))) for group, rows in groups.items()]


def _protocol(protocol: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The protocol's groups (versions, seeds, machine, ...) as names and values, nested names dotted."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    loose: list[tuple[str, str]] = []
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            if value:
                groups.append((short(key.replace("_", " ")), _leaves(value)))
        else:
            loose.append((short(key), _leaf(value)))
    return ([("run", loose)] if loose else []) + groups


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in list(tree.items())[:100]:
        if isinstance(value, Mapping):
            out += _leaves(value, f"{prefix}{key}.")
        else:
            out.append((short(f"{prefix}{key}"), _leaf(value)))
    return out


def _leaf(value: Any) -> str:
    # Seeds and counts stand as they are: no digit grouping in what one may want to copy.
    return "–" if value is None else short(str(value), 200)
