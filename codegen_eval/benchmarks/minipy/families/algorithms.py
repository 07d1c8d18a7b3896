"""Simple algorithms: runs, pairs, extremes, binary search."""

from codegen_eval.benchmarks.minipy.family import NUMBERS, Family, grid

ALGORITHMS = (
    Family(
        "largest_under",
        "algorithms",
        "xs",
        "ints",
        (
            "Return the largest number in xs that is less than {k}, or -1.",
            "Find the greatest number below {k} in xs; -1 if there is none.",
        ),
        grid(k=NUMBERS),
        right=(
            "return max([x for x in xs if x < {k}], default=-1)",
            "best = -1\nfor x in xs:\n    if best < x < {k}:\n        best = x\nreturn best",
        ),
        slow=(
            "best = -1\nfor i in range(len(xs)):\n    best = max([x for x in xs[:i + 1] if x < {k}], default=-1)\nreturn best",
        ),
        wrong=(
            "return max([x for x in xs if x <= {k}], default=-1)",
            "return min([x for x in xs if x < {k}], default=-1)",
            "return max([x for x in xs if x > {k}], default=-1)",
        ),
        scale=1000,
    ),
    Family(
        "smallest_over",
        "algorithms",
        "xs",
        "ints",
        (
            "Return the smallest number in xs that is greater than {k}, or -1.",
            "Find the least number above {k} in xs; -1 if there is none.",
        ),
        grid(k=NUMBERS),
        right=(
            "return min([x for x in xs if x > {k}], default=-1)",
            "best = -1\nfor x in xs:\n    if x > {k} and (best == -1 or x < best):\n        best = x\nreturn best",
        ),
        slow=(
            "best = -1\nfor i in range(len(xs)):\n    best = min([x for x in xs[:i + 1] if x > {k}], default=-1)\nreturn best",
        ),
        wrong=(
            "return min([x for x in xs if x >= {k}], default=-1)",
            "return max([x for x in xs if x > {k}], default=-1)",
            "return min([x for x in xs if x < {k}], default=-1)",
        ),
        scale=1000,
    ),
    Family(
        "longest_run",
        "algorithms",
        "xs",
        "ints_runs",
        (
            "Return the length of the longest run of {k} in xs.",
            "Return how many times {k} stands in a row in xs at most.",
        ),
        grid(k=NUMBERS),
        right=(
            "best = run = 0\nfor x in xs:\n    run = run + 1 if x == {k} else 0\n    best = max(best, run)\nreturn best",
        ),
        slow=(
            "best = 0\nfor i in range(len(xs)):\n    run = 0\n    while i + run < len(xs) and xs[i + run] == {k}:\n        run += 1\n    best = max(best, run)\nreturn best",
        ),
        wrong=(
            "return xs.count({k})",
            "run = 0\nfor x in xs:\n    run = run + 1 if x == {k} else 0\nreturn run",
            "return 1 if {k} in xs else 0",
        ),
        worst="ints_same",
        scale=700,
    ),
    Family(
        "has_pair_sum",
        "algorithms",
        "xs",
        "ints_sum",
        (
            "Return True if two numbers in xs add up to {k}.",
            "Tell whether the sum of two different elements of xs is {k}.",
        ),
        grid(k=tuple(range(3, 21))),
        right=(
            "seen = set()\nfor x in xs:\n    if {k} - x in seen:\n        return True\n    seen.add(x)\nreturn False",
        ),
        slow=(
            "for i in range(len(xs)):\n    for j in range(i):\n        if xs[i] + xs[j] == {k}:\n            return True\nreturn False",
        ),
        wrong=("return sum(xs) == {k}", "return any({k} - x in xs for x in xs)", "return {k} in xs"),
        worst="ints_large",
        scale=800,
    ),
    Family(
        "count_sorted_under",
        "algorithms",
        "xs",
        "ints_sorted",
        (
            "Return how many numbers of the sorted list xs are less than {k}.",
            "Return the index at which {k} belongs in the sorted list xs.",
        ),
        grid(k=NUMBERS),
        right=(
            "lo, hi = 0, len(xs)\nwhile lo < hi:\n    mid = (lo + hi) // 2\n    if xs[mid] < {k}:\n        lo = mid + 1\n    else:\n        hi = mid\nreturn lo",
        ),
        slow=("return sum(1 for x in xs if x < {k})",),
        wrong=(
            "return sum(1 for x in xs if x <= {k})",
            "return sum(1 for x in xs if x > {k})",
            "return len(xs)",
        ),
        worst="ints_under",
        scale=20000,
    ),
    Family(
        "unique_over",
        "algorithms",
        "xs",
        "ints_double",
        (
            "Return the numbers in xs greater than {k}, each one once, sorted.",
            "Return the sorted distinct numbers of xs above {k}.",
        ),
        grid(k=NUMBERS),
        right=("return sorted(set(x for x in xs if x > {k}))", "return sorted({{x for x in xs if x > {k}}})"),
        slow=(
            "out = []\nfor x in xs:\n    if x > {k} and x not in out:\n        out.append(x)\nreturn sorted(out)",
        ),
        wrong=(
            "return sorted(x for x in xs if x > {k})",
            "return sorted(set(x for x in xs if x >= {k}))",
            "return sorted(set(x for x in xs if x < {k}))",
        ),
        worst="ints_large",
        scale=1200,
    ),
    Family(
        "has_double_over",
        "algorithms",
        "xs",
        "ints_double",
        (
            "Return True if a number greater than {k} occurs twice in xs.",
            "Tell whether xs repeats a number above {k}.",
        ),
        grid(k=NUMBERS),
        right=(
            "seen = set()\nfor x in xs:\n    if x > {k} and x in seen:\n        return True\n    seen.add(x)\nreturn False",
        ),
        slow=(
            "return any(x > {k} and xs.count(x) > 1 for x in xs)",
            "for i in range(len(xs)):\n    if xs[i] > {k} and xs[i] in xs[:i]:\n        return True\nreturn False",
        ),
        wrong=(
            "return len(set(xs)) < len(xs)",
            "return any(x > {k} for x in xs)",
            "return any(x >= {k} and xs.count(x) > 1 for x in xs)",
        ),
        worst="ints_large",
        scale=1200,
    ),
)
