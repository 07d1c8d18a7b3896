"""Control groups, version 1 and 2: a cap on the memory and the tasks of all processes of a zygote together.

A nursery makes a group of its own where this user may make one, and a child of it for every zygote. What may
be done is found out by doing. Limits on address space hold without it; the group holds what they cannot:
several processes, shared memory, files in memory, and programs whose address space says nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping

from . import names

SLACK = 64 * 2**20  # the zygote itself, files in /tmp, what the kernel keeps for the processes
TASKS = 96
_FILES = {
    "v1": (
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.oom_control",
    ),
    "v2": ("memory.max", "memory.swap.max", "memory.events"),
}
_OLD = 60.0


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


class Group:
    """The group of one zygote.

    Args:
        version: `v1` or `v2`.
        memory: Its directory with the memory controller.
        pids: Its directory with the pids controller; the same with v2, empty where there is none.
    """

    def __init__(self, version: str, memory: str, pids: str) -> None:
        self.version, self.memory, self.pids = version, memory, pids
        self._limit, self._swap, self._events = _FILES[version]
        self._capped = 0
        self._counted = 0

    def facts(self) -> tuple[str, str, str]:
        """What it takes to make this object in another process."""
        return self.version, self.memory, self.pids

    def make(self) -> None:
        """Create it, without processes yet.

        Raises:
            OSError: It may not be made.
        """
        for path in {self.memory, self.pids} - {""}:
            os.mkdir(path)
        if self.pids:
            _write(f"{self.pids}/pids.max", str(TASKS))

    def add(self, pid: int) -> None:
        """Put a process into it; its children will be in it as well."""
        for path in {self.memory, self.pids} - {""}:
            _write(f"{path}/cgroup.procs", str(pid))

    def cap(self, limit: int) -> None:
        """Let all processes together have this many bytes, and a little more; costs nothing when unchanged.

        Raises:
            OSError: The kernel refuses; the cap stays as it was.
        """
        if limit == self._capped:
            return
        files = [(self._limit, limit + SLACK)]
        swap = f"{self.memory}/{self._swap}"
        if os.path.exists(swap):
            files.append((self._swap, limit + SLACK if self.version == "v1" else 0))
        if 0 < self._capped < limit:  # v1 counts memory and swap together, and never less than memory
            files.reverse()
        for name, value in files:
            _write(f"{self.memory}/{name}", str(value))
        self._capped = limit

    def ran_out(self) -> bool:
        """Whether the kernel has killed for want of memory in here since this was last asked."""
        before = self._counted
        self._counted = sum(
            int(line.split()[1])
            for line in _read(f"{self.memory}/{self._events}").splitlines()
            if line.startswith("oom_kill ")
        )
        return self._counted > before

    def remove(self, seconds: float = 1.0) -> bool:
        """End what is still in it and take it away; False when something stays."""
        end = time.monotonic() + seconds
        for path in {self.memory, self.pids} - {""}:
            while True:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > end:
                        return False
                    _kill_all(path)
                    time.sleep(0.002)
                else:
                    break
        return True


def _kill_all(path: str) -> None:
    try:
        for pid in _read(f"{path}/cgroup.procs").split():
            os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass


class Groups:
    """The group of a nursery, and in it those of its zygotes.

    Args:
        version: `v1` or `v2`.
        homes: For the controllers `memory` and, if there is one, `pids`: a directory in which this user may
            make groups and put its processes.
    """

    def __init__(self, version: str, homes: Mapping[str, str]) -> None:
        self.version = version
        self.homes = dict(homes)
        self._name = names.own()
        self._count = 0
        try:
            for path in self._own():
                os.mkdir(path)
                if version == "v2":
                    _write(f"{path}/cgroup.subtree_control", " ".join(f"+{name}" for name in homes))
        except OSError:
            self.close()
            raise

    def _own(self) -> list[str]:
        return sorted({f"{home}/{self._name}" for home in self.homes.values()})

    def new(self) -> Group:
        """A group for one zygote.

        Raises:
            OSError: It cannot be made.
        """
        self._count += 1
        places = {kind: f"{home}/{self._name}/{self._count}" for kind, home in self.homes.items()}
        group = Group(self.version, places["memory"], places.get("pids", ""))
        group.make()
        return group

    def close(self) -> None:
        """Take away the nursery's own group; those of its zygotes must be gone."""
        for path in self._own():
            _remove_tree(path)

    def sweep(self, seconds: float = 0.0) -> None:
        """Take away groups that killed nurseries left; wait a moment for those whose processes are ending."""
        end = time.monotonic() + seconds
        while not sweep(set(self.homes.values())) and time.monotonic() < end:
            time.sleep(0.005)


def sweep(homes: set[str]) -> bool:
    """Take away groups in these directories whose nursery is gone; False when some have processes still."""
    clean = True
    for home in homes:
        for name in sorted(os.listdir(home)):
            path = f"{home}/{name}"
            if names.dead(name) or (name.startswith(names.PREFIX) and names.foreign(name) and _old(path)):
                _remove_tree(path)
                clean = clean and not os.path.exists(path)
    return clean


def _old(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > _OLD
    except OSError:
        return False


def _remove_tree(path: str) -> None:
    """Remove a group and its children; what still has processes stays."""
    try:
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
        os.rmdir(path)
    except OSError:
        pass


def candidates(proc: str = "/proc/self") -> Iterator[tuple[str, dict[str, str]]]:
    """Versions and directories in which groups might be made, best first; nothing is tried yet.

    Args:
        proc: Directory with the files `cgroup` and `mountinfo` of this process.
    """
    own: dict[str, str] = {}
    for line in _read(f"{proc}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    mounts: dict[str, tuple[str, str]] = {}
    for line in _read(f"{proc}/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split()
        if kind == "cgroup2":
            mounts[""] = (root, point)
        elif kind == "cgroup":
            mounts.update({name: (root, point) for name in options.split(",") if name in ("memory", "pids")})
    if "" in mounts and "" in own:
        yield from _unified(_inside(*mounts[""], own[""]), mounts[""][1])
    if "memory" in mounts and "memory" in own:
        found: dict[str, str] = {
            name: _inside(*mounts[name], own[name]) for name in ("memory", "pids") if name in mounts
        }
        yield "v1", found
        if "pids" in found:
            yield "v1", {"memory": found["memory"]}


def _inside(root: str, point: str, path: str) -> str:
    """Directory of a group, seen through a mount that shows the hierarchy from `root` on."""
    below = path if root == "/" else path.removeprefix(root) if path.startswith(root) else ""
    found = os.path.normpath(f"{point}/{below}")
    return found if os.path.isdir(found) else point


def _unified(own: str, top: str) -> Iterator[tuple[str, dict[str, str]]]:
    """v2: a group with processes has no controllers for its children, so look upwards for one that has."""
    place = own
    while True:
        try:
            given = _read(f"{place}/cgroup.subtree_control").split()
            if "memory" not in given and "memory" in _read(f"{place}/cgroup.controllers").split():
                _write(f"{place}/cgroup.subtree_control", "+memory +pids")
                given = _read(f"{place}/cgroup.subtree_control").split()
            if "memory" in given:
                yield "v2", {name: place for name in ("memory", "pids") if name in given}
        except OSError:
            pass
        if len(place) <= len(top):
            return
        place = os.path.dirname(place)


def open_groups() -> tuple[Groups | None, str]:
    """Groups in the first place where a process can be put into one, or None and why there is none."""
    problem = "no control groups with a memory controller are mounted"
    for version, homes in candidates():
        try:
            return _tried(version, homes), ""
        except OSError as error:
            problem = f"{version}: {error.strerror} ({error.filename or homes['memory']})"
    return None, problem


def _tried(version: str, homes: dict[str, str]) -> Groups:
    """Groups in which a process was put to see that it can be."""
    groups = Groups(version, homes)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    try:
        group = groups.new()
        group.cap(2**28)
        group.add(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        groups.close()
        raise
    finally:
        os.close(read_end)
        os.close(write_end)
    os.waitpid(pid, 0)
    group.remove()
    return groups
