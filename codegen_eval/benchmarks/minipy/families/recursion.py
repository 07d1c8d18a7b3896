"""Tasks whose natural definition is recursive."""

from codegen_eval.benchmarks.minipy.family import NUMBERS, Family, grid, pairs

_STARTS = tuple((a, b) for a in (1, 2, 3) for b in (0, 1, 2, 3, 4, 5))

RECURSION = (
    Family(
        "sequence",
        "recursion",
        "n",
        "int_tiny",
        (
            "Return s(n) where s(0) = {a}, s(1) = {b} and s(n) = s(n - 1) + s(n - 2).",
            "Return element n of the sequence {a}, {b}, ... in which each is the sum of the two before.",
        ),
        pairs("a", "b", _STARTS),
        right=("a, b = {a}, {b}\nfor i in range(n):\n    a, b = b, a + b\nreturn a",),
        slow=("if n < 2:\n    return {a} if n == 0 else {b}\nreturn sequence(n - 1) + sequence(n - 2)",),
        wrong=(
            "a, b = {a}, {b}\nfor i in range(n):\n    a, b = b, a + b\nreturn b",
            "return {a} + n * {b}",
            "a, b = {a}, {b}\nfor i in range(n + 2):\n    a, b = b, a + b\nreturn a",
        ),
        scale=20,
        worst="exact",
    ),
    Family(
        "countdown",
        "recursion",
        "n",
        "int_tiny",
        (
            "Return the numbers n, n - 1, ... down to 1, then {k}.",
            "Count down from n to 1 and end with {k}; only {k} if n is 0.",
        ),
        grid(k=NUMBERS),
        right=(
            "return list(range(n, 0, -1)) + [{k}]",
            "out = []\nwhile n > 0:\n    out.append(n)\n    n -= 1\nreturn out + [{k}]",
        ),
        slow=("if n == 0:\n    return [{k}]\nreturn [n] + countdown(n - 1)",),
        wrong=(
            "return list(range(n, -1, -1)) + [{k}]",
            "return list(range(n, 0, -1))",
            "return list(range(1, n + 1)) + [{k}]",
        ),
        scale=700,
        worst="exact",
    ),
    Family(
        "repeat_number",
        "recursion",
        "n",
        "int_tiny",
        ("Return a list with {k} repeated n times.", "Build a list that holds {k} exactly n times."),
        grid(k=NUMBERS),
        right=("return [{k}] * n", "return n * [{k}]"),
        slow=("if n == 0:\n    return []\nreturn repeat_number(n - 1) + [{k}]",),
        wrong=("return [n] * {k}", "return [{k}] * (n + 1)", "return {k} * n"),
        scale=700,
        worst="exact",
    ),
    Family(
        "double_up",
        "recursion",
        "n",
        "int_tiny",
        ("Start with {k} and double it n times; return the result.", "Return {k} times 2 to the power n."),
        grid(k=NUMBERS),
        right=("return {k} * 2 ** n", "value = {k}\nfor i in range(n):\n    value *= 2\nreturn value"),
        slow=("if n == 0:\n    return {k}\nreturn double_up(n - 1) + double_up(n - 1)",),
        wrong=("return {k} * 2 * n", "return {k} * 2 ** n + 1", "return {k} ** n"),
        scale=14,
        worst="exact",
    ),
    Family(
        "all_same",
        "recursion",
        "xs",
        "ints_repeats",
        ("Return True if every number in xs is {k}.", "Tell whether xs holds nothing but {k}."),
        grid(k=NUMBERS),
        right=("return xs.count({k}) == len(xs)", "return xs == [{k}] * len(xs)"),
        slow=("if not xs:\n    return True\nreturn xs[0] == {k} and all_same(xs[1:])",),
        wrong=("return {k} in xs", "return any(x == {k} for x in xs)", "return len(set(xs)) == 1"),
        worst="ints_same",
        scale=700,
    ),
    Family(
        "sum_parts",
        "recursion",
        "n",
        "int_multiple",
        (
            "Return [{k}, {k}, ...] with the rest of n at the end if it is not 0.",
            "Split n into parts of {k}; the rest, if any, comes last.",
        ),
        grid(k=NUMBERS),
        right=("out = [{k}] * (n // {k})\nreturn out + [n % {k}] if n % {k} else out",),
        slow=(
            "out = []\nwhile n > {k}:\n    out = out + [{k}]\n    n -= {k}\nreturn out + [n] if n else out",
        ),
        wrong=(
            "return [{k}] * (n // {k})",
            "return [{k}] * (n // {k}) + [n % {k}]",
            "return [{k}] * (n // {k} + 1)",
        ),
        scale=60000,
    ),
)
