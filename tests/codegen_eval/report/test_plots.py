from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from codegen_eval.report import plots
from codegen_eval.report.canvas import Plot, Side
from codegen_eval.results import EvalResults
from tests.codegen_eval.report.made_up import eval_results

mpl = pytest.importorskip("matplotlib")


def at_k(sides: list[Side], metric: Literal["pass", "eff"]) -> Plot:
    plot = plots.at_k(sides, metric)
    assert plot is not None
    return plot


def parsed(skill: float, **options: int) -> EvalResults:
    return EvalResults.model_validate(eval_results(skill, **options))


def test_equal_figures_are_equal_text() -> None:
    sides = [Side("before", parsed(0.0)), Side("after", parsed(0.1))]
    assert at_k(sides, "pass").svg == at_k(sides, "pass").svg


def test_figures_hold_no_fixed_colour_no_style_and_no_date() -> None:
    for plot in (plots.verdicts([Side("only", parsed(0.0))]), plots.problems(parsed(0.0), parsed(0.1))):
        assert "style=" not in plot.svg
        assert "metadata" not in plot.svg
        assert not re.findall(r'(?:fill|stroke)="#', plot.svg)
        assert "#0" not in plot.svg


def test_the_users_own_matplotlib_settings_stay_and_do_not_matter() -> None:
    plain = at_k([Side("only", parsed(0.0))], "pass").svg
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert at_k([Side("only", parsed(0.0))], "pass").svg == plain
        assert mpl.rcParams["font.size"] == 30


def test_an_interval_that_leaves_its_value_out_is_drawn_all_the_same() -> None:
    results = eval_results(0.0) | {"pass_at_k": {"1": {"value": 1.0, "low": 0.9, "high": 0.99}}}
    plot = at_k([Side("only", EvalResults.model_validate(results))], "pass")
    assert plot.rows == (("pass@1, only", "100.0\u202f%", "90.0\u202f%", "99.0\u202f%"),)


def test_every_problem_is_in_the_scatter() -> None:
    plot = plots.problems(parsed(0.0), parsed(0.1))
    assert sum(int(row[2]) for row in plot.rows) == 170


def results(problems: list[dict[str, Any]]) -> EvalResults:
    figures = {"benchmark": "b", "n_problems": len(problems), "pass_at_k": {"1": {"value": 0.5}}}
    return EvalResults.model_validate({**figures, "problems": problems})


def test_ids_without_families_make_no_family_figure() -> None:
    one = results([{"task_id": f"HumanEval/{i}", "n": 1, "c": i % 2} for i in range(4)])
    assert plots.families(one, one) is None


def test_many_families_are_drawn_in_part_and_tabled_whole() -> None:
    one = results([{"task_id": f"m/family{i}/0", "n": 10, "c": i % 11} for i in range(200)])
    plot = plots.families(one, one)
    assert plot is not None
    assert len(plot.rows) == 200
    assert plot.svg.count(">family") == 60


def test_confidences_beyond_0_and_1_widen_the_range() -> None:
    (plot,) = plots.confidences({"correctness": [-0.5, 0.5, 2.0], "empty": []})
    assert plot.rows[0][0].startswith("-0.50")
    assert sum(int(row[1]) for row in plot.rows) == 3


def test_eff_at_k_is_drawn_where_a_side_has_it() -> None:
    eff = {"1": {"value": 0.2, "low": 0.1, "high": 0.3}, "10": {"value": 1.1}}
    one = EvalResults.model_validate(eval_results(0.0) | {"eff_at_k": eff})
    plot = at_k([Side("before", parsed(0.0)), Side("after", one)], "eff")
    assert [row[0] for row in plot.rows] == ["eff@1, after", "eff@10, after"]
    assert plot.rows[1] == ("eff@10, after", "110.0\u202f%", "–", "–")
    assert plots.at_k([Side("only", parsed(0.0))], "eff") is None


def test_every_colour_of_the_figures_is_a_class_of_the_style_sheet() -> None:
    from importlib.resources import files

    from codegen_eval.report.svg import _ROLES

    sheet = files("codegen_eval.report").joinpath("templates/style.css").read_text()
    for role in _ROLES.values():
        for what in ("fill", "stroke"):
            assert f".{what}-{role} {{ {what}: var(--" in sheet, f"a {what} in {role} would not be seen"
