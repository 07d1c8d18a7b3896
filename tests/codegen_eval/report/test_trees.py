"""Search trees on the page: nested as they grew, marked as they were picked, harmless whatever they say."""

from __future__ import annotations

import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.commands import report
from codegen_eval.errors import CodealignError
from codegen_eval.report import trees as module
from codegen_eval.report.page import render
from codegen_eval.report.trees import find_trees, load_trees
from tests.codegen_eval.report.made_up import EVIL
from tests.codegen_eval.report.strict_html import StrictPage

pytest.importorskip("matplotlib")
pytest.importorskip("pygments")


def node(number: int, parent: int | None, text: str, **changes: Any) -> dict[str, Any]:
    given = {"id": number, "parent": parent, "N": number % 7, "Q": (number % 5 - 2) / 2, "V": 0.0, "R": 0.0}
    given |= {"logp": -1.5, "copies": 1, "terminal": False, "tokens": [1, 2], "text": text}
    if parent is None:
        given |= {"Q": None, "tokens": [], "logp": 0.0, "R": 0.0}
    return {**given, **changes}


def tree_row(nodes: list[dict[str, Any]], name: str = "task/1", prompt: str = "a question") -> dict[str, Any]:
    tree = {"format": 1, "prompt": [1], "moves": [0], "length_penalty": 1.25, "nodes": nodes}
    return {"task_id": name, "prompt": prompt, "sampled": 9, "value_tokens": 0, "tree": tree}


def grown(count: int, seed: int = 0, deepest: int = 40) -> list[dict[str, Any]]:
    """A made-up tree; step n says "step n"."""
    rng = random.Random(seed)
    nodes, depth = [node(0, None, "")], [0]
    while len(nodes) < count:
        recent = [i for i in range(max(0, len(nodes) - 30), len(nodes)) if depth[i] < deepest]
        parent = rng.choice(recent or [0])
        nodes.append(node(len(nodes), parent, f"step {len(nodes)}"))
        depth.append(depth[parent] + 1)
    return nodes


def write(folder: Path, rows: list[dict[str, Any]], pairs: list[dict[str, Any]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trees-0000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if pairs is not None:
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return folder


def page_of(folder: Path, shown: int = 4) -> str:
    return render(trees=load_trees(folder, shown=shown, seed=0))


class Nesting(HTMLParser):
    """For each step its parent step by the nesting of the page, and its sign."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[tuple[str, bool]] = []
        self.path: list[str] = []
        self.parents: dict[str, str] = {}
        self.signs: dict[str, str] = {}
        self.closed: set[str] = set()
        self.sign = self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        css = (dict(attrs).get("class") or "").split()
        if tag in ("details", "div"):
            self.stack.append((tag, "node" in css))
            if "node" in css:
                self.path.append("")
                if tag == "details" and "open" not in dict(attrs):
                    self.closed.add(str(len(self.path)))
        self.inside = "sign" if "sign" in css else "code" if tag == "code" else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag in ("span", "code") else self.inside
        if tag in ("details", "div") and self.stack.pop()[1]:
            self.path.pop()

    def handle_data(self, data: str) -> None:
        if self.inside == "sign":
            self.sign = data
        if self.inside == "code" and self.path and not self.path[-1]:
            self.path[-1] = data
            self.parents[data] = self.path[-2] if len(self.path) > 1 else ""
            self.signs[data] = self.sign
            self.sign = ""


def test_two_thousand_nodes_stand_below_their_parents_and_nothing_is_lost(tmp_path: Path) -> None:
    nodes = grown(2001)
    page = page_of(write(tmp_path, [tree_row(nodes)]))
    read = StrictPage(page)
    assert read.problems == [] and "are not shown" not in page
    assert len(page.encode()) < 1_500_000
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)", page), "nothing from outside"
    found = Nesting(page).parents
    assert found == {n["text"]: nodes[n["parent"]]["text"] for n in nodes[1:]}


def test_siblings_stand_in_the_order_of_q_and_figures_are_the_searchs(tmp_path: Path) -> None:
    nodes = [
        node(0, None, ""),
        node(1, 0, "low", Q=-0.5, N=3, R=None),
        node(2, 0, "high", Q=0.254, N=11, logp=-4.0, tokens=[1] * 8, R=-1.0, terminal=True),
    ]
    shown = load_trees(write(tmp_path, [tree_row(nodes)]), shown=1, seed=0).shown[0]
    assert [one.line for one in shown.nodes] == ["high", "low"]
    prior = f"{math.exp(-4.0 / 8**1.25):.2f}"
    assert shown.nodes[0].figures == (("N", "11"), ("Q", "0.25"), ("prior", prior), ("R", "−1.00"))
    assert dict(shown.nodes[1].figures)["R"] == "unknown" and shown.nodes[0].ended
    assert [one.closes for one in shown.nodes] == [0, 0]


def test_pairs_beside_the_trees_mark_their_sides_and_open_the_way_to_them(tmp_path: Path) -> None:
    nodes = [node(0, None, ""), node(1, 0, "a"), node(2, 0, "b"), node(3, 2, "c"), node(4, 2, "d")]
    pairs = [{"task_id": "task/1", "nodes": [2, 4, 3]}]
    rows = [tree_row(grown(9), "task/0"), tree_row(nodes)]
    folder = write(tmp_path, rows, pairs)
    found = load_trees(folder, shown=1, seed=5)
    assert found.shown[0].name == "task/1", "trees with pairs come first"
    assert (found.total, found.nodes, found.pairs) == (2, 14, 1)
    signs = Nesting(render(trees=found)).signs
    assert {text: sign for text, sign in signs.items() if sign} == {"d": "+", "c": "−"}
    assert {one.line: one.opened for one in found.shown[0].nodes if one.inner} == {"b": True}
    (folder / "pairs.jsonl").unlink()
    page = page_of(folder)
    assert "nothing is marked" in page and not any(Nesting(page).signs.values())


def test_no_element_comes_from_steps_prompts_or_names(tmp_path: Path) -> None:
    nodes = [node(0, None, ""), node(1, 0, EVIL), node(2, 1, f"x\n{EVIL}\n" * 3, terminal=True)]
    page = page_of(write(tmp_path, [tree_row(nodes, EVIL, EVIL)]))
    read = StrictPage(page)
    assert read.problems == [] and read.counts["script"] == read.counts["style"] == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\ud800]", page)
    assert page.count("onerror=alert(1)") > 3


def test_steps_of_several_lines_are_shown_whole_and_long_ones_are_cut_with_a_note(tmp_path: Path) -> None:
    long = "y = 1\n" * 500
    nodes = [node(0, None, ""), node(1, 0, "for x in xs:\n    y\n"), node(2, 1, long), node(3, 2, "")]
    page = page_of(write(tmp_path, [tree_row(nodes)]))
    assert "for x in xs:\n    y</code></pre>" in page and "cut for display: 2,999 characters" in page
    assert "(nothing)" in page


def test_what_is_too_deep_or_too_much_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [node(0, None, "")] + [node(i, i - 1, f"step {i}") for i in range(1, 400)]
    page = page_of(write(tmp_path / "deep", [tree_row(chain)]))
    assert StrictPage(page).problems == [] and "249 of 400 nodes are not shown" in page
    wide = [node(0, None, "")] + [node(i, 0, f"step {i}") for i in range(1, 3000)]
    assert "499 of 3,000 nodes are not shown" in page_of(write(tmp_path / "wide", [tree_row(wide)]))
    rows = [tree_row(grown(50, i), f"task/{i}") for i in range(6)]
    monkeypatch.setattr(module, "TREE_BYTES", 60_000)
    found = load_trees(write(tmp_path / "many", rows), shown=6, seed=0)
    assert 0 < len(found.shown) < 6 and found.left_out == 6 - len(found.shown)
    assert f"{found.left_out} more were asked for" in render(trees=found)


def test_a_tree_takes_no_more_of_the_page_than_it_is_said_to(tmp_path: Path) -> None:
    empty = len(render(trees=load_trees(write(tmp_path / "a", [tree_row(grown(2))]), shown=0, seed=0)))
    for text in ("step", "a < b & 'c'\n" * 20, "\u202e" * 80):
        nodes = [node(0, None, "")] + [node(i, i // 3, text) for i in range(1, 60)]
        found = load_trees(write(tmp_path / "b", [tree_row(nodes)]), shown=1, seed=0)
        size = len(render(trees=found).encode()) - empty
        assert size <= found.shown[0].bytes <= 3 * size


def test_trees_are_found_in_a_run_a_round_or_a_file(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        write(tmp_path / f"round-{number}", [tree_row(grown(4), f"task/{number}")])
    assert find_trees(tmp_path) == [tmp_path / "round-10/trees-0000.jsonl"]
    (tmp_path / "round-11").mkdir()
    assert find_trees(tmp_path)[0].parent.name == "round-10", "a round that has no tree yet"
    assert find_trees(tmp_path / "round-2") == [tmp_path / "round-2/trees-0000.jsonl"]
    with pytest.raises(CodealignError, match="holds no trees"):
        find_trees(tmp_path / "round-11")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parent": 2}, "node 1 of the tree is broken"),
        ({"parent": None}, "node 1"),
        ({"Q": None}, "node 1"),
        ({"Q": "high"}, "node 1"),
        ({"text": 7}, "node 1"),
        ({"tokens": []}, "node 1"),
        ({"R": "good"}, "node 1"),
        ({"logp": None}, "node 1"),
    ],
)
def test_broken_trees_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    nodes = [node(0, None, ""), {**node(1, 0, "a"), **change}]
    with pytest.raises(CodealignError, match=rf"trees-0000.jsonl:2: {message}"):
        load_trees(write(tmp_path, [tree_row(grown(3)), tree_row(nodes)]), shown=1, seed=0)


def test_rows_that_are_no_trees_and_pairs_without_nodes_are_named(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"trees-0000.jsonl:1: no tree"):
        load_trees(write(tmp_path / "a", [{"task_id": "x"}]), shown=1, seed=0)
    with pytest.raises(CodealignError, match=r"pairs.jsonl:1: 'nodes' must be"):
        load_trees(write(tmp_path / "b", [tree_row(grown(3))], [{"task_id": "x"}]), shown=1, seed=0)


def test_the_command_makes_a_page_of_trees_alone_and_knows_when_they_changed(tmp_path: Path) -> None:
    write(tmp_path / "job/round-0", [tree_row(grown(30))], [])
    asked = ["--trees", str(tmp_path / "job"), "--out", str(tmp_path / "page")]
    assert report.main(asked) == 0
    page = (tmp_path / "page/report.html").read_text()
    assert "1 search trees with 30 nodes." in page and "Search trees" in page
    write(tmp_path / "job/round-0", [tree_row(grown(31))], [])
    with pytest.raises(CodealignError, match="trees_0"):
        report.main(asked)
    with pytest.raises(CodealignError, match="--trees, or --train"):
        report.main(["--out", str(tmp_path / "none")])
