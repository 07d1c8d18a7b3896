"""execute, rank and pairs as commands: their files, resuming, bad input, and hidden tests out of reach."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.commands import execute, pairs, rank
from codegen_eval.commands.execute import ExecuteConfig
from codegen_eval.commands.pairs import PairsConfig
from codegen_eval.commands.rank import RankConfig
from codegen_eval.errors import CodealignError
from codegen_eval.records import Prompt
from codegen_eval.runs import read_jsonl, write_jsonl
from tests.codegen_eval.made_up_runs import PROGRAMS, FakeSandbox, problems, write_samples


class Guarded:
    """A problem whose hidden parts must not be touched."""

    def __init__(self, task_id: str, prompt: str, entry_point: str) -> None:
        self.task_id, self.prompt, self.entry_point = task_id, prompt, entry_point

    def public(self) -> Prompt:
        return Prompt(self.task_id, self.prompt, self.entry_point)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of a problem was read")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = [Guarded(p.task_id, p.prompt, p.entry_point) for p in problems()]
    monkeypatch.setitem(BENCHMARKS._entries, "made-up", lambda dataset, split: problems())
    monkeypatch.setitem(BENCHMARKS._entries, "made-up-guarded", lambda dataset, split: guarded)


def chain(folder: Path, benchmark: str = "made-up", **options: Any) -> tuple[bytes, bytes, bytes]:
    """Runs all three commands; the bytes of matrices, rankings, pairs."""
    folder.mkdir(exist_ok=True)
    programs, tests = write_samples(folder)
    config = ExecuteConfig(programs=programs, tests=tests, benchmark=benchmark, out=folder / "matrices")
    matrices = execute.run(config, FakeSandbox()).path / "matrices.jsonl"
    ranked = rank.run(RankConfig(matrices=matrices, out=folder / "rankings", ranker="codet"))
    rankings = ranked.path / "rankings.jsonl"
    config_pairs = PairsConfig(
        matrices=matrices, rankings=rankings, benchmark=benchmark, out=folder / "pairs", **options
    )
    made = pairs.run(config_pairs, FakeSandbox()).path / "pairs.jsonl"
    return matrices.read_bytes(), rankings.read_bytes(), made.read_bytes()


def test_hidden_tests_and_solutions_are_never_read(tmp_path: Path) -> None:
    assert chain(tmp_path / "open") == chain(tmp_path / "guarded", "made-up-guarded")


def test_pairs_are_trl_preference_data(tmp_path: Path) -> None:
    chain(tmp_path, efficiency_share=0.5)
    rows = list(read_jsonl(tmp_path / "pairs/pairs.jsonl"))
    assert {row["kind"] for row in rows} == {"correctness", "efficiency"}
    for row in rows:
        assert set(row) == {
            *("prompt", "chosen", "rejected", "kind", "confidence", "margin", "task_id"),
            *("chosen_sha", "rejected_sha", "ranker", "sources", "label_smoothing", "ties"),
            *("chosen_score", "rejected_score", "chosen_weight", "rejected_weight"),
            *("prefix_chars", "suffix_chars"),
        }
        assert row["chosen"] != row["rejected"] and row["sources"] == ["example", "own"]
        assert row["chosen"].startswith("    return") and row["prompt"].startswith("def ")
    (fast,) = [row for row in rows if row["kind"] == "efficiency"]
    assert fast["chosen"] == "    return 2 * x\n" and "seconds: 0.1" in fast["rejected"]
    (timing,) = read_jsonl(tmp_path / "pairs/timings.jsonl")
    assert timing["seconds"] == pytest.approx([0.002, 0.2])
    funnel = json.loads((tmp_path / "pairs/funnel.json").read_text())
    assert funnel["problems"] == 2 and funnel["pairs_correctness"] + funnel["pairs_efficiency"] == len(rows)


def test_pairs_load_as_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    chain(tmp_path)
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "pairs/pairs.jsonl"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert {"prompt", "chosen", "rejected"} <= set(loaded.column_names) and len(loaded) >= 2


def test_seed_decides_the_pairs(tmp_path: Path) -> None:
    first = chain(tmp_path / "a", seed=1)[2]
    assert first == chain(tmp_path / "b", seed=1)[2]
    assert len({chain(tmp_path / f"s{i}", seed=i, pairs_per_problem=1)[2] for i in range(8)}) > 1


def test_without_efficiency_nothing_is_timed(tmp_path: Path) -> None:
    chain(tmp_path, efficiency_share=0.0)
    assert not (tmp_path / "pairs/timings.jsonl").exists()


def test_execute_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "PROBLEMS_PER_PART", 1)
    undisturbed = chain(tmp_path / "whole")[0]
    programs, tests = write_samples(tmp_path)
    config = ExecuteConfig(programs=programs, tests=tests, benchmark="made-up", out=tmp_path / "run")

    class Stops(FakeSandbox):
        def pass_matrices(self, jobs: Any) -> Iterator[Any]:
            for number, matrix in enumerate(super().pass_matrices(jobs)):
                if number == 1:
                    raise KeyboardInterrupt
                yield matrix

    with pytest.raises(KeyboardInterrupt):
        execute.run(config, Stops())
    again = FakeSandbox()
    assert execute.run(config, again).path.joinpath("matrices.jsonl").read_bytes() == undisturbed
    assert again.jobs == 1
    execute.run(config, again)
    assert again.jobs == 1


def test_no_usable_pair_is_an_error_with_the_funnel_and_leaves_no_file(tmp_path: Path) -> None:
    rows = [{"task_id": "made/count", "sample": 0, "completion": "    return len(s)\n"}]
    write_jsonl(tmp_path / "p.jsonl", rows)
    execute.run(
        ExecuteConfig(
            programs=tmp_path / "p.jsonl", sources=("examples",), benchmark="made-up", out=tmp_path / "m"
        ),
        FakeSandbox(),
    )
    rank.run(RankConfig(matrices=tmp_path / "m/matrices.jsonl", out=tmp_path / "r"))
    config = PairsConfig(
        matrices=tmp_path / "m/matrices.jsonl",
        rankings=tmp_path / "r/rankings.jsonl",
        benchmark="made-up",
        out=tmp_path / "o",
    )
    with pytest.raises(CodealignError, match=r"no usable pair in 1 problems[\s\S]*problem_uninformative +1"):
        pairs.run(config, FakeSandbox())
    assert not (tmp_path / "o/pairs.jsonl").exists()
    assert json.loads((tmp_path / "o/funnel.json").read_text())["problem_uninformative"] == 1


def write_and_execute(folder: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    write_jsonl(folder / "p.jsonl", rows)
    config = {"programs": folder / "p.jsonl", "benchmark": "made-up", "out": folder / "o", **options}
    execute.run(ExecuteConfig(**config), FakeSandbox())


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {"sources": ("examples",)}, "holds no samples"),
        ([{"task_id": "made/count"}], {"sources": ("examples",)}, r"p\.jsonl:1"),
        (
            [{"task_id": "made/coun", "completion": "x"}],
            {"sources": ("examples",)},
            "did you mean 'made/count'",
        ),
        ([{"task_id": "made/count", "solution": "x"}], {"sources": ("examples",)}, "has no completion"),
        ([{"task_id": "made/count", "completion": "x"}], {}, "--sources own needs --tests"),
        ([{"task_id": "made/count", "completion": "x"}], {"sources": ()}, "no source of tests"),
        ([{"task_id": "made/count", "completion": "x"}], {"tests": Path("/none.jsonl")}, "none.jsonl"),
        (
            [{"task_id": "made/count", "completion": "x"}],
            {"sources": ("examples",), "benchmark": "made-upp"},
            "did you mean 'made-up'",
        ),
    ],
)
def test_bad_input_of_execute_is_a_clear_error(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        write_and_execute(tmp_path, rows, **options)


def test_broken_lines_and_foreign_rankings_are_named(tmp_path: Path) -> None:
    chain(tmp_path)
    matrices, rankings = tmp_path / "matrices/matrices.jsonl", tmp_path / "rankings/rankings.jsonl"
    (tmp_path / "torn.jsonl").write_bytes(matrices.read_bytes()[:-20])
    with pytest.raises(CodealignError, match=r"torn\.jsonl:2"):
        rank.run(RankConfig(matrices=tmp_path / "torn.jsonl", out=tmp_path / "r2"))
    (tmp_path / "less.jsonl").write_bytes(rankings.read_bytes().split(b"\n")[0] + b"\n")
    given: dict[str, Any] = {"matrices": matrices, "benchmark": "made-up", "efficiency_share": 0.0}
    with pytest.raises(CodealignError, match="'made/count' has a matrix but no ranking"):
        pairs.run(PairsConfig(rankings=tmp_path / "less.jsonl", out=tmp_path / "x", **given))
    with pytest.raises(CodealignError, match="is not in the benchmark"):
        pairs.run(
            PairsConfig(
                **{**given, "benchmark": "minipy"}, split="train", rankings=rankings, out=tmp_path / "y"
            )
        )


def test_programs_of_another_prompt_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(tmp_path)
    other = [Guarded(p.task_id, "# changed\n" + p.prompt, p.entry_point) for p in problems()]
    monkeypatch.setitem(BENCHMARKS._entries, "made-up", lambda dataset, split: other)
    config = PairsConfig(
        matrices=tmp_path / "matrices/matrices.jsonl",
        rankings=tmp_path / "rankings/rankings.jsonl",
        benchmark="made-up",
        efficiency_share=0.0,
        out=tmp_path / "x",
    )
    with pytest.raises(CodealignError, match="does not start with the benchmark's prompt"):
        pairs.run(config)


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        (rank, ["--ranker", "b5"], "did you mean 'b4'"),
        (rank, ["--ranker", "b4", "--beta-0", "nan"], "number"),
        (rank, ["--alpha-xy", "-1"], "finite number above 0"),
        (pairs, ["--rankings", "r", "--efficiency-share", "1.0"], "less than 1"),
        (pairs, ["--rankings", "r", "--pairs-per-problem", "0"], "greater than or equal to 1"),
        (rank, [], "no such file|does not exist|missing"),
    ],
)
def test_bad_flags_are_a_clear_error(
    tmp_path: Path, command: Any, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((CodealignError, SystemExit)) as caught:
        command.main(["--matrices", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "o"), *flags])
    assert re.search(message, str(caught.value) + capsys.readouterr().err)


def test_a_file_without_matrices_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").touch()
    (tmp_path / "r.jsonl").touch()
    with pytest.raises(CodealignError, match=r"m.jsonl holds no matrices"):
        rank.main(["--matrices", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "a")])
    with pytest.raises(CodealignError, match=r"m.jsonl holds no matrices"):
        files = ["--matrices", str(tmp_path / "m.jsonl"), "--rankings", str(tmp_path / "r.jsonl")]
        pairs.main([*files, "--out", str(tmp_path / "b")])


def test_rank_command_records_the_hyperparameters_in_force(tmp_path: Path) -> None:
    chain(tmp_path)
    matrices = str(tmp_path / "matrices/matrices.jsonl")
    assert rank.main(["--matrices", matrices, "--out", str(tmp_path / "b"), "--alpha-xy", "12"]) == 0
    row = next(read_jsonl(tmp_path / "b/rankings.jsonl"))
    assert row["parameters"] == {"alpha_xy": 12.0, "beta_0": 10.0} and row["kind"] == "log_posterior"
    assert len(row["scores"]) == len(set(PROGRAMS["made/double"]))


def test_hygiene_is_counted_over_the_run_and_its_tests_reach_the_pairs(tmp_path: Path) -> None:
    chain(tmp_path)
    matrices = tmp_path / "matrices/matrices.jsonl"
    config = RankConfig(matrices=matrices, out=tmp_path / "h", ranker="codedpo", hygiene="full")
    ranked = rank.run(config, FakeSandbox())
    counts = json.loads((ranked.path / "hygiene.json").read_text())
    assert counts["tests"] == 7 and counts["canaries"] == 4 and counts["cells_changed"] == 0
    row = next(read_jsonl(ranked.path / "rankings.jsonl"))
    assert len(row["test_scores"]) == len(row["test_counts"]) >= len(row["tests"])
    made = PairsConfig(
        **{"matrices": matrices, "rankings": ranked.path / "rankings.jsonl", "benchmark": "made-up"},
        out=tmp_path / "d",
        builder="dstc",
        efficiency="credible",
        efficiency_share=0.5,
        kto=True,
    )
    run_dir = pairs.run(made, FakeSandbox())
    rows, singles = (list(read_jsonl(run_dir.path / f"{name}.jsonl")) for name in ("pairs", "kto"))
    assert {row["kind"] for row in rows} == {"code_test", "efficiency"}
    assert {single["label"] for single in singles} == {True, False}
    assert all("assert " in row["chosen"] for row in rows if row["kind"] == "code_test")
    assert "reach" in next(read_jsonl(run_dir.path / "timings.jsonl"))


def test_fitting_needs_problems_and_a_ranker_that_has_hyperparameters(tmp_path: Path) -> None:
    chain(tmp_path)
    matrices = tmp_path / "matrices/matrices.jsonl"
    with pytest.raises(CodealignError, match="--fit finds alpha_xy and beta_0 of the rankers"):
        rank.run(RankConfig(matrices=matrices, out=tmp_path / "a", ranker="maxpass", fit=True))
    with pytest.raises(CodealignError, match="needs at least 20"):
        rank.run(RankConfig(matrices=matrices, out=tmp_path / "b", ranker="posterior", fit=True))
    many = [dict(row, task_id=f"t{i}") for i in range(20) for row in read_jsonl(matrices)]
    write_jsonl(tmp_path / "many.jsonl", many)
    ranked = rank.run(
        RankConfig(matrices=tmp_path / "many.jsonl", out=tmp_path / "c", ranker="posterior", fit=True)
    )
    rows = list(read_jsonl(ranked.path / "rankings.jsonl"))
    assert len({tuple(row["parameters"].items()) for row in rows}) == 1
    assert rows[0]["kind"] == "log_probability" and rows[0]["parameters"]["beta_0"] != 10.0


def test_an_unknown_builder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="did you mean 'dstc'"):
        pairs.main(["--matrices", "m", "--rankings", "r", "--out", str(tmp_path), "--builder", "dtsc"])
