"""Progress in a log: plain lines on stderr, nothing on stdout."""

from __future__ import annotations

import pytest

from codegen_eval import progress


def test_items_pass_through_and_lines_go_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert list(progress.track(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("letters: 3/3")


def test_a_line_says_how_fast_it_goes_and_how_long_it_still_takes() -> None:
    assert progress._state(30, 120, 60.0) == "30/120 (60 s, 0.5/s, 180 s left)"


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track([1], 1, "x")) == [1]
    assert capsys.readouterr().err == ""
