"""Which cluster the Ray executor goes to; a stand-in for Ray says what it was asked."""

import socket
from types import SimpleNamespace

import pytest

from sandbox import SandboxError
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

    monkeypatch.setattr(module, "_knock", lambda address: None)
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


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "an address is host:port"),
        ("10.0.0.1:", "an address is host:port"),
        ("127.0.0.1:{closed}", "refused"),
    ],
)
def test_an_address_where_nothing_listens_is_said_before_ray_tries_for_minutes(monkeypatch, address, said):
    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setattr(module, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
        with pytest.raises(SandboxError, match=f"no Ray cluster could be joined at .*{said}.*RAY_AUTH_MODE"):
            module.RayExecutor(address.format(closed=bound.getsockname()[1]))


def test_a_cluster_that_turns_us_away_is_said_with_what_to_do(monkeypatch):
    def init(**options):
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(module, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(SandboxError, match=r"joined at 'auto': Failed to connect.*RAY_AUTH_TOKEN"):
        module.RayExecutor("auto")


def test_what_is_wrong_with_a_cluster_of_our_own_is_not_taken_for_one_that_cannot_be_joined(monkeypatch):
    def init(**options):
        raise OSError("No space left on device")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(OSError, match="No space left"):
        module.RayExecutor()
