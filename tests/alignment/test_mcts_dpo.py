"""Rounds of search and training: killed anywhere they end the same; what cannot work is said at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import mcts_dpo
from alignment.mcts_dpo import MctsDpoConfig
from alignment.preference.data import load_pairs
from alignment.search import rounds
from alignment.search.lockstep import Evaluator
from alignment.search.storage import from_json
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir, read_jsonl
from codegen_eval.tasks.running_sum import END
from tests.alignment.search import sums
from tests.conftest import REPO


def train(model: str, pairs: Path, out: Path, seed: int) -> str:
    """Training's stand-in: another model, which depends on the pairs."""
    return str(sums.save(out / "model", 1 + len(pairs.read_bytes()) % 2))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return sums.save(tmp_path_factory.mktemp("base"))


def run(out: Path, base: Path, **changes: Any) -> RunDir:
    return mcts_dpo.run(sums.config(out, base, **changes), train)


def content(out: Path) -> dict[str, bytes]:
    """Trees, pairs and figures of a run."""
    files = [*out.glob("round-*/*.json*"), out / "metrics.jsonl"]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def whole(base: Path, _parity: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("whole") / "run", base).path


@pytest.fixture(scope="module", autouse=True)
def _parity() -> Iterator[None]:
    """An untrained model is hardly ever right: here answers count as right when their last digit is even."""
    patch = pytest.MonkeyPatch()
    patch.setattr(
        "codegen_eval.tasks.running_sum.is_right",
        lambda question, answer: answer[-1:] in ("0", "2", "4", "6", "8"),
    )
    yield
    patch.undo()


def test_a_round_stores_trees_and_pairs_of_their_tokens(whole: Path) -> None:
    files = sorted(whole.glob("round-0/trees-*.jsonl"))
    rows = [row for file in files for row in read_jsonl(file)]
    assert [len(list(read_jsonl(file))) for file in files] == [4, 4, 2]
    assert len({row["task_id"] for row in rows}) == 10
    trees = {row["task_id"]: from_json(row["tree"]) for row in rows}
    pairs = list(read_jsonl(whole / "round-0/pairs.jsonl"))
    assert pairs
    for pair in pairs:
        tree = trees[pair["task_id"]]
        parent, chosen, rejected = pair["nodes"]
        assert tuple(pair["prompt_ids"]) == tree.prefix(parent)
        assert tuple(pair["chosen_ids"]) == tree.tokens[chosen]
        assert tuple(pair["rejected_ids"]) == tree.tokens[rejected]
        assert pair["q_gap"] == tree["q"][chosen] - tree["q"][rejected] > 0
        won, lost = pair["visits"]
        assert pair["confidence"] == pytest.approx(max(max(won, 1) / (max(won, 1) + lost), 0.5))
        assert END not in pair["chosen_ids"] or tree["terminal"][chosen], "no end token on inner steps"
    assert len(load_pairs(str(whole / "round-0/pairs.jsonl"), extra=["confidence"])) == len(pairs)
    figures = json.loads((whole / "round-0/summary.json").read_text())
    assert figures["tokens"] == sum(tree.sampled for tree in trees.values())
    assert (figures["trees"], figures["pairs"], figures["unknown"]) == (10, len(pairs), 0)


def test_the_next_round_searches_other_prompts_with_the_new_model(whole: Path) -> None:
    first, second = (
        [row for file in sorted(whole.glob(f"round-{i}/trees-*")) for row in read_jsonl(file)] for i in (0, 1)
    )
    assert {row["task_id"] for row in first} != {row["task_id"] for row in second}
    results = json.loads((whole / "results.json").read_text())
    assert results["model"] == str(whole / "round-1/train/model") and len(results["rounds"]) == 2
    seeds = [row["tree"]["seed"] for row in (*first, *second)]
    assert len(set(seeds)) == len(seeds)


class Killed(BaseException):
    """What a kill is to the code: it passes every handler."""


def counted(work: Callable[..., Any], allowed: int) -> Callable[..., Any]:
    calls = 0

    def inner(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > allowed:
            raise Killed
        return work(*args, **kwargs)

    return inner


@pytest.mark.parametrize("where", ["sampler", "files", "half of a file"])
def test_a_round_killed_anywhere_ends_with_the_same_trees_and_pairs(
    where: str, base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import codegen_eval.files as disk
    from alignment.search.sampler import HFSampler

    expected = content(whole)
    attempts = 0
    while attempts < 60:
        attempts += 1
        with monkeypatch.context() as patch:
            if where == "sampler":
                patch.setattr(HFSampler, "__call__", counted(HFSampler.__call__, 3))
            elif where == "files":
                patch.setattr(RunDir, "write_text", counted(RunDir.write_text, 3))
            else:
                patch.setattr(disk.os, "fsync", counted(os.fsync, 5))
            try:
                run(tmp_path / "run", base)
                break
            except Killed:
                RunDir(tmp_path / "run").close()
    assert 3 < attempts < 60, attempts
    found = content(tmp_path / "run")
    assert found == expected


def test_a_finished_job_does_nothing_again(base: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(whole)

    def never(*args: Any) -> str:
        raise AssertionError("trained again")

    assert mcts_dpo.run(sums.config(whole, base), never).finished and content(whole) == before
    with pytest.raises(CodealignError, match=r"made with another configuration.*prompts"):
        run(whole, base, prompts=9)


def test_a_budget_of_tokens_bounds_a_round_and_is_refused_where_it_is_less_than_a_tree(
    base: Path, tmp_path: Path
) -> None:
    bounded = {"search": {"tree_tokens": 18}, "rounds": 1}
    for name, batch in (("a", 4), ("b", 3), ("c", 1)):
        found = run(tmp_path / name, base, **bounded, tokens=80, batch=batch).read_json(
            "round-0/summary.json"
        )
        assert 80 - 18 < found["tokens"] <= 80 and found["trees"] < 10
    for changes, message in (
        ({"search": {"tree_tokens": 5}}, r"search.tree_tokens is 5, less than one expansion may take \(6\)"),
        ({**bounded, "tokens": 17}, r"17 tokens a round is less than one tree may take \(18\)"),
        ({"tokens": 100}, "set search.tree_tokens"),
        ({"prompts": 41}, "only 40 tasks"),
        ({"model": str(tmp_path / "none")}, "no such model"),
    ):
        with pytest.raises(CodealignError, match=message):
            run(tmp_path / "refused", base, **changes)  # type: ignore[arg-type]
        assert not (tmp_path / "refused").exists()
    assert run(tmp_path / "refused", base, rounds=1).finished, "the mended command has the directory"


def test_whole_answers_are_paired_right_against_wrong_one_to_one(base: Path, tmp_path: Path) -> None:
    job = sums.config(
        tmp_path / "run",
        base,
        pairs={"level": "answers", "answers": 5, "min_visits": 1},
        tokens=200,
        prompts=None,
    ).model_copy(update={"search": MctsDpoConfig.model_fields["search"].default})
    directory = mcts_dpo.run(job, train)
    rows = [row for file in directory.path.glob("round-0/trees-*") for row in read_jsonl(file)]
    spent = [row["sampled"] for row in rows]
    assert max(spent) <= 20 and 180 < sum(spent) <= 200, "5 answers of at most 4 tokens each, 200 in all"
    trees = {row["task_id"]: from_json(row["tree"]) for row in rows}
    pairs = list(read_jsonl(directory.path / "round-0/pairs.jsonl"))
    for pair in pairs:
        assert pair["confidence"] == 1.0 and pair["kind"] == "answer"
        tree = trees[pair["task_id"]]
        assert tree["reward"][pair["nodes"][1]] == 1 and tree["reward"][pair["nodes"][2]] == -1
    for name, tree in trees.items():
        made = [pair["nodes"][1:] for pair in pairs if pair["task_id"] == name]
        samples = [r for r, n in zip(tree["reward"][1:], tree["copies"][1:], strict=True) for _ in range(n)]
        right, wrong = samples.count(1), samples.count(-1)
        assert right + wrong == 5
        assert bool(made) == bool(right and wrong)
        assert len(made) <= min(right, wrong)
        assert len({tuple(nodes) for nodes in made}) == len(made)


def test_an_answer_that_was_drawn_twice_is_set_against_two_others() -> None:
    tree = Tree((1,))
    steps = [Step((2,), -1.0, terminal=True, reward=1.0, copies=2)]
    steps += [Step((i,), -1.0, terminal=True, reward=-1.0) for i in (3, 4)]
    tree.expand(0, steps)
    assert [(p.chosen, p.rejected, p.q_gap) for p in rounds.answer_pairs(tree)] == [(1, 3, 2.0), (1, 2, 2.0)]
    same = Tree((1,))
    same.expand(0, [steps[0], Step((3,), -1.0, terminal=True, reward=-1.0, copies=2)])
    assert len(rounds.answer_pairs(same)) == 1
    graded = Tree((1,))
    graded.expand(
        0, [Step((i,), -1.0, terminal=True, reward=r) for i, r in enumerate((0.5, -1.0, 1.0, None, 0.5))]
    )
    assert [(p.chosen, p.rejected) for p in rounds.answer_pairs(graded)] == [(3, 2)], "equals make no pair"


def test_values_that_the_verifier_owes_are_asked_for_again_before_trees_are_stored(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rounds.search
    owed = {"left": 7}

    def flaky(evaluate: Evaluator) -> Evaluator:
        def inner(candidates: Any) -> Any:
            values = list(evaluate(candidates))
            for i, one in enumerate(candidates):
                if one.step.terminal and owed["left"]:
                    owed["left"] -= 1
                    values[i] = None
            return values

        return inner

    monkeypatch.setattr(rounds, "search", lambda t, s, e, *a, **k: made(t, s, flaky(e), *a, **k))
    directory = run(tmp_path / "run", base, rounds=1)
    assert owed["left"] == 0
    assert directory.read_json("round-0/summary.json")["unknown"] == 0


def test_moves_search_on_from_the_best_child_and_keep_the_tree(base: Path, tmp_path: Path) -> None:
    directory = run(tmp_path / "run", base, rounds=1, search={"moves": 3, "depth_limit": 1})
    trees = [from_json(r["tree"]) for f in directory.path.glob("round-0/trees-*") for r in read_jsonl(f)]
    assert all(len(tree.moves) == 3 for tree in trees), "two steps and the answer is over"
    assert all(tree["terminal"][tree.root] and max(tree["depth"]) == 2 for tree in trees)


def test_settings_that_nothing_reads_or_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def parse(*flags: str) -> MctsDpoConfig:
        return MctsDpoConfig.parse(["--out", "o", "--model", "m", *flags], prog="x", description="")

    for flags, message in (
        (["--pairs.mode", "all"], "unknown pairs.mode 'all'; there are: per_depth"),
        (["--pairs.level", "answers", "--pairs.mode", "per_depth"], "pairs.mode does nothing"),
        (["--pairs.answers", "6"], "pairs.answers does nothing at the level 'steps'"),
        (["--value.kind", "reward_model"], "need each other"),
        (["--value.completions", "8"], "value.completions does nothing"),
        (["--serach.iterations", "3"], "did you mean '--search'"),
        (["--task.kind", "math"], "needs task.dataset"),
    ):
        with pytest.raises(CodealignError, match=message):
            parse(*flags)
    answers = sums.config(tmp_path, "m", pairs={"level": "answers", "min_visits": 1})
    with pytest.raises(CodealignError, match=r"settings of `search` do nothing"):
        mcts_dpo.run(answers.model_copy(update={"model": "hub/id"}), train)
    with pytest.raises(CodealignError, match="no such recipe"):
        mcts_dpo.run(sums.config(tmp_path / "run", "hub/id", recipe="nowhere.yaml"))


def test_a_first_round_without_a_pair_says_what_to_do_and_a_later_one_ends_the_job(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = {"sampling": {"temperature": 0.0}}
    with pytest.raises(CodealignError, match=r"round 0 gave no pair from 10 trees.*higher temperature"):
        run(tmp_path / "none", base, **greedy)
    picked = rounds.pair_rows
    monkeypatch.setattr(
        rounds,
        "pair_rows",
        lambda files, *a, **k: [] if "round-1" in str(files[0]) else picked(files, *a, **k),
    )
    results = run(tmp_path / "later", base, rounds=3).read_json("results.json")
    assert [bool(row["pairs"]) for row in results["rounds"]] == [True, False]
    assert "round-0" in results["model"]


_JOB = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from alignment import mcts_dpo
from tests.alignment.search import sums
from tests.alignment.test_mcts_dpo import train
import codegen_eval.tasks.running_sum as task
task.is_right = lambda question, answer: answer[-1:] in ("0", "2", "4", "6", "8")
mcts_dpo.run(sums.config(Path(sys.argv[1]), sys.argv[2]), train)
"""


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_a_round_leaves_trees_that_count(
    base: Path, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _JOB, str(tmp_path / "run"), str(base)]
    killed = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 250
    while not list((tmp_path / "run").glob("round-0/trees-0000.jsonl")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    first = tmp_path / "run/round-0/trees-0000.jsonl"
    stamp = first.stat().st_mtime_ns
    assert not (tmp_path / "run/finished.json").exists()
    run(tmp_path / "run", base)
    assert first.stat().st_mtime_ns == stamp, "what was done is not done again"
    assert content(tmp_path / "run") == content(whole)
