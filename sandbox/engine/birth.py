"""How a zygote comes to be: forked by the nursery, helped into its box and its group, settled."""

from __future__ import annotations

import contextlib
import marshal
import os
import struct
from _socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair
from typing import Any, NamedTuple

from ..isolation import landlock, namespaces
from ..isolation.cgroup import Group
from ..isolation.place import Place
from . import zygote

_PATIENCE = 500  # bytes of a message between the two


class Failed(Exception):
    """No zygote; the text says at which step."""


class Plan(NamedTuple):
    """What a zygote is to have.

    Attributes:
        place: What is to be in force.
        uid: User to become where there is no box; 0 to stay who one is.
        work: Directory for its files where there is no box.
        group: Control group to be in, made already.
        libraries: Files and directories of installed packages that are to be seen.
        box: For a zygote that runs commands: what its box holds (see `namespaces.build_root`).
    """

    place: Place
    uid: int
    work: str
    group: Group | None
    libraries: tuple[str, ...]
    box: dict[str, Any] | None


class Born(NamedTuple):
    """A zygote: its number, the supervisor's two ends (orders, printed text), the version of Landlock."""

    pid: int
    orders: socket
    printed: int
    landlock: int


def make(plan: Plan) -> Born:
    """A zygote.

    Raises:
        Failed: At a step that the text names.
    """
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET)
    here, there = socketpair(AF_UNIX, SOCK_STREAM)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            here.close()
            _become(far, there, write_end, plan)
        except BaseException as error:
            there.send(b"E" + f"{type(error).__name__}: {error}".encode()[: _PATIENCE - 1])
        finally:
            os._exit(1)
    far.close()
    there.close()
    os.close(write_end)
    try:
        number = _into_box(here, pid) if plan.place.boxed else pid
        if plan.group is not None:
            _into_group(plan.group, number)
        here.send(b"+")
        facts = marshal.loads(_answer(here, b"R", "the zygote ended while its box was built"))
    except Failed:
        near.close()
        os.close(read_end)
        raise
    finally:
        here.close()
    return Born(number, near, read_end, facts)


def _answer(here: socket, kind: bytes, otherwise: str) -> bytes:
    step = here.recv(_PATIENCE)
    if step[:1] != kind:
        raise Failed(step[1:].decode("utf-8", "replace") or otherwise)
    return step[1:]


def _into_box(here: socket, pid: int) -> int:
    """Help the new process into its namespaces; its number outside."""
    try:
        _answer(here, b"U", "unshare: the process ended")
        try:
            uid = namespaces.write_maps(pid)
        except OSError as error:
            os.kill(pid, 9)
            raise Failed(f"uid_map: {error}") from None
        here.send(struct.pack("i", uid))
        number = _answer(here, b"P", "fork: the process ended")
    finally:
        os.waitpid(pid, 0)
    return int(struct.unpack("i", number)[0])


def _into_group(group: Group, pid: int) -> None:
    try:
        group.add(pid)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
        raise Failed(f"cgroup: {error}") from None


def _become(orders: socket, there: socket, out: int, plan: Plan) -> None:
    uid = plan.uid
    if plan.place.boxed:
        namespaces.enter()
        there.send(b"U")
        answer = there.recv(4)
        if len(answer) != 4:
            os._exit(1)
        uid = struct.unpack("i", answer)[0]
        pid = os.fork()
        if pid:
            there.send(b"P" + struct.pack("i", pid))
            os._exit(0)
    if there.recv(1) != b"+":
        os._exit(1)
    _settle_in(orders, there, out, plan, uid)


def _settle_in(orders: socket, there: socket, out: int, plan: Plan, uid: int) -> None:
    _arrange_descriptors({out, orders.fileno(), there.fileno()}, out)
    with open("/proc/self/statm") as file:
        base = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    version = _close_in(plan, uid)
    zygote.settle(plan.place, plan.box is not None)
    there.send(b"R" + marshal.dumps(version))
    there.close()
    zygote.serve(orders, plan.place, base)


def _arrange_descriptors(keep: set[int], out: int) -> None:
    # Standard input is the end of an empty pipe: a file of this machine's could be given another mode by it.
    null, writer = os.pipe()
    os.close(writer)
    for fd in range(3, 1024):
        if fd not in keep and fd != null:
            with contextlib.suppress(OSError):
                os.close(fd)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)


def _close_in(plan: Plan, uid: int) -> int:
    """Take everything away that the level takes away; the version of Landlock in force."""
    place = plan.place
    if place.boxed:
        namespaces.build_root(plan.libraries, plan.box)
        namespaces.drop_rights(uid)
        if plan.box is not None:
            return 0  # commands must exec
        with contextlib.suppress(OSError):  # a second lock on doors that are closed already
            return landlock.restrict(read=["/"], write=[namespaces.WORK, "/dev/null"])
        return 0
    os.chdir(plan.work)
    if place.filter:
        os.setsid()
        namespaces.drop_rights(uid)
    if not place.landlock:
        return 0
    bind, hide = namespaces.python_paths()
    paths = list(landlock.without(bind, hide))
    devices = [f"/dev/{name}" for name in namespaces.DEVICES]
    return landlock.restrict(
        read=[path for path, listed in paths if not listed] + devices + list(plan.libraries),
        listed=[path for path, listed in paths if listed],
        write=[plan.work, "/dev/null"],
    )
