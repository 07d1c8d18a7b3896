"""Reading JSON lines: every broken file is named with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import dump_row, plain, read_jsonl


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": NaN}', r"not valid JSON \(NaN is not a JSON number"),
        (b"[1, 2]", "a JSON object is needed, this is list"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_line_is_named_by_file_and_number(tmp_path: Path, broken: bytes, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"ok": 1}\n\n' + broken + b"\n")
    with pytest.raises(CodealignError, match=rf"rows\.jsonl:3: {why}"):
        list(read_jsonl(path))


def test_rows_before_the_broken_one_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"ok": 1}\nbroken\n')
    assert next(read_jsonl(path)) == {"ok": 1}


def test_gzip_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}'))
    assert [row["a"] for row in read_jsonl(path)] == [1, 2]


def test_cut_off_gzip_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    with pytest.raises(CodealignError, match="compressed data is broken or cut off"):
        list(read_jsonl(path))


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"no such file: .*none\.jsonl"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    with pytest.raises(CodealignError, match="Is a directory"):
        list(read_jsonl(tmp_path))


def test_equal_rows_are_equal_bytes() -> None:
    assert dump_row({"b": 1, "a": "ü"}) == dump_row({"a": "ü", "b": 1}) == '{"a": "ü", "b": 1}\n'.encode()


def test_plain_takes_numpy_and_paths() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": Path("x"), "d": (1, None)}
    assert plain(value) == {"a": 0.5, "b": [0, 1], "c": "x", "d": [1, None]}
    assert plain(np.array([np.nan, 1.0]), finite=True) == [None, 1.0]
