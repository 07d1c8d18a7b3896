"""Control groups: where they are looked for, what they hold, what they leave behind."""

import os
import subprocess
import sys
import time

import pytest

from sandbox import CallTest, Limits, Program, Sandbox, Verdict
from sandbox.engine.endings import ending
from sandbox.engine.session import Session
from sandbox.isolation import cgroup, names

MIB = 2**20


def proc(tmp_path, own, mounts):
    """Files as /proc/self has them."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "cgroup").write_text("\n".join(own) + "\n")
    lines = [
        f"{30 + i} 23 0:{i} {root} {point} rw,relatime shared:9 - {kind} cgroup rw,{options}"
        for i, (root, point, kind, options) in enumerate(mounts)
    ]
    (folder / "mountinfo").write_text("22 27 0:21 / /proc rw - proc proc rw\n" + "\n".join(lines) + "\n")
    return str(folder)


def unified(path, controllers, given):
    path.mkdir(parents=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(given)


def test_version_1_makes_groups_below_its_own(tmp_path):
    for name in ("memory", "pids"):
        (tmp_path / name / "job" / "7").mkdir(parents=True)
    mounts = [("/", tmp_path / name, "cgroup", name) for name in ("memory", "pids", "cpu")]
    found = list(cgroup.candidates(proc(tmp_path, ["4:memory:/job/7", "8:pids:/job/7", "0::/"], mounts)))
    memory, pids = f"{tmp_path}/memory/job/7", f"{tmp_path}/pids/job/7"
    assert found == [("v1", {"memory": memory, "pids": pids}), ("v1", {"memory": memory})]


def test_a_container_that_sees_only_its_own_part_finds_it(tmp_path):
    (tmp_path / "memory").mkdir()
    mounts = [("/docker/abc", tmp_path / "memory", "cgroup", "memory")]
    found = list(cgroup.candidates(proc(tmp_path, ["4:memory:/docker/abc"], mounts)))
    assert found == [("v1", {"memory": f"{tmp_path}/memory"})]


def test_version_2_looks_upwards_for_a_group_that_hands_memory_on(tmp_path):
    top = tmp_path / "unified"
    unified(top, "cpu memory pids", "cpu")
    unified(top / "user", "memory pids", "memory pids")
    unified(top / "user" / "run-1.scope", "memory pids", "")
    mounts = [("/", top, "cgroup2", "nsdelegate")]
    found = list(cgroup.candidates(proc(tmp_path, ["0::/user/run-1.scope"], mounts)))
    # The scope's own file takes the order here, as the kernel refuses it only for a group with processes.
    assert ("v2", {"memory": f"{top}/user", "pids": f"{top}/user"}) in found


def test_version_2_without_a_memory_controller_is_no_candidate(tmp_path):
    unified(tmp_path / "unified", "hugetlb", "")
    mounts = [("/", tmp_path / "unified", "cgroup2", "")]
    assert list(cgroup.candidates(proc(tmp_path, ["0::/"], mounts))) == []


def test_names_tell_whether_their_maker_lives():
    own = names.own()
    prefix, _, started = own.rpartition("-")
    assert not names.dead(own) and not names.foreign(own)
    assert names.dead(f"{prefix}-{int(started) + 1}"), "the number was given again to a later process"
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    assert names.dead(f"{own.rsplit('-', 2)[0]}-{int(gone.stdout)}-1")
    other = own.replace(own.split("-")[1], "1")
    assert names.foreign(other) and not names.dead(other)
    assert not names.dead("sandbox-") and not names.dead("sandbox-notes-of-mine-1")


@pytest.fixture
def groups():
    found, problem = cgroup.open_groups()
    if found is None:
        pytest.skip(f"no control group can be made here: {problem}")
    yield found
    found.close()
    assert not any(os.path.exists(path) for path in found._own())


def in_group(group, action):
    """Wait status of a child that does something inside the group."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(read_end, 1)
            action()
        finally:
            os._exit(3)
    group.add(pid)
    os.write(write_end, b"+")
    os.close(read_end)
    os.close(write_end)
    return os.waitpid(pid, 0)[1]


@pytest.mark.sandbox
def test_memory_beyond_the_cap_is_killed_and_counted_once(groups):
    group = groups.new()
    group.cap(16 * MIB)
    assert in_group(group, lambda: os._exit(0 if len(b"x" * (8 * MIB)) else 1)) == 0
    assert not group.ran_out()
    assert in_group(group, lambda: b"x" * (300 * MIB)) == 9
    assert group.ran_out() and not group.ran_out()
    group.cap(400 * MIB)  # raised, then lowered again: the order of the two files matters
    assert in_group(group, lambda: os._exit(0 if len(b"x" * (300 * MIB)) else 1)) == 0
    group.cap(16 * MIB)
    assert in_group(group, lambda: b"x" * (300 * MIB)) == 9
    assert group.remove()


@pytest.mark.sandbox
def test_tasks_beyond_the_cap_are_refused(groups):
    def fork_many():
        count = 0
        try:
            for _ in range(2 * cgroup.TASKS):
                if os.fork() == 0:
                    time.sleep(60)
                count += 1
        except BlockingIOError:
            os._exit(0 if cgroup.TASKS // 2 < count < cgroup.TASKS else 1)

    group = groups.new()
    if not group.pids:
        pytest.skip("no pids controller")
    assert in_group(group, fork_many) == 0
    assert group.remove(5.0), "what was left in it is ended"


@pytest.mark.sandbox
def test_groups_of_killed_nurseries_are_swept_and_others_are_not(groups):
    home = groups.homes["memory"]
    own = names.own()
    dead = f"{home}/{own.rsplit('-', 2)[0]}-{2**22 + 1}-1"
    foreign = f"{home}/{own.replace(own.split('-')[1], '1')}"
    os.mkdir(dead)
    os.mkdir(f"{dead}/1")
    os.mkdir(foreign)
    try:
        cgroup.sweep({home})
        assert not os.path.exists(dead)
        assert os.path.exists(foreign), "it is young, its container may be starting"
        assert all(os.path.exists(path) for path in groups._own())
    finally:
        os.rmdir(foreign)


def test_a_death_for_want_of_memory_is_a_memory_limit_and_no_crash():
    found = Session(1, (1.0, 1.0, 2**30, 1), 1)
    found.status = 9
    assert ending(found)[0] == "runtime_error"
    found.out_of_memory = True
    assert ending(found)[0] == "memory_limit"


@pytest.mark.sandbox
def test_several_processes_together_are_held_to_the_memory_of_one(groups):
    # Below the limit of address space each; only the group sees them together.
    source = (
        "import os, time\n"
        "def f():\n"
        "    for _ in range(3):\n"
        "        if os.fork() == 0:\n"
        "            hold = b'x' * (60 << 20); time.sleep(30)\n"
        "    time.sleep(0.5)\n"
        "    return len(b'x' * (150 << 20))"
    )
    limits = Limits(cpu_seconds=5, wall_seconds=20, memory_mb=200)
    with Sandbox(1, require="process", limits=limits) as box:
        if not box.isolation.cgroup:
            pytest.skip("no control group")
        assert box.isolation.memory_limit_kind == "address space + cgroup"
        (result,) = box.run([Program(source, "f", (CallTest((), 0),))])
        assert (result.verdict, result.cause) == (Verdict.memory_limit, "SIGKILL"), result
        (after,) = box.run([Program("def f(): return 0", "f", (CallTest((), 0),))])
        assert after.verdict is Verdict.passed
