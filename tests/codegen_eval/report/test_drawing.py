from __future__ import annotations

import re

import numpy as np

from codegen_eval.report.arrange import arrange
from codegen_eval.report.drawing import MAX_COLUMNS, MAX_ROWS, Drawing, draw


def drawn(passed: np.ndarray, known: np.ndarray | None = None, **marks: set[int]) -> Drawing:
    n = len(passed)
    order = arrange(passed, None, np.ones(n))
    known = np.ones(passed.shape, np.bool_) if known is None else known
    return draw(passed, known, order, [1] * n, **marks)


def places(drawing: Drawing, css: str) -> list[tuple[float, float]]:
    d = dict(drawing.paths).get(css, "")
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)", d)]


def test_every_cell_is_drawn_once_in_its_state_and_none_lies_on_another() -> None:
    rng = np.random.default_rng(1)
    known = rng.random((9, 7)) < 0.8
    passed = known & (rng.random((9, 7)) < 0.5)
    drawing = drawn(passed, known)
    states = {css: places(drawing, css) for css in ("m-pass", "m-fail", "m-unknown")}
    assert [len(states[css]) for css in states] == [passed.sum(), (known & ~passed).sum(), (~known).sum()]
    # Where a cell of each state begins, seen from the cell's corner.
    corner = {"m-pass": (1, 1), "m-fail": (5, 7.5), "m-unknown": (4, 11)}
    cells = {(x - corner[css][0], y - corner[css][1]) for css, found in states.items() for x, y in found}
    assert len(cells) == passed.size
    assert max(x for x, _ in cells) + 15 <= drawing.width
    assert max(y for _, y in cells) + 15 <= drawing.height


def test_the_three_states_have_shapes_of_their_own() -> None:
    drawing = drawn(np.array([[True, False, False]]), np.array([[True, True, False]]))
    shapes = {re.sub(r"^M[\d.]+ [\d.]+", "", d) for _, d in drawing.paths}
    assert len(shapes) == 3


def test_chosen_and_rejected_programs_carry_a_sign_in_their_own_row() -> None:
    passed = np.array([[True, True], [True, False], [False, False]])
    drawing = drawn(passed, chosen={0, 1}, rejected={1, 2})
    number = {label.y: label.text for label in drawing.labels if label.css == "m-number"}
    marks = {number[label.y]: label.text for label in drawing.labels if label.css == "m-mark"}
    assert marks == {"1": "+", "2": "+−", "3": "−"}
    assert "chosen: program 1, 2; rejected: program 2, 3" in drawing.words


def test_programs_of_different_sets_stand_further_apart_than_those_of_one() -> None:
    drawing = drawn(np.array([[True, True], [True, True], [False, True]]))
    ys = [label.y for label in drawing.labels if label.css == "m-number"]
    assert ys[1] - ys[0] < ys[2] - ys[1]


def test_large_matrices_are_thinned_with_a_note_and_marked_programs_stay() -> None:
    passed = np.random.default_rng(2).random((300, 500)) < 0.5
    drawing = drawn(passed, chosen={7}, rejected={299})
    numbers = {label.text for label in drawing.labels if label.css == "m-number"}
    assert len(numbers) == MAX_ROWS and {"8", "300"} <= numbers
    cells = sum(len(places(drawing, css)) for css in ("m-pass", "m-fail"))
    assert cells == MAX_ROWS * MAX_COLUMNS
    assert f"{MAX_ROWS} of 300 programs and {MAX_COLUMNS} of 500 tests" in drawing.left_out
    assert "300 programs" in drawing.words


def test_an_empty_matrix_has_a_picture() -> None:
    drawing = drawn(np.zeros((0, 0), np.bool_))
    assert drawing.paths == () and drawing.width > 0 and drawing.height > 0
