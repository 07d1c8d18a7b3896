"""The `datasets` folder: Parquet files of a train and a test split, and how it gets to the hub.

Equal rows are equal bytes: the schema is fixed, row groups have a fixed size, one thread compresses, and
nothing of the machine or the time is written.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_eval.errors import CodealignError
from codegen_eval.files import TEMPORARY
from codegen_eval.hub import Hub, push_folder

if TYPE_CHECKING:
    import pyarrow

SPLITS = ("train", "test")
ROWS_PER_FILE = 100_000
ROWS_PER_GROUP = 1_000
COLUMNS = {
    "prompt": "what the model was asked",
    "chosen": "the better answer",
    "rejected": "the worse answer",
    "kind": "`correctness`, or `code_test` (a program and a test on either side)",
    "confidence": "in [0.5, 1], how sure the order is",
    "label_smoothing": "1 - confidence: the flip probability for cDPO",
    "margin": "share of tests that chosen passes minus that of rejected",
    "chosen_score": "the ranker's score of chosen; null where it has none",
    "rejected_score": "likewise of rejected",
    "chosen_weight": "probability that chosen is right where the builder knows it, else 1",
    "rejected_weight": "probability that rejected is wrong, likewise",
    "ties": "how many choices were as good, where the builder takes the best",
    "prefix_chars": "characters that both sides share at the beginning",
    "suffix_chars": "characters that both sides share at the end",
    "task_id": "the prompt's id",
    "chosen_sha": "SHA-256 of the whole chosen program",
    "rejected_sha": "SHA-256 of the whole rejected program",
    "ranker": "what ordered the programs",
    "sources": "where the tests came from: `own` (the model), `example` (the prompt)",
    "origin": "where the prompt came from",
    "licence": "of the prompt, as far as stated",
}
_WHOLE = ("ties", "prefix_chars", "suffix_chars")
_REAL = ("confidence", "label_smoothing", "margin")


def need_pyarrow() -> None:
    """Says, before anything is drawn, that Parquet cannot be written here.

    Raises:
        CodealignError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise CodealignError(
            "the dataset is written as Parquet, which needs pyarrow: pip install 'codealign[train]'"
        )


def split_of(prompt: str, test_share: float) -> str:
    """`train` or `test`, by a hash of the prompt's text alone.

    All pairs of a prompt are on one side, and a prompt stays on its side whatever else the job holds.
    """
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


def schema(chat: bool) -> pyarrow.Schema:
    """Names and types of the columns; texts are messages in a chat."""
    import pyarrow as pa

    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pa.string())
    kinds |= dict.fromkeys(("prompt", "chosen", "rejected"), message if chat else pa.string())
    kinds |= {name: pa.float64() for name in COLUMNS if name in _REAL or name.endswith(("_score", "_weight"))}
    kinds |= dict.fromkeys(_WHOLE, pa.int64()) | {"sources": pa.list_(pa.string())}
    return pa.schema(list(kinds.items()))


def write_dataset(
    rows: Callable[[], Iterable[Mapping[str, Any]]], folder: Path, test_share: float, chat: bool
) -> dict[str, int]:
    """Writes `data/SPLIT-NNNNN-of-NNNNN.parquet` and returns the number of rows of each split.

    Args:
        rows: Gives the pairs anew at each call.
        folder: The dataset's folder; what other files `data` holds of an earlier attempt are removed.
        test_share: Share of the prompts that is put aside for testing, in [0, 1).
        chat: Whether texts are messages.

    Raises:
        CodealignError: All pairs fell into the test split.
    """
    counts = dict.fromkeys(SPLITS, 0)
    for row in rows():
        counts[split_of(_asked(row), test_share)] += 1
    if not counts["train"]:
        raise CodealignError(
            f"all {counts['test']} pairs fell into the test split, there is nothing to train on; "
            f"lower --test-share (now {test_share:g}) or give more prompts"
        )
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    written = set()
    for split in SPLITS:
        files = -(-counts[split] // ROWS_PER_FILE)
        mine = iter(row for row in rows() if split_of(_asked(row), test_share) == split)
        for number in range(files):
            path = data / f"{split}-{number:05d}-of-{files:05d}.parquet"
            _write_file(path, islice(mine, ROWS_PER_FILE), schema(chat))
            written.add(path)
    for stale in set(data.iterdir()) - written:
        stale.unlink()
    return counts


def _asked(row: Mapping[str, Any]) -> str:
    """The text that decides a pair's split."""
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else str(prompt[0]["content"])


def _write_file(path: Path, rows: Iterator[Mapping[str, Any]], kinds: pyarrow.Schema) -> None:
    """One Parquet file, which appears when it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with pq.ParquetWriter(temporary, kinds, compression="zstd", version="2.6") as writer:
        while group := [dict(row) for row in islice(rows, ROWS_PER_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=kinds))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def push(folder: Path, repo_id: str, private: bool, hub: Hub | None = None) -> None:
    """Uploads the folder to a dataset repository of the hub, which is made where it is not there.

    Args:
        folder: What `write_dataset` and the card made.
        repo_id: `OWNER/NAME`.
        private: Of a repository that is made now.
        hub: The hub's interface; that of huggingface_hub, with the user's own token, when absent.

    Raises:
        CodealignError: The hub refuses, or huggingface_hub is not installed.
    """
    push_folder(folder, repo_id, "dataset", "codealign generate-data", private=private, hub=hub)
