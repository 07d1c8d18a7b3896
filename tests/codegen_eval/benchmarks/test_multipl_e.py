"""MultiPL-E in the languages that the sandbox runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.benchmarks.needs import missing_libraries
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl
from sandbox import LanguageUnavailable, Result, Sandbox
from tests.codegen_eval.benchmarks.judging import results, without, write

pytestmark = pytest.mark.sandbox
CPP = {
    "name": "own_1_double",
    "language": "cpp",
    "prompt": "#include<assert.h>\n// Twice n.\nlong twice(long n) {\n",
    "tests": "}\nint main() {\n    auto candidate = twice;\n    assert(candidate((3)) == (6));\n}\n",
    "stop_tokens": ["\n}"],
}
JAVA = {
    "name": "own_1_double",
    "language": "java",
    "prompt": "import java.util.*;\nimport org.javatuples.*;\nimport java.io.*;\nclass Problem {\n"
    "    // Twice n.\n    public static long twice(long n) {\n",
    "tests": "    }\n    public static void main(String[] args) {\n    assert(twice((3l)) == (6l));\n    }\n"
    "\n}\n",
    "stop_tokens": ["\n    }\n"],
}
PY = {
    "name": "own_1_double",
    "language": "py",
    "prompt": 'def helper(n): return n\n\ndef twice(n: int) -> int:\n    """Twice n."""\n',
    "tests": "def check(candidate):\n    assert candidate(3) == 6\n\ndef test_check():\n    check(twice)\n\n"
    "test_check()\n",
    "stop_tokens": ["\ndef", "\n#", "\nif", "\nclass"],
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


def run(box: Sandbox, path: Path, *completions: str) -> list[Result]:
    (problem,) = load("multipl_e", path)
    try:
        return results(box, problem, *map(problem.source, completions))
    except LanguageUnavailable as error:
        pytest.skip(str(error))


def test_the_fixtures_completions_pass_or_fail_as_it_says(shared: Path, box: Sandbox) -> None:
    folder = shared / "data" / "benchmarks" / "multipl_e"
    rows = list(read_jsonl(folder / "completions.jsonl"))
    found = run(box, folder / "sample.jsonl", *[row["completion"] for row in rows])
    assert [result.verdict == "passed" for result in found] == [row["passes"] for row in rows]
    assert found[1].verdict == "wrong_answer" and found[0].verdict_trust == "forgeable"
    (problem,) = load("multipl_e", folder / "sample.jsonl")
    assert problem.task_id == "own_900001_count_pairs/js" and problem.language == "javascript"


@pytest.mark.parametrize("row", [CPP, JAVA], ids=["cpp", "java"])
def test_a_completion_is_cut_where_the_tests_close_the_function(row, tmp_path: Path, box: Sandbox) -> None:
    bracket = "\n}" if row is CPP else "\n    }\n"
    completions = [f"    return 2 * n;{bracket} more of it", f"    return n;{bracket}", "    return n n;"]
    found = run(box, write(tmp_path / "m", row), *completions)
    assert [result.verdict.value for result in found] == ["passed", "wrong_answer", "syntax_error"]


def test_pythons_tests_run_outside_the_program(tmp_path: Path, box: Sandbox) -> None:
    path = write(tmp_path / "m", PY)
    liar = "    class A(int):\n        def __eq__(self, o): return True\n    return A()\n"
    found = run(box, path, "    return 2 * helper(n)\ndef broken(", "    return n", liar)
    assert [result.verdict == "passed" for result in found] == [True, False, False]
    assert found[0].verdict_trust == "isolated" and load("multipl_e", path)[0].entry_point == "twice"


def test_a_task_with_tuples_of_another_library_cannot_be_run_and_says_so(tmp_path: Path) -> None:
    uses = {**JAVA, "tests": "    }\n    static Pair<Long, Long> p;\n}\n", "name": "own_2"}
    plain, tuples = load("multipl_e", write(tmp_path / "m", JAVA, uses))
    assert missing_libraries(plain) == () and missing_libraries(tuples) == ("org.javatuples",)
    assert "javatuples" not in plain.source("") and "javatuples" in tuples.source("")
    assert plain.source("").count("\n") == plain.prompt.count("\n")


def test_a_configuration_is_the_file_with_it_in_its_name(tmp_path: Path) -> None:
    write(tmp_path / "humaneval-cpp.jsonl", CPP)
    write(tmp_path / "humaneval-java.jsonl", JAVA)
    assert [p.language for p in load("multipl_e", tmp_path)] == ["cpp", "java"]
    assert [p.language for p in load("multipl_e", tmp_path, "humaneval-java")] == ["java"]
    with pytest.raises(CodealignError, match="nothing of split 'humaneval-rs'"):
        load("multipl_e", tmp_path, "humaneval-rs")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({**CPP, "language": "rs"}, "language 'rs' are not run; those in py, cpp, js, java are"),
        (without(CPP, "tests"), "the text field 'tests' is missing"),
        ({**CPP, "stop_tokens": "\n}"}, "'stop_tokens', a list of texts, is"),
        ({**PY, "prompt": "x = 1"}, "the prompt does not begin a function"),
        (CPP, "task id 'own_1_double/cpp' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "m.jsonl", CPP, row)
    with pytest.raises(CodealignError, match=rf"m\.jsonl:2: .*{why}"):
        load("multipl_e", path)
