"""What runs on each node of a Ray cluster: the actor with a `LocalExecutor` in it. Knows nothing of Ray."""

from __future__ import annotations

import socket
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from ..verdict import Isolation, SandboxError
from .base import Policy
from .keys import engine_version
from .local import LocalExecutor
from .orders import Answer, Order


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer to an order: its text, and whether the order itself is to blame."""

    text: str
    refused: bool = False


class NodeWorker:
    """The actor: a pool of workers on its node. Orders and answers cross as Ray's own objects, which takes a
    tenth of what checked JSON does: who can talk to a Ray cluster can run anything on it anyway.

    Args:
        workers: Programs at a time.
        options: Of the sandbox.
        version: Of the asker's code, which must be the node's: what crosses is its very objects.

    Raises:
        SandboxError: The node has another version, or its sandbox does not start.
    """

    def __init__(self, workers: int, options: dict[str, Any], version: str) -> None:
        if version != engine_version(executors=True):
            raise SandboxError(
                f"{socket.gethostname()} has another version of this package or of Python, or another "
                "kind of processor, than the program that asks; install the same on every node"
            )
        self._batches: dict[int, list[Future[Answer]]] = {}
        self._executor = LocalExecutor(workers, policy=Policy(retries=0, share_equal=False), **options)

    def info(self) -> Isolation:
        """Isolation in force."""
        return self._executor.isolation

    def run(self, number: int, orders: list[Order]) -> list[Answer | Failure]:
        """Answer a batch of orders."""
        futures = [self._begin(order) for order in orders]
        self._batches[number] = futures
        try:
            # The last is waited for first: so this thread is woken once, not once an answer.
            return [_answer(future) for future in reversed(futures)][::-1]
        finally:
            del self._batches[number]

    def cancel(self, number: int, place: int) -> None:
        """Nobody waits for this answer any more."""
        futures = self._batches.get(number)
        if futures is not None:
            futures[place].cancel()

    def _begin(self, order: Order) -> Future[Answer]:
        try:
            return self._executor._submit(order)
        except SandboxError as error:
            failed: Future[Answer] = Future()
            failed.set_exception(error)
            return failed


def _answer(future: Future[Answer]) -> Answer | Failure:
    try:
        return future.result()
    except CancelledError:
        return Failure("cancelled")
    except SandboxError as error:
        return Failure(str(error))
    except (ValueError, TypeError) as error:
        return Failure(f"{type(error).__name__}: {error}", refused=True)
