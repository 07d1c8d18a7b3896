"""Run directories: kill a job anywhere, start the same command again, and it goes on.

Every file appears under its final name only when it is complete (temporary name, fsync, rename), so whatever
exists can be trusted. A run is identified by its command, its configuration and the content of its inputs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.files import TEMPORARY, write_whole
from codegen_eval.jsonl import dump_row, plain, read_jsonl, write_jsonl
from codegen_eval.protocol import FORMAT, describe, differing_keys

__all__ = ["RunDir", "read_jsonl", "write_jsonl"]

PROTOCOL = "protocol.json"
FINISHED = "finished.json"
HEALTH = "health"  # where trainers write what they do and what happened to them (docs/health.md)
_HIDDEN = (TEMPORARY, ".lock")
_locks: dict[Path, int] = {}

Rows = list[dict[str, Any]]


class RunDir:
    """The directory of one job; made by `RunDir.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(
        cls,
        path: Path,
        command: str,
        config: Mapping[str, Any],
        *,
        overwrite: bool = False,
        inputs: Mapping[str, Path] | None = None,
    ) -> RunDir:
        """Makes a run directory, or takes up the one that the same command left.

        Args:
            path: The directory; parents are made.
            command: The command's name, part of the run's identity.
            config: Plain values that decide what the job makes (`Config.identity()`).
            overwrite: Start anew, removing an existing run of ours.
            inputs: Files or folders that the job reads; their content counts, not a config key of their name.

        Raises:
            CodealignError: If another configuration or other inputs made the run (the keys are named), the
                directory is not a run of ours or of another command, an input lies in it, another process
                is writing to it, an input is missing, or the disk refuses.
        """
        path = Path(path)
        run = cls(path)
        _apart(path, inputs or {})
        protocol = describe(command, config, inputs or {})
        with _disk(path, "nothing was lost"):
            _make(path)
            _lock(path)
            for leftover in path.glob(f"{TEMPORARY}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            before = run._found(command)
            if before is not None and overwrite:
                run._clear()
                before = None
            if before is None or not run._continues(before, protocol):
                run.write_json(PROTOCOL, protocol)
            run.write_text("config.yaml", _yaml(protocol["config"]))
        return run

    @property
    def finished(self) -> bool:
        """Whether `finish` was called for this run."""
        return (self.path / FINISHED).exists()

    def build(
        self, name: str, parts: int, produce: Callable[[list[int]], Iterator[tuple[int, Rows]]]
    ) -> Path:
        """Makes `NAME.jsonl` from `parts` pieces, each of which survives a kill once it is made.

        Args:
            name: The file's name without its ending.
            parts: Number of pieces; it must not depend on the machine.
            produce: Gets the missing numbers, yields `(part, rows)` in any order; equal parts are equal rows.

        Returns:
            The path of the joined file: the pieces' rows in the order of their numbers.

        Raises:
            CodealignError: If the disk refuses; all pieces written so far are kept.
        """
        target = self.path / f"{name}.jsonl"
        folder = self.path / ".parts" / name
        if not target.exists():
            self._check_count(folder, parts)
            pending = [part for part in range(parts) if not _piece(folder, part).exists()]
            if pending:
                self._collect(folder, pending, produce)
            self._join(folder, parts, target)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        return target

    def log(self, **metrics: Any) -> None:
        """Appends one row to metrics.jsonl; numbers that are not finite become null."""
        with _disk(self.path, "what was finished is kept"), (self.path / "metrics.jsonl").open("ab") as file:
            file.write(dump_row(plain(metrics, finite=True)))

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a JSON file in one step: sorted keys, no NaN, so equal content is equal bytes."""
        return self.write_text(
            name,
            json.dumps(plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n",
        )

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of this run; a missing or broken one is a CodealignError."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CodealignError(
                f"{self.path} has no {name}: the run is not complete; run its command again"
            ) from None
        except ValueError as error:
            raise CodealignError(f"{path} is not valid JSON: {error}") from None

    def write_text(self, name: str, text: str) -> Path:
        """Writes a text file (UTF-8) in one step: it has either its old or its new content, never a part."""
        target = self.path / name
        with _disk(target, "what was finished is kept"):
            write_whole(target, [text.encode("utf-8", "backslashreplace")])
        return target

    def finish(self, **metrics: Any) -> None:
        """Marks the run as complete, with its closing figures, and lets others have the directory."""
        if not self.finished:
            self.log(event="finished", **metrics)
            self.write_json(FINISHED, metrics)
        self.close()

    def close(self) -> None:
        """Lets other processes write to the directory; the end of the process does the same."""
        handle = _locks.pop(self.path.resolve(), None)
        if handle is not None:
            os.close(handle)

    def _found(self, command: str) -> dict[str, Any] | None:
        """The protocol of this command's run that lies here; None for an empty directory.

        What is not ours, or was made by another command, is refused: it is never gone on with nor removed.
        """
        what = "files but is not a run directory of codealign"
        try:
            found = json.loads((self.path / PROTOCOL).read_text(encoding="utf-8"))
            if isinstance(found, dict) and found.get("format") == FORMAT:
                if found["command"] == command:
                    return found
                what = f"a run of `{found['command']}`, not of `{command}`"
        except FileNotFoundError:
            if not any(not entry.name.startswith(_HIDDEN) for entry in self.path.iterdir()):
                return None
        except ValueError:
            pass
        self.close()
        raise CodealignError(f"{self.path} holds {what}, so it is left alone; choose another run directory")

    def _clear(self) -> None:
        """Removes the run; the proof that it is ours goes last, so that a kill in between can be mended."""
        for entry in self.path.iterdir():
            if entry.name.startswith(_HIDDEN) or entry.name == PROTOCOL:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (self.path / PROTOCOL).unlink()

    def _continues(self, before: Mapping[str, Any], protocol: Mapping[str, Any]) -> bool:
        """Whether the run that lies here is the one that starts now.

        False where it is another one that has made nothing yet, but notes of a trainer on its health: a
        command that was refused for a typing error, say, must not bar its directory to the mended one.
        """
        keys = differing_keys(before, protocol)
        if not keys:
            _drop_torn_line(self.path / "metrics.jsonl")
            return True
        if all(
            e.name in (PROTOCOL, "config.yaml", HEALTH) or e.name.startswith(_HIDDEN)
            for e in self.path.iterdir()
        ):
            shutil.rmtree(self.path / HEALTH, ignore_errors=True)
            return False
        self.close()
        raise CodealignError(
            f"{self.path} was made with another configuration ({'; '.join(keys)}). "
            "Give the old values to go on, choose another run directory, or start anew with --overwrite"
        )

    def _check_count(self, folder: Path, parts: int) -> None:
        """The number of parts is fixed by the first call: pieces of another division must not be mixed in."""
        with _disk(folder, "what was finished is kept"):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"{TEMPORARY}*"):
                leftover.unlink()
            count = folder / "count"
            if not count.exists():
                write_whole(count, [str(parts).encode()])
            begun = count.read_text()
        if begun != str(parts):
            raise CodealignError(
                f"{folder} was begun with {begun} parts, now there are {parts}; start anew with --overwrite"
            )

    def _collect(
        self, folder: Path, pending: list[int], produce: Callable[[list[int]], Iterator[tuple[int, Rows]]]
    ) -> None:
        missing = set(pending)
        for part, rows in produce(pending):
            if part not in missing:
                raise RuntimeError(
                    f"part {part} was not asked for or came twice; this is a bug in the command"
                )
            with _disk(
                folder, f"{len(pending) - len(missing)} parts of this attempt and all earlier ones are kept"
            ):
                write_whole(_piece(folder, part), map(dump_row, rows), among_others=True)
            missing.remove(part)
        if missing:
            raise RuntimeError(
                f"parts {sorted(missing)[:5]} were never produced; this is a bug in the command"
            )

    def _join(self, folder: Path, parts: int, target: Path) -> None:
        with _disk(target, "all parts are kept"):
            write_whole(target, (_piece(folder, part).read_bytes() for part in range(parts)))


def _apart(path: Path, inputs: Mapping[str, Path]) -> None:
    """Refuses a run directory that holds one of the run's inputs (it could overwrite it) or lies in one."""
    target = path.resolve()
    for name, given in inputs.items():
        source = Path(given).resolve()
        if source.is_relative_to(target) or (source.is_dir() and target.is_relative_to(source)):
            raise CodealignError(
                f"the run directory {path} and the input {name} ({given}) lie in each other; "
                "choose another run directory"
            )


def _piece(folder: Path, part: int) -> Path:
    return folder / f"{part:06d}.jsonl"


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def _make(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise CodealignError(f"{path} is a file; a run needs a directory: choose another one")
    path.mkdir(parents=True, exist_ok=True)


def _lock(path: Path) -> None:
    """Takes the directory for this process; the kernel lets go of it however the process ends."""
    resolved = path.resolve()
    if resolved in _locks:
        return
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CodealignError(
            f"another process is working in {path}; wait for it, or choose another run directory"
        ) from None
    except OSError:
        # Some network file systems have no locks: the run is still safe as long as it is started once.
        os.close(handle)
        return
    _locks[resolved] = handle


def _drop_torn_line(path: Path) -> None:
    """Cuts off what a kill in the middle of an append left after the last newline."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


@contextlib.contextmanager
def _disk(path: Path, kept: str) -> Iterator[None]:
    """Turns what the file system refuses into an error that says what was kept and what to do."""
    try:
        yield
    except OSError as error:
        raise CodealignError(
            f"cannot write {error.filename or path}: {error.strerror or error}; {kept}. "
            "Mend that (free space? permissions?) and run the same command again"
        ) from error
