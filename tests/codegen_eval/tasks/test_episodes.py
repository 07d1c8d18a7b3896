"""The episode task: its text is right, its kinds come as often as asked, its places are those of the text."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.tasks import episodes
from codegen_eval.tasks.episodes import EpisodeTask, answer, episode_ends, lines, problems, useful


def test_the_example_of_the_page_is_what_the_functions_write() -> None:
    assert useful("31847=") == ["402", "213", "614", "325"]
    assert answer("31847=") == "32"


def test_every_text_holds_the_running_totals_in_order_and_idle_episodes_repeat_the_last() -> None:
    for line in islice(lines(EpisodeTask(), 3), 300):
        digits = [int(digit) for digit in line.prompt[:-1]]
        steps = [line.thinking[i : i + 3] for i in range(0, len(line.thinking), 3)]
        read = 1
        for before, step in zip(["", *steps], steps, strict=False):
            if step != before:
                read += 1
            total = sum(digits[:read])
            assert step == f"{total % 10}{total // 10}{read}"
        assert line.cut or read == len(digits)
        assert int(line.answer[::-1]) == sum(digits), "cut or not, the answer is right"


def test_idle_episodes_and_cuts_come_as_often_as_asked() -> None:
    found = list(islice(lines(EpisodeTask(idle=0.45, cut=0.35), 0), 4000))
    assert np.mean([line.cut for line in found]) == pytest.approx(0.35, abs=0.03)
    whole = [len(line.thinking) / 3 for line in found if not line.cut]
    # 4 useful ones, each followed by a geometric number of idle ones: 4 / (1 - 0.45).
    assert np.mean(whole) == pytest.approx(4 / 0.55, abs=0.15)
    assert all(len(line.thinking) == 12 for line in islice(lines(EpisodeTask(idle=0, cut=0), 1), 50))


def test_cuts_fall_on_every_number_of_episodes_the_empty_one_too() -> None:
    kept = {len(line.thinking) // 3 for line in islice(lines(EpisodeTask(idle=0, cut=1), 2), 300)}
    assert kept == {0, 1, 2, 3, 4}


def test_problems_are_different_the_same_for_a_seed_and_others_for_another() -> None:
    task = EpisodeTask()
    found = problems(task, 5, 400)
    assert len(set(found)) == 400 and all(len(p) == 6 and "0" not in p for p in found)
    assert problems(task, 5, 400) == found and problems(task, 6, 400) != found
    assert problems(task, 5, 0) == []


def test_ends_of_episodes_cover_the_text_whatever_a_model_writes() -> None:
    assert episode_ends("") == []
    assert episode_ends("402213") == [3, 6]
    assert episode_ends("4022131") == [3, 7], "a rest belongs to the last episode"
    assert episode_ends("40") == [2]


@pytest.mark.parametrize("text", ["", "=", "31", "30=", "3a=", "31=="])
def test_what_is_no_problem_has_no_answer(text: str) -> None:
    with pytest.raises(CodealignError, match="no problem"):
        answer(text)


@pytest.mark.parametrize(
    "options",
    [{"digits": 1}, {"digits": 10}, {"idle": 1.0}, {"idle": -0.1}, {"cut": 1.5}, {"idle": float("nan")}],
)
def test_sizes_that_make_no_task_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(CodealignError, match=next(iter(options))):
        EpisodeTask(**options)  # type: ignore[arg-type]


def test_more_problems_than_there_are_is_an_error_and_not_an_endless_loop() -> None:
    with pytest.raises(CodealignError, match="give 0 to 20"):
        problems(EpisodeTask(digits=2), 0, 21)


def test_every_character_that_is_written_has_a_token() -> None:
    written = set("".join(f"{x.prompt}{x.thinking}#{x.answer}" for x in islice(lines(EpisodeTask(), 0), 200)))
    assert written <= set(episodes.ALPHABET)
