"""The filters, read as the kernel reads them, and the doctor."""

import io
import json
import os
import struct
import subprocess

import pytest
from rich.console import Console

from codegen_eval.commands import doctor as command
from sandbox import doctor
from sandbox.client import ENGINE_ENVIRONMENT, engine_command
from sandbox.isolation import levels, namespaces, probe, seccomp
from sandbox.isolation.syscalls import ATTRIBUTE_NUMBERS, NUMBERS

ALLOW, EPERM, ENOSYS, KILL, NO_EFFECT = 0x7FFF0000, 0x50001, 0x50026, 0x80000000, 0x50000
NOT_SUPPORTED = 0x5005F


def decide(program, number, arch=0xC000003E, first=0, *more):
    """What a filter says of a call: an interpreter of the four kinds of instruction in use."""
    data = struct.pack("<iIQ6Q", number, arch, 0, first, *more, *([0] * (5 - len(more))))
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


def teller(machine, program):
    """Asks a filter by the name of a call."""
    _, index, arch = machine
    return lambda name, *arguments: decide(program, NUMBERS[name][index], arch, *(arguments or (0,)))


@pytest.fixture(params=[("x86_64", 0, 0xC000003E), ("aarch64", 1, 0xC00000B7)], ids=lambda p: p[0])
def machine(request, monkeypatch):
    monkeypatch.setattr(seccomp, "_machine", lambda: request.param[1:])
    return request.param


def test_the_allow_list_allows_its_calls_and_no_other(machine):
    _, index, arch = machine
    program = seccomp.zygote_filter()
    allowed = {pair[index] for name, pair in NUMBERS.items() if name != "clone3"}
    attributes = {pair[index] for pair in ATTRIBUTE_NUMBERS.values()}
    for number in range(600):
        wanted = ALLOW if number in allowed else ENOSYS if number == 435 else EPERM
        wanted = NOT_SUPPORTED if number in attributes else wanted
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


def test_outside_a_box_no_signal_goes_by_way_of_a_descriptor_and_no_name_is_written_to(machine):
    for kind in (seccomp.OWN_FILES, seccomp.READING):
        say = teller(machine, seccomp.zygote_filter(kind))
        assert say("fcntl", 3, 8) == say("fcntl", 3, 10) == say("fcntl", 3, 15) == EPERM
        assert say("fcntl", 3, 2) == say("fcntl", 1, 4) == ALLOW
        assert say("ioctl", 1, 0x5401) == ALLOW and say("ioctl", 0, 0x5412) == EPERM  # TCGETS, TIOCSTI
        assert say("sendto", 3, 0, 0, 0, 0) == ALLOW
        assert say("sendto", 3, 0, 0, 0, 0x7FFF) == say("sendto", 3, 0, 0, 0, 1 << 40) == EPERM
        assert say("sendmsg") == EPERM and say("fchmod") == say("utimensat") == NO_EFFECT


def test_with_a_filter_alone_no_file_is_opened_for_writing_or_changed(machine):
    say = teller(machine, seccomp.zygote_filter(seccomp.READING))
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_RDWR | os.O_CLOEXEC, os.O_TMPFILE | 2):
        assert say("openat", 0, 0, flags) == EPERM, flags
    assert say("openat", 0, 0, os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW) == ALLOW
    for name in (
        "mkdirat",
        "unlinkat",
        "renameat2",
        "linkat",
        "symlinkat",
        "truncate",
        "openat2",
        "fallocate",
    ):
        assert say(name) == EPERM, name
    own = teller(machine, seccomp.zygote_filter(seccomp.OWN_FILES))
    assert own("openat", 0, 0, os.O_CREAT | os.O_WRONLY) == own("unlinkat") == own("mkdirat") == ALLOW
    assert (
        own("openat", 0, 0, os.O_TRUNC | os.O_WRONLY) == own("openat", 0, 0, os.O_TRUNC | os.O_RDWR) == ALLOW
    )
    assert own("openat", 0, 0, 0) == ALLOW
    # Landlock lets these through before its version 3.
    assert own("openat", 0, 0, os.O_TRUNC) == own("truncate") == own("openat2") == EPERM


@pytest.mark.parametrize("kind", [seccomp.BOXED, seccomp.OWN_FILES, seccomp.READING])
def test_each_kind_of_filter_allows_no_call_that_the_list_lacks(machine, kind):
    _, index, arch = machine
    listed = {pair[index] for pair in NUMBERS.values()}
    program = seccomp.zygote_filter(kind)
    assert all(decide(program, n, arch) != ALLOW for n in range(700) if n not in listed)
    assert decide(program, NUMBERS["read"][index], arch) == ALLOW


@pytest.mark.sandbox
def test_the_doctor_finds_full_isolation_and_says_so(capsys):
    assert command.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["level"] == "full" and found["problem"] == ""
    full = found["levels"][0]
    assert full["name"] == "full" and full["works"] and all(row["works"] for row in full["attacks"])
    process = next(row for row in found["levels"] if row["name"] == "process")
    assert process["works"], "what it never promised is no fault of it"
    assert not all(row["works"] for row in process["attacks"])
    assert all(row["works"] or not row["needed_for"] for row in process["attacks"])


def show(found):
    console = Console(file=io.StringIO(), width=140)
    command.show(found, console)
    return console.file.getvalue()


def test_the_report_says_how_to_get_a_level_that_is_missing_and_tells_open_from_broken():
    isolation = levels.describe("process", {"landlock": 0, "cgroup": "", "no_cgroup": "none", "no_user": "x"})
    attacks = (
        doctor.Row("no network", False, "", "", ""),
        doctor.Row("a wrong program fails", False, "process", "", ""),
        doctor.Row("output is bounded", True, "process", "", ""),
    )
    refused = doctor.LevelReport("full", "all", False, None, "unshare: no", levels.REMEDIES["unshare"], ())
    weak = doctor.LevelReport("process", "little", True, isolation, "", "", attacks)
    row = doctor.Row("seccomp", False, "full", "[red]no[/red] such call", "a newer kernel")
    text = show(doctor.DoctorReport((row,), (refused, weak), (row,), "process", "unshare: no"))
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "OPEN" in lines["no network"] and "BROKEN" in lines["a wrong program fails"]
    assert "held" in lines["output is bounded"] and "[red]no[/red] such call" in text, "markup is not read"
    assert (
        "To get level full: user namespaces are refused" in text and "To get seccomp: a newer kernel" in text
    )
    assert "Isolation level available: process" in text


@pytest.mark.sandbox
def test_every_primitive_that_is_probed_can_be_told_of():
    done = subprocess.run(
        engine_command("probe"), capture_output=True, text=True, env=ENGINE_ENVIRONMENT, cwd="/", check=True
    )
    names = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert names == list(probe.PROBES) and set(names) == set(doctor._NEEDS)


def test_a_probe_that_hangs_or_fails_is_reported():
    def fail():
        raise OSError(38, "perf: Function not implemented")

    assert probe.attempt(fail) == (False, "OSError: [Errno 38] perf: Function not implemented")
    assert probe.attempt(lambda: "version 7") == (True, "version 7")
    assert probe.attempt(lambda: os._exit(1)) == (False, "without effect")
