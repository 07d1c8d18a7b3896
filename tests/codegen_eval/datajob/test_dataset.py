"""The folder: splits by prompt, equal bytes, and that `datasets` reads it; the hub by a stand-in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.datajob import dataset
from codegen_eval.datajob.dataset import COLUMNS, push, split_of, write_dataset
from codegen_eval.errors import CodealignError

pytest.importorskip("pyarrow")


def row(number: int, prompt: str) -> dict[str, Any]:
    filled: dict[str, Any] = dict.fromkeys(COLUMNS, f"text {number}")
    numbers = ("confidence", "label_smoothing", "margin", "chosen_weight", "rejected_weight")
    filled |= dict.fromkeys(numbers, number / 7)
    filled |= {"chosen_score": -1.5, "rejected_score": None, "ties": None, "prefix_chars": 3}
    return filled | {"suffix_chars": 4, "prompt": prompt, "sources": ["example", "own"]}


ROWS = [row(i, f"prompt {i // 2}") for i in range(60)]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


def test_split_depends_on_the_prompt_alone_and_has_the_asked_share() -> None:
    prompts = [f"def f{i}(x):" for i in range(4000)]
    share = sum(split_of(p, 0.1) == "test" for p in prompts) / len(prompts)
    assert abs(share - 0.1) < 3 * (0.1 * 0.9 / 4000) ** 0.5
    assert {split_of(p, 0.0) for p in prompts} == {"train"}
    # A larger share takes more prompts in and lets none go.
    assert all(split_of(p, 0.3) == "test" for p in prompts if split_of(p, 0.1) == "test")
    digest = int(hashlib.sha256(b"x").hexdigest()[:16], 16) / 2**64
    assert split_of("x", digest - 1e-9) == "train" and split_of("x", digest + 1e-9) == "test"


def test_equal_rows_are_equal_bytes_and_stale_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = write_dataset(lambda: ROWS, tmp_path / "a", 0.2, chat=False)
    assert counts["train"] + counts["test"] == 60 and counts["test"] > 0
    (tmp_path / "b" / "data").mkdir(parents=True)
    (tmp_path / "b" / "data" / "train-00000-of-00009.parquet").write_bytes(b"old")
    write_dataset(lambda: iter(ROWS), tmp_path / "b", 0.2, chat=False)
    assert written(tmp_path / "a") == written(tmp_path / "b")
    monkeypatch.setattr(dataset, "ROWS_PER_FILE", 20)
    monkeypatch.setattr(dataset, "ROWS_PER_GROUP", 7)
    write_dataset(lambda: ROWS, tmp_path / "b", 0.0, chat=False)
    assert list(written(tmp_path / "b")) == [f"train-0000{i}-of-00003.parquet" for i in range(3)]


def test_both_sides_of_a_prompt_stay_together_and_nothing_is_lost(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_dataset(lambda: ROWS, tmp_path, 0.2, chat=False)
    tables = {
        path.name.split("-")[0]: pq.read_table(path).to_pylist() for path in (tmp_path / "data").iterdir()
    }
    assert not {r["prompt"] for r in tables["train"]} & {r["prompt"] for r in tables["test"]}
    assert sorted(tables["train"] + tables["test"], key=lambda r: r["chosen"]) == sorted(
        ROWS, key=lambda r: r["chosen"]
    )


def test_messages_are_a_column_of_their_own_kind(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    said = [{"role": "user", "content": "Write f."}]
    answers = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    write_dataset(lambda: [{**row(1, ""), "prompt": said, **answers}], tmp_path, 0.0, chat=True)
    (found,) = pq.read_table(next((tmp_path / "data").iterdir())).to_pylist()
    assert found["prompt"] == said and found["chosen"] == answers["chosen"]


def test_a_test_split_that_takes_everything_is_an_error(tmp_path: Path) -> None:
    lone = [r for r in ROWS if split_of(r["prompt"], 0.9) == "test"][:1]
    with pytest.raises(CodealignError, match="nothing to train on; lower --test-share"):
        write_dataset(lambda: lone, tmp_path, 0.9, chat=False)
    assert not (tmp_path / "data").exists()


class Hub:
    def __init__(self, fails: bool = False) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fails = fails

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if self.fails:
            raise RuntimeError("401 Unauthorized\nlong text")
        self.calls.append(("create", {"repo_id": repo_id, **options}))

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


def test_pushing_makes_the_repository_and_uploads_the_folder(tmp_path: Path) -> None:
    hub = Hub()
    push(tmp_path, "me/pairs", True, hub)
    assert [name for name, _ in hub.calls] == ["create", "upload"]
    made, sent = (options for _, options in hub.calls)
    assert made == {"repo_id": "me/pairs", "repo_type": "dataset", "private": True, "exist_ok": True}
    assert sent["folder_path"] == str(tmp_path) and sent["repo_type"] == "dataset"
    with pytest.raises(CodealignError, match="did not take me/pairs: 401 Unauthorized; the"):
        push(tmp_path, "me/pairs", True, Hub(fails=True))
