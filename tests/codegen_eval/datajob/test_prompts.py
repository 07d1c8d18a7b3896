"""Where prompts come from, what is refused, and what is dropped by name."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.datajob.contamination import Index
from codegen_eval.datajob.prompts import (
    Candidate,
    candidate_of,
    chosen,
    from_benchmark,
    from_seeds,
    from_table,
    row_of,
)
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem, Prompt
from tests.codegen_eval.made_up_runs import problems

HEAD = 'import math\n\ndef helper(x):\n    return x\n\ndef area(r):\n    """Area of a circle."""\n'


def table(path: Path, rows: list[dict[str, Any]], chat: bool = False) -> tuple[list[Candidate], Counter[str]]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts: Counter[str] = Counter()
    return from_table(path, "prompt", "entry_point", "mit", chat, counts), counts


def test_the_entry_point_is_the_columns_or_the_last_function_defined(tmp_path: Path) -> None:
    rows = [
        {"prompt": HEAD},
        {"prompt": HEAD, "entry_point": "helper"},
        {"prompt": HEAD, "entry_point": None},
    ]
    found, counts = table(tmp_path / "p.jsonl", rows)
    assert [c.prompt.entry_point for c in found] == ["area", "helper", "area"]
    assert [c.prompt.task_id for c in found] == ["p/0", "p/1", "p/2"]
    assert [c.origin for c in found] == ["p.jsonl:1", "p.jsonl:2", "p.jsonl:3"]
    assert counts == {"prompts": 3}


def test_what_cannot_be_a_prompt_is_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Write a function."},
        {"prompt": HEAD, "entry_point": "absent"},
        {"prompt": HEAD, "entry_point": "no name"},
        {"prompt": HEAD + "# \ud800"},
        {"prompt": HEAD, "task_id": "own", "license": "cc0-1.0"},
    ]
    found, counts = table(tmp_path / "p.jsonl", rows)
    assert [(c.prompt.task_id, c.licence) for c in found] == [("own", "cc0-1.0")]
    assert counts == {
        "prompts": 5,
        "prompts_no_function": 1,
        "prompts_entry_point_not_defined": 1,
        "prompts_entry_point_is_no_name": 1,
        "prompts_not_utf8": 1,
    }


def test_prose_needs_a_chat_and_an_entry_point(tmp_path: Path) -> None:
    rows = [{"prompt": "Write area(r).", "entry_point": "area"}, {"prompt": "Write something."}]
    assert [c.prompt.entry_point for c in table(tmp_path / "p.jsonl", rows, chat=True)[0]] == ["area"]
    assert table(tmp_path / "p.jsonl", rows)[0] == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"promt": HEAD}], "did you mean 'promt'"),
        ([{"prompt": 3}], "must be text, it is int"),
        ([{"prompt": HEAD, "task_id": "a"}] * 2, r"p.jsonl:2: task id 'a' occurs twice"),
    ],
)
def test_bad_rows_are_refused_by_line(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        table(tmp_path / "p.jsonl", rows)


def test_parquet_folders_and_saved_datasets_are_read_alike(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"prompt": [HEAD], "other": [1]}), tmp_path / "set" / "train-0.parquet")
    pq.write_table(pa.table({"prompt": [HEAD + "\n"]}), tmp_path / "set" / "train-1.parquet")
    found = from_table(tmp_path / "set", "prompt", "entry_point", "mit", False, Counter())
    assert [c.prompt.prompt for c in found] == [HEAD, HEAD + "\n"]
    assert [c.prompt.task_id for c in found] == ["set/0", "set/1"]


def test_seeds_become_prompts_whose_bodies_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text('def f(x):\n    """Doc."""\n    return secret(x)\n')
    (one,) = from_seeds(tmp_path, "bsd-3-clause", Counter())
    assert one.prompt == Prompt("seed/m.py:1/f", 'def f(x):\n    """Doc."""\n', "f")
    assert "secret" in one.hidden and one.licence == "bsd-3-clause"
    assert "secret" not in json.dumps(row_of(one))
    assert candidate_of(json.loads(json.dumps(row_of(one)))).prompt == one.prompt


def test_a_benchmark_gives_its_python_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    prose = Problem("made/prose", "Write a program.", "f", (), "", continues=False)
    method = Problem("made/method", "class S:\n", "S.f", (), "")
    monkeypatch.setitem(BENCHMARKS._entries, "made-up", lambda dataset, split: [*problems(), prose, method])
    counts: Counter[str] = Counter()
    found = from_benchmark("made-up", None, "tune", "apache-2.0", counts)
    assert [c.prompt.task_id for c in found] == ["made/double", "made/count"]
    assert found[0].origin == "made-up/tune" and counts == {"prompts": 4, "prompts_no_python_function": 2}


def test_dropped_prompts_are_named_with_what_they_repeat_or_share() -> None:
    shared = "count the vowels of every word that begins with an upper case letter"
    index = Index(10)
    index.add("bench", "b/1", shared)
    texts = {
        "shown": f'def a(s):\n    """{shared}"""\n',
        "first": 'def b(xs):\n    """Sum of the squares of the numbers in xs, or 0 for none."""\n',
        "again": 'def b(xs):\n    """Sum of the squares of the numbers in xs, or 0 for none"""\n',
        "body": 'def c(s):\n    """Some letters."""\n',
    }
    given = [
        Candidate(Prompt(name, text, "f"), "here", "mit", hidden=shared if name == "body" else "")
        for name, text in texts.items()
    ]
    counts: Counter[str] = Counter()
    used, dropped = chosen(given, counts, similarity=0.8, index=index)
    assert [c.prompt.task_id for c in used] == ["first"]
    assert {(row["task_id"], row["reason"], row["of"]) for row in dropped} == {
        ("shown", "contaminated", "b/1"),
        ("body", "contaminated", "b/1"),
        ("again", "near_duplicate", "first"),
    }
    assert counts == {"prompts_contaminated": 2, "prompts_near_duplicate": 1}
    assert len(chosen(given, Counter(), similarity=None, index=None)[0]) == 4
    longest = max(map(len, texts.values()))
    assert len(chosen(given, Counter(), similarity=None, index=None, most_chars=longest)[0]) == 4
    used, dropped = chosen(given, counts, similarity=None, index=None, most_chars=longest - 1)
    assert len(used) == 3 and counts["prompts_too_long"] == 1
    assert dropped[0]["reason"] == "too_long" and dropped[0]["chars"] == longest
