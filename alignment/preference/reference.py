"""The reference model: a frozen copy, or its log-probabilities on disk under a fingerprint.

Stored values are used again only for the same weights, token ids and length limit; whatever differs has
another file name. Values are kept by token where the loss weighs tokens, else by completion.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.divided import gathered
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole

if TYPE_CHECKING:
    from datasets import Dataset

Column = list[float] | list[list[float]]


def frozen_copy(model: Any) -> Any:
    """A copy of a model in memory that is never trained; None where DeepSpeed has spread its weights.

    TRL would load the reference anew from the path in the model's config, which a model that was built or
    changed in memory does not have.
    """
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()


def check_pair(model: Any, reference: Any) -> None:
    """Refuses a reference that speaks another vocabulary than the policy.

    Raises:
        CodealignError: If the number of output tokens differs.
    """
    sizes = [m.get_output_embeddings().weight.shape[0] for m in (model, reference)]
    if sizes[0] != sizes[1]:
        raise CodealignError(
            f"the reference has a vocabulary of {sizes[1]} tokens, the policy one of {sizes[0]}: their "
            "log-probabilities cannot be compared. Take as reference the model that training starts from"
        )


def check_finite(model: Any, name: str) -> None:
    """Refuses weights with which every loss would be NaN.

    Raises:
        CodealignError: If a parameter holds NaN or an infinity; it is named.
    """
    for key, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.isfinite().all():
            bad = int((~parameter.isfinite()).sum())
            raise CodealignError(
                f"{name}: {bad} of {parameter.numel()} weights of {key} are NaN or infinite; "
                "the model is broken, take another checkpoint"
            )


@contextlib.contextmanager
def reference_adapter(model: Any) -> Iterator[None]:
    """Within it, a model with adapters is the reference: its frozen `ref` adapter, or no adapter at all."""
    if "ref" not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    before = model.active_adapter
    model.set_adapter("ref")
    try:
        yield
    finally:
        model.set_adapter(before)


def weights_hash(model: Any) -> str:
    """SHA-256 of the weights that the reference has: names, dtypes and bytes, without trained adapters.

    Those that ZeRO-3 has divided are gathered one by one: all processes come here.
    """
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if ".default." in name and "lora_" in name:
            continue
        with gathered([tensor]):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def rows_hash(dataset: Dataset) -> str:
    """SHA-256 of the rows' token ids, in order."""
    names = [name for name in dataset.column_names if name.endswith("_ids")]
    total = hashlib.sha256(" ".join(names).encode())
    for row in dataset.select_columns(names):
        for name in names:
            total.update(np.asarray(row[name], dtype="<i8").tobytes() + b"|")
        total.update(b"\n")
    return total.hexdigest()


def fingerprint(**parts: Any) -> str:
    """What stored log-probabilities depend on, as one hash."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def save(path: Path, columns: dict[str, Column]) -> None:
    """Writes columns of numbers, or of rows of numbers, in one step."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if values and isinstance(values[0], list):
            arrays[f"{name}.lengths"] = np.array([len(row) for row in values], dtype=np.int64)
            arrays[name] = np.concatenate([np.asarray(row, dtype=np.float32) for row in values])
        else:
            arrays[name] = np.asarray(values, dtype=np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, [buffer.getvalue()])


def load(path: Path, rows: int) -> dict[str, Column] | None:
    """Columns as `save` wrote them; None where there is no file.

    Raises:
        CodealignError: For a file that is broken or has another number of rows.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CodealignError(f"{path} is broken ({error}); remove it, it will be made anew") from None
    columns: dict[str, Column] = {}
    for name, values in arrays.items():
        if name.endswith(".lengths"):
            continue
        lengths = arrays.get(f"{name}.lengths")
        if lengths is None:
            columns[name] = values.tolist()
        else:
            columns[name] = [part.tolist() for part in np.split(values, np.cumsum(lengths)[:-1])]
        if len(columns[name]) != rows:
            raise CodealignError(
                f"{path} holds {len(columns[name])} rows, the data {rows}; remove it, it will be made anew"
            )
    return columns


def joined(dataset: Dataset, columns: dict[str, Column]) -> Dataset:
    """The dataset with these columns beside its own."""
    from datasets import Dataset as Table
    from datasets import concatenate_datasets

    return concatenate_datasets([dataset, Table.from_dict(columns)], axis=1)


def cut(values: Sequence[Sequence[float]], lengths: Sequence[int]) -> list[list[float]]:
    """Rows of padded numbers without their padding."""
    return [list(row[:length]) for row, length in zip(values, lengths, strict=True)]
