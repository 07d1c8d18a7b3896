"""The chain: killed anywhere it makes the same pairs, and hidden tests never reach them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from alignment import quickstart
from alignment.quickstart import QuickstartConfig
from alignment.resources import recipe_path
from codegen_eval.benchmarks.base import load
from codegen_eval.config import load_config
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from codegen_eval.runs import read_jsonl
from tests.conftest import REPO

SMALL = {"until": "pairs", "problems": 12, "programs": 4, "tests": 2}
# Each kill costs the imports of all steps once more; continuous integration makes six.
KILLS = int(os.environ.get("CODEALIGN_KILLS", "4"))
FLAGS = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]


def config(out: Path, **changes: object) -> QuickstartConfig:
    return load_config(
        recipe_path("tiny-coder/quickstart.yaml"), QuickstartConfig, {**SMALL, "out": out, **changes}
    )


def left_behind(mark: str) -> list[str]:
    """Command lines of live processes that carry the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.timeout(550)
def test_killed_at_random_moments_the_chain_makes_the_same_pairs(tmp_path: Path) -> None:
    mark = f"mark-{uuid.uuid4()}"
    environment = {**os.environ, "CODEALIGN_TEST_MARK": mark}

    def start(out: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "alignment.cli", "quickstart", *FLAGS, "--out", str(tmp_path / out)]
        return subprocess.Popen(
            command, cwd=REPO, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def finish(process: subprocess.Popen[bytes], out: str) -> bytes:
        assert process.wait(timeout=250) == 0, process.stderr and process.stderr.read()
        return (tmp_path / out / "pairs/pairs.jsonl").read_bytes()

    begun = time.monotonic()
    wanted = finish(start("whole"), "whole")
    duration = time.monotonic() - begun
    assert wanted
    rng = Random(7)
    # A chain that comes to its end before all kills is compared, and the next one is killed in its place.
    chains = (f"killed-{number}" for number in itertools.count())
    out = next(chains)
    kills = 0
    while kills < KILLS:
        process = start(out)
        try:
            # Imports are the first seconds of every start; moments are drawn over what follows.
            process.wait(timeout=rng.uniform(0.1, 0.4) * duration)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            process.wait()
        else:
            assert finish(process, out) == wanted
            out = next(chains)
    assert finish(start(out), out) == wanted
    deadline = time.monotonic() + 10
    while left_behind(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_behind(mark) == []


@pytest.mark.slow
@pytest.mark.sandbox
def test_pairs_do_not_change_when_hidden_tests_solutions_and_sizes_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = quickstart.run(config(tmp_path / "honest"))

    def blind(name: str, dataset: Path | None = None, split: str | None = None) -> list[Problem]:
        return [
            replace(problem, tests=(), canonical_solution="    raise SystemExit\n", sizes=(), meta={})
            for problem in load(name, dataset, split)
        ]

    for command in ("sample", "execute", "pairs"):
        monkeypatch.setattr(f"codegen_eval.commands.{command}.load", blind)
    blinded = quickstart.run(config(tmp_path / "blind"))
    texts = [(run.path / "pairs.jsonl").read_bytes() for run in (honest, blinded)]
    assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.sandbox
def test_without_the_examples_source_every_test_is_the_models_own(tmp_path: Path) -> None:
    quickstart.run(config(tmp_path, sources=("own",), problems=12))
    rows = list(read_jsonl(tmp_path / "matrices/matrices.jsonl"))
    assert {test["source"] for row in rows for test in row["tests"]} == {"own"}
    assert all(row["sources"] == ["own"] for row in read_jsonl(tmp_path / "pairs/pairs.jsonl"))


def test_the_recipe_is_read_strictly() -> None:
    from codegen_eval.errors import CodealignError

    with pytest.raises(CodealignError, match="did you mean 'programs'"):
        config(Path("x"), program=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "no source of tests"),
        ({"sources": ["own"], "tests": 0}, "no source of tests"),
        ({"ranker": "b5"}, "did you mean 'b4'"),
        ({"problems": 100_000}, "--problems 100000, but the train split has only"),
        ({"model": "./nowhere"}, "no such model folder: ./nowhere"),
        ({"recipe": "nowhere.yaml"}, "no such recipe: nowhere.yaml"),
        ({"data_split": "trian"}, "did you mean 'train'"),
        ({"eval_split": "tset", "until": "report"}, "did you mean 'test'"),
    ],
)
def test_what_a_late_step_would_refuse_is_refused_before_the_first(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with pytest.raises(CodealignError, match=message):
        quickstart.run(config(tmp_path / "q", **{"model": str(model), **changes}))
    assert not (tmp_path / "q").exists()
