"""Levels of isolation: what each promises holds, what it lacks is said, and none takes another's place."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from sandbox import CallTest, IsolationUnavailable, Limits, Program, Sandbox, SandboxError, Verdict, pool
from sandbox.isolation import landlock, levels
from sandbox.isolation.place import PLACES

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
LIMITS = Limits(cpu_seconds=1, wall_seconds=10, memory_mb=256)
FACTS = {"landlock": 7, "cgroup": "v1", "no_cgroup": "", "no_user": ""}
# Installs a filter that refuses some system calls, as a container's does; then goes on.
REFUSE = f"""
import sys; sys.path.insert(0, {str(REPO)!r})
from sandbox.isolation import libc, seccomp
def refuse(error, *numbers):
    code = seccomp._head()
    for number in numbers:
        code += [seccomp._equal(number, 0, 1), seccomp._refuse(error)]
    libc.no_new_privs()
    seccomp.install(seccomp._assemble([*code, seccomp._ALLOW]))
"""
X86_UNSHARE, X86_MOUNT, LANDLOCK = 272, 165, 444
on_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are x86_64's")


def opened(level, workers=1):
    try:
        return Sandbox(workers, require=level, limits=LIMITS)
    except IsolationUnavailable as error:
        if level == "full":
            raise
        pytest.skip(str(error))


def run_script(body, *command):
    script = REFUSE + textwrap.dedent(body)
    return subprocess.run(
        [*command, sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd="/"
    )


@pytest.mark.sandbox
@pytest.mark.parametrize("level", levels.LEVELS)
def test_a_result_says_what_was_in_force(level):
    with opened(level) as box:
        (result,) = box.run([Program("def f(n): return n * n", "f", (CallTest((3,), 9),))])
    found, place = result.isolation, PLACES[level]
    assert result.verdict is Verdict.passed
    assert found.level == level and found.seccomp == bool(place.filter)
    assert ("user" in found.namespaces) == place.boxed
    assert (found.landlock_abi > 0) <= place.landlock
    assert ("cgroup" in found.memory_limit_kind) == (found.cgroup in ("v1", "v2"))
    assert ("namespaces" in found.missing) != place.boxed


@pytest.mark.parametrize("level", levels.LEVELS)
def test_what_is_missing_follows_from_what_the_engine_found(level):
    nothing = {"landlock": 0, "cgroup": "", "no_cgroup": "read-only", "no_user": "not root"}
    missing = levels.describe(level, nothing).missing
    assert "Landlock" in missing
    assert ("cgroup (read-only)" in missing) == (level != "none")
    assert ("separate user (not root)" in missing) == (level != "full")
    assert levels.describe("full", FACTS).missing == ()
    assert levels.describe(level, FACTS).memory_limit_kind.startswith(
        "none" if level == "none" else "address"
    )


SCRIPT_OF_ALL = """
import json, sys
from pathlib import Path
sys.path.insert(0, REPO)
from sandbox import CallTest, IsolationUnavailable, Limits, Program, Sandbox
from sandbox.isolation import levels
found = {}
for level in levels.LEVELS:
    try:
        with Sandbox(2, require=level, limits=Limits(cpu_seconds=1, wall_seconds=10, memory_mb=256)) as box:
            (r,) = box.run([Program("def f(n): return n * n", "f", (CallTest((3,), 9),))])
            doors = tuple(CallTest((name,), True) for name in levels.DOORS)
            (d,) = box.run([Program(levels.self_check(), "reach", doors)], all_tests=True)
            held = [n for n, c in zip(levels.DOORS, d.cells, strict=True) if c.verdict == "passed"]
            found[level] = {"verdict": r.verdict, "isolation": box.isolation.to_json(), "held": held}
    except IsolationUnavailable as error:
        found[level] = {"problem": str(error)}
Path("/tmp/out.json").write_text(json.dumps(found))
"""


@pytest.mark.sandbox
@pytest.mark.parametrize("mode", ["root", "user", "nested"])
def test_levels_work_as(mode, tmp_path):
    if mode != "nested" and os.geteuid() != 0:
        pytest.skip("needs root to become root or uid 65534")
    output = tmp_path / "out.json"
    tmp_path.chmod(0o755)
    script = SCRIPT_OF_ALL.replace("REPO", repr(str(REPO)))
    box = [sys.executable, str(HERE / "outer_box.py"), mode, str(output), "150"]
    done = subprocess.run(
        [*box, sys.executable, "-c", script], capture_output=True, text=True, timeout=180, cwd="/"
    )
    if not (output.exists() and output.stat().st_size):
        pytest.fail(f"no report: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    found = json.loads(output.read_text())
    for level in levels.LEVELS:
        if "problem" in found[level]:
            assert (
                mode == "root" and level == "seccomp" and "other users cannot read" in found[level]["problem"]
            )
            continue
        assert found[level]["verdict"] == "passed", found[level]
        assert set(levels.PROMISES[level]) <= set(found[level]["held"]), found[level]
    assert found["full"]["isolation"]["level"] == "full"
    assert found["filter"]["isolation"]["landlock_abi"] >= 1


@pytest.mark.sandbox
def test_the_self_check_finds_the_doors_of_a_weak_level_open():
    tests = tuple(CallTest((name,), True) for name in levels.PROMISES["full"])
    with opened("process") as box:
        (result,) = box.run([Program(levels.self_check(), "reach", tests)], all_tests=True)
    cells = zip(levels.PROMISES["full"], result.cells, strict=True)
    found = {name for name, cell in cells if cell.verdict is Verdict.wrong_answer}
    assert {"fork", "exec", "signal", "network", "read", "write"} <= found
    with pytest.raises(IsolationUnavailable, match="found open: no new processes"):
        levels.judge_self_check("full", result)


@pytest.mark.sandbox
@on_x86
def test_where_namespaces_are_refused_the_message_says_how_to_get_them_and_what_works_instead():
    # As Docker's default profile does.
    done = run_script(f"""
        refuse(1, {X86_UNSHARE}, {X86_MOUNT})
        from sandbox import IsolationUnavailable, Sandbox
        try:
            Sandbox(1)
        except IsolationUnavailable as error:
            print(error)
    """)
    for part in ("'full'", "unshare", "user.max_user_namespaces", "--security-opt seccomp=unconfined"):
        assert part in done.stdout, done
    assert "The strongest that works here is require='filter' (tried just now)" in done.stdout
    assert done.stderr == "", "only tried: nothing is in force that must be announced"


@pytest.mark.sandbox
@on_x86
def test_where_landlock_is_refused_filter_is_and_full_goes_on_without_it():
    done = run_script(f"""
        refuse(38, {LANDLOCK})
        from sandbox import IsolationUnavailable, Sandbox
        try:
            Sandbox(1, require="filter")
        except IsolationUnavailable as error:
            print(error)
        with Sandbox(1) as box:
            print(box.isolation.landlock_abi, box.isolation.missing)
    """)
    assert "landlock: Function not implemented" in done.stdout and "lsm=landlock" in done.stdout, done
    assert "0 ('Landlock'" in done.stdout


@pytest.mark.sandbox
def test_less_than_full_is_announced_once_a_process_and_level():
    done = run_script("""
        from sandbox import Sandbox
        for level in ("process", "process", "none", "full"):
            Sandbox(1, require=level).close()
    """)
    lines = done.stderr.splitlines()
    assert [line.split("'")[1] for line in lines] == ["process", "none"], done.stderr
    assert "Missing: namespaces" in lines[0] and "codealign doctor" in lines[0]


def test_a_refusal_proposes_nothing_that_was_not_tried():
    tried = []

    def works(level):
        tried.append(level)
        return level == "process"

    error = levels.refusal("full", "PermissionError: [Errno 1] unshare: Operation not permitted", works)
    assert tried == ["filter", "seccomp", "process"] and "require='process'" in str(error)
    assert "No weaker level works" in str(levels.refusal("seccomp", "seccomp: no", lambda level: False))


@pytest.mark.sandbox
def test_a_level_that_does_not_hold_is_refused_and_leaves_no_engine(monkeypatch):
    monkeypatch.setitem(levels.PROMISES, "process", levels.PROMISES["full"])
    clients = []
    monkeypatch.setattr(pool, "Client", lambda settings: clients.append(made := CLIENT(settings)) or made)
    with pytest.raises(IsolationUnavailable, match=r"found open: .*no new processes.*No weaker level"):
        Sandbox(1, require="process")
    assert clients and not any(client.usable for client in clients)


CLIENT = pool.Client


@pytest.mark.sandbox
@pytest.mark.parametrize("level", ["filter", "process"])
def test_files_together_are_bounded_where_no_file_system_bounds_them(level):
    source = (
        "def f():\n    for i in range(10**6):\n"
        "        with open(f'x{i}', 'wb') as file:\n            file.write(bytes(2**20))"
    )
    with opened(level) as box:
        big, after = box.run(
            [Program(source, "f", (CallTest((), 0),)), Program(NAMES, "f", (CallTest((), []),))]
        )
    assert big.verdict is Verdict.output_limit, big
    assert after.verdict is Verdict.passed, "the next program finds an empty directory"


NAMES = "import os\ndef f(): return os.listdir('.')"


@pytest.mark.sandbox
@pytest.mark.parametrize("level", ["filter", "process"])
def test_a_program_may_use_its_own_directory_and_leaves_nothing_there(level):
    source = (
        "import os, tempfile\ndef f():\n    os.makedirs('a/b')\n    open('a/b/c', 'w').write('x')\n"
        "    os.rename('a/b/c', 'd')\n    return open('d').read() + str(os.path.exists(tempfile.mkdtemp()))"
    )
    with opened(level) as box:
        result, after = box.run(
            [Program(source, "f", (CallTest((), "xTrue"),)), Program(NAMES, "f", (CallTest((), []),))]
        )
    assert result.verdict is Verdict.passed, result
    assert after.verdict is Verdict.passed


@pytest.mark.sandbox
@pytest.mark.parametrize("level", ["full", "filter", "process"])
def test_files_are_copied_with_their_modes_at_every_level_that_has_files(level):
    source = (
        "import os, shutil\ndef f():\n    open('a', 'w').write('x')\n    shutil.copy2('a', 'b')\n"
        "    os.chmod('b', 0o600)\n    return open('b').read()"
    )
    with opened(level) as box:
        (result,) = box.run([Program(source, "f", (CallTest((), "x"),))])
    assert result.verdict is Verdict.passed, result


@pytest.mark.sandbox
@pytest.mark.parametrize("level", ["full", "filter", "seccomp"])
def test_threads_numbers_and_late_imports_work_at_every_filtered_level(level):
    source = (
        "import threading, decimal, asyncio, json, datetime\n"
        "def f(n):\n    out = []\n    t = threading.Thread(target=out.append, args=(n,))\n"
        "    t.start(); t.join()\n"
        "    async def g(): return str(decimal.Decimal(n) / 4)\n"
        "    return [out, asyncio.run(g()), json.dumps([n])]"
    )
    with opened(level) as box:
        (result,) = box.run([Program(source, "f", (CallTest((3,), [[3], "0.75", "[3]"]),))])
    assert result.verdict is Verdict.passed, result


def test_landlock_gives_a_directory_with_something_hidden_in_it_entry_by_entry(tmp_path):
    for name in ("lib/a", "lib/site-packages/answers", "lib/c"):
        (tmp_path / name).mkdir(parents=True)
    top = str(tmp_path / "lib")
    found = list(landlock.without([top], [f"{top}/site-packages"]))
    assert found == [(top, True), (f"{top}/a", False), (f"{top}/c", False)]


@pytest.mark.sandbox
def test_installed_packages_cannot_be_read_at_level_filter():
    import numpy

    path = numpy.__file__
    with opened("filter") as box:
        source = (
            f"def f():\n    try:\n        return len(open({path!r}).read())\n    except OSError: return 0"
        )
        (result,) = box.run([Program(source, "f", (CallTest((), 0),))])
    assert result.verdict is Verdict.passed, result


def test_unknown_levels_are_refused_by_name():
    with pytest.raises(ValueError, match=r"'strong'.*full, filter, seccomp, process, none"):
        Sandbox(1, require="strong")
    assert issubclass(IsolationUnavailable, SandboxError)


DEEP = (
    "import os\ndef f():\n    for _ in range(900):\n        os.mkdir('d')\n        os.chdir('d')\n"
    "    os.mkdir('locked', 0)\n    return os.getpid() and 1"
)


@pytest.mark.sandbox
@pytest.mark.parametrize("level", ["full", "filter", "process"])
def test_directories_of_any_depth_are_gone_before_the_next_program(level):
    with opened(level) as box:
        deep, after = box.run(
            [Program(DEEP, "f", (CallTest((), 1),)), Program(NAMES, "f", (CallTest((), []),))]
        )
        assert deep.verdict is Verdict.passed, deep
        assert after.verdict is Verdict.passed, after
        if level != "full":
            nursery = box._client.info["nursery"]
            top = next(Path(tempfile.gettempdir()).glob(f"sandbox-*-{nursery}-*"))
            end = time.monotonic() + 10
            while any(any(place.iterdir()) for place in top.iterdir()) and time.monotonic() < end:
                time.sleep(0.05)
            assert not any(any(place.iterdir()) for place in top.iterdir()), "not only at the end"
