"""The runner of attack programs: it must see every harm asked after, and say what is wrong with a file."""

import json
import os
from dataclasses import replace

import pytest

from tests.sandbox import attack_records, attack_runner

SQUARE = "def f(n): return n * n\n"
CHECK = "def check(candidate):\n    assert candidate(3) == 9\n"


def record(**changes):
    made = {
        "id": "t1",
        "name": "t",
        "category": "forge",
        "description": "",
        "entry_point": "f",
        "program": SQUARE,
        "test": CHECK,
        "calls": [[[3], 9]],
        "expected": ["passed"],
        "must_not": [],
    }
    return made | changes


def read(tmp_path, *lines):
    path = tmp_path / "attacks.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return attack_records.read(path)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "give an object"),
        (record(program=None), "'program' is None"),
        (record(entry_point=3), "'entry_point' is 3"),
        (record(test=5), "'test' is 5"),
        (record(calls=[[3, 9]]), "'calls' is"),
        (record(calls=None, test=None), "nothing to run"),
        (record(expected="passed"), "'expected' is"),
        (record(expected=[]), "'expected' is empty"),
        (record(expected=["success"]), "'expected' holds success"),
        (record(must_not=["explodes"]), "unknown must_not 'explodes'"),
        (record(must_not=["verdict:good"]), "names no verdict"),
        (record(must_not=["memory_over:much"]), "needs a number"),
        (record(must_not=["file:"]), "names no path"),
    ],
)
def test_a_malformed_record_is_a_failure_with_its_place_and_reason(tmp_path, line, text):
    found = read(tmp_path, record(), line)[1]
    assert "attacks.jsonl, line 2" in found["problem"] and text in found["problem"]


def test_records_without_name_or_id_or_with_the_same_id_keep_their_own_labels(tmp_path):
    bare = {key: value for key, value in record().items() if key not in ("id", "name", "test")}
    found = read(tmp_path, record(), record(), bare, "", record())
    assert [r["label"] for r in found] == ["t1-t", "t1-t-again2", "line3-unnamed", "t1-t-again3"]
    assert not any(r.get("problem") for r in found)
    assert "no records" in read(tmp_path)[0]["problem"]


def test_placeholders_are_filled_in_every_text_whatever_they_hold():
    places = {"OUTSIDE": '/tmp/a"b\\c', "PORT": "80"}
    text = "open('@@OUTSIDE@@'); @@PORT@@"
    made = record(program=text, calls=[[["@@PORT@@"], {"@@OUTSIDE@@": 1}]], must_not=["file:@@OUTSIDE@@/x"])
    found = attack_records.fill(made, places)
    assert found["program"] == "open('/tmp/a\"b\\c'); 80"
    assert found["calls"] == [[["80"], {'/tmp/a"b\\c': 1}]] and found["must_not"] == ['file:/tmp/a"b\\c/x']


def test_a_peer_or_a_weak_level_never_runs_as_root():
    for changes in ({"executor": "script"}, {"level": "process"}):
        with pytest.raises(ValueError, match="'root' is for our own level 'full' only"):
            attack_runner.Options(mode="root", **changes)


@pytest.fixture(scope="module")
def weak():
    """Options at which programs do harm: a process of its own, no box."""
    mode = "user" if os.geteuid() == 0 else "nested"
    problem = attack_runner.box_problem(mode)
    if problem:
        pytest.skip(f"no outer box as {mode} here: {problem}")
    return attack_runner.Options(level="process", mode=mode, seconds=0.5)


def harm(statements, must_not, **changes):
    body = "".join(f"    {line}\n" for line in statements.splitlines())
    program = f"import os, time, signal\ndef f(n):\n{body}    return n * n\n"
    return record(program=program, must_not=[must_not], test=None, **changes)


HARMS = {
    "file": harm("open('@@OUTSIDE@@/x', 'w').close()", "file:@@OUTSIDE@@/x"),
    "file_changed": harm(
        "open('@@OUTSIDE@@/secret.txt', 'w').close()", "file_changed:@@OUTSIDE@@/secret.txt"
    ),
    "sibling_died": harm("os.kill(@@SIBLING@@, 9)", "sibling_died"),
    "files_left": harm("open('/tmp/x', 'w').write('x' * 100)", "files_left:0"),
    "disk_left": harm("open('/dev/shm/x', 'w').write('x' * 10**6)", "disk_left:900000"),
    "memory_over": harm(
        "x = bytearray(200 * 2**20)\nx[::4096] = x[::4096]\ntime.sleep(0.2)", "memory_over:200000000"
    ),
    "reported_time_below": harm("pass", "reported_time_below:0.5"),
    "verdict": harm("pass", "verdict:passed"),
}


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", HARMS)
def test_every_harm_is_seen(weak, tmp_path, kind):
    facts = attack_runner.run(HARMS[kind], weak, tmp_path / "out.json")
    wanted = attack_records.fill(HARMS[kind]["must_not"], {"OUTSIDE": "/tmp/outside"})
    assert facts["broken"] == wanted, facts


@pytest.mark.sandbox
def test_an_honest_program_shows_no_harm(weak, tmp_path):
    every = [*attack_records.CONDITIONS]
    values = {"verdict": ":timeout", "file": ":@@OUTSIDE@@/x", "file_changed": ":@@OUTSIDE@@/secret.txt"}
    values |= {"memory_over": ":9e8", "harness_memory": ":3e8", "disk_left": ":10", "files_left": ":0"}
    values["reported_time_below"] = ":1e-9"
    made = record(must_not=[kind + values.get(kind, "") for kind in every])
    facts = attack_runner.run(made, replace(weak, level="full"), tmp_path / "out.json")
    assert (facts["died"], facts["broken"], facts["unexpected"], facts["follow"]) == ("", [], [], []), facts
    assert [r["form"] for r in facts["results"]] == ["code", "trusted", "calls", "matrix"]


@pytest.mark.sandbox
def test_a_driver_that_is_killed_is_a_dead_harness(weak, tmp_path):
    facts = attack_runner.run(harm("os.kill(-1, 9)", "harness_died"), weak, tmp_path / "out.json")
    assert facts["died"] and facts["broken"] == ["harness_died"]


@pytest.mark.sandbox
@pytest.mark.parametrize("entry", ["Solution.f", "Solution().f", "made.f"])
def test_dotted_entry_points_are_called(weak, tmp_path, entry):
    program = "class Solution:\n    def f(self, n): return n * n\nmade = Solution()\n"
    made = record(program=program, entry_point=entry)
    facts = attack_runner.run(made, replace(weak, level="full"), tmp_path / "out.json")
    assert {r["verdict"] for r in facts["results"]} == {"passed"} and facts["follow"] == [], facts


@pytest.mark.sandbox
def test_a_program_beyond_the_length_of_an_argument_is_handed_over(weak, tmp_path):
    made = record(program=SQUARE + "#" * 300_000 + "\n\ud800".encode("utf-8", "ignore").decode())
    facts = attack_runner.run(made, replace(weak, level="full"), tmp_path / "out.json")
    assert {r["verdict"] for r in facts["results"]} == {"passed"}, facts
