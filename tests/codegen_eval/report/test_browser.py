"""The page in a real browser: Chromium, driven by Playwright where both are there, else these tests skip.

Nothing is downloaded: `pip install playwright`, and a Chromium of the system or of `playwright install`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.comparison import compare
from codegen_eval.report.loading import load_pairs
from codegen_eval.report.matrices import load_matrices
from codegen_eval.report.page import render
from codegen_eval.results import read_evaluation
from tests.codegen_eval.report import made_up
from tests.codegen_eval.report.made_up_data import data_pair, matrix_row, write_data
from tests.codegen_eval.report.strict_html import StrictPage

pytest.importorskip("matplotlib")
pytest.importorskip("pygments")
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive a browser with")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a sandbox of its own (the page is ours, and the test may run as root)."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium that runs here: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> list[str]:
    """What a page says on its console, and what it asks the network for."""
    return []


def open_page(browser: Any, file: Path, complaints: list[str], **options: Any) -> Any:
    page = browser.new_page(**options)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append("dialog"))
    page.on("request", lambda r: None if r.url == file.as_uri() else complaints.append(r.url))
    page.goto(file.as_uri())
    return page


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Before and after, 20 problems of 10 samples."""
    folder = tmp_path_factory.mktemp("runs")
    sides = [made_up.eval_results(skill, seed=i, n_problems=20) for i, skill in enumerate((0.0, 0.14))]
    runs = [
        read_evaluation(made_up.write_eval(folder / name, side, made_up.sample_rows(side)))
        for name, side in zip("ab", sides, strict=True)
    ]
    file = folder / "report.html"
    file.write_text(render(*runs, comparison=compare(*sides)), encoding="utf-8")
    return file


def shown(page: Any) -> list[str]:
    """The tasks of the visible rows, in order."""
    return list(page.locator(".problem:visible .task").all_inner_texts())


def wait_for_count(page: Any, text: str) -> None:
    """Waits until the search has been carried out; the page's own policy forbids to wait by a script."""
    playwright.expect(page.locator("#x-count")).to_have_text(text)


def test_search_finds_tasks_and_program_texts(browser: Any, ordinary: Path, complaints: list[str]) -> None:
    page = open_page(browser, ordinary, complaints)
    assert page.inner_text("#x-count") == "20 of 20 problems"
    page.fill("#x-search", "TWO_sum")
    wait_for_count(page, "2 of 20 problems")
    assert sorted(shown(page)) == ["minipy/two_sum/001", "minipy/two_sum/018"]
    page.fill("#x-search", "two_sum nothing-like-this")
    wait_for_count(page, "0 of 20 problems")
    page.fill("#x-search", 'print("debug"')
    page.wait_for_timeout(500)
    assert not page.inner_text("#x-count").startswith("0 ")
    assert complaints == []


def test_filters_hide_problems_and_samples_of_other_verdicts(
    browser: Any, ordinary: Path, complaints: list[str]
) -> None:
    page = open_page(browser, ordinary, complaints)
    page.select_option("#x-verdict", "v-timeout")
    rows = shown(page)
    assert 0 < len(rows) < 20
    page.click("#x-toggle")
    kinds = page.locator(".sample:visible").evaluate_all("items => items.map(i => i.dataset.kind)")
    assert set(kinds) <= {"v-timeout"}
    page.select_option("#x-verdict", "")
    page.select_option("#x-state", "change:worse")
    worse = page.locator(".problem:visible .moved").all_inner_texts()
    assert worse and all(text.startswith("−") for text in worse)
    assert complaints == []


def test_the_order_can_be_changed_and_changed_back(
    browser: Any, ordinary: Path, complaints: list[str]
) -> None:
    page = open_page(browser, ordinary, complaints)
    given = shown(page)
    page.select_option("#x-order", "fewest")
    shares = page.locator(".problem").evaluate_all("items => items.map(i => Number(i.dataset.share))")
    assert shares == sorted(shares)
    page.select_option("#x-order", "given")
    assert shown(page) == given
    assert complaints == []


def test_a_problem_opens_by_keyboard_and_shows_program_and_failing_test_beside_each_other(
    browser: Any, ordinary: Path, complaints: list[str]
) -> None:
    page = open_page(browser, ordinary, complaints, viewport={"width": 1200, "height": 900})
    page.locator(".problem summary").first.press("Enter")
    beside = page.locator(".beside:not(.alone):visible").first
    program, failure = (beside.locator(part).bounding_box() for part in (".program", ".failure"))
    assert program["x"] + program["width"] <= failure["x"]
    assert abs(program["y"] - failure["y"]) < 2
    assert complaints == []


def test_without_scripts_the_page_is_whole_and_shows_no_dead_controls(
    browser: Any, ordinary: Path, complaints: list[str]
) -> None:
    page = open_page(browser, ordinary, complaints, java_script_enabled=False)
    assert page.locator(".problem").count() == 20
    assert not page.locator("#x-controls").is_visible()
    page.locator(".problem summary").first.click()
    assert page.locator(".sample").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window_and_every_verdict_has_a_colour_of_its_own(
    browser: Any, ordinary: Path, complaints: list[str], scheme: str, width: int
) -> None:
    page = open_page(
        browser, ordinary, complaints, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = page.locator(".legend .chip").evaluate_all(
        "items => items.map(i => getComputedStyle(i).backgroundColor)"
    )
    assert len(colours) >= 4 and len(set(colours)) == len(colours)
    strokes = page.locator(".strip path").evaluate_all("items => items.map(i => getComputedStyle(i).stroke)")
    assert set(strokes) == set(colours)
    assert complaints == []


def test_a_hostile_model_puts_no_element_into_the_page_and_runs_nothing(
    browser: Any, tmp_path: Path, complaints: list[str]
) -> None:
    evil = made_up.EVIL
    sides = [made_up.hostile_results(0.1 * i, seed=i) for i in range(2)]
    runs = [
        read_evaluation(made_up.write_eval(tmp_path / name, side, made_up.hostile_rows(side)))
        for name, side in zip("ab", sides, strict=True)
    ]
    rows = [made_up.pair_row(i, evil, prompt=evil, chosen=f"{i}{evil}", rejected=evil) for i in range(2)]
    file = tmp_path / "report.html"
    pairs = load_pairs(made_up.write_pairs(tmp_path / "p", rows), shown=2, seed=0)
    page_text = render(*runs, comparison=compare(*sides), pairs=pairs, title="harmless")
    file.write_text(page_text, encoding="utf-8")
    page = open_page(browser, file, complaints)
    page.click("#x-toggle")
    page.fill("#x-search", "<script>")
    page.wait_for_timeout(300)
    assert page.title() == "harmless"
    # The browser mends and adds nothing: what it made of the page is the page.
    assert StrictPage(page.content()).problems == []
    assert complaints == []


def test_a_script_that_did_get_into_the_page_would_not_run(
    browser: Any, ordinary: Path, tmp_path: Path, complaints: list[str]
) -> None:
    file = tmp_path / "broken.html"
    attack = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    file.write_text(
        ordinary.read_text(encoding="utf-8").replace("<main>", f"<main>{attack}"), encoding="utf-8"
    )
    page = open_page(browser, file, complaints)
    page.wait_for_timeout(200)
    assert page.title() == "Before and after"
    assert any("Content Security Policy" in text for text in complaints)


def data_page(folder: Path, text: str = "") -> Path:
    """A page of preference data alone: six problems with a pair each, and one large one."""
    rows = [
        matrix_row(f"made/up/{i}{text}", ["1110", "1?00", "0001"], code=text, test=text) for i in range(6)
    ]
    rows.append(matrix_row("large", ["10" * 100] * 30 + ["01" * 100] * 30))
    pairs = load_pairs(write_data(folder, rows, [data_pair(r, 0, 2) for r in rows]), shown=4, seed=0)
    file = folder / "report.html"
    file.write_text(render(pairs=pairs, matrices=load_matrices(pairs, shown=9, seed=0)), encoding="utf-8")
    return file


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_a_pair_s_link_opens_its_matrix_and_nothing_leaves_the_window(
    browser: Any, tmp_path: Path, complaints: list[str], scheme: str, width: int
) -> None:
    page = open_page(
        browser,
        data_page(tmp_path),
        complaints,
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
    )
    link = page.locator(".pair a").last
    target = page.locator(link.get_attribute("href"))
    assert not target.is_visible()
    link.click()
    playwright.expect(target).to_be_in_viewport()
    for problem in page.locator("details.problem").all():
        if problem.get_attribute("open") is None:
            problem.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = [
        page.locator(f".matrix .{css}").first.evaluate(
            "e => getComputedStyle(e).fill + getComputedStyle(e).stroke"
        )
        for css in ("m-pass", "m-fail", "m-unknown", "m-chosen", "m-rejected")
    ]
    assert len(set(colours)) == 5
    assert set(complaints) <= {link.get_attribute("href")}


def test_hostile_programs_and_tests_of_a_matrix_run_nothing(
    browser: Any, tmp_path: Path, complaints: list[str]
) -> None:
    page = open_page(browser, data_page(tmp_path, made_up.EVIL), complaints)
    assert page.title() == "Before and after"
    assert StrictPage(page.content()).problems == []
    assert complaints == []
