"""LiveCodeBench: its tests are unpacked without unpickling, judged as the benchmark does, and chosen by
date."""

from __future__ import annotations

import base64
import json
import os
import pickle  # noqa: TID251 - to make what must be refused
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks import livecodebench
from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl
from codegen_eval.records import Problem
from sandbox import CallTest, IOTest, Sandbox, Verdict
from tests.conftest import cpu_bound

STDIN = {
    "question_content": "Add.",
    "question_id": "q1",
    "contest_date": "2024-05-01T00:00:00",
    "starter_code": "",
    "public_test_cases": json.dumps([{"input": "1 2", "output": "3", "testtype": "stdin"}]),
    "private_test_cases": "[]",
    "metadata": "{}",
}
CALL = {
    **STDIN,
    "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:\n",
    "public_test_cases": json.dumps([{"input": "[1]\n2", "output": "[1, 2]", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "add"}),
}


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "livecodebench"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


def verdicts(box: Sandbox, problem: Problem, *completions: str) -> list[Verdict]:
    return [r.verdict for r in box.run([problem.program(problem.source(c)) for c in completions])]


def test_the_fixtures_rows_become_problems_of_both_kinds(folder: Path) -> None:
    call, first, second = load("livecodebench", folder / "sample.jsonl")
    assert [p.task_id for p in (call, first, second)] == ["own_0001", "own_a", "own_b"]
    assert call.entry_point == "Solution.countPairs" and not first.entry_point
    assert all(isinstance(test, CallTest) for test in call.tests) and len(call.tests) == 5
    assert all(isinstance(test, IOTest) and test.checker == "decimal_lines" for test in first.tests)
    assert not first.continues and first.limits is not None and first.limits.cpu_seconds == 6
    assert first.meta["difficulty"] == "easy" and first.meta["extraction"] == "last"
    assert "class Solution:" in call.prompt and "Read the inputs from stdin" in first.prompt


@pytest.mark.slow
@pytest.mark.sandbox
def test_the_fixtures_generations_have_the_verdicts_that_it_expects(folder: Path, box: Sandbox) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    codes = {row["question_id"]: row["code_list"] for row in read_jsonl(folder / "generations.jsonl")}
    for problem in load("livecodebench", folder / "sample.jsonl"):
        found = verdicts(box, problem, *codes[problem.task_id])
        assert [verdict is Verdict.passed for verdict in found] == expected[problem.task_id], problem.task_id


@pytest.mark.sandbox
def test_the_prelude_a_tuple_a_bare_function_and_future_imports_pass(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("livecodebench", write(tmp_path / "a.jsonl", CALL))
    method = "class Solution:\n    def add(self, a: List[int], b) -> List[int]:\n        return {}\n"
    right = [
        method.format("a + [b]"),
        method.format("(a[0], b)"),
        method.format("list(chain(a, [floor(b)]))"),
        "def add(a, b):\n    return a + [b]\n",
        "from __future__ import annotations\n" + method.format("a + [b]"),
        method.format("self.grow(a, b)") + "    def grow(self, a, b): return [*a, b]\n",
    ]
    wrong = [method.format("[b]"), method.format("None"), "def plus(a, b):\n    return a + [b]\n", "x ="]
    assert verdicts(box, problem, *right) == [Verdict.passed] * len(right)
    assert Verdict.passed not in verdicts(box, problem, *wrong)


@pytest.mark.sandbox
def test_a_stdin_program_is_a_real_process(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("livecodebench", write(tmp_path / "a.jsonl", STDIN))
    right = [
        "import sys, os\nprint(sum(map(int, os.read(0, 99).split())))",
        "print(sum(map(int, sys.stdin.buffer.readline().split())), '\\n')",
        "if __name__ == '__main__':\n    print(sum(map(int, open(0).read().split())) * 1.0)",
        "print(3); exit()",
    ]
    assert verdicts(box, problem, *right) == [Verdict.passed] * len(right)
    assert verdicts(box, problem, "print(4)", "print(3); print()\nprint(3)", "print(3); 1 / 0") == [
        Verdict.wrong_answer,
        Verdict.wrong_answer,
        Verdict.runtime_error,
    ]


class Gadget:
    """Writes a file when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)  # noqa: TID251


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "id" if obj == "x" else None


def persistent() -> bytes:
    import io

    stream = io.BytesIO()
    Persistent(stream).dump("x")
    return stream.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    data = pickle.dumps(Gadget(f"touch {mark}"), protocol)
    path = write(
        tmp_path / "a.jsonl", STDIN, {**STDIN, "question_id": "q2", "private_test_cases": packed(data)}
    )
    with pytest.raises(CodealignError, match=r"a\.jsonl:2: 'private_test_cases' is a pickle that does more"):
        load("livecodebench", path)
    assert not mark.exists()
    pickle.loads(data)  # the test of the test: unpickled, it does run
    assert mark.exists()


@pytest.mark.parametrize(
    ("private", "why"),
    [
        (packed(persistent()), "BINPERSID|PERSID"),
        (packed(pickle.dumps(["[]"])), "opcode EMPTY_LIST"),
        (packed(pickle.dumps(b"[]")), "opcode SHORT_BINBYTES"),
        (packed(pickle.dumps(5)), "opcode BININT"),
        (packed(b"\x80\x04cos\nsystem\n."), "opcode GLOBAL"),
        (packed(b"(S'touch x'\nios\nsystem\n."), "opcode MARK"),
        (packed(b"\x80\x04\x8c\x02[]\x8c\x02[]."), "a pickle of 2 texts"),
        (packed(b"\x80\x04."), "a pickle of 0 texts"),
        (packed(b"\x80\x04\x8c\x02[]"), "no pickle of a text"),
        (packed(b"X\xff\xff\xff\x7f[]."), "no pickle of a text"),
        (packed(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f[]."), "no pickle of a text"),
        (packed(b"\x80\x04X\x02\x00\x00\x00\xff\xfe."), "no pickle of a text"),
        (packed(pickle.dumps("{")), "not valid JSON"),
        (packed(pickle.dumps("{}")), "must hold a list"),
        (packed(pickle.dumps("[1]")), "must hold a list"),
        (packed(b""), "no pickle of a text|0 texts"),
        ("not base64!", "neither JSON nor packed"),
        (base64.b64encode(b"not zlib").decode(), "neither JSON nor packed"),
        (packed(pickle.dumps("[]" * 5000))[:-40], "cut off|neither JSON"),
        ("[1]", "must hold a list"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_private_tests_that_are_no_packed_text_are_refused_by_name(
    tmp_path: Path, private: str, why: str
) -> None:
    path = write(tmp_path / "a.jsonl", {**STDIN, "private_test_cases": private})
    with pytest.raises(CodealignError, match=rf"a\.jsonl:1: .*({why})"):
        load("livecodebench", path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_tests_packed_by_any_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    cases = [{"input": "1 ä\U0001f600", "output": "x" * 300, "testtype": "stdin"}]
    private = packed(pickle.dumps(json.dumps(cases, ensure_ascii=False), protocol))
    (problem,) = load("livecodebench", write(tmp_path / "a.jsonl", {**STDIN, "private_test_cases": private}))
    assert len(problem.tests) == 2 and problem.tests[1].stdin == cases[0]["input"]  # type: ignore[union-attr]


def test_a_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livecodebench, "MAX_TESTS", 2**20)
    bomb = zlib.compress(b"\0" * 50 * 2**20, 9)
    path = write(tmp_path / "a.jsonl", {**STDIN, "private_test_cases": base64.b64encode(bomb).decode()})
    with cpu_bound(1), pytest.raises(CodealignError, match="takes more than 1048576 bytes when unpacked"):
        load("livecodebench", path)


DATES = ("2024-04-30T23:00:00", "2024-05-01T00:00:00", "2024-09-01T00:00:00", "2024-09-01T09:30")
DATED = [{**STDIN, "question_id": f"d{i}", "contest_date": date} for i, date in enumerate(DATES)]


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        (None, "d0 d1 d2 d3"),
        ("2024-05-01:2024-09-01", "d1 d2"),  # the end is its midnight
        ("2024-05-01:", "d1 d2 d3"),
        (":2024-05-01", "d0 d1"),
        ("release_latest,2024-05-02:", "d2 d3"),
    ],
)
def test_a_window_of_dates_chooses_problems_and_stays_in_meta(
    tmp_path: Path, split: str | None, ids: str
) -> None:
    write(tmp_path / "test.jsonl", *DATED)
    problems = load("livecodebench", tmp_path, split)
    assert " ".join(p.task_id for p in problems) == ids
    assert {p.meta["window"] for p in problems} == {split.rpartition(",")[2] if split else ":"}
    assert problems[0].meta["contest_date"] == DATED[int(ids[1])]["contest_date"]


@pytest.mark.parametrize(
    ("split", "files"),
    [
        (None, "1 2 3 6"),
        ("release_v1", "1"),
        ("release_v2", "1 2"),
        ("release_v5", "1 2 3"),
        ("v3", "3"),
        ("v2_v3", "2 3"),
        ("release_latest", "1 2 3 6"),
    ],
)
def test_a_release_chooses_files(tmp_path: Path, split: str | None, files: str) -> None:
    for number in (1, 2, 3, 6):
        name = f"test{number if number > 1 else ''}.jsonl"
        write(tmp_path / name, {**STDIN, "question_id": str(number)})
    assert " ".join(p.task_id for p in load("livecodebench", tmp_path, split)) == files


@pytest.mark.parametrize(
    ("split", "why"),
    [
        ("test", "neither a release"),
        ("release_v7", "neither a release"),
        ("release_v2_v3x", "neither a release"),
        (":", "neither a release"),
        ("v3_v2", "ends before it begins"),
        ("2024-05-02:2024-05-01", "ends before it begins"),
        ("2024-02-30:", "no such day"),
        ("2030-01-01:", "none of the 4 problems has a contest date in 2030-01-01:"),
        ("v4", "no file of test4"),
    ],
)
def test_a_split_that_means_nothing_is_refused(tmp_path: Path, split: str, why: str) -> None:
    write(tmp_path / "test.jsonl", *DATED)
    with pytest.raises(CodealignError, match=why):
        load("livecodebench", tmp_path, split)


def test_a_release_needs_the_folder(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="is one file"):
        load("livecodebench", write(tmp_path / "a.jsonl", STDIN), "release_v1")
    with pytest.raises(CodealignError, match="not shipped"):
        load("livecodebench")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({**STDIN, "contest_date": "May"}, "'May' is no ISO date"),
        ({**STDIN, "question_id": None}, "'question_id' is missing"),
        ({**STDIN, "question_content": 5}, "'question_content' is a int"),
        ({**STDIN, "metadata": '{"func_name": "a b"}'}, "func_name 'a b' is not a name"),
        ({**STDIN, "metadata": '{"func_name": "f"}'}, "type 'stdin', which does not fit func_name 'f'"),
        ({**CALL, "metadata": "{}"}, "type 'functional', which does not fit"),
        (
            {**STDIN, "public_test_cases": '[{"input": 1, "output": "", "testtype": "stdin"}]'},
            "test case 0 needs",
        ),
        (
            {**CALL, "public_test_cases": '[{"input": "[", "output": "1", "testtype": "functional"}]'},
            "'test case 0, input' is not valid JSON",
        ),
        (
            {**CALL, "public_test_cases": '[{"input": "1\\n", "output": "1", "testtype": "functional"}]'},
            "an empty line of input",
        ),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "a.jsonl", {**STDIN, "question_id": "first"}, row)
    with pytest.raises(CodealignError, match=rf"a\.jsonl:2: .*{why}"):
        load("livecodebench", path)


def test_a_row_without_tests_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", STDIN, {**STDIN, "question_id": "q2", "public_test_cases": "[]"})
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        assert len(load("livecodebench", path)) == 1


def test_a_problem_can_be_sent_to_another_process(folder: Path) -> None:
    for problem in load("livecodebench", folder / "sample.jsonl"):
        assert pickle.loads(pickle.dumps(problem)).source("x") == problem.source("x")
