"""The filters, read as the kernel reads them, and the doctor."""

import json
import struct

import pytest

from codegen_eval.commands import doctor as command
from sandbox import IsolationUnavailable, doctor
from sandbox.isolation import levels, namespaces, seccomp
from sandbox.isolation.syscalls import NUMBERS

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000


def decide(program, number, arch=0xC000003E, first=0):
    """What a filter says of a call: an interpreter of the four kinds of instruction in use."""
    data = struct.pack("<iIQQ", number, arch, 0, first)
    code = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        operation, then, otherwise, value = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x45: bool(accumulator & value)}[
                operation
            ]
            at += then if holds else otherwise


@pytest.fixture(params=[("x86_64", 0, 0xC000003E), ("aarch64", 1, 0xC00000B7)], ids=lambda p: p[0])
def machine(request, monkeypatch):
    monkeypatch.setattr(seccomp, "_machine", lambda: request.param[1:])
    return request.param


def test_the_allow_list_allows_its_calls_and_no_other(machine):
    _, index, arch = machine
    program = seccomp.zygote_filter()
    allowed = {pair[index] for name, pair in NUMBERS.items() if name != "clone3"}
    for number in range(600):
        wanted = ALLOW if number in allowed else ENOSYS if number == 435 else EPERM
        assert decide(program, number, arch) == wanted, number
    assert decide(program, NUMBERS["clone"][index], arch, first=0x10000000) == EPERM
    assert decide(program, 0, 0x40000003) == KILL


def test_a_program_may_signal_itself_and_make_threads_and_no_more(machine):
    _, index, arch = machine
    program = seccomp.program_filter(77)

    def say(name, first=0):
        return decide(program, NUMBERS[name][index], arch, first)

    assert say("kill", 77) == say("tgkill", 77) == ALLOW
    assert say("kill", 1) == say("kill", 2**32 - 1) == say("tgkill", 1) == say("tkill", 77) == EPERM
    assert say("clone", 0x10400) == ALLOW and say("clone", 17) == EPERM
    assert say("clone", 0x10000) == EPERM  # a thread with a table of descriptors of its own
    assert say("prlimit64", 0) == say("prlimit64", 77) == ALLOW and say("prlimit64", 1) == EPERM
    assert say("seccomp") == say("wait4") == say("pidfd_open") == EPERM
    assert say("read") == say("openat") == ALLOW


def test_a_foreign_calling_convention_kills():
    program = seccomp.program_filter(77)
    assert decide(program, 0x40000000) == decide(program, 1, arch=0x40000003) == KILL


def test_installed_packages_are_hidden_from_programs():
    bind, hide = namespaces.python_paths()
    assert bind and all(path.startswith("/") for path in bind + hide)
    assert not any(path in ("/", "/usr", "/home", "/root", "/usr/lib/python3") for path in bind)


def test_a_refusal_names_what_is_missing_and_how_to_get_it():
    def refuse():
        raise IsolationUnavailable("PermissionError: [Errno 1] unshare: Operation not permitted")

    with pytest.raises(
        IsolationUnavailable, match=r"unshare.*max_user_namespaces.*Docker.*require='process'"
    ):
        levels.start("full", refuse)


@pytest.mark.sandbox
def test_the_doctor_finds_full_isolation_and_says_so(capsys):
    found = doctor.report()
    assert found.level == "full" and all(row.works for row in found.attacks), doctor.render(found)
    assert "Isolation level available: full" in doctor.render(found)
    assert command.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["level"] == "full"
