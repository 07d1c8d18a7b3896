"""System call filters as raw BPF (kernel Documentation/userspace-api/seccomp_filter.rst).

Two filters are stacked. The first, installed once in a zygote, is an allow-list; it comes in three kinds, by
what else holds a program. The second, installed in
every program's process, takes away what only the zygote needs: making processes, signalling others, more
filters. Refused calls fail with EPERM, so a program that merely tries goes on; a call by a foreign calling
convention (32-bit, x32) kills the process and is the verdict `violation`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping

from . import libc
from .syscalls import ATTRIBUTE_NUMBERS, NUMBERS

Instruction = tuple[int, int, int, int]

_LOAD, _JEQ, _JGT, _JSET, _RET = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW = (_RET, 0, 0, 0x7FFF0000)
_KILL = (_RET, 0, 0, 0x80000000)
_LOAD_NUMBER = (_LOAD, 0, 0, 0)
_LOAD_ARCH = (_LOAD, 0, 0, 4)
_LOAD_FIRST = (_LOAD, 0, 0, 16)
# The kinds: inside a box; with Landlock, which does not govern modes and times, nor truncation before its
# version 3; with nothing else, where no file may be changed at all.
BOXED, OWN_FILES, READING = "boxed", "own files", "reading"
_MODES = ("chmod", "fchmod", "fchmodat", "utime", "utimes", "utimensat", "futimesat")
_NO_EFFECT = 0
_CHANGES = (
    *("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat"),
    *("symlink", "symlinkat", "fallocate"),
)
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, window size, FIONREAD, FIONBIO, cloexec
_SIGNALLED = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: the kernel would signal others in one's name
_CLONE_THREAD = 0x00010000
_CLONE_FILES = 0x00000400  # a thread with descriptors of its own would escape the limit on them
_NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_ANY_PID = 0x5A5B5C5D
_X86 = (0, 0xC000003E)
_ARM = (1, 0xC00000B7)
_MACHINES = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}


def supported() -> bool:
    """Whether there is a table for this machine."""
    return os.uname().machine in _MACHINES


def _machine() -> tuple[int, int]:
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"seccomp: no system call table for {machine}")
    return _MACHINES[machine]


def _number(name: str) -> int:
    return NUMBERS[name][_machine()[0]]


def _refuse(number: int = errno.EPERM) -> Instruction:
    return (_RET, 0, 0, 0x00050000 | number)


def _equal(value: int, then: int, otherwise: int) -> Instruction:
    """Jump over `then` or `otherwise` instructions."""
    return (_JEQ, then, otherwise, value)


def _head() -> list[Instruction]:
    index, arch = _machine()
    code = [_LOAD_ARCH, _equal(arch, 1, 0), _KILL, _LOAD_NUMBER]
    if index == 0:  # the x32 convention has bit 30 set
        code += [(_JGT, 0, 1, 0x3FFFFFFF), _KILL]
    return code


def _load(argument: int, high: bool = False) -> Instruction:
    """Half of an argument of the call, counted from 0."""
    return (_LOAD, 0, 0, 16 + 8 * argument + 4 * high)


def _only(name: str, code: list[Instruction]) -> list[Instruction]:
    """Instructions for one call, if this machine has it; they must decide."""
    number = _number(name)
    return [_equal(number, 0, len(code)), *code] if number >= 0 else []


def _listed(
    argument: int, values: tuple[int, ...], found: Instruction, other: Instruction
) -> list[Instruction]:
    """Decide by whether an argument is among some values."""
    tests = [_equal(value, len(values) - i, 0) for i, value in enumerate(values)]
    return [_load(argument), *tests, other, found]


def _outside_a_box(kind: str) -> list[Instruction]:
    """What a box makes harmless: signals by way of descriptors, named sockets, and changes of files."""
    code = _only("ioctl", _listed(1, _IOCTLS, _ALLOW, _refuse()))
    code += _only("fcntl", _listed(1, _SIGNALLED, _refuse(), _ALLOW))
    for name in _MODES:  # as if it were done: copying a file sets its mode, and nobody looks at it
        code += _only(name, [_refuse(_NO_EFFECT)])
    code += _only("sendto", [_load(4), _equal(0, 0, 2), _load(4, True), _equal(0, 1, 0), _refuse(), _ALLOW])
    for name, argument in (("open", 1), ("openat", 2)):
        if kind == READING:
            rule = [_load(argument), (_JSET, 0, 1, _WRITE_FLAGS), _refuse(), _ALLOW]
        else:  # truncation by a descriptor that only reads
            rule = [_load(argument), (_JSET, 0, 2, os.O_TRUNC), (_JSET, 1, 0, 3), _refuse(), _ALLOW]
        code += _only(name, rule)
    return code


def _search(numbers: list[int]) -> list[Instruction]:
    """A binary search that allows the given numbers and refuses others; the number is in the accumulator."""
    if len(numbers) <= 3:
        tests = [_equal(number, len(numbers) - i, 0) for i, number in enumerate(numbers)]
        return [*tests, _refuse(), _ALLOW]
    middle = len(numbers) // 2
    low, high = _search(numbers[:middle]), _search(numbers[middle:])
    # Conditional jumps reach 255 instructions; the halves of this table are shorter.
    return [(_JGT, len(low), 0, numbers[middle - 1]), *low, *high]


def zygote_filter(kind: str = BOXED, more: Mapping[str, tuple[int, int]] | None = None) -> bytes:
    """Allow-list for a zygote and all its children.

    Args:
        kind: One of the three.
        more: Calls that this zygote's children need besides, as `syscalls.EXEC_NUMBERS`.
    """
    refused = {"clone3", "clone"}
    refused |= (
        set() if kind == BOXED else {"sendmsg", "truncate", "openat2", *(_CHANGES if kind == READING else ())}
    )
    added = {numbers[_machine()[0]] for numbers in (more or {}).values()}
    numbers = sorted(({_number(name) for name in NUMBERS.keys() - refused} | added) - {-1})
    # glibc falls back from clone3 to clone on ENOSYS only.
    clone3 = [_equal(_number("clone3"), 0, 1), _refuse(errno.ENOSYS)]
    clone = [
        _equal(_number("clone"), 0, 4),
        _LOAD_FIRST,
        (_JSET, 0, 1, _NEW_NAMESPACES),
        _refuse(),
        _ALLOW,
    ]
    outside = [] if kind == BOXED else _outside_a_box(kind)
    index = _machine()[0]
    for attribute in ATTRIBUTE_NUMBERS.values():
        outside += [_equal(attribute[index], 0, 1), _refuse(errno.ENOTSUP)]
    return _assemble([*_head(), *clone3, *clone, *outside, *_search(numbers)])


class ProgramFilter:
    """`program_filter` made ready in a zygote: every program pays for what is left to do after the fork."""

    def __init__(self, forks: bool = False) -> None:
        code = program_filter(_ANY_PID, forks)
        mark = struct.pack("<I", _ANY_PID)
        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._places = [at for at in range(0, len(code), 4) if code[at : at + 4] == mark]
        self._install = libc.prepared_seccomp(self._buffer, len(code) // 8)

    def install(self, pid: int) -> None:
        """Put the filter on this process, whose number is `pid`.

        Raises:
            OSError: The kernel refuses it.
        """
        for place in self._places:
            struct.pack_into("<I", self._buffer, place, pid)
        self._install()


def program_filter(pid: int, forks: bool = False) -> bytes:
    """What a program's process may not do: make processes, signal others, set limits of others, install
    filters.

    Args:
        pid: The process's own number in its namespace.
        forks: It may make processes and wait for them, and signal what is in its namespace: for a process
            that branches. A limit on their number must hold them then.
    """
    code = _head()
    refused = ["seccomp", "pidfd_open", "tkill"]
    if not forks:
        refused += ["fork", "vfork", "wait4", "waitid"]
    for name in refused:
        if _number(name) >= 0:
            code += [_equal(_number(name), 0, 1), _refuse()]
    if not forks:
        for name in ("kill", "tgkill"):
            code += [_equal(_number(name), 0, 4), _LOAD_FIRST, _equal(pid, 1, 0), _refuse(), _ALLOW]
    code += [_equal(_number("prlimit64"), 0, 5), _LOAD_FIRST, _equal(0, 2, 0), _equal(pid, 1, 0)]
    code += [_refuse(), _ALLOW]
    if not forks:
        thread = [(_JSET, 0, 1, _CLONE_THREAD), (_JSET, 1, 0, _CLONE_FILES), _refuse(), _ALLOW]
        code += [_equal(_number("clone"), 0, 5), _LOAD_FIRST, *thread]
    # Falling through allows: the zygote's allow-list has decided the rest.
    return _assemble([*code, _ALLOW])


def tree_filter() -> bytes:
    """What a command that may make processes, as a compiler, may not do all the same: set limits of others,
    hold handles on them, install filters.
    """
    code = _head()
    for name in ("seccomp", "pidfd_open"):
        code += [_equal(_number(name), 0, 1), _refuse()]
    code += [_equal(_number("prlimit64"), 0, 3), _LOAD_FIRST, _equal(0, 1, 0), _refuse()]
    return _assemble([*code, _ALLOW])


def _assemble(code: list[Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def install(program: bytes) -> None:
    """Put a filter on this process and its children; irrevocable.

    Raises:
        OSError: The kernel refuses it.
    """
    libc.seccomp(ctypes.create_string_buffer(program, len(program)), len(program) // 8)
