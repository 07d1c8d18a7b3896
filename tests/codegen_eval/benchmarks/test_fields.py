"""Files of rows in every form, and what their fields are checked for."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from codegen_eval.benchmarks import fields
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from tests.codegen_eval.benchmarks.judging import write

ROWS = [{"id": "a", "texts": ["x", "y"], "n": 1}, {"id": "b", "texts": [], "n": 2}]


def as_lines(path: Path) -> None:
    write(path, *ROWS)


def as_array(path: Path) -> None:
    path.write_text("\ufeff\n " + json.dumps(ROWS, indent=1))


def as_parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def packed(make):
    def packing(path: Path) -> None:
        make(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return packing


@pytest.mark.parametrize(
    ("make", "second"),
    [
        (as_lines, "f:2"),
        (packed(as_lines), "f:2"),
        (as_array, "f: row 2"),
        (packed(as_array), "f: row 2"),
        (as_parquet, "f: row 2"),
    ],
)
def test_rows_are_the_same_in_every_form_and_say_where_they_stand(tmp_path: Path, make, second: str) -> None:
    make(tmp_path / "f")
    found = list(fields.rows(tmp_path / "f"))
    assert [row for _, row in found] == ROWS
    assert found[1][0] == f"{tmp_path}/{second}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"id": 1}\n{"id": \n', r"f:2: not valid JSON"),
        (b'[{"id": 1}, 7]', r"f: row 2 is int; a JSON object is needed"),
        (b'[{"id": 1}, ', r"f: not a JSON array"),
        (b"[" * 100_000, r"f: not a JSON array"),
        (
            gzip.compress(b'{"id": 1}\n' * 5000, mtime=0)[:60],
            r"compressed data is broken or cut off|cannot read",
        ),
        (gzip.compress(b"[]", mtime=0)[:10] + b"\xff" * 20, r"cannot read .*f: "),
        (b"PAR1 and no more", r"f: broken Parquet"),
        (b'"text"\n', r"f:1: a JSON object is needed, this is str"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(CodealignError, match=why):
        list(fields.rows(tmp_path / "f"))


def test_parquet_without_pyarrow_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CodealignError, match="pip install pyarrow, or give JSON lines"):
        list(fields.rows(tmp_path / "f"))


def test_infinite_numbers_are_inputs_as_others(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"x": [Infinity, -Infinity]}\n')
    assert [row for _, row in fields.rows(tmp_path / "f")] == [{"x": [float("inf"), float("-inf")]}]


def test_a_folder_gives_its_data_files_by_name_and_a_split_chooses_among_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b-test.jsonl", "a-train.json.gz", "deep/c-test.parquet", "README.md"):
        (tmp_path / name).write_text("")
    names = [path.name for path in fields.files("bench", tmp_path, "x.jsonl")]
    assert names == ["a-train.json.gz", "b-test.jsonl", "c-test.parquet"]
    assert [path.name for path in fields.files("bench", tmp_path, "x.jsonl", "train")] == ["a-train.json.gz"]
    with pytest.raises(CodealignError, match=r"nothing of split 'v9', there is a-train\.json\.gz, b-test"):
        fields.files("bench", tmp_path, "x.jsonl", "v9")


def test_no_data_set_or_one_that_is_not_there_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"bench is not shipped: give its file, --dataset PATH/x\.jsonl"):
        fields.files("bench", None, "x.jsonl")
    with pytest.raises(CodealignError, match="no such file"):
        fields.files("bench", tmp_path / "nothing", "x.jsonl")
    with pytest.raises(CodealignError, match=r"there is no file that ends with \.jsonl"):
        fields.files("bench", tmp_path, "x.jsonl")


def test_a_task_id_that_comes_twice_is_refused_at_its_second_place() -> None:
    with pytest.raises(CodealignError, match=r"f:2: task id 't' occurs twice"):
        fields.problems([("f:1", {}), ("f:2", {})], lambda row, where: Problem("t", "", "f", (), ""))


@pytest.mark.parametrize(
    ("check", "key", "why"),
    [
        (fields.text, "n", r"f:3: the text field 'n' is 1$"),
        (fields.text, "z", r"f:3: the text field 'z' is missing; there are bad, id, n, text"),
        (fields.texts, "id", r"'id', a list of texts, is 'a b'"),
        (fields.texts, "bad", r"is \['x', 1\]"),
        (fields.whole, "id", r"the whole number 'id' is 'a b'"),
        (fields.whole, "yes", r"the whole number 'yes' is True"),
        (fields.name_of, "id", r"id 'a b' is not a name"),
    ],
)
def test_a_field_of_another_kind_is_refused_with_what_is_there(check, key: str, why: str) -> None:
    row = {"id": "a b", "texts": ["x"], "n": 1, "bad": ["x", 1], "yes": True}
    with pytest.raises(CodealignError, match=why):
        check(row, key, "f:3")


def test_long_values_are_shortened_in_errors() -> None:
    with pytest.raises(CodealignError) as caught:
        fields.whole({"n": "x" * 10_000}, "n", "f:1")
    assert len(str(caught.value)) < 120
