"""What all tests share: where the shared data lie, and one torch thread."""

from __future__ import annotations

import os
import signal
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
