"""Generation spread over processes: small models use one core each better than all cores together."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context

from codegen_eval.generation.base import BackendOptions, Batch, Drawn, Generator, Request, Sampling

_PR_SET_PDEATHSIG = 1


class GeneratorPool:
    """Loads the model in `workers` processes (in this one when there is only one) and draws batches.

    A batch is always computed as a whole by one process with one thread, so its text depends neither on the
    number of workers nor on which of them drew it.
    """

    single = False

    def __init__(
        self, model: str, *, dtype: str, device: str | None, workers: int, chat: bool = False
    ) -> None:
        self._arguments = (model, dtype, device, chat)
        self._workers = workers
        self._own: Generator | None = None
        self._pool: ProcessPoolExecutor | None = None

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        """Yields `(number, completions of its requests)` for every numbered batch, in any order.

        The processes stay for the next call, unless this one is broken off; they end with this object.
        """
        if self._workers == 1 or (len(batches) < 2 and self._pool is None):
            self._own = self._own or _loaded(*self._arguments)
            for number, requests in batches:
                yield number, self._own.generate(requests, sampling)
            return
        pool = self._pool or self._started()
        self._pool = None
        try:
            pending = {pool.submit(_draw, requests, sampling): number for number, requests in batches}
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield pending.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        self._pool = pool

    def _started(self) -> ProcessPoolExecutor:
        """Processes are made as they are needed, at most `workers`."""
        return ProcessPoolExecutor(
            self._workers,
            mp_context=get_context("spawn"),
            initializer=_start,
            initargs=(*self._arguments, os.getpid()),
        )


def open_pool(options: BackendOptions) -> GeneratorPool:
    """The pool over a folder or hub id; one worker a core on a CPU, one with a GPU, where not told."""
    from codegen_eval.generation.hf import check_folder

    check_folder(options.model, adapter=True)
    workers = options.workers
    if workers is None:
        import torch

        workers = 1 if options.device or torch.cuda.is_available() else len(os.sched_getaffinity(0))
    return GeneratorPool(
        options.model, dtype=options.dtype, device=options.device, workers=workers, chat=options.chat
    )


_generator: Generator | None = None
_arguments: tuple[str, str, str | None, bool]


def _start(model: str, dtype: str, device: str | None, chat: bool, parent: int) -> None:
    """Notes what the worker will load; the worker dies with the process that started it."""
    global _arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _arguments = (model, dtype, device, chat)


def _loaded(model: str, dtype: str, device: str | None, chat: bool) -> Generator:
    import torch

    from codegen_eval.generation.hf import HFGenerator, load_model

    if device in (None, "cpu"):
        # Text must not depend on how many cores there are, and small models gain nothing from threads.
        torch.set_num_threads(1)
    return HFGenerator(*load_model(model, dtype=dtype, device=device, adapter=True), chat=chat)


def _draw(requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
    global _generator
    # Loaded here and not at the start of the worker, since errors of this function reach the caller.
    _generator = _generator or _loaded(*_arguments)
    return _generator.generate(requests, sampling)
