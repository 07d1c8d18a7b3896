"""Checkpoints that can be trusted: a manifest with sizes and hashes is written last, and checked before use.

A trainer of transformers writes its checkpoint folder in place; `seal` then flushes every file to the disk
and writes the manifest, `complete`, in one step. A folder without it was torn by a kill. Loops of their own
take `save_whole` (or `begin` and `finish`, where several processes write): temporary name, manifest, rename.
Either way `newest_whole` finds the newest folder whose files are what the manifest says, and `newest_usable`
says which newer ones are not and takes them out of the way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from alignment.health.events import FOLDER, record
from codegen_eval.errors import CodealignError
from codegen_eval.files import TEMPORARY, write_whole

WHOLE = "complete"
"""The manifest: a JSON file of a checkpoint folder that is written last. Empty: a mark without a manifest."""

_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(folder: Path) -> int:
    """The step in a name `checkpoint-STEP`.

    Raises:
        CodealignError: For another name.
    """
    found = _NAME.fullmatch(folder.name)
    if found is None:
        raise CodealignError(f"{folder} is not named checkpoint-STEP")
    return int(found[1])


def seal(folder: Path, *, hashes: bool = True) -> None:
    """Flushes all files of a checkpoint to the disk and writes its manifest.

    Args:
        folder: The checkpoint; nobody writes to it any more.
        hashes: Also note SHA-256 sums; without them only sizes are checked later.
    """
    files = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            entry: dict[str, object] = {"size": os.fstat(file.fileno()).st_size}
            if hashes:
                entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(folder).as_posix()] = entry
    text = json.dumps({"format": 1, "files": files}, indent=1, sort_keys=True)
    write_whole(folder / WHOLE, [text.encode() + b"\n"])


def fault(folder: Path) -> str | None:
    """Why a checkpoint cannot be trusted; None where it can.

    Hashes are checked where the manifest has them. Files that the manifest does not know are no fault.
    """
    try:
        text = (folder / WHOLE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return "it was never finished"
    except (OSError, UnicodeDecodeError) as error:
        return f"{WHOLE} cannot be read: {error}"
    if not text:
        return None
    try:
        files = json.loads(text)["files"]
        for name, entry in files.items():
            reason = _differs(folder / name, int(entry["size"]), entry.get("sha256"))
            if reason is not None:
                return f"{name}: {reason}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{WHOLE} is no manifest: {error!r}"
    return None


def newest_whole(
    root: Path, *, told: Callable[[Path, str], None] | None = None, most: int | None = None
) -> Path | None:
    """The newest checkpoint below `root` that can be trusted; None where there is none.

    Args:
        root: Folder with `checkpoint-STEP` folders.
        told: Gets each newer checkpoint that cannot be trusted, and why.
        most: Checkpoints of later steps than this are not looked at; None looks at all.
    """
    found = [path for path in root.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name)]
    for path in sorted(found, key=step_of, reverse=True):
        if most is not None and step_of(path) > most:
            continue
        reason = fault(path)
        if reason is None:
            return path
        if told is not None:
            told(path, reason)
    return None


def newest_usable(root: Path, *, most: int | None = None) -> Path | None:
    """As `newest_whole`; torn checkpoints are said, noted among the run's events, and set aside.

    Args:
        root: As for `newest_whole`; the run directory, or a folder in it.
        most: As for `newest_whole`.
    """
    torn: list[tuple[Path, str]] = []
    newest = newest_whole(root, told=lambda path, reason: torn.append((path, reason)), most=most)
    run = next((p for p in (root, *root.parents) if (p / "protocol.json").exists()), root)
    for path, reason in torn:
        record(run / FOLDER, "rank_0", "torn_checkpoint", checkpoint=path.name, reason=reason)
        set_aside(path, reason, newest)
    return newest


def set_aside(folder: Path, reason: str, before: Path | None = None) -> None:
    """Takes an untrusted checkpoint out of the way, so that retention does not count it, and says so.

    One that was never finished is removed; one whose files changed after they were whole is kept as
    `torn-NAME`, for whoever wants to know why.

    Args:
        folder: The checkpoint.
        reason: Why it is not trusted.
        before: The one that is used in its place.
    """
    finished = (folder / WHOLE).exists()
    if finished:
        kept = folder.with_name(f"torn-{folder.name}")
        shutil.rmtree(kept, ignore_errors=True)
        folder.rename(kept)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{folder.name} is torn ({reason}); "
        + (f"{before.name} is used" if before is not None else "there is none before it")
        + (f", the torn one is kept as torn-{folder.name}" if finished else ""),
        file=sys.stderr,
        flush=True,
    )


def begin(target: Path) -> Path:
    """An empty folder beside `target` to write a checkpoint into; what kills left of others is removed.

    Args:
        target: The folder's final name, `.../checkpoint-STEP`.
    """
    for left in target.parent.glob(f"{TEMPORARY}checkpoint-*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = aside(target)
    temporary.mkdir(parents=True)
    return temporary


def aside(target: Path) -> Path:
    """The name under which `target` is written until it is whole."""
    return target.with_name(f"{TEMPORARY}{target.name}")


def finish(target: Path, *, hashes: bool = True) -> Path:
    """Seals what was written into the folder of `begin` and gives it its name; returns `target`."""
    temporary, old = aside(target), target.with_name(f"{TEMPORARY}{target.name}.old")
    seal(temporary, hashes=hashes)
    if target.exists():  # a broken one, or one that the same step made before
        target.rename(old)
    temporary.rename(target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    return target


def save_whole(target: Path, write: Callable[[Path], None], *, hashes: bool = True) -> Path:
    """Writes a checkpoint folder under a temporary name and renames it when it is whole.

    Args:
        target: The folder's final name, `.../checkpoint-STEP`.
        write: Writes the files into the folder that it is given.
        hashes: See `seal`.

    Returns:
        `target`.
    """
    temporary = begin(target)
    try:
        write(temporary)
        return finish(target, hashes=hashes)
    except BaseException:
        # A full disk must not be kept full by the half that was written.
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def prune(root: Path, keep: int) -> list[Path]:
    """Removes all but the newest `keep` whole checkpoints; those that are not whole are left alone.

    Raises:
        CodealignError: For `keep` below 1: nothing would be left to go on from.
    """
    if keep < 1:
        raise CodealignError(f"at least one checkpoint must be kept (given: {keep})")
    whole = [p for p in root.glob("checkpoint-*") if _NAME.fullmatch(p.name) and (p / WHOLE).exists()]
    old = sorted(whole, key=step_of)[:-keep]
    for path in old:
        # The mark goes first: a kill in between leaves a folder that nobody trusts.
        with contextlib.suppress(FileNotFoundError):
            (path / WHOLE).unlink()
        shutil.rmtree(path, ignore_errors=True)
    return old


def _files(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.rglob("*") if p.is_file() and p.name != WHOLE and not p.name.startswith(TEMPORARY)
    )


def _differs(path: Path, size: int, digest: str | None) -> str | None:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                return f"{found} bytes, {size} were written"
            if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return "its content is not what was written"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error}"
    return None


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
