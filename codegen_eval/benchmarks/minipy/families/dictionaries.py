"""Dictionaries from letters to small numbers."""

from codegen_eval.benchmarks.minipy.family import LETTERS, NUMBERS, Family, grid

DICTIONARIES = (
    Family(
        "has_key",
        "dictionaries",
        "d",
        "dict_key",
        ("Return True if d has the key {c}.", "Tell whether the letter {c} is a key of d."),
        grid(c=LETTERS),
        right=("return {c!r} in d", "return d.get({c!r}) is not None"),
        slow=(
            "return {c!r} in list(d.keys())",
            "for key in sorted(d):\n    if key == {c!r}:\n        return True\nreturn False",
        ),
        wrong=("return {c!r} not in d", "return {c!r} in d.values()", "return d.get({c!r}, 0) > 1"),
        scale=20000,
    ),
    Family(
        "value_of",
        "dictionaries",
        "d",
        "dict_key",
        ("Return the value of the key {c} in d, or 0.", "Look up {c} in d; 0 if it is missing."),
        grid(c=LETTERS),
        right=("return d.get({c!r}, 0)", "return d[{c!r}] if {c!r} in d else 0"),
        slow=("for key, value in sorted(d.items()):\n    if key == {c!r}:\n        return value\nreturn 0",),
        wrong=("return d.get({c!r}, 1)", "return {c!r} in d", "return sum(d.values())"),
        scale=10000,
    ),
    Family(
        "keys_over",
        "dictionaries",
        "d",
        "dict_values",
        (
            "Return the keys of d whose value is greater than {k}.",
            "List the keys of d that have a value above {k}.",
        ),
        grid(k=NUMBERS),
        right=(
            "return [key for key in d if d[key] > {k}]",
            "return [key for key, value in d.items() if value > {k}]",
        ),
        slow=("out = []\nfor key in d:\n    if d[key] > {k}:\n        out = out + [key]\nreturn out",),
        wrong=(
            "return [key for key in d if d[key] >= {k}]",
            "return [d[key] for key in d if d[key] > {k}]",
            "return [key for key in d if d[key] < {k}]",
        ),
        worst="dict_over",
        scale=4000,
    ),
    Family(
        "count_values_over",
        "dictionaries",
        "d",
        "dict_values",
        ("Return how many values of d are greater than {k}.", "Count the values in d above {k}."),
        grid(k=NUMBERS),
        right=(
            "return sum(1 for value in d.values() if value > {k})",
            "return len([v for v in d.values() if v > {k}])",
        ),
        slow=(
            "found = []\nfor key in d:\n    if d[key] > {k}:\n        found = found + [key]\nreturn len(found)",
        ),
        wrong=(
            "return sum(1 for value in d.values() if value >= {k})",
            "return sum(1 for value in d.values() if value < {k})",
            "return sum(value for value in d.values() if value > {k})",
        ),
        worst="dict_over",
        scale=4000,
    ),
    Family(
        "key_of_value",
        "dictionaries",
        "d",
        "dict_values",
        (
            "Return the first key of d with the value {k}, or None.",
            "Find the first key in d that maps to {k}; None if there is none.",
        ),
        grid(k=NUMBERS),
        right=(
            "for key in d:\n    if d[key] == {k}:\n        return key\nreturn None",
            "return next((key for key, v in d.items() if v == {k}), None)",
        ),
        slow=(
            "for i in range(len(d)):\n    if {k} in list(d.values())[:i + 1]:\n        return list(d)[i]\nreturn None",
        ),
        wrong=(
            "for key in d:\n    if d[key] >= {k}:\n        return key\nreturn None",
            "return d.get({k})",
            "for key in d:\n    if d[key] == {k}:\n        return {k}\nreturn None",
        ),
        worst="dict_under",
        scale=1200,
    ),
    Family(
        "without_key",
        "dictionaries",
        "d",
        "dict_key",
        ("Return a copy of d without the key {c}.", "Remove the key {c} from a copy of d."),
        grid(c=LETTERS),
        right=(
            "out = dict(d)\nout.pop({c!r}, None)\nreturn out",
            "out = {{**d}}\nout.pop({c!r}, None)\nreturn out",
        ),
        slow=(
            "out = {{}}\nfor key in d:\n    if key != {c!r}:\n        out = {{**out, key: d[key]}}\nreturn out",
        ),
        wrong=(
            "return {{key: v for key, v in d.items() if key == {c!r}}}",
            "return d",
            "return [key for key in d if key != {c!r}]",
        ),
        scale=1500,
    ),
)
