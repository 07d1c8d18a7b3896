from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.comparison import compare
from codegen_eval.errors import CodealignError
from codegen_eval.report.loading import load_pairs, load_training
from codegen_eval.report.page import render
from codegen_eval.report.text import visible
from codegen_eval.results import read_evaluation
from tests.codegen_eval.report import made_up
from tests.codegen_eval.report.made_up import EVIL, eval_results, hostile_results, pair_row
from tests.codegen_eval.report.strict_html import StrictPage

pytest.importorskip("matplotlib")
pytest.importorskip("pygments")

Write = Callable[..., Path]


def make_page(
    folder: Path,
    before: dict[str, Any],
    after: dict[str, Any] | None,
    rows: list[dict[str, Any]],
    samples: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
    **options: Any,
) -> str:
    runs = [
        read_evaluation(made_up.write_eval(folder / name, side, samples(side) if samples else None))
        for name, side in (("a", before), ("b", after))
        if side
    ]
    return render(
        *runs,
        comparison=compare(before, after) if after else None,
        pairs=load_pairs(made_up.write_pairs(folder / "p", rows), shown=4, seed=0),
        training=made_up.training_series(),
        **options,
    )


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., str]:
    """Makes a page from results and pairs."""
    return partial(make_page, tmp_path)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [pair_row(i) for i in range(40)] + [pair_row(i, "efficiency") for i in range(10)]
    return make_page(tmp_path_factory.mktemp("runs"), eval_results(0.0), eval_results(0.14, seed=1), rows)


def test_the_page_is_well_formed_and_under_a_megabyte(ordinary: str) -> None:
    page = StrictPage(ordinary)
    assert page.problems == []
    assert len(ordinary.encode()) < 400_000


def test_the_page_needs_nothing_from_outside(ordinary: str) -> None:
    page = StrictPage(ordinary)
    assert not page.counts.keys() & {"link", "img", "iframe", "object", "a", "form"}
    links = [value for _, name, value in page.attributes if name in ("href", "src")]
    assert links
    assert all(value.startswith("#") for value in links)
    assert "url(" not in ordinary.replace("url(#", "")
    assert "@import" not in ordinary
    assert "http" not in ordinary.replace("http-equiv", "")


def test_the_policy_allows_one_style_sheet_and_one_script_by_their_hashes(ordinary: str) -> None:
    import base64
    import hashlib

    digests = []
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", ordinary, re.DOTALL)
        assert "<" + "/" not in text and "<!--" not in text
        digests.append(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())
    policy = next(
        v for tag, name, v in StrictPage(ordinary).attributes if name == "content" and "default" in v
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_script_asks_for_nothing_and_makes_no_markup(ordinary: str) -> None:
    (script,) = re.findall("<script>(.*?)</script>", ordinary, re.DOTALL)
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "eval",
        "Function",
        "fetch",
        "XMLHttp",
        "import",
    ):
        assert word not in script
    assert "http" not in script


def test_the_headline_gives_values_intervals_and_the_paired_difference(ordinary: str) -> None:
    row = compare(eval_results(0.0), eval_results(0.14, seed=1))["pass@1"]
    before, after, difference = (f"{100 * row[key]:.1f}" for key in ("before", "after", "difference"))
    assert f"pass@1 rose from {before}\u202f% to {after}\u202f%: +{difference} points" in ordinary
    assert f"(95 % interval +{100 * row['low']:.1f} to +{100 * row['high']:.1f})" in ordinary
    assert "problems better" in ordinary


def test_figures_have_titles_descriptions_and_their_numbers_as_tables(ordinary: str) -> None:
    page = StrictPage(ordinary)
    assert page.counts["desc"] == page.counts["figure"] == 9
    # Every problem has a strip for each side as well, and the funnel has bars.
    assert page.counts["svg"] == 9 + 2 * 170 + ordinary.count('class="bar"')
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in page.attributes:
        if name == "aria-labelledby" and tag == "svg":
            assert set(value.split()) <= set(ids)
    assert page.text["summary"].count("Numbers") == 9


def test_equal_input_gives_equal_bytes(write_eval: Write) -> None:
    run = read_evaluation(write_eval("one", eval_results(0.0)))
    assert render(run) == render(run)


def test_one_evaluation_alone_makes_a_page(write_eval: Write) -> None:
    page = render(read_evaluation(write_eval("one", eval_results(0.0))))
    assert StrictPage(page).problems == []
    assert "difference" not in page


def test_a_run_with_the_least_that_a_result_may_hold_makes_a_page(write_eval: Write) -> None:
    results = {"benchmark": "humaneval", "n_problems": 1, "pass_at_k": {"1": {"value": 1.0}}}
    assert StrictPage(render(read_evaluation(write_eval("one", results)))).problems == []


def test_no_element_comes_from_data(make: Callable[..., str]) -> None:
    keys = ("prompt", "chosen", "rejected", "task_id", "ranker")
    rows = [pair_row(i, EVIL, **dict.fromkeys(keys, f"{i}{EVIL}"), sources=[EVIL]) for i in range(3)]
    page = make(
        hostile_results(0.0), hostile_results(0.14, seed=1), rows, samples=made_up.hostile_rows, title=EVIL
    )
    assert "first failing test" in page
    read = StrictPage(page)
    assert read.problems == []
    assert read.counts["title"] == 1 + read.counts["desc"]
    assert read.counts["style"] == read.counts["script"] == 1
    assert "7*7" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\ud800]", page)
    assert "⟨U+202E⟩" in page
    assert "".join(read.text["title"]).startswith(visible(EVIL))


def test_the_protocol_is_escaped_too(write_eval: Write) -> None:
    folder = write_eval("one", eval_results(0.0))
    protocol = {EVIL: EVIL, "versions": {EVIL: {EVIL: [EVIL]}}, "seeds": {"seed": 1234567}}
    (folder / "protocol.json").write_text(json.dumps(protocol))
    page = render(read_evaluation(folder))
    assert StrictPage(page).problems == []
    assert "1234567" in page


def test_ten_megabytes_of_completion_are_cut_with_a_note(make: Callable[..., str]) -> None:
    rows = [pair_row(0, chosen="a<b&" * 2_500_000, rejected="\x00\n" * 100_000)]
    page = make(eval_results(0.0), eval_results(0.1), rows)
    assert "10,000,000 characters in all" in page
    assert len(page.encode()) < 1_000_000


def test_the_worst_pairs_keep_the_page_under_a_megabyte(make: Callable[..., str]) -> None:
    worst = ["'&'+" * 2000, "1if 1else 1;" * 500, "\u202e" * 9000, ("if 1:" * 10 + "\n") * 90, "&" * 9000]
    rows = [
        pair_row(i, kind, prompt=worst[i % 5], chosen=worst[(i + 1) % 5], rejected=worst[(i + 2) % 5])
        for i in range(5)
        for kind in ("correctness", "efficiency")
    ]
    page = make(eval_results(0.0), eval_results(0.14, seed=1), rows)
    assert StrictPage(page).problems == []
    assert len(page.encode()) < 1_000_000


def test_runs_made_under_other_settings_are_said_to_be_unlike(make: Callable[..., str]) -> None:
    page = make(eval_results(0.0), eval_results(0.1) | {"temperature": 0.2}, [])
    assert "temperature: 0.8 before, 0.2 after" in page


def test_no_sure_change_is_claimed_where_the_interval_holds_0(write_eval: Write) -> None:
    before, after = (read_evaluation(write_eval(name, eval_results(0.0))) for name in "ab")
    row = {"before": 0.4, "after": 0.41, "difference": 0.01, "low": -0.02, "high": 0.04}
    assert "which holds 0: no change is shown" in render(before, after, comparison={"pass@1": row})


def test_both_kinds_of_pairs_are_shown_and_drawn_by_the_seed(write_pairs: Write) -> None:
    folder = write_pairs([pair_row(i) for i in range(50)] + [pair_row(i, "efficiency") for i in range(5)])
    drawn = [load_pairs(folder, shown=3, seed=seed).examples for seed in (0, 0, 1)]
    assert [row["kind"] for row in drawn[0]] == ["correctness"] * 3 + ["efficiency"] * 3
    assert drawn[0] == drawn[1] != drawn[2]


def test_problems_come_before_second_pairs_of_one_problem(write_pairs: Write) -> None:
    rows = [pair_row(i, task_id="minipy/a/0") for i in range(50)] + [pair_row(99, task_id="minipy/b/0")]
    shown = load_pairs(write_pairs(rows), shown=2, seed=5).examples
    assert {row["task_id"] for row in shown} == {"minipy/a/0", "minipy/b/0"}


def test_training_rows_without_step_or_number_are_left_out(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 0.7, "note": "x", "ok": True}, {"step": 2, "loss": None}, {"loss": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_training(tmp_path) == {"loss": [(1.0, 0.7)]}


def test_missing_and_broken_inputs_are_named(tmp_path: Path, write_eval: Write, write_pairs: Write) -> None:
    with pytest.raises(CodealignError, match=r"results\.json does not exist"):
        read_evaluation(tmp_path)
    with pytest.raises(CodealignError, match=r"pass_at_k\.1\.value: Input should be a finite"):
        read_evaluation(write_eval("nan", eval_results(0.0) | {"pass_at_k": {"1": {"value": float("nan")}}}))
    (broken := write_eval("broken", {})).joinpath("results.json").write_text("{")
    with pytest.raises(CodealignError, match=r"results\.json cannot be read"):
        read_evaluation(broken)
    with pytest.raises(CodealignError, match=r"metrics\.jsonl does not exist"):
        load_training(tmp_path)
    with pytest.raises(CodealignError, match=r"pairs\.jsonl does not exist"):
        load_pairs(tmp_path, shown=1, seed=0)
    with pytest.raises(CodealignError, match=r"pairs\.jsonl:2: 'chosen' must be a text, got list"):
        load_pairs(write_pairs([pair_row(0), pair_row(1, chosen=[])]), shown=1, seed=0)
