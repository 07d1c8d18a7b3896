"""An outer box for attack programs: whatever escapes from the sandbox is still held here, and killed as a
whole.

    python outer_box.py MODE OUTPUT COMMAND...

runs a command as pid 2 of new pid, mount, ipc and net namespaces with a /proc and a /tmp of their own. MODE
is `root` (needs root), `user` (root becomes uid 65534 without capabilities), or `nested` (anyone; inside a
user namespace). The command's file `/tmp/out.json` is copied to OUTPUT. Standard library only.
"""

import ctypes
import fcntl
import os
import resource
import shutil
import socket
import struct
import sys
import sysconfig

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NOBODY = 65534
MODES = ("root", "user", "nested")


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


def _own_tmp():
    """An empty /tmp, except that this checkout and the interpreter stay where they are if they lie there."""
    needed = {os.path.realpath(__file__).rsplit("/", 3)[0], sys.prefix, sys.base_prefix}
    kept = [(path, os.open(path, os.O_PATH)) for path in sorted(needed) if path.startswith("/tmp/")]
    _mount(b"tmp", "/tmp", b"tmpfs", 0, b"size=256m,nr_inodes=20000,mode=1777")
    for path, handle in kept:
        os.makedirs(path, exist_ok=True)
        _mount(f"/proc/self/fd/{handle}".encode(), path, None, 4096 | 16384)
        os.close(handle)


def main(mode, output, command):
    uid, gid = os.getuid(), os.getgid()
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    flags = NEWNS | NEWIPC | NEWPID | NEWNET
    _call("unshare", flags | (NEWUSER if mode == "nested" else 0))
    if mode == "nested":
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    LIBC.prctl(1, 9, 0, 0, 0)
    _mount(b"none", "/", None, (1 << 18) | 16384)
    _mount(b"proc", "/proc", b"proc", 0)
    _own_tmp()
    _loopback_up()
    if mode == "user":
        _open_way_to_python()
    child = os.fork()
    if not child:
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
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)  # the end of pid 1 is the end of all that is left


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
