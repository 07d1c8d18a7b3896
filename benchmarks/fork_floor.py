"""Started by sandbox_speed.py: fork + _exit + wait in a real zygote, the floor that no executor can go below.

A nursery makes a zygote by the engine's own code, in its own box, under its own system call filter, with the
same modules loaded and frozen. Only its last step is another: instead of serving programs it forks, has the
child end at once, and waits. It reads how often from standard input, a line each, and answers with a line.
"""

from __future__ import annotations

import gc
import os
import sys
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from typing import Any

sys.path.insert(0, sys.argv[1])

from sandbox.engine import nursery, supervisor, worker, zygote

sys.path.pop(0)


def _forks(orders: Any, *_: Any) -> None:
    gc.collect()
    gc.freeze()
    while data := orders.recv(64):
        for _ in range(int(data)):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        orders.send(b"done")
    os._exit(0)


def main() -> None:
    assert supervisor  # a zygote inherits what the supervisor has loaded
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET)
    if os.fork() == 0:
        near.close()
        zygote.serve = _forks
        nursery.main(far, *sys.argv[2:])
        os._exit(0)
    far.close()
    _, orders, _ = worker.request_zygote(near)
    orders.setblocking(True)
    for line in sys.stdin:
        orders.send(line.strip().encode())
        print(orders.recv(64).decode(), flush=True)


main()
