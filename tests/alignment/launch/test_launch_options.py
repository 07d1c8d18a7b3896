"""Numbers of processes and machines: what does not fit is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment.launch_options import launcher_flags, run_directory
from alignment.resources import recipe_path
from codegen_eval.errors import CodealignError


def configuration(name: str) -> Path:
    return recipe_path(f"accelerate/{name}.yaml")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("single", {"num_processes": 2}, "a launch of one process, 2 were asked for: take --accelerate ddp"),
        ("ddp", {"num_processes": 0}, "must be 1 or more"),
        ("ddp", {"num_processes": "two"}, "num_processes must be a whole number"),
        ("zero3", {"num_processes": 3, "num_machines": 2, "main_process_ip": "a"}, "no whole number each"),
        ("zero2", {"num_processes": 4, "num_machines": 2}, "--main_process_ip"),
        (
            "ddp",
            {"num_processes": 4, "num_machines": 2, "machine_rank": 2, "main_process_ip": "a"},
            r"--machine_rank must lie in 0\.\.1 \(given: 2\)",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(name: str, options: dict[str, int | str], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        launcher_flags(configuration(name), options)


def test_how_many_processes_start_where_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert launcher_flags(configuration("single"), {}) == []
    assert capsys.readouterr().err == ""
    flags = launcher_flags(configuration("zero3"), {"num_processes": 2})
    assert flags == ["--num_processes", "2"]
    assert capsys.readouterr().err == "launching 2 processes (zero3)\n"
    options: dict[str, int | str] = {
        "num_processes": 16,
        "num_machines": 2,
        "machine_rank": 1,
        "main_process_ip": "10.0.0.1",
    }
    flags = launcher_flags(configuration("ddp"), options)
    assert flags[:2] == ["--main_process_port", "29500"], "Accelerate asserts that there is one"
    assert flags[-2:] == ["--main_process_ip", "10.0.0.1"]
    said = capsys.readouterr().err
    assert said == "launching 16 processes, 8 on each of 2 machines; this is machine 1 (ddp)\n"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "of-the-recipe"),
        (["--output_dir", "x"], "x"),
        (["--seed", "1", "--output_dir=y/z"], "y/z"),
    ],
)
def test_the_run_directory_is_found_as_the_trainer_finds_it(
    tmp_path: Path, overrides: list[str], expected: str
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("output_dir: of-the-recipe\n")
    assert run_directory(recipe, overrides) == Path(expected)
    recipe.write_text("seed: 1\n")
    assert run_directory(recipe, ["--output_dir"]) is None
