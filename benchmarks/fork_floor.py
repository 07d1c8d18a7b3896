"""Started by sandbox_speed.py: fork + _exit + wait in a real zygote, the floor that no executor can go below.

A nursery makes a zygote by the engine's own code, in its own box and control group, under its own system call
filter, with the same modules loaded and frozen. Only its last step is another: instead of serving programs it
forks, has the child end at once, and waits. How often comes on standard input, a line each; each is answered
with a line. Called as

    fork_floor.py serve SETTINGS

with the nursery's settings as JSON; it starts itself anew as `fork_floor.py nursery SETTINGS`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

NURSERY = sys.argv[1] == "nursery"
settings = json.loads(sys.argv[2])
sys.path.insert(0, settings["repository"])

from sandbox.engine import birth, nursery, nursing  # noqa: E402

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
    nurse = nursing.Nursing(os.path.abspath(__file__), settings)  # noqa: PTH100
    zygote = nurse.new_zygote(b"")
    zygote.orders.setblocking(True)
    for line in sys.stdin:
        zygote.orders.send(line.strip().encode())
        print(zygote.orders.recv(64).decode(), flush=True)
    zygote.orders.close()
    nurse.close()


if NURSERY:
    birth.zygote.serve = _forks
    nursery.main(settings)
else:
    main()
