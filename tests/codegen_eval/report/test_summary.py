from __future__ import annotations

import io

from rich.console import Console

from codegen_eval.report.summary import (
    before_after_table,
    before_after_text,
    change_counts,
    headline,
    metrics_of,
    p_text,
    show,
)
from codegen_eval.results import EvalResults

COMPARISON = {
    "pass@1": {"before": 0.481, "after": 0.623, "difference": 0.142, "low": 0.11, "high": 0.174},
    "pass@10": {"before": 0.9, "after": 0.91, "difference": 0.01, "low": -0.02, "high": 0.04},
    "slow_share": {"before": 0.1, "after": 0.15, "difference": 0.05, "low": 0.01, "high": 0.09},
}


def results(shares: dict[str, int]) -> EvalResults:
    problems = [{"task_id": task_id, "n": 10, "c": c} for task_id, c in shares.items()]
    return EvalResults.model_validate(
        {
            "benchmark": "b",
            "n_problems": 1,
            "pass_at_k": {"10": {"value": 1}, "1": {"value": 0.5}},
            "problems": problems,
        }
    )


def test_a_change_is_claimed_only_where_the_interval_leaves_0_out() -> None:
    assert [metric.verdict for metric in metrics_of(COMPARISON)] == ["better", "unsure", "worse"]


def test_the_plain_table_is_aligned_and_complete() -> None:
    assert before_after_text(COMPARISON) == (
        "Before and after (95 % intervals over problems)\n"
        "                  before   after  difference   95 % interval\n"
        "pass@1            48.1 %  62.3 %       +14.2  +11.0 to +17.4\n"
        "pass@10           90.0 %  91.0 %        +1.0    -2.0 to +4.0\n"
        "slow among right  10.0 %  15.0 %        +5.0    +1.0 to +9.0\n"
    )


def test_the_plain_table_goes_through_any_pipe() -> None:
    assert before_after_text({"名\x1b": COMPARISON["pass@1"]}).isascii()


def test_the_rich_table_has_a_row_for_every_metric() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    show(COMPARISON, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert before_after_table(COMPARISON).row_count == 3
    assert "\x1b[" in text
    assert "+11.0 to +17.4" in text


def test_a_pipe_gets_the_plain_table() -> None:
    file = io.StringIO()
    show(COMPARISON, Console(file=file))
    assert file.getvalue() == before_after_text(COMPARISON)


def test_names_are_no_markup() -> None:
    evil = {"[red]\x1b[31m": COMPARISON["pass@1"]}
    console = Console(file=io.StringIO(), width=120, force_terminal=True, no_color=True)
    show(evil, console)
    assert "[red]⟨U+001B⟩[31m" in console.file.getvalue()  # type: ignore[attr-defined]


def test_pass_at_k_comes_in_the_order_of_k() -> None:
    assert [metric.label for metric in headline(results({}), None, None)] == ["pass@1", "pass@10"]


def test_changes_are_counted_over_common_problems() -> None:
    before, after = results({"a": 1, "b": 5, "c": 3, "d": 9}), results({"a": 2, "b": 4, "c": 3, "e": 1})
    assert change_counts(before, after) == (1, 1, 1)


def test_the_test_s_columns_say_which_way_is_better() -> None:
    tested = {"p_value": 0.0004, "higher": 7, "lower": 2, "same": 5}
    rows = {"eff@1": COMPARISON["pass@1"] | tested, "slow_share": COMPARISON["slow_share"] | tested}
    text = before_after_text(rows | {"pass@1": COMPARISON["pass@1"]}, ("A", "B"), tests=True)
    header, eff, slow, without = (line.split() for line in text.splitlines()[1:])
    assert text.startswith("A and B (95 % intervals")
    assert header[-2:] == ["p", "better/worse/same"]
    assert eff[0] == "eff@1" and eff[-3:] == ["<", "0.001", "7/2/5"]
    assert slow[-1] == "2/7/5"
    assert without[-2:] == ["-", "-"]
    assert p_text(0.0123) == "0.012" and p_text(1.0) == "1.000"


def test_eff_at_k_comes_after_pass_at_k_where_a_side_has_it() -> None:
    one = results({})
    other = one.model_copy(update={"eff_at_k": {1: one.pass_at_k[1]}})
    metrics = headline(one, other, None)
    assert [metric.label for metric in metrics] == ["pass@1", "pass@10", "eff@1"]
    assert metrics[2].before is None and metrics[2].after is not None
