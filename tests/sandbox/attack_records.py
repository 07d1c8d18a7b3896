"""Attack programs as records: reading a file of them, filling placeholders, what each `must_not` means.

A file holds one JSON object a line with `id, name, category, description, entry_point, program, test, calls,
expected, must_not`. What is wrong with a line is kept as the record's `problem`, so that it becomes a failing
test with a clear text rather than a file that cannot be read. Standard library only.
"""

import json
from pathlib import Path

VERDICTS = (
    "passed",
    "wrong_answer",
    "runtime_error",
    "syntax_error",
    "timeout",
    "memory_limit",
    "output_limit",
    "violation",
)
# What a condition's value after the colon must be.
CONDITIONS = {
    "verdict": "verdict",
    "file": "path",
    "file_changed": "path",
    "process_left": "",
    "sibling_died": "",
    "harness_died": "",
    "slow": "",
    "memory_over": "number",
    "harness_memory": "number",
    "disk_left": "number",
    "files_left": "number",
    "reported_time_below": "number",
}


def read(path):
    """The records of a file, in order; those that cannot be run have a `problem`."""
    records = []
    seen = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        place = f"{Path(path).name}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            record = {"problem": f"{place}: not JSON: {error}"}
        if not isinstance(record, dict):
            record = {"problem": f"{place}: a {type(record).__name__}; give an object"}
        problem = record.get("problem") or _problem(record)
        if problem:
            record["problem"] = problem if problem.startswith(place) else f"{place}: {problem}"
        label = f"{record.get('id', f'line{number}')}-{record.get('name', 'unnamed')}"
        seen[label] = seen.get(label, 0) + 1
        record["label"] = label if seen[label] == 1 else f"{label}-again{seen[label]}"
        records.append(record)
    if not records:
        records.append({"problem": f"{Path(path).name} holds no records", "label": "empty-file"})
    return records


def _problem(record):
    for key in ("program", "entry_point"):
        if not isinstance(record.get(key), str):
            return f"{key!r} is {record.get(key)!r:.80}; give text"
    test, calls = record.get("test"), record.get("calls")
    if test is not None and not isinstance(test, str):
        return f"'test' is {test!r:.80}; give text or null"
    if calls is not None and not _are_calls(calls):
        return f"'calls' is {calls!r:.80}; give a list of [arguments, expected], or null"
    if not test and not calls:
        return "neither 'test' nor 'calls': nothing to run"
    for key in ("expected", "must_not"):
        found = record.get(key)
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            return f"{key!r} is {found!r:.80}; give a list of texts"
    unknown = [verdict for verdict in record["expected"] if verdict not in VERDICTS]
    if unknown:
        return f"'expected' holds {', '.join(unknown)}; known are {', '.join(VERDICTS)}"
    if not record["expected"]:
        return "'expected' is empty: no outcome would be right"
    return next(filter(None, map(condition_problem, record["must_not"])), "")


def _are_calls(calls):
    return isinstance(calls, list) and all(
        isinstance(call, list) and len(call) == 2 and isinstance(call[0], list) for call in calls
    )


def condition_problem(condition):
    """What is wrong with an item of `must_not`; "" when nothing is."""
    kind, _, value = condition.partition(":")
    if kind not in CONDITIONS:
        return f"unknown must_not {condition!r}; known are {', '.join(CONDITIONS)}"
    wanted = CONDITIONS[kind]
    if wanted == "verdict" and value not in VERDICTS:
        return f"must_not {condition!r} names no verdict; known are {', '.join(VERDICTS)}"
    if wanted == "path" and not value:
        return f"must_not {condition!r} names no path"
    if wanted == "number":
        try:
            float(value)
        except ValueError:
            return f"must_not {condition!r} needs a number after the colon"
    return ""


def fill(value, places):
    """The record with `@@NAME@@` replaced in every text of it."""
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace(f"@@{name}@@", text)
        return value
    if isinstance(value, list):
        return [fill(item, places) for item in value]
    if isinstance(value, dict):
        return {fill(key, places): fill(item, places) for key, item in value.items()}
    return value


def with_plain_entry(record):
    """The record with an entry point that is one name: `Solution.f` gets a function that calls it."""
    entry = record["entry_point"]
    if entry.isidentifier():
        return record
    adapter = (
        "\n\ndef attack_entry(*args, **kwargs):\n"
        f"    first, *rest = {entry!r}.replace('()', '').split('.')\n"
        "    found = globals()[first]\n"
        "    for name in rest:\n"
        "        found = getattr(found() if isinstance(found, type) else found, name)\n"
        "    return found(*args, **kwargs)\n"
    )
    return {**record, "program": record["program"] + adapter, "entry_point": "attack_entry"}


NEIGHBOUR_ARGUMENT = "neighbour, is that you?"
NEIGHBOUR_TEST = f"def check(candidate):\n    assert candidate({NEIGHBOUR_ARGUMENT!r}) == 'it is'\n"


def neighbour(record):
    """An honest program that answers all calls of a record rightly, and `NEIGHBOUR_TEST`."""
    table = {repr(tuple(args)): expected for args, expected in record.get("calls") or []}
    return (
        "inf, nan = float('inf'), float('nan')\n"
        f"_ANSWERS = {table!r}\n"
        f"def {record['entry_point']}(*args):\n"
        f"    return 'it is' if args == ({NEIGHBOUR_ARGUMENT!r},) else _ANSWERS[repr(args)]\n"
    )


def happened(condition, facts):
    """Whether one `must_not` came true.

    Args:
        condition: An item of `must_not`.
        facts: `results` (a list with verdict, wall, limit, cpu), `before` and `after` (contents of the files
            named), `left`, `sibling_alive`, `memory`, `harness_memory`, `disk` (files, bytes),
            `harness_alive`.
    """
    kind, _, value = condition.partition(":")
    results = facts["results"]
    return {
        "verdict": lambda: any(r["verdict"] == value for r in results),
        "file": lambda: facts["after"].get(value) is not None,
        "file_changed": lambda: facts["before"].get(value) != facts["after"].get(value),
        "process_left": lambda: bool(facts["left"]),
        "sibling_died": lambda: not facts["sibling_alive"],
        "harness_died": lambda: not facts["harness_alive"],
        "slow": lambda: any(r["wall"] > r["limit"] + 2 for r in results),
        "memory_over": lambda: facts["memory"] > float(value),
        "harness_memory": lambda: facts["harness_memory"] > float(value),
        "disk_left": lambda: facts["disk"][1] > float(value),
        "files_left": lambda: facts["disk"][0] > float(value),
        # What did not pass was ended at some time that nobody claims to be the program's.
        "reported_time_below": lambda: any(
            r["cpu"] < float(value) for r in results if r["verdict"] == "passed"
        ),
    }[kind]()


def is_patient(record):
    """Whether a record gets ample time: it is to pass, and to show nothing about limits."""
    return "passed" in record["expected"] and "timeout" not in record["expected"]


def files_named(record):
    """Paths that the conditions of a record ask after."""
    for condition in record["must_not"]:
        kind, _, value = condition.partition(":")
        if kind in ("file", "file_changed"):
            yield value
