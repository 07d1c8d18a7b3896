"""Functions of a source tree as prompts."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from codegen_eval.datajob.seeds import read_tree, seeds_of
from codegen_eval.errors import CodealignError

MODULE = '''\
# SPDX-License-Identifier: MIT
import numpy as np
from collections.abc import (
    Sequence,
    Mapping,
)
import math as m


def mean(xs: Sequence[float], scale: float = m.pi) -> float:
  """Mean of xs.

  >>> mean([1.0, 3.0], 1)
  2.0
  """
  return helper(xs) * scale


def bare(x):
    return x


def one_line(x): "Doc."; return x


def array(x: np.ndarray) -> int:
    """Needs numpy."""
    return 1


@np.vectorize
def decorated(x):
    """Twice x."""
    return 2 * x


def no_parameters():
    """Nothing to vary."""
    return 3


def test_mean(x):
    """A test."""


async def later(x):
    """A coroutine."""


class C:
    def method(self, x):
        """A method."""
        return x


def tail(
    text,  # of many
    *rest: "Unknown",
):
    "Ends."
    return text
'''


def seeds(text: str = MODULE) -> tuple[dict[str, str], Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    found = list(seeds_of(text, "pkg/mod.py", counts))
    return {s.name: s.prompt for s in found}, counts, [s.licence for s in found]


def test_signature_and_docstring_stay_and_the_body_goes() -> None:
    found, _, licences = seeds()
    assert found["mean"] == (
        "from collections.abc import Sequence\nimport math as m\n\n\n"
        "def mean(xs: Sequence[float], scale: float = m.pi) -> float:\n"
        '    """Mean of xs.\n\n    >>> mean([1.0, 3.0], 1)\n    2.0\n    """\n'
    )
    assert found["tail"].endswith('*rest: "Unknown",\n):\n    "Ends."\n')
    assert licences == ["MIT", "MIT"]


def test_every_prompt_stands_alone() -> None:
    for name, prompt in seeds()[0].items():
        names: dict[str, object] = {}
        exec(compile(ast.parse(prompt + "    return 7\n"), "prompt", "exec"), names)
        assert callable(names[name])


def test_what_is_left_out_is_counted() -> None:
    found, counts, _ = seeds()
    assert set(found) == {"mean", "tail"}
    reasons = {k.removeprefix("seed_functions_"): v for k, v in counts.items() if k != "seed_functions"}
    assert reasons == {
        "used": 2,
        "without_docstring": 1,
        "on_one_line": 1,
        "needs_its_module": 1,
        "decorated": 1,
        "without_parameters": 1,
        "tests_or_special": 1,
    }
    assert counts["seed_functions"] == sum(reasons.values())


def test_a_tree_is_read_in_order_and_broken_files_are_counted(tmp_path: Path) -> None:
    function = 'def {}(x):\n    """Doc."""\n    return x\n'
    for name, text in {
        "b/two.py": function.format("two"),
        "a.py": function.format("one"),
        ".hidden/h.py": function.format("hidden"),
        "broken.py": "def f(:\n",
        "notes.txt": "no",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    counts: Counter[str] = Counter()
    assert [s.place for s in read_tree(tmp_path, counts)] == ["a.py:1", "b/two.py:1"]
    assert counts["seed_files_unparsable"] == 1 and counts["seed_files_unreadable"] == 1
    assert [s.name for s in read_tree(tmp_path / "a.py", Counter())] == ["one"]
    with pytest.raises(CodealignError, match="no such folder"):
        list(read_tree(tmp_path / "absent", Counter()))
