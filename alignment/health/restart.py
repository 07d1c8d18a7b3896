"""Starts a job again that ended for a reason which a restart can mend.

A job resumes by itself from its newest whole checkpoint, so a restart is the same command once more. What
the user has to mend (status 2), and what was stopped on purpose (130, 143), is not started again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from alignment.health.events import FOLDER, front, record

HANG_STATUS = 75
"""Exit status of a process that the hang detector ended (EX_TEMPFAIL)."""

REWIND_STATUS = 76
"""Exit status of a run that wants to go on from an earlier checkpoint."""

FINAL = (0, 2, 130, 143)
"""Exit statuses after which a job is not started again."""

_REASONS = {HANG_STATUS: "it hung", REWIND_STATUS: "it goes back to an earlier checkpoint"}


def restarting(
    run: Callable[[], int],
    max_restarts: int,
    directory: Path | None,
    *,
    pause: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Runs a job until it ends well, may not be started again, or has used up its restarts.

    Args:
        run: Runs the job once; returns its exit status.
        max_restarts: How often it may be started again.
        directory: The run directory, whose health log is told; None tells stderr only.
        pause: Seconds before the first restart; twice as many before each further one, at most a minute.
        sleep: Waits.

    Returns:
        The last exit status.
    """
    for used in range(max_restarts + 1):
        status = run()
        if status in FINAL:
            return status
        _tell(directory, "ended", status=status, restarts_used=used, restarts_left=max_restarts - used)
        if used == max_restarts:
            return status
        reason = _REASONS.get(status, f"status {status}")
        wait = min(60.0, pause * 2**used)
        print(
            f"the job ended ({reason}); restart {used + 1} of {max_restarts} in {wait:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        sleep(wait)
        _tell(directory, "restart", number=used + 1, status=status)
    return status


def _tell(directory: Path | None, kind: str, **facts: int) -> None:
    # Before the trainer has made the directory its own, nothing may lie in it.
    if directory is not None and (directory / "protocol.json").exists():
        record(directory / FOLDER, front(), kind, **facts)
