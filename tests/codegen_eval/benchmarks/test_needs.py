"""Which libraries a task needs."""

from __future__ import annotations

import pytest

from codegen_eval.benchmarks.needs import imported, missing_libraries, third_party
from codegen_eval.records import Problem

CONTEXT = '''
import numpy as np
exec_context = r"""
import pandas as pd, os
from sklearn.svm import SVC
[insert]
"""
'''


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("import os, numpy.linalg as l\ndef f():\n    from PIL import Image", ("PIL", "numpy")),
        ('"""\nimport the data, from a list import it\n"""', ()),
        ("from . import x\nfrom .y import z", ()),
        (CONTEXT, ("numpy", "pandas", "sklearn")),
        ("import numpy\nfrom scipy import stats\nx = (", ("numpy", "scipy")),
    ],
)
def test_imports_beyond_pythons_own_are_found_wherever_they_stand(source: str, wanted: tuple[str]) -> None:
    assert imported(source) == wanted


def test_names_are_reduced_to_packages_once_each() -> None:
    assert third_party(["sklearn.svm", "sklearn", "re", "collections.abc"]) == ("sklearn",)


def test_a_problem_misses_what_it_needs_and_the_box_does_not_show() -> None:
    problem = Problem("t", "", "f", (), "", meta={"needs": ("numpy", "scipy")})
    assert missing_libraries(problem) == ("numpy", "scipy")
    assert missing_libraries(problem, ["scipy", "torch"]) == ("numpy",)
    assert missing_libraries(Problem("t", "", "f", (), "")) == ()
