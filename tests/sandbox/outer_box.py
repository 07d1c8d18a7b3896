"""An outer box for attack programs: whatever escapes from the executor under test is still held here, and
killed as a whole.

    python outer_box.py MODE OUTPUT SECONDS COMMAND...

runs a command in new pid, mount, ipc and net namespaces with a /proc, a /tmp and a /dev/shm of their own and
everything else read-only, and in a memory and a pids cgroup where those can be made. MODE is `root` (needs
root), `user` (root becomes uid 65534 without capabilities), or `nested` (anyone; inside a user namespace).
After SECONDS all of it is killed (exit status 124). The command's file `/tmp/out.json` is copied to OUTPUT.
Standard library only.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import sysconfig

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NOBODY = 65534
MODES = ("root", "user", "nested")
MEMORY, PROCESSES = 6 * 2**30, 300
GROUPS = "/sys/fs/cgroup"
PREFIX = "codealign-attack-"


def _call(name, *args):
    if getattr(LIBC, name)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{args}: {os.strerror(number)}")


def _mount(source, target, kind, flags, data=None):
    _call("mount", source, target.encode(), kind, ctypes.c_ulong(flags), data)


def _loopback_up():
    with socket.socket() as s:
        request = struct.pack("16sh14s", b"lo", 1, b"")
        fcntl.ioctl(s, 0x8914, request)


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)


class Groups:
    """Memory and pids cgroups around this process and all its descendants, v1 or v2; fewer, or none, where
    they cannot be made.
    """

    def __init__(self):
        self.folders = []
        self.holds_processes = False
        name = f"{PREFIX}{os.getpid()}"
        if os.path.exists(f"{GROUPS}/cgroup.controllers"):  # v2 alone
            self._make(f"{GROUPS}/{name}", {"memory.max": MEMORY, "pids.max": PROCESSES})
        else:
            self._make(f"{GROUPS}/memory/{name}", {"memory.limit_in_bytes": MEMORY})
            self._make(f"{GROUPS}/pids/{name}", {"pids.max": PROCESSES})

    def _make(self, folder, limits):
        try:
            self._clear_up_after_the_killed(os.path.dirname(folder))
            os.mkdir(folder)
        except OSError:
            return
        self.folders.append(folder)
        with contextlib.suppress(OSError):
            for name, value in limits.items():
                _write(f"{folder}/{name}", str(value))
            _write(f"{folder}/cgroup.procs", str(os.getpid()))
            self.holds_processes = self.holds_processes or "pids.max" in limits

    def _clear_up_after_the_killed(self, top):
        for name in os.listdir(top):
            if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(PREFIX)}"):
                self._remove(f"{top}/{name}")

    def leave(self):
        """Remove the groups; all processes in them but this one are gone."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                _write(f"{os.path.dirname(folder)}/cgroup.procs", str(os.getpid()))
            self._remove(folder)

    @staticmethod
    def _remove(folder):
        for below, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(below)


def _open_way_to_python():
    """An unprivileged user must reach the interpreter even where it lies in root's home."""
    prefix = os.path.realpath(sysconfig.get_config_var("installed_base"))
    top = "/" + prefix.split("/")[1]
    if os.stat(top).st_mode & 0o001:
        return
    os.mkdir("/tmp/python")
    _mount(prefix.encode(), "/tmp/python", None, 4096 | 16384)
    _mount(b"top", top, b"tmpfs", 0, b"mode=755")
    os.makedirs(prefix)
    _mount(b"/tmp/python", prefix, None, 4096 | 16384)
    _call("umount2", b"/tmp/python", 2)
    os.rmdir("/tmp/python")


def _read_only(but):
    """Make every mount read-only, except those of these kinds of file systems."""
    with open("/proc/self/mountinfo") as file:
        rows = [line.split() for line in file]
    for row in rows:
        kind = row[row.index("-") + 1]
        target = row[4].encode().decode("unicode_escape").encode("latin-1")
        attributes = (ctypes.c_uint64 * 4)(1, 0, 0, 0)
        if kind not in but and os.path.exists(target):
            done = LIBC.syscall(
                442, ctypes.c_int(-100), target, ctypes.c_uint(0), attributes, ctypes.c_size_t(32)
            )
            if done < 0 and ctypes.get_errno() == 38:  # before Linux 5.12
                _call("mount", b"none", target, None, ctypes.c_ulong(1 | 32 | 4096), None)


def _own_folders(mode):
    """Nothing can be written but an empty /tmp and /dev/shm. This checkout and the interpreter stay where
    they are if they lie in /tmp.
    """
    needed = {os.path.realpath(__file__).rsplit("/", 3)[0], sys.prefix, sys.base_prefix}
    kept = [(path, os.open(path, os.O_PATH)) for path in sorted(needed) if path.startswith("/tmp/")]
    if mode == "user":
        _mount(b"tmp", "/tmp", b"tmpfs", 0, b"mode=1777")
        _open_way_to_python()
    _mount(b"tmp", "/tmp", b"tmpfs", 0, b"size=256m,nr_inodes=20000,mode=1777")
    for path, handle in kept:
        os.makedirs(path, exist_ok=True)
        _mount(f"/proc/self/fd/{handle}".encode(), path, None, 4096 | 16384)
        os.close(handle)
    _read_only(but=("proc", "cgroup", "cgroup2", "devpts"))
    _call("mount", b"none", b"/tmp", None, ctypes.c_ulong(32 | 4096), None)
    if os.path.isdir("/dev/shm"):
        _mount(b"shm", "/dev/shm", b"tmpfs", 2 | 4, b"size=256m,nr_inodes=20000,mode=1777")


def _inside(mode, target, command, limit_processes):
    """Pid 1 of the box: its end is the end of all that is left."""
    LIBC.prctl(1, 9, 0, 0, 0)
    _mount(b"none", "/", None, (1 << 18) | 16384)
    _mount(b"proc", "/proc", b"proc", 0)
    _own_folders(mode)
    _loopback_up()
    child = os.fork()
    if not child:
        if limit_processes:  # counts the user's processes in other boxes too, which would harm these
            resource.setrlimit(resource.RLIMIT_NPROC, (400, 400))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if mode == "user":
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        os.closerange(3, 256)
        os.execvp(command[0], command)
    while True:
        found, status = os.wait()
        if found == child:
            break
    if os.path.exists("/tmp/out.json"):
        with open("/tmp/out.json", "rb") as source, os.fdopen(target, "wb") as sink:
            shutil.copyfileobj(source, sink)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _wait(pid, seconds):
    """Exit status of the box; it is killed when its time is over."""
    handle = os.pidfd_open(pid)
    over = not select.select([handle], [], [], seconds)[0]
    if over:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return 124 if over else os.waitstatus_to_exitcode(status)


def main(mode, output, seconds, command):
    uid, gid = os.getuid(), os.getgid()
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    groups = Groups()
    try:
        _call("unshare", NEWNS | NEWIPC | NEWPID | NEWNET | (NEWUSER if mode == "nested" else 0))
        if mode == "nested":
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                _write(f"/proc/self/{name}", text)
        pid = os.fork()
        if not pid:
            try:
                _inside(mode, target, command, not groups.holds_processes)
            except BaseException as error:
                print(f"outer box: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                os._exit(125)
        return _wait(pid, seconds)
    finally:
        groups.leave()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
