from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.protocol import fingerprint
from codegen_eval.report import matrices as module
from codegen_eval.report.folder import locate
from codegen_eval.report.loading import PairsRun, load_pairs
from codegen_eval.report.matrices import MatricesRun, load_matrices
from codegen_eval.report.page import render
from tests.codegen_eval.report.made_up import EVIL
from tests.codegen_eval.report.made_up_data import data_pair, matrix_row, write_data
from tests.codegen_eval.report.strict_html import StrictPage

pytest.importorskip("matplotlib")
pytest.importorskip("pygments")

CELLS = ["1110", "1110", "1?00", "0001"]


def load(
    folder: Path, *, shown: int = 24, pairs_shown: int = 4, seed: int = 0
) -> tuple[PairsRun, MatricesRun]:
    pairs = load_pairs(folder, shown=pairs_shown, seed=seed)
    found = load_matrices(pairs, shown=shown, seed=seed)
    assert found is not None
    return pairs, found


def make(folder: Path) -> tuple[str, MatricesRun]:
    pairs, found = load(folder)
    return render(pairs=pairs, matrices=found), found


def many(folder: Path, count: int, cells: list[str] = CELLS) -> Path:
    """Problems of which every second one has a pair."""
    rows = [matrix_row(f"made/up/{i}", cells) for i in range(count)]
    return write_data(
        folder, rows, [data_pair(row, 0, 3) for row in rows[::2]], problem_with_pairs=count // 2
    )


def test_a_page_of_preference_data_alone_leads_from_pairs_to_matrices_and_back(tmp_path: Path) -> None:
    page, found = make(many(tmp_path, 6))
    read = StrictPage(page)
    assert read.problems == []
    assert "3 preference pairs (3 correctness) from 3 of 6 problems." in page
    ids = {value for _, name, value in read.attributes if name == "id"}
    links = [value for tag, name, value in read.attributes if (tag, name) == ("a", "href")]
    assert len(links) == 6 and {link.removeprefix("#") for link in links} <= ids
    assert sum(link.startswith("#matrix-") for link in links) == 3
    assert page.count('class="matrix"') == len(found.shown) == 6
    assert "program 1 over program 4" in page
    assert "−3.25" in page and "−17.5" in page


def test_the_tables_tell_what_the_picture_shows(tmp_path: Path) -> None:
    row = matrix_row("t", CELLS, [3, 1, 2, 1])
    folder = write_data(tmp_path, [row], [data_pair(row, 0, 3)])
    _, found = load(folder)
    (shown,) = found.shown
    best = shown.sets[0]
    assert (best.programs, best.drawn, best.passes, best.marks) == ("1, 2", "4", "3 of 4", "+")
    assert [s.marks for s in shown.sets] == ["+", *[s.marks for s in shown.sets[1:-1]], shown.sets[-1].marks]
    assert sum(float(s.probability.rstrip("\u202f%")) for s in shown.sets) == pytest.approx(100, abs=0.2)
    # The best set passes the first three tests; the dot is on the one from the prompt.
    assert [test.number for test in shown.tests][-1] == 4
    assert [test.source for test in shown.tests if test.number == 1] == ["example"]
    assert found.totals["cells_unknown"] == 1


def test_a_problem_without_a_pair_says_why(tmp_path: Path) -> None:
    rows = [
        matrix_row("tie", ["11", "11"]),
        matrix_row("none", ["00", "00"]),
        matrix_row("some", ["10", "00"]),
    ]
    _, found = load(write_data(tmp_path, rows, [data_pair(rows[2], 0, 1)]))
    why = {shown.task_id: shown.why_none for shown in found.shown}
    assert why == {
        "tie": "No pair: all programs tie.",
        "none": "No pair: no program passes any test.",
        "some": "",
    }


def test_matrices_of_shown_pairs_come_first_and_the_rest_is_drawn_by_the_seed(tmp_path: Path) -> None:
    folder = many(tmp_path, 40)
    runs = [load(folder, shown=8, pairs_shown=3, seed=seed)[1] for seed in (0, 0, 1)]
    places = [[shown.place for shown in run.shown] for run in runs]
    assert places[0] == places[1] != places[2]
    pairs = load_pairs(folder, shown=3, seed=0)
    first = [int(str(row["task_id"]).rsplit("/", 1)[1]) for row in pairs.examples]
    assert places[0][:3] == first
    assert len(set(places[0])) == 8 and any(place % 2 for place in places[0])
    assert runs[0].totals["matrices"] == 40


def test_five_hundred_problems_make_a_small_page_that_says_how_many_it_shows(tmp_path: Path) -> None:
    cells = [format((7 * i * i + 3) % 1024, "010b") for i in range(10)]
    page, _ = make(many(tmp_path, 500, cells))
    assert "24 of 500 matrices are shown" in page
    assert len(page.encode()) < 400_000


def test_matrices_beyond_the_page_s_size_are_counted_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many(tmp_path, 12)
    monkeypatch.setattr(module, "MATRIX_BYTES", 20_000)
    page, found = make(folder)
    assert 0 < len(found.shown) < 12
    assert found.left_out == 12 - len(found.shown)
    assert f"{found.left_out} more were asked for" in page


def test_a_matrix_takes_no_more_of_the_page_than_it_is_said_to(tmp_path: Path) -> None:
    rows = [matrix_row("t", CELLS), matrix_row("u", ["10" * 12] * 9 + ["01" * 12], code="&" * 900, test="<'")]
    page, found = make(write_data(tmp_path, rows, [data_pair(rows[0], 0, 3)]))
    parts = page.partition('</section>\n<section aria-labelledby="pairs"')[0].split(
        '<details class="problem"'
    )
    sizes = [len(part.encode()) for part in parts[1:]]
    for size, shown in zip(sizes, found.shown, strict=True):
        assert size <= shown.bytes <= 3 * size


def test_no_element_comes_from_programs_tests_or_names(tmp_path: Path) -> None:
    row = matrix_row(f"0{EVIL}", CELLS, code=EVIL, test=EVIL)
    for test in row["tests"]:
        test["source"] = EVIL
    pairs = [data_pair(row, 0, 3, kind=EVIL, ranker=EVIL, sources=[EVIL], ties=EVIL)]
    folder = write_data(tmp_path, [row], pairs)
    funnel = folder / "pairs/funnel.json"
    funnel.write_text(json.dumps({"problems": 3, f"problem_{EVIL}": 2, f"pairs_{EVIL}": 1, EVIL: 1}))
    page, _ = make(folder)
    read = StrictPage(page)
    assert read.problems == []
    assert read.counts["script"] == read.counts["style"] == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\ud800]", page)
    assert page.count("onerror=alert(1)") > 5


def test_the_largest_matrices_are_drawn_in_part(tmp_path: Path) -> None:
    row = matrix_row("t", ["10" * 250] * 60 + ["01" * 250] * 60)
    page, found = make(write_data(tmp_path, [row], [data_pair(row, 0, 119)]))
    assert StrictPage(page).problems == []
    assert "of 120 programs" in found.shown[0].drawing.left_out
    assert "of 500 tests are listed" in found.shown[0].more
    assert len(page.encode()) < 250_000


def test_without_rankings_there_are_sets_but_no_scores(tmp_path: Path) -> None:
    row = matrix_row("t", CELLS)
    page, found = make(write_data(tmp_path, [row], [data_pair(row, 0, 3)], rankings=False))
    assert {s.score for s in found.shown[0].sets} == {"–"}
    assert "There is no rankings.jsonl" in page and "P(right)" not in page


def test_files_are_found_beside_the_run_and_only_those_that_it_was_made_from(tmp_path: Path) -> None:
    folder = many(tmp_path / "q", 2)
    assert locate(folder) == locate(folder / "pairs")
    matrices = folder / "matrices/matrices.jsonl"
    protocol: dict[str, Any] = {
        "inputs": {
            "matrices": {"path": "/nowhere/matrices.jsonl", "sha256": fingerprint(matrices)},
            "rankings": {"path": str(folder / "elsewhere.jsonl"), "sha256": "0" * 64},
        }
    }
    (folder / "pairs/protocol.json").write_text(json.dumps(protocol))
    found = locate(folder)
    assert found.matrices == matrices and found.rankings is None
    assert (
        found.missing == "The rankings.jsonl that lies there is not the one that these pairs were made from."
    )
    rankings = (folder / "rankings/rankings.jsonl").read_bytes()
    (folder / "elsewhere.jsonl").write_bytes(rankings)
    protocol["inputs"]["rankings"]["sha256"] = fingerprint(folder / "elsewhere.jsonl")
    (folder / "rankings/rankings.jsonl").write_bytes(rankings + b"\n")
    (folder / "pairs/protocol.json").write_text(json.dumps(protocol))
    assert locate(folder).rankings == folder / "elsewhere.jsonl"


def test_pairs_without_matrices_are_shown_as_before(tmp_path: Path) -> None:
    folder = many(tmp_path, 2)
    (folder / "matrices/matrices.jsonl").unlink()
    pairs = load_pairs(folder, shown=4, seed=0)
    assert load_matrices(pairs, shown=4, seed=0) is None
    page = render(pairs=pairs)
    assert "There is no matrices.jsonl" in page and 'class="matrix"' not in page
    assert "<a " not in page


def test_broken_matrices_and_rankings_of_others_are_named(tmp_path: Path) -> None:
    folder = many(tmp_path, 2)
    rankings = folder / "rankings/rankings.jsonl"
    text = rankings.read_text()
    rankings.write_text(text.replace('"scores": [', '"scores": [1.0, '))
    with pytest.raises(CodealignError, match="rank this matrices"):
        load(folder)
    rankings.write_text(text)
    (folder / "matrices/matrices.jsonl").write_text('{"task_id": "t"}\n')
    with pytest.raises(CodealignError, match=r"not a row of matrices\.jsonl"):
        load(folder)


def test_all_files_in_one_folder_and_pairs_of_messages_make_a_page(tmp_path: Path) -> None:
    row = matrix_row("t", CELLS)
    talk = {
        "prompt": [{"role": "user", "content": "Write <f>."}],
        **{side: [{"role": "assistant", "content": f"{side} & done"}] for side in ("chosen", "rejected")},
    }
    folder = write_data(tmp_path, [row], [data_pair(row, 0, 3) | talk])
    for name in ("matrices", "rankings", "pairs"):
        (folder / name / f"{name}.jsonl").rename(folder / f"{name}.jsonl")
    (folder / "pairs/funnel.json").rename(folder / "funnel.json")
    page, found = make(folder)
    assert StrictPage(page).problems == []
    assert len(found.shown) == 1 and "Write &lt;f&gt;." in page and "&amp; done" in page
