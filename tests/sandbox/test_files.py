"""Removal of what a program left in its directory, and the look at how much it is."""

import os
from pathlib import Path

import pytest

from sandbox.engine import files


def deep(top, depth, name="d"):
    """Directories in directories, far beyond the longest path and any recursion."""
    handle = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    return handle


def test_a_tree_deeper_than_any_path_is_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    handle = deep(top, 2500)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    assert files.remove(str(top)) and not top.exists()


def test_links_are_removed_and_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "link").symlink_to(kept)
    (top / "inner" / "link").symlink_to(kept)
    (tmp_path / "other").symlink_to(kept)
    assert files.remove(str(top)) and not top.exists()
    assert not files.remove(str(tmp_path / "other")), "a link in the place of the directory itself"
    assert (kept / "file").read_text() == "x"


def test_what_a_program_locked_against_its_own_user_is_removed(tmp_path):
    top = tmp_path / "top"
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    for path in ("a/b/c", "a/b", "a"):
        (top / path).chmod(0)
    pid = os.fork()
    if pid == 0:  # root would pass without any right
        code = 1
        try:
            if os.geteuid() == 0:
                os.chown(tmp_path, 65534, 65534)
                for path, _, _ in os.walk(top):
                    os.chown(path, 65534, 65534)
                os.chdir(tmp_path)
                os.setresuid(65534, 65534, 65534)
            else:
                os.chdir(tmp_path)
            code = 0 if files.remove("top") else 1
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert not top.exists()


def test_gone_is_as_good_as_removed(tmp_path):
    assert files.remove(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda top: None, False),
        (lambda top: (top / "big").write_bytes(bytes(files.MOST_BYTES + 4096)), True),
        (lambda top: [(top / str(i)).touch() for i in range(files.MOST_FILES + 1)], True),
        (lambda top: [(top / str(i)).touch() for i in range(files.MOST_FILES - 1)], False),
        (lambda top: os.truncate(os.open(top / "sparse", os.O_CREAT | os.O_RDWR), 2**40), False),
        (lambda top: (top / "loop").symlink_to(top), False),
    ],
    ids=["nothing", "bytes", "many", "not quite many", "sparse", "a link to itself"],
)
def test_too_much_is_told_from_enough(tmp_path, make, wanted):
    make(tmp_path)
    assert files.too_many(str(tmp_path)) is wanted


def test_what_lies_deeper_than_can_be_looked_at_is_too_much(tmp_path):
    os.close(deep(tmp_path, 40, "n" * 200))
    assert files.too_many(str(tmp_path))
    assert files.remove(str(tmp_path))
    Path(tmp_path).mkdir()


def test_work_done_apart_reports_its_answer_and_survives_its_failure(tmp_path):
    assert files.apart(lambda path: path == "x", "x")
    assert not files.apart(lambda path: False, "x")
    assert not files.apart(lambda path: 1 / 0, "x")
