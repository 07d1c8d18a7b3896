"""The nursery: a process that never reads a program or a test and makes zygotes when asked.

Zygotes are replaced while work goes on. If the supervisor forked them itself, programs could find other
programs and tests in the memory they inherit. It outlives the supervisor for a moment, to wait for its
zygotes and take away their groups and directories.
"""

from __future__ import annotations

import marshal
import os
import select
import struct
import time
from _socket import SCM_RIGHTS, SOL_SOCKET, socket
from typing import Any

from ..isolation import cgroup, libc, names, users
from ..isolation.place import PLACES
from . import birth, files, zygote

_PATIENCE = 2.0
_SWEEP = 5.0  # seconds at most for what killed nurseries left to end: a busy machine needs more than 0.5


class Nursery:
    """Makes zygotes of one level.

    Args:
        settings: `level`, and `work`: where to make directories for programs that have no box.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._place = PLACES[settings["level"]]
        self._top = settings["work"]
        self._libraries = tuple(settings["libraries"]["paths"])
        self._work = ""
        self._count = 0
        self._children: dict[int, birth.Plan] = {}
        self._handles: set[int] = set()  # one for each zygote
        self._removers: set[int] = set()
        self._poll = select.poll()
        self._groups, self._no_groups = cgroup.open_groups() if self._place.limited else (None, "")
        if self._groups is not None:
            self._groups.sweep()
        self._no_user = ""
        if not self._place.boxed:
            libc.not_dumpable()  # programs of the same user might read it otherwise
            self._no_user = users.problem() if self._place.filter else "none at this level"
            self._place = self._place._replace(own_user=not self._no_user)
            sweep(self._top)
            self._work = f"{self._top}/{names.own()}-{os.urandom(4).hex()}"
            os.mkdir(self._work, 0o711)

    def make(self, box: bytes) -> tuple[birth.Born, dict[str, Any]]:
        """A zygote, and what is in force around it.

        Args:
            box: Empty, or for a zygote that runs commands what its box holds, as marshal data.

        Raises:
            birth.Failed: At a step that the text names.
        """
        self.reap()
        if self._place.filter == "reading" and self._no_user.startswith("other users"):
            raise birth.Failed(f"spare user: {self._no_user}")
        try:
            plan = self._plan(marshal.loads(box) if box else None)
        except OSError as error:
            raise birth.Failed(f"cgroup or directory: {error}") from None
        try:
            born = birth.make(plan)
        except birth.Failed:
            self._clear(plan)
            raise
        self._children[born.pid] = plan
        self._watch(born.pid)
        facts = {
            "landlock": born.landlock,
            "cgroup": self._groups.version if self._groups else "",
            "no_cgroup": self._no_groups,
            "no_user": self._no_user,
            "group": plan.group.facts() if plan.group else None,
        }
        return born, facts

    def _watch(self, pid: int) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:  # gone already: reaped with the next request
            return
        self._handles.add(handle)
        self._poll.register(handle, select.POLLIN)

    def wait(self, orders: socket) -> None:
        """Wait for a request or the supervisor's end; clear up at once after a zygote that ends meanwhile."""
        self._poll.register(orders, select.POLLIN)
        while True:
            found = [fd for fd, _ in self._poll.poll()]
            for fd in self._handles.intersection(found):
                self._poll.unregister(fd)
                os.close(fd)
                self._handles.discard(fd)
            if orders.fileno() in found:
                return
            self.reap()

    def _plan(self, box: dict[str, Any] | None) -> birth.Plan:
        self._count += 1
        uid = 0 if self._no_user or self._place.boxed else users.spare(self._count)
        work = ""
        if self._work:
            work = f"{self._work}/{self._count}"
            os.mkdir(work, 0o700)
            if uid:
                os.chown(work, uid, uid)
        group = self._groups.new() if self._groups else None
        return birth.Plan(self._place, uid, work, group, self._libraries, box)

    def reap(self) -> None:
        """Clear up after zygotes that are gone."""
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._removers.discard(pid)
                plan = self._children.pop(pid, None)
                if plan is not None:
                    self._clear(plan)
        except ChildProcessError:
            pass

    def _clear(self, plan: birth.Plan) -> None:
        if plan.group is not None:
            plan.group.remove()
        if plan.work:
            self._removers.add(files.start(files.remove, plan.work))

    def close(self) -> None:
        """Wait for all zygotes, which end with the supervisor, and leave nothing behind."""
        end = time.monotonic() + _PATIENCE
        while True:
            self.reap()
            left = _children()
            if not left:
                break
            late = time.monotonic() > end
            for pid in left:
                if (
                    late or pid not in self._children.keys() | self._removers
                ):  # what a program left behind where there is no box
                    os.kill(pid, 9)
            time.sleep(0.001)
        if self._groups is not None:
            self._groups.close()
            self._groups.sweep(_SWEEP)
        if self._work:
            files.remove(self._work)
            sweep(self._top)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def sweep(top: str) -> None:
    """Remove directories that nurseries of this user left when they were killed."""
    with os.scandir(top) as entries:
        for entry in entries:
            if names.dead(entry.name) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                files.apart(files.remove, entry.path)


def main(settings: dict[str, Any]) -> None:
    """Make one zygote a request that comes on descriptor 0, until the supervisor is gone."""
    orders = socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    libc.become_subreaper()
    nursery = Nursery(settings)
    problem = ""
    try:
        zygote.preload(settings["libraries"])
    except Exception as error:
        problem = f"library: {type(error).__name__}: {error}"[:400]
    try:
        while True:
            nursery.wait(orders)
            request = orders.recv(65536)
            if not request or not _answer(orders, nursery, request[1:], problem):
                break
    finally:
        nursery.close()
        os._exit(0)


def _answer(orders: socket, nursery: Nursery, box: bytes, problem: str) -> bool:
    """Answer one request; False when nobody is there to read it."""
    text, number = "", 0
    facts: dict[str, Any] = {}
    fds: list[int] = []
    try:
        if problem:
            raise birth.Failed(problem)
        born, facts = nursery.make(box)
    except birth.Failed as error:
        text = str(error)
    else:
        number, fds = born.pid, [born.orders.detach(), born.printed]
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    try:
        orders.sendmsg([marshal.dumps((number, text, facts))], ancillary)
    except OSError:
        return False
    finally:
        for fd in fds:
            os.close(fd)
    return True
