"""Which cluster the Ray executor goes to; a stand-in for Ray says what it was asked."""

from types import SimpleNamespace

import pytest

from sandbox.executors import ray as module


class Asked(Exception):
    """Ray was asked for a cluster."""


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        (None, None, "local"),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        ("auto", "10.0.0.1:6379", "auto"),
    ],
)
def test_a_cluster_is_the_named_one_or_our_own_never_one_that_lies_around(
    monkeypatch, address, environment, expected
):
    def init(**options):
        raise Asked(options)

    monkeypatch.setattr(module, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False, init=init))
    if environment is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    with pytest.raises(Asked) as caught:
        module.RayExecutor(address)
    assert caught.value.args[0]["address"] == expected
    # Ray refuses a choice of dashboard for a cluster that is not started here.
    assert caught.value.args[0]["include_dashboard"] is (False if expected == "local" else None)
