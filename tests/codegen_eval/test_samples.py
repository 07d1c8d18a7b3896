"""Sample files of three kinds, and what is wrong with bad ones."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.records import Sample
from codegen_eval.samples import read_samples


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_samples_of_a_task_are_numbered_as_they_come(tmp_path: Path) -> None:
    rows = [{"task_id": t, "completion": c} for t, c in (("a", "1"), ("b", "2"), ("a", "3"))]
    samples = read_samples(write(tmp_path / "s.jsonl", *rows))
    assert [(s.task_id, s.sample, s.completion) for s in samples] == [
        ("a", 0, "1"),
        ("b", 0, "2"),
        ("a", 1, "3"),
    ]


def test_solution_wins_and_other_keys_are_kept(tmp_path: Path) -> None:
    row = {"task_id": "a", "completion": "c", "solution": "s", "model": "m"}
    (sample,) = read_samples(write(tmp_path / "s.jsonl", row))
    assert (sample.completion, sample.solution) == ("c", "s") and sample.meta == {"model": "m"}
    with pytest.raises(ValueError, match="neither completion nor solution"):
        Sample("a", None, None, 0)


def test_a_sample_run_is_read_from_its_directory(tmp_path: Path) -> None:
    write(tmp_path / "programs.jsonl", {"task_id": "a", "sample": 4, "completion": "c"})
    assert read_samples(tmp_path)[0].sample == 4


def test_evalplus_folders_know_their_tasks_again(tmp_path: Path) -> None:
    for task, number in (("Some_Bench_1", 10), ("Some_Bench_1", 2), ("Some_Bench_0", 0)):
        (tmp_path / task).mkdir(exist_ok=True)
        (tmp_path / task / f"{number}.py").write_text(f"# {number}")
    samples = read_samples(tmp_path, ["Some_Bench/0", "Some_Bench/1"])
    assert [(s.task_id, s.sample) for s in samples] == [
        ("Some_Bench/0", 0),
        ("Some_Bench/1", 2),
        ("Some_Bench/1", 10),
    ]
    (tmp_path / "Some_Bench_1" / "best.py").write_text("")
    with pytest.raises(CodealignError, match=r"best\.py"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"completion": "x"}, "needs a task_id"),
        ({"task_id": 3, "completion": "x"}, "needs a task_id"),
        ({"task_id": "a"}, "needs a completion or a solution, has task_id"),
        ({"task_id": "a", "completion": ["x"]}, "completion must be text, got list"),
        ({"task_id": "a", "completion": "x", "sample": -1}, "sample must be a whole number"),
        ({"task_id": "a", "completion": "x", "sample": 0}, "sample 0 of task 'a' is given twice"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, row: object, why: str) -> None:
    path = write(tmp_path / "s.jsonl", {"task_id": "a", "completion": "x"}, row)
    with pytest.raises(CodealignError, match=rf"s\.jsonl:2: {why}"):
        read_samples(path)


def test_empty_and_missing_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="holds no samples"):
        read_samples(write(tmp_path / "s.jsonl"))
    with pytest.raises(CodealignError, match="holds no samples"):
        read_samples(_empty(tmp_path))
    with pytest.raises(CodealignError, match="no such file"):
        read_samples(tmp_path / "nowhere.jsonl")


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


IDS = ("HumanEval/0", "HumanEval/1", "HumanEval/3")


@pytest.mark.parametrize(
    "form", [[["a", "b"], ["c"], ["left out"], ["d"]], {"0": ["a", "b"], "1": ["c"], "3": ["d"]}]
)
def test_enamels_json_is_read_by_number_and_left_out_tasks_are_passed_over(
    tmp_path: Path, form: object
) -> None:
    (tmp_path / "s.json").write_text(json.dumps(form))
    found = [(s.task_id, s.sample, s.solution) for s in read_samples(tmp_path / "s.json", IDS)]
    assert found == [
        ("HumanEval/0", 0, "a"), ("HumanEval/0", 1, "b"), ("HumanEval/1", 0, "c"), ("HumanEval/3", 0, "d")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "ids", "said"),
    [
        ("[[1]]", IDS, "task 0 needs a list of programs"),
        ("3", IDS, "expected a list of lists"),
        ("{", IDS, "cannot read"),
        ("[" * 100_000, IDS, "cannot read"),
        ("[[]]", ("task/a",), "end in one"),
        ("[]", IDS, "holds no samples"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path: Path, text: str, ids: tuple[str, ...], said: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CodealignError, match=said):
        read_samples(tmp_path / "s.json", ids)


def test_an_archive_of_evalplus_is_read_without_unpacking(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for name in ("HumanEval_3/1.py", "HumanEval_0/0.py", "HumanEval_3/0.py"):
            archive.writestr(f"model_temp_0.0/{name}", f"# {name}")
        archive.writestr("model_temp_0.0/notes.txt", "x")
    found = [(s.task_id, s.sample, s.solution) for s in read_samples(tmp_path / "s.zip", IDS)]
    assert found == [
        ("HumanEval/0", 0, "# HumanEval_0/0.py"),
        ("HumanEval/3", 0, "# HumanEval_3/0.py"),
        ("HumanEval/3", 1, "# HumanEval_3/1.py"),
    ]
    (tmp_path / "t.zip").write_bytes(b"no archive")
    with pytest.raises(CodealignError, match=r"cannot read .*t.zip"):
        read_samples(tmp_path / "t.zip", IDS)
