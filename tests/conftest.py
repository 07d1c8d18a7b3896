"""What all tests share: where the shared data lie, and one torch thread."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: the tests that send it to
# their children must mean something there too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = Path(__file__).resolve().parent.parent


def shared_dir() -> Path:
    """The folder with specifications, vectors and data; skips the test where there is none."""
    folder = Path(os.environ.get("CODEALIGN_SHARED") or REPO.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"shared data not found at {folder} (set CODEALIGN_SHARED)")
    return folder


@pytest.fixture
def shared() -> Path:
    """`shared_dir()` as a fixture."""
    return shared_dir()


def _yardstick() -> float:
    """CPU seconds that a fixed piece of work takes: half of it reckons, half of it makes objects."""
    begin = time.process_time()
    total = 0
    for number in range(1_000_000):
        total += number & 7
    assert len([[number] for number in range(400_000)]) + total > 0
    return time.process_time() - begin


_YARDSTICK_SECONDS = 0.4  # of the machine whose seconds the tests' bounds are in, with nothing beside


@contextmanager
def cpu_bound(seconds: float) -> Iterator[None]:
    """Fails a block that takes more CPU seconds than `seconds`: a bound against blow-up, not a speed.

    A core that is shared may run at half its speed: a block beyond the bound is measured against a yardstick.
    """
    begin = time.process_time()
    yield
    took = time.process_time() - begin
    if took > seconds:
        slower = max(1.0, max(_yardstick() for _ in range(3)) / _YARDSTICK_SECONDS)
        assert took <= seconds * slower, (
            f"{took:.2f} s of CPU, {seconds:g} allowed ({slower:.2f} x slow core)"
        )
