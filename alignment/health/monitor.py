"""One rank's monitor: phases, beats, and the watch over hangs, in a thread beside the training thread.

Code anywhere below a trainer says what it is about to do, without being handed anything:

    from alignment.health.monitor import phase

    with phase("reward"):
        scores = reward(prompts, completions)

Where no monitor runs this does nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alignment.health import hang as hangs
from alignment.health.beats import Beat, process_memory, read_beats, write_beat
from alignment.health.events import record
from alignment.health.options import HealthOptions
from alignment.health.restart import HANG_STATUS
from alignment.health.stragglers import Persistent, stragglers
from alignment.train_command import STATUS_FILE

WINDOW = 50
"""Steps whose phases the medians are taken over."""

GRACE = 10.0
"""Seconds that the report of a hang waits for the other ranks' stacks."""

_STUCK = 30.0  # seconds beyond the timeout, for an interpreter in which not even this thread runs
_current: Monitor | None = None


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Counts the time within as spent in `name`, for the running monitor if there is one."""
    monitor = _current
    if monitor is None:
        yield
        return
    before = monitor.phase
    monitor.mark(name)
    try:
        yield
    except BaseException as error:
        if monitor.broke is None or monitor.broke[0] is not error:
            monitor.broke = (error, name)
        raise
    finally:
        monitor.mark(before)


class Monitor:
    """Watches this process as one rank of a run.

    Args:
        folder: The run's health folder, which all ranks reach.
        rank: This process's number.
        world: Number of ranks.
        options: What to watch.
        end: Ends the process after a hang; tests replace it.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        world: int,
        options: HealthOptions | None = None,
        *,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self.folder, self.rank, self.world = folder, rank, world
        self.options = options or HealthOptions()
        self.end = end
        self.writer = f"rank_{rank}"
        self.step = self.max_steps = 0
        self.phase = "setup"
        self.loss: float | None = None
        self.tokens_per_second: float | None = None
        self.mfu: float | None = None
        self.device_memory: Callable[[], int] = lambda: 0
        self.begun = time.time()
        self._last = self._mark = self._step_began = time.monotonic()
        self._spent: dict[str, float] = {}
        self._window: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._lengths: deque[float] = deque(maxlen=WINDOW)
        self._persistent = Persistent()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stuck: Any = None
        self._asked = 0.0
        self.broke: tuple[BaseException, str] | None = None  # an error, and the innermost phase it came from

    def __enter__(self) -> Monitor:
        """Starts the thread; this monitor becomes the one that `phase` tells."""
        global _current
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stuck = (self.folder / f"stuck_rank_{self.rank}.txt").open("w")
        self.begun = time.time()
        self._last = self._mark = self._step_began = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)
        self._thread.start()
        _current = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Stops the thread; the last beat says how the run ended here, an event says by what."""
        global _current
        _current = None
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if self._stuck is not None:
            self._stuck.close()
            with contextlib.suppress(OSError):
                Path(self._stuck.name).unlink()
        if error is not None:
            text = f"{type(error).__name__}: {error}"[:2000]
            broke = self.broke
            where = broke[1] if broke is not None and broke[0] is error else self.phase
            self.event("failed", error=text, step=self.step, phase=where)
        self.beat("failed" if error is not None else "finished")

    def mark(self, phase: str) -> None:
        """Says that `phase` begins; a sign of progress."""
        with self._lock:
            now = time.monotonic()
            self._spent[self.phase] = self._spent.get(self.phase, 0.0) + now - self._mark
            self.phase, self._mark, self._last = phase, now, now

    def step_done(self, step: int, max_steps: int = 0) -> None:
        """Says that an optimiser step is done: closes its phases; what follows is loading data."""
        self.mark("data")
        with self._lock:
            self.step, self.max_steps = step, max_steps
            self._lengths.append(self._mark - self._step_began)
            self._step_began = self._mark
            self._window.append(self._spent)
            self._spent = {}
        every = self.options.straggler_steps
        if self.rank == 0 and self.world > 1 and every and step % every == 0:
            self._look_for_stragglers()

    def event(self, kind: str, **facts: Any) -> None:
        """Writes to the run's log of events."""
        record(self.folder, self.writer, kind, **facts)

    def still(self) -> float:
        """Seconds since the last sign of progress."""
        return time.monotonic() - self._last

    def limit(self) -> float:
        """Seconds without progress that are a hang: the option, or ten median steps."""
        with self._lock:
            lengths = list(self._lengths)
        return max(self.options.hang_timeout, 10 * statistics.median(lengths) if lengths else 0.0)

    def beat(self, state: str = "running") -> Beat:
        """Writes this rank's beat, and returns it."""
        with self._lock:
            rows, lengths = list(self._window), list(self._lengths)
        names = {name for row in rows for name in row}
        beat = Beat(
            rank=self.rank,
            world=self.world,
            host=socket.gethostname(),
            pid=os.getpid(),
            time=time.time(),
            state=state,
            step=self.step,
            max_steps=self.max_steps,
            phase=self.phase,
            still=self.still(),
            loss=self.loss,
            memory=process_memory(),
            device_memory=self.device_memory(),
            phases={name: statistics.median(row.get(name, 0.0) for row in rows) for name in sorted(names)},
            step_seconds=statistics.median(lengths) if lengths else None,
            tokens_per_second=self.tokens_per_second,
            mfu=self.mfu,
        )
        write_beat(self.folder, beat)
        return beat

    def _watch(self) -> None:
        poll = min(1.0, self.options.heartbeat_seconds, max(0.05, self.options.hang_timeout / 10))
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                self.beat()
                due = now + self.options.heartbeat_seconds
            if self.options.hang_timeout:
                # Fires only where this thread cannot run either: then C code holds the interpreter.
                faulthandler.dump_traceback_later(self.limit() + _STUCK, exit=True, file=self._stuck)
                self._check_hang()
            self._check_request()
            if self._stop.wait(poll):
                return

    def _check_hang(self) -> None:
        seen = hangs.read_flag(self.folder, self.begun)
        first = False
        if seen is None and self.still() > self.limit():
            seen = hangs.Hang(self.rank, time.time(), self.step, self.phase, self.still())
            first = hangs.raise_flag(self.folder, seen, self.begun)
            seen = hangs.read_flag(self.folder, self.begun) or seen
        if seen is None or self._stop.is_set():
            return
        self.beat("hung")
        with contextlib.suppress(OSError):
            hangs.dump_stacks(self.folder, self.rank, "hang")
        if first:
            self.event("hang", step=seen.step, phase=seen.phase, seconds=seen.seconds)
            hangs.say(hangs.collect(self.folder, seen, self.world, GRACE))
        else:
            deadline = time.monotonic() + GRACE + 5
            while time.monotonic() < deadline and not hangs.reported(self.folder, seen):
                time.sleep(0.1)
        hangs.say(
            f"rank {self.rank}: ended after a hang (see {self.folder / hangs.REPORT}); the same command goes "
            "on from the newest whole checkpoint\n"
        )
        if STATUS_FILE in os.environ:
            with contextlib.suppress(OSError):
                Path(os.environ[STATUS_FILE]).write_text(str(HANG_STATUS))
        self.end(HANG_STATUS)

    def _check_request(self) -> None:
        """Dumps stacks where `codealign status --stacks` asked for them."""
        with contextlib.suppress(OSError):
            asked = (self.folder / hangs.REQUEST).stat().st_mtime
            if asked > max(self._asked, self.begun - 2.0):
                self._asked = asked
                hangs.dump_stacks(self.folder, self.rank, "asked for")

    def _look_for_stragglers(self) -> None:
        rows = {b.rank: b.phases for b in read_beats(self.folder) if b.state == "running" and b.phases}
        for found in self._persistent(stragglers(rows)):
            self.event(
                "straggler",
                slow_rank=found.rank,
                phase=found.phase,
                seconds=found.seconds,
                median=found.median,
            )
            hangs.say(
                f"straggler: rank {found.rank} takes {found.seconds:.2f} s a step in {found.phase}, the "
                f"others {found.median:.2f} s\n"
            )
