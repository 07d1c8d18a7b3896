"""Rows of benchmark files: every form gives the same rows, and what is broken is named with its place."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.rows import Row, collect, file_rows, read_rows, with_prelude
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from tests.conftest import cpu_bound

ROWS = [{"id": 1, "text": "ä", "list": [1, 2]}, {"id": 2, "text": "", "list": None}]
KNOWN = ("test", "train")


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(ROWS), path)


def test_every_form_of_file_has_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    (tmp_path / "c.json").write_text(" \n" + json.dumps(ROWS), encoding="utf-8-sig")
    (tmp_path / "d.json").write_bytes(lines(ROWS))
    parquet(tmp_path / "e.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert [row.values for row in file_rows(path)] == ROWS, path
    places = [row.where for path in sorted(tmp_path.iterdir()) for row in file_rows(path)][1::2]
    assert [place.replace(f"{tmp_path}/", "") for place in places] == [
        "a.jsonl:2",
        "b.jsonl.gz:2",
        "c.json: row 2",
        "d.json:2",
        "e.parquet: row 2",
    ]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a"', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl: row 1 is int; a JSON object is needed"),
        ("a.json", b"[1, 2]", r"a\.json: row 1 is int; a JSON object is needed"),
        ("a.json", b"[{", r"a\.json: not a JSON array: not valid JSON"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.json", b'[{"a": ' + b"9" * 40_000 + b"}]", "40000 digits"),
        ("a.json", b"[\xff]", "not valid JSON"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:-8], "broken or cut off"),
        ("a.parquet", b"PAR1 is not all", "cannot read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CodealignError, match=why):
        list(file_rows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CodealignError, match=rf"no such file: .*{name}"):
        list(file_rows(tmp_path / name))


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CodealignError, match="pyarrow is needed: pip install pyarrow"):
        list(file_rows(tmp_path / "a.parquet"))


def test_a_folder_gives_the_files_of_a_split_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("test-2.jsonl", "test-1.jsonl", "train.jsonl", "tests.jsonl", "test2.jsonl", "test.txt"):
        (tmp_path / name).write_bytes(lines([{"name": name}]))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_bytes(lines([{"name": "inner"}]))

    def names(split: str) -> list[str]:
        return [row.text("name") for row in read_rows("b", tmp_path, split, known=KNOWN)]

    assert names("test") == ["inner", "test-1.jsonl", "test-2.jsonl"]
    assert names("train") == ["train.jsonl"]
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(CodealignError, match=r"no file of train .*there: test\.jsonl, test-1\.jsonl"):
        names("train")


def test_a_split_is_known_and_is_not_another_ones_file(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(lines(ROWS))
    assert len(list(read_rows("b", path, "train", known=KNOWN))) == 2
    for split, why in (("test", "of the split 'train'"), ("dev", "splits test, train, not 'dev'")):
        with pytest.raises(CodealignError, match=why):
            list(read_rows("b", path, split, known=KNOWN))
    with pytest.raises(CodealignError, match=r"b is not shipped: .*--dataset PATH"):
        list(read_rows("b", None, "test", known=KNOWN))


def test_fields_are_checked_by_type() -> None:
    row = Row({"a": "x", "b": 1, "c": None, "d": [1], "e": "{", "f": "[1]", "g": " ", "h": "a\nb"}, "F:1")
    assert row.text("a") == "x" and row.text("c", "d") == "d" and row.list("c") == [] and row.list("d") == [1]
    assert row.json("f") == [1] and row.json("c", 5) == 5 and row.meta("a", "c", "z") == {"a": "x"}
    for call, why in (
        (lambda: row.text("b"), "'b' is a int"),
        (lambda: row.text("c"), "'c' is missing"),
        (lambda: row.text("z"), "'z' is missing"),
        (lambda: row.list("a"), "'a' must be a list, it is a str"),
        (lambda: row.json("e"), "'e' is not valid JSON"),
        (lambda: row.name("g"), "is no name"),
        (lambda: row.name("h"), "is no name"),
    ):
        with pytest.raises(CodealignError, match=rf"^F:1: .*{why}"):
            call()


def test_whole_numbers_of_more_digits_than_python_reads_are_read_up_to_a_bound() -> None:
    row = Row({}, "F:1")
    assert row.parse("7" * 29_000, "x") == 7 * (10**29_000 // 9)
    (value,) = row.parse("[-1" + "0" * 20_000 + "]", "x")
    assert value == -(10**20_000)
    with cpu_bound(2), pytest.raises(CodealignError, match="a number of 5000000 digits"):
        row.parse("9" * 5_000_000, "x")
    with pytest.raises(CodealignError, match="nested too deeply"):
        row.parse("[" * 200_000, "x")


def test_problems_are_distinct_and_rows_without_tests_are_counted() -> None:
    def problem(row: Row) -> Problem | None:
        return Problem(row.text("id"), "", "", (), "") if row.text("id") else None

    def rows(*ids: str) -> Any:
        return (Row({"id": name}, f"F:{i}") for i, name in enumerate(ids, 1))

    with pytest.warns(UserWarning, match="b: 2 of 3 rows cannot be judged and are left out"):
        assert [p.task_id for p in collect("b", rows("", "x", ""), problem)] == ["x"]
    with pytest.raises(CodealignError, match=r"^F:3: task id 'x' occurs twice"):
        collect("b", rows("x", "y", "x"), problem)


@pytest.mark.parametrize(
    ("source", "whole"),
    [
        ("x = 1\n", "P\nx = 1\n"),
        (
            "from __future__ import annotations\nx: y = 1\n",
            "from __future__ import annotations\nP\nx: y = 1\n",
        ),
        (
            "# hm\n\nfrom __future__ import annotations\nfrom __future__ import division\nx",
            "from __future__ import annotations\nfrom __future__ import division\nP\nx",
        ),
        ("x = 1\nfrom __future__ import annotations\n", "P\nx = 1\nfrom __future__ import annotations\n"),
        ('"""from __future__ import annotations\n"""', 'P\n"""from __future__ import annotations\n"""'),
        ("", "P\n"),
    ],
)
def test_a_prelude_comes_first_but_for_future_imports(source: str, whole: str) -> None:
    assert with_prelude("P", source) == whole


def test_a_prelude_before_a_hostile_program_takes_linear_time() -> None:
    with cpu_bound(5):
        for text in (" \n" * 500_000, "#" * 10**6, " " * 10**6, "from __future__ import a\n" * 40_000 + "("):
            assert with_prelude("P", text).count("P\n") == 1
