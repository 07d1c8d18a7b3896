"""Run directories: what a kill, a full disk or another configuration can and cannot do to them."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval import files
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir, read_jsonl, write_jsonl

REPO = Path(__file__).resolve().parents[2]
Parts = Iterator[tuple[int, list[dict[str, Any]]]]


def rows_of(part: int) -> list[dict[str, Any]]:
    return [{"part": part, "text": "zeile ü\n\u2028" * 3, "row": row} for row in range(part % 3)]


def produce(pending: list[int]) -> Parts:
    for part in pending:
        yield part, rows_of(part)


def opened(path: Path, **config: Any) -> RunDir:
    run = RunDir.open(path, "job", {"seed": 1, **config})
    run.close()
    return run


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    data.write_text("{}\n")
    run = RunDir.open(tmp_path / "a" / "b", "job", {"seed": 1, "path": data}, inputs={"data": data})
    protocol = run.read_json("protocol.json")
    assert protocol["command"] == "job" and protocol["seeds"] == {"seed": 1}
    assert len(protocol["inputs"]["data"]["sha256"]) == 64
    assert {"python", "numpy"} <= set(protocol["versions"])
    assert f"path: {data}" in (run.path / "config.yaml").read_text()
    assert not run.finished
    run.finish(score=1.0)
    assert run.finished and [row["event"] for row in read_jsonl(run.path / "metrics.jsonl")] == ["finished"]


def test_the_same_run_is_taken_up_and_another_is_refused_by_key(tmp_path: Path) -> None:
    opened(tmp_path / "run", k=[1, 2], name="x").log(step=1)
    opened(tmp_path / "run", k=(1, 2), name="x")
    with pytest.raises(CodealignError, match=r"name: 'x', now 'y'.*--overwrite"):
        opened(tmp_path / "run", k=[1, 2], name="y")
    for overwrite in (False, True):
        with pytest.raises(CodealignError, match="holds a run of `job`, not of `other`, so it is left alone"):
            RunDir.open(tmp_path / "run", "other", {"seed": 1, "k": [1, 2], "name": "x"}, overwrite=overwrite)
    assert list(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == [{"step": 1}]


def test_a_run_that_has_made_nothing_does_not_bar_its_directory(tmp_path: Path) -> None:
    opened(tmp_path / "run", split="trian")
    (tmp_path / "run/health").mkdir()
    (tmp_path / "run/health/skip.json").write_text("[[0, 3]]")
    run = opened(tmp_path / "run", split="train")
    assert not (tmp_path / "run/health").exists(), "what is noted there was another run's"
    assert run.read_json("protocol.json")["config"]["split"] == "train"
    assert "train\n" in (tmp_path / "run" / "config.yaml").read_text()
    stopped = run.build("rows", 3, produce)
    assert stopped.exists()
    with pytest.raises(CodealignError, match="split: 'train', now 'trian'"):
        opened(tmp_path / "run", split="trian")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_never_lies_where_its_input_does(tmp_path: Path, overwrite: bool) -> None:
    first = opened(tmp_path / "run")
    data = first.build("rows", 3, produce)
    first.finish()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    kept = data.read_bytes()
    for out, source in (
        (tmp_path / "run", data),
        (tmp_path / "link", data),
        (tmp_path, data),
        (tmp_path / "run" / "inner", tmp_path / "run"),
    ):
        with pytest.raises(CodealignError, match="lie in each other; choose another"):
            RunDir.open(out, "job", {"seed": 1}, overwrite=overwrite, inputs={"data": source})
    assert data.read_bytes() == kept and first.finished


def test_changed_input_is_refused_but_a_moved_one_is_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("one")

    def start() -> RunDir:
        return RunDir.open(tmp_path / "run", "job", {"data": str(data)}, inputs={"data": data})

    start().log(step=1)
    data = data.rename(tmp_path / "moved")
    start().close()
    data.write_text("two")
    with pytest.raises(CodealignError, match="content of data"):
        start()


def test_folder_input_counts_by_its_files(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1")

    def start() -> None:
        run = RunDir.open(tmp_path / "run", "job", {}, inputs={"model": model})
        run.log(step=1)
        run.close()

    start()
    (model / ".cache").write_text("hidden files do not count")
    start()
    (model / "tokenizer").write_text("2")
    with pytest.raises(CodealignError, match="content of model"):
        start()


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"model: no such file or folder: .*nowhere"):
        RunDir.open(tmp_path / "run", "job", {}, inputs={"model": tmp_path / "nowhere"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_is_not_ours_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "protocol.json").write_text('{"format": "something else"}')
    with pytest.raises(CodealignError, match="left alone"):
        RunDir.open(tmp_path, "job", {}, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(CodealignError, match="is a file"):
        opened(tmp_path / "run")


def test_overwrite_starts_anew(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", k=1)
    run.build("rows", 3, produce)
    run.finish()
    again = RunDir.open(tmp_path / "run", "job", {"k": 2}, overwrite=True)
    assert not again.finished and not (again.path / "rows.jsonl").exists()
    assert again.read_json("protocol.json")["config"] == {"k": 2}


def test_build_joins_parts_in_order_whatever_order_they_come_in(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")

    def shuffled(pending: list[int]) -> Parts:
        random.Random(3).shuffle(pending)
        return produce(pending)

    path = run.build("rows", 7, shuffled)
    assert list(read_jsonl(path)) == [row for part in range(7) for row in rows_of(part)]
    assert not (run.path / ".parts").exists()


def test_build_does_nothing_twice(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    asked: list[list[int]] = []

    def fails_in_the_middle(pending: list[int]) -> Parts:
        asked.append(list(pending))
        for part in (4, 0, 2):
            if part in pending:
                yield part, rows_of(part)
        if len(asked) == 1:
            raise RuntimeError("stopped")
        yield from ((part, rows_of(part)) for part in (1, 3))

    with pytest.raises(RuntimeError, match="stopped"):
        run.build("rows", 5, fails_in_the_middle)
    path = run.build("rows", 5, fails_in_the_middle)
    run.build("rows", 5, fails_in_the_middle)
    assert asked == [[0, 1, 2, 3, 4], [1, 3]]
    assert list(read_jsonl(path)) == [row for part in range(5) for row in rows_of(part)]


def test_no_parts_make_an_empty_file(tmp_path: Path) -> None:
    assert opened(tmp_path / "run").build("rows", 0, produce).read_bytes() == b""


def test_another_division_into_parts_is_refused(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")

    def stop_after_one(pending: list[int]) -> Parts:
        yield 0, []
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        run.build("rows", 5, stop_after_one)
    with pytest.raises(CodealignError, match="begun with 5 parts, now there are 4"):
        run.build("rows", 4, produce)


@pytest.mark.parametrize("parts", [[0, 0], [7]])
def test_a_part_that_was_not_asked_for_is_a_bug(tmp_path: Path, parts: list[int]) -> None:
    with pytest.raises(RuntimeError, match="bug in the command"):
        opened(tmp_path / "run").build("rows", 2, lambda pending: ((part, []) for part in parts))


WORKER = """
import sys, time
from pathlib import Path
from codegen_eval.runs import RunDir
def produce(pending):
    for part in reversed(pending):
        time.sleep(0.002)
        yield part, [{"part": part, "pad": "x" * 20000}]
run = RunDir.open(Path(sys.argv[1]), "job", {"seed": 1})
run.log(event="start")
run.build("rows", 60, produce)
run.write_json("result.json", {"a": 1})
run.finish()
"""


def worker(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(path)], cwd=REPO, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_killed_anywhere_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    assert worker(tmp_path / "calm").wait() == 0
    rng = random.Random(0)
    start = time.monotonic()
    worker(tmp_path / "probe").wait()
    length = time.monotonic() - start
    for _ in range(12):
        process = worker(tmp_path / "wild")
        time.sleep(rng.uniform(0.2 * length, length))
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = worker(tmp_path / "wild")
    assert last.wait() == 0, last.stderr and last.stderr.read()
    for name in ("rows.jsonl", "result.json", "config.yaml", "finished.json"):
        assert (tmp_path / "wild" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
    assert all("event" in row for row in read_jsonl(tmp_path / "wild" / "metrics.jsonl"))
    left = {entry.name for entry in (tmp_path / "wild").iterdir()} - {".lock"}
    assert left == {entry.name for entry in (tmp_path / "calm").iterdir()} - {".lock"}


def test_killed_while_it_starts_or_clears_it_is_still_ours(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".tmp.protocol.json").write_text('{"form')
    (run / ".lock").touch()
    (run / ".tmp.model").mkdir()
    (run / ".tmp.model/weights").write_text("ha")
    opened(run)
    assert {path.name for path in run.glob(".tmp.*")} == set()


def test_a_torn_line_of_the_log_is_dropped(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.log(loss=1.0)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"loss": 0.')
    again = opened(tmp_path / "run")
    again.log(loss=float("nan"))
    assert list(read_jsonl(run.path / "metrics.jsonl")) == [{"loss": 1.0}, {"loss": None}]


def test_two_processes_never_share_a_run(tmp_path: Path) -> None:
    run = RunDir.open(tmp_path / "run", "job", {"seed": 1})
    second = worker(tmp_path / "run")
    _, said = second.communicate()
    assert second.returncode != 0 and b"another process is working in" in said
    run.close()
    assert worker(tmp_path / "run").wait() == 0


def test_full_disk_keeps_what_was_made_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(tmp_path / "run")
    real = os.fsync
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 5:  # two are those of the number of parts and its name
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        CodealignError, match=r"No space left on device; 3 parts .* are kept.*same command again"
    ):
        run.build("rows", 20, produce)
    monkeypatch.undo()
    assert not list(run.path.rglob(".tmp.*")), "half a file would keep the disk full"
    asked: list[int] = []

    def remember(pending: list[int]) -> Parts:
        asked.extend(pending)
        return produce(pending)

    path = run.build("rows", 20, remember)
    assert asked == list(range(3, 20))
    assert list(read_jsonl(path)) == [row for part in range(20) for row in rows_of(part)]


def test_what_has_its_name_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(tmp_path / "run")
    happened: list[tuple[str, str]] = []
    sync, rename = os.fsync, Path.replace

    def synced(handle: int) -> None:
        sync(handle)
        happened.append(("on the disk", Path(os.readlink(f"/proc/self/fd/{handle}")).name))

    def renamed(source: Path, target: Path) -> Path:
        happened.append(("named", target.name))
        return rename(source, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.Path, "replace", renamed)
    run.build("rows", 2, produce)

    def written(name: str) -> list[tuple[str, str]]:
        return [("on the disk", f".tmp.{name}"), ("named", name)]

    pieces = [*written("000000.jsonl"), *written("000001.jsonl")]
    folder, path = ("on the disk", "rows"), ("on the disk", "run")
    # The names of pieces come to the disk when it suits: a lost one is made anew.
    assert happened == [*written("count"), folder, *pieces, *written("rows.jsonl"), path]


def test_a_really_full_disk_is_mended_by_room_and_the_same_command(tmp_path: Path) -> None:
    disk, job = tmp_path / "disk", tmp_path / "job.py"
    disk.mkdir()
    job.write_text(
        "import sys\nfrom alignment.cli import guarded\n"
        f"def job(argv):\n    exec({WORKER!r}, {{}})\n    return 0\n"
        "sys.exit(guarded(job, sys.argv[1:]))"
    )
    script = f"""
        mount -t tmpfs -o size=400k none {disk} || exit 77
        {sys.executable} {job} {disk}/run; echo "status $?"
        echo "parts $(ls {disk}/run/.parts/rows/0*.jsonl | wc -l)"
        mount -o remount,size=8m {disk} || exit 77
        {sys.executable} {job} {disk}/run; echo "status $?"
        cp {disk}/run/rows.jsonl {tmp_path}/rows.jsonl
    """
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no private file system here: {done.stderr.strip()}")
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status")]
    assert statuses == ["status 2", "status 0"], done.stdout + done.stderr
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    assert "parts 0" not in done.stdout
    worker(tmp_path / "calm").wait()
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "calm" / "rows.jsonl").read_bytes()


def test_a_real_size_limit_is_reported_like_a_full_disk(tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from alignment.cli import guarded\n"
        f"def job(argv):\n    sys.argv[1] = argv[0]\n    exec({WORKER!r}, {{}})\n    return 0\n"
        "sys.exit(guarded(job, sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert worker(tmp_path / "run").wait() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CodealignError, match=r"cannot write .*run: Permission denied"):
        opened(tmp_path / "run")
    tmp_path.chmod(0o700)


def test_a_refused_directory_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CodealignError, match=r"cannot write .*run: Permission denied"):
        opened(tmp_path / "run")


def test_proc_is_not_writable_for_anyone() -> None:
    with pytest.raises(CodealignError, match="cannot write"):
        opened(Path("/proc/codealign-run"))


def test_nan_never_reaches_a_result_file(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("results.json", {"value": float("nan")})
    assert not (run.path / "results.json").exists()


def test_reading_a_run_that_is_not_complete_says_so(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"has no results\.json: the run is not complete"):
        opened(tmp_path / "run").read_json("results.json")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=5))
def test_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == json.loads(json.dumps(rows))
