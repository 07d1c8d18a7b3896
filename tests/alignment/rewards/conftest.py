"""One sandbox for all tests of rewards in a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alignment.rewards.pool import Pool


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    made = Pool("local", {"workers": 1})
    yield made
    made.close()
