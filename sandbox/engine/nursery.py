"""The nursery: a process that never reads a program or a test and makes zygotes when asked.

Zygotes are replaced while work goes on. If the supervisor forked them itself, programs could find other
programs and tests in the memory they inherit.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import struct
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET, socket, socketpair

from ..isolation import libc, namespaces, place
from . import zygote

FULL = "full"


def main(orders: socket, level: str, work: str) -> None:
    """Make one zygote a request until the supervisor is gone.

    Args:
        orders: Socket of whole messages to the supervisor.
        level: `full`, or `process` for no box.
        work: Directory to work in where there is no box.
    """
    libc.become_subreaper()
    while orders.recv(16):
        _reap()
        pid, text, fds = _make(level, work)
        ancillary = [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            orders.sendmsg([marshal.dumps((pid, text))], ancillary)
        except OSError:
            break
        for fd in fds:
            os.close(fd)
    os._exit(0)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _make(level: str, work: str) -> tuple[int, str, list[int]]:
    """A zygote's process number, "" or what failed, and the supervisor's two ends (orders, printed text)."""
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET)
    here, there = socketpair(AF_UNIX, SOCK_STREAM)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(far, there, write_end, level, work)
        except BaseException as error:
            there.send(b"E" + f"{type(error).__name__}: {error}".encode()[:400])
        finally:
            os._exit(1)
    far.close()
    there.close()
    os.close(write_end)
    number, text = _escort(here, pid, level)
    here.close()
    if text:
        near.close()
        os.close(read_end)
        return 0, text, []
    return number, "", [near.detach(), read_end]


def _escort(here: socket, pid: int, level: str) -> tuple[int, str]:
    """Help the new process into its box; its number outside, or what failed."""
    number = pid
    if level == FULL:
        step = here.recv(500)
        if step != b"U":
            os.waitpid(pid, 0)
            return 0, step[1:].decode("utf-8", "replace") or "unshare: the process ended"
        try:
            uid = namespaces.write_maps(pid)
        except OSError as error:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return 0, f"uid_map: {error}"
        here.send(struct.pack("i", uid))
        step = here.recv(500)
        os.waitpid(pid, 0)
        if step[:1] != b"P":
            return 0, step[1:].decode("utf-8", "replace") or "fork: the process ended"
        number = struct.unpack("i", step[1:5])[0]
        here.send(b"+")
    step = here.recv(500)
    if step != b"R":
        return 0, step[1:].decode("utf-8", "replace") or "the zygote ended while its box was built"
    return number, ""


def _become(orders: socket, there: socket, out: int, level: str, work: str) -> None:
    uid = 0
    if level == FULL:
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
        there.recv(1)  # the nursery has read this process's number, and waits for its word now
    _settle_in(orders, there, out, level, work, uid)


def _settle_in(orders: socket, there: socket, out: int, level: str, work: str, uid: int) -> None:
    # Standard input is the end of an empty pipe: a file of this machine's could be given another mode by it.
    null, writer = os.pipe()
    os.close(writer)
    keep = {null, out, orders.fileno(), there.fileno()}
    for fd in range(3, 1024):
        if fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)
    here = place.FULL if level == FULL else place.PROCESS
    zygote.preload()
    with open("/proc/self/statm") as file:
        base = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    if here.boxed:
        namespaces.build_root()
        namespaces.drop_rights(uid)
    else:
        os.chdir(work)
    zygote.settle(here)
    there.send(b"R")
    there.close()
    zygote.serve(orders, here, base)
