"""How an answer becomes the source that is run."""

from __future__ import annotations

from codegen_eval.records import Problem

CODE = Problem("t", "def f(x):\n", "f", (), "    return x  #\n# y\n", stop=("\n#",))
PROSE = Problem("t", "Print the sum.", "", (), "print(1)", continues=False, assemble="import re\n{}".format)


def test_a_completion_continues_the_prompt_and_is_cut_at_the_first_stop_text() -> None:
    assert CODE.source("    return 1\n# and now\n#") == "def f(x):\n    return 1"


def test_a_solution_stands_alone_and_is_never_cut() -> None:
    assert CODE.source("ignored", "x = 1\n# whole") == "x = 1\n# whole"


def test_where_the_prompt_is_prose_a_completion_stands_alone_and_is_assembled() -> None:
    assert PROSE.source("print(2)") == PROSE.source(None, "print(2)") == "import re\nprint(2)"


def test_the_reference_is_never_cut() -> None:
    assert CODE.reference == CODE.prompt + CODE.canonical_solution
    assert PROSE.reference == "import re\nprint(1)"


def test_a_problem_without_solution_has_no_reference() -> None:
    assert Problem("t", "p", "f", (), "").reference == ""
