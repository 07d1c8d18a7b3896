"""Yes-or-no questions about lists: the answers are easy to foresee, the boundaries easy to miss."""

from codegen_eval.benchmarks.minipy.family import NUMBERS, RANGES, Family, grid, pairs

QUESTIONS = (
    Family(
        "has_over",
        "lists",
        "xs",
        "ints",
        ("Return True if any number in xs is greater than {k}.", "Tell whether xs holds a number above {k}."),
        grid(k=NUMBERS),
        right=(
            "return any(x > {k} for x in xs)",
            "for x in xs:\n    if x > {k}:\n        return True\nreturn False",
        ),
        slow=("for i in range(len(xs)):\n    if max(xs[:i + 1]) > {k}:\n        return True\nreturn False",),
        wrong=(
            "return any(x >= {k} for x in xs)",
            "return all(x > {k} for x in xs)",
            "return any(x < {k} for x in xs)",
        ),
        worst="ints_under",
    ),
    Family(
        "all_under",
        "lists",
        "xs",
        "ints",
        (
            "Return True if every number in xs is less than {k}.",
            "Tell whether all numbers in xs are below {k}.",
        ),
        grid(k=NUMBERS),
        right=(
            "return all(x < {k} for x in xs)",
            "for x in xs:\n    if x >= {k}:\n        return False\nreturn True",
        ),
        slow=("for i in range(len(xs)):\n    if max(xs[:i + 1]) >= {k}:\n        return False\nreturn True",),
        wrong=(
            "return all(x <= {k} for x in xs)",
            "return any(x < {k} for x in xs)",
            "return all(x > {k} for x in xs)",
        ),
        worst="ints_under",
    ),
    Family(
        "contains",
        "lists",
        "xs",
        "ints",
        ("Return True if {k} is in xs.", "Tell whether the number {k} occurs in xs."),
        grid(k=NUMBERS),
        right=("return {k} in xs", "for x in xs:\n    if x == {k}:\n        return True\nreturn False"),
        slow=(
            "for i in range(len(xs)):\n    if xs[:i + 1].count({k}) > 0:\n        return True\nreturn False",
        ),
        wrong=(
            "return {k} not in xs",
            "return len(xs) > 0 and xs[0] == {k}",
            "return len(xs) > 0 and max(xs) >= {k}",
        ),
        worst="ints_under",
    ),
    Family(
        "starts_with_number",
        "lists",
        "xs",
        "ints",
        ("Return True if the first number in xs is {k}.", "Tell whether xs begins with {k}."),
        grid(k=NUMBERS),
        right=("return len(xs) > 0 and xs[0] == {k}", "if not xs:\n    return False\nreturn xs[0] == {k}"),
        slow=("seen = []\nfor x in xs:\n    seen = seen + [x]\nreturn seen[:1] == [{k}]",),
        wrong=(
            "return {k} in xs",
            "return len(xs) > 0 and xs[-1] == {k}",
            "return len(xs) > 0 and xs[0] >= {k}",
        ),
        scale=4000,
    ),
    Family(
        "ends_with_number",
        "lists",
        "xs",
        "ints",
        ("Return True if the last number in xs is {k}.", "Tell whether xs ends with {k}."),
        grid(k=NUMBERS),
        right=("return len(xs) > 0 and xs[-1] == {k}", "if not xs:\n    return False\nreturn xs[-1] == {k}"),
        slow=("while len(xs) > 1:\n    xs = xs[1:]\nreturn xs == [{k}]",),
        wrong=(
            "return {k} in xs",
            "return len(xs) > 0 and xs[0] == {k}",
            "return len(xs) > 0 and xs[-1] <= {k}",
        ),
        scale=4000,
    ),
    Family(
        "all_between",
        "lists",
        "xs",
        "ints_range",
        (
            "Return True if every number in xs is from {lo} to {hi}.",
            "Tell whether all numbers in xs are at least {lo} and at most {hi}.",
        ),
        pairs("lo", "hi", RANGES),
        right=(
            "return all({lo} <= x <= {hi} for x in xs)",
            "for x in xs:\n    if x < {lo} or x > {hi}:\n        return False\nreturn True",
        ),
        slow=(
            "for i in range(len(xs)):\n    if min(xs[:i + 1]) < {lo} or max(xs[:i + 1]) > {hi}:\n        return False\nreturn True",
        ),
        wrong=(
            "return all({lo} < x < {hi} for x in xs)",
            "return any({lo} <= x <= {hi} for x in xs)",
            "return all({lo} <= x < {hi} for x in xs)",
        ),
        worst="ints_inside",
    ),
    Family(
        "has_twice",
        "lists",
        "xs",
        "ints_repeats",
        ("Return True if {k} occurs at least twice in xs.", "Tell whether xs holds {k} two times or more."),
        grid(k=NUMBERS),
        right=(
            "return xs.count({k}) >= 2",
            "count = 0\nfor x in xs:\n    if x == {k}:\n        count += 1\nreturn count >= 2",
        ),
        slow=(
            "for i in range(len(xs)):\n    for j in range(i):\n        if xs[i] == {k} and xs[j] == {k}:\n            return True\nreturn False",
        ),
        wrong=("return {k} in xs", "return xs.count({k}) == 2", "return xs.count({k}) > 2"),
        worst="ints_under",
        scale=1200,
    ),
    Family(
        "has_multiple",
        "lists",
        "xs",
        "ints_small",
        ("Return True if any number in xs is divisible by {k}.", "Tell whether xs holds a multiple of {k}."),
        grid(k=NUMBERS),
        right=(
            "return any(x % {k} == 0 for x in xs)",
            "for x in xs:\n    if x % {k} == 0:\n        return True\nreturn False",
        ),
        slow=(
            "for i in range(len(xs)):\n    if 0 in [x % {k} for x in xs[:i + 1]]:\n        return True\nreturn False",
        ),
        wrong=(
            "return any(x % {k} != 0 for x in xs)",
            "return all(x % {k} == 0 for x in xs)",
            "return {k} in xs",
        ),
        worst="ints_not_multiple",
        scale=1000,
    ),
)
