"""Tables of programs and what must come of them, run once a file inside an outer box."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sandbox import languages

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]
SECONDS = "270"
OUTER = HERE.parent / "outer_box.py"


def needs(language):
    """A mark that skips, with the reason, where the toolchain is absent."""
    try:
        languages.get(language).toolchain()
    except languages.LanguageUnavailable as error:
        return [pytest.mark.sandbox, pytest.mark.skip(reason=str(error))]
    return [pytest.mark.sandbox]


def case(name, source, verdict, cause=None, *, stdin="", expected="", message="", **limits):
    record = {"name": name, "source": source, "stdin": stdin, "expected": expected, "limits": limits}
    return pytest.param(
        {**record, "verdict": verdict, "cause": cause, "message": message}, id=name.replace(" ", "_")
    )


@functools.cache
def _outcomes(language, text):
    mode = os.environ.get("ATTACKS_AS", "root" if os.geteuid() == 0 else "nested").split(",")[0]
    output = Path(tempfile.gettempdir()) / f"languages-{os.getpid()}-{language}.json"
    command = [
        sys.executable,
        str(OUTER),
        mode,
        str(output),
        SECONDS,
        sys.executable,
        str(HERE / "driver.py"),
        str(REPO),
    ]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=280, cwd="/")
        content = output.read_text() if output.exists() else ""
    finally:
        output.unlink(missing_ok=True)
    if not content:
        if "unshare" in done.stderr or "mount" in done.stderr:
            pytest.skip(f"this machine gives no outer box as {mode}: attack programs do not run without one")
        raise AssertionError(f"the harness died:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return json.loads(content)


def outcomes(language, params):
    """What came of all cases of a file."""
    keys = ("name", "source", "stdin", "expected", "limits")
    records = [{"language": language, **{key: p.values[0][key] for key in keys}} for p in params]
    return _outcomes(language, json.dumps(records))


def check(language, params, record):
    """Compare one case's outcome with what must come."""
    found = outcomes(language, params)["results"][record["name"]]
    verdicts = record["verdict"] if isinstance(record["verdict"], tuple) else (record["verdict"],)
    assert found["verdict"] in verdicts, found
    if record["cause"] is not None:
        assert found["cause"] == record["cause"], found
    assert record["message"] in found["message"], found
    assert "the-secret" not in found["message"] and "root:" not in found["message"], found


def what_is_left(language, params):
    """Processes and files that are there after all cases of a file, and the harness's own file."""
    facts = outcomes(language, params)
    return facts["left"], facts["files"], facts["secret"]


NOTHING = ([], [], "the-secret")
