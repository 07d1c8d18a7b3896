"""Graded inputs, made by the data's generators in the sandbox.

The order of random draws decides what comes out; the helpers below follow the authors' description of
theirs draw by draw. Three generators iterate over sets of texts: the sandbox's fixed hash seed 0 makes them
reproducible.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

from codegen_eval.benchmarks.enamel.data import Row
from codegen_eval.errors import CodealignError
from sandbox import CallJob, Limits, Sandbox

SEED = 998244353
DEFAULT_TESTS = (8, 4, 4, 4)
LIMITS = Limits(cpu_seconds=60.0, wall_seconds=240.0, memory_mb=4096)

# Names that generators find without importing them.
HELPERS = """
import math, random, string, time

def rand_parens(size, valid=True, par="()", sep=""):
    opening, closing = par
    if not valid:
        half = (size + 1) // 2 - 1
        first = rand_parens(half, True, par)
        return first + closing + opening + rand_parens(half, True, par)
    size += size % 2
    groups, group, depth = [], [], 0
    for place in range(size):
        opens = depth == 0
        if 0 < depth < size - place:
            opens = random.randint(0, 1) == 1
        depth += 1 if opens else -1
        group.append(opening if opens else closing)
        if depth == 0:
            groups.append("".join(group))
            group = []
    return groups if sep is None else sep.join(groups)

def miller_rabin(n, k=5):
    if n in (2, 3):
        return True
    if n < 2 or n % 2 == 0:
        return False
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(k):
        x = pow(random.randint(2, n - 2), odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True

def rand_probably_prime(lb, ub=None):
    if ub is None:
        ub = max(lb, 3)
        lb = ub // 2
    else:
        lb = max(lb, 0)
        ub = max(2 * lb, ub, 3)
    while True:
        n = random.randint(lb, ub)
        if miller_rabin(n):
            return n

def rand_primality(size, lid, cid):
    size = max(size, 4)
    if lid == 0 and cid < 4:
        return (30031, 561, 2, 125)[cid]
    if cid % 3 == 0:
        return rand_probably_prime(size)
    root = int(math.sqrt(size) + 1)
    if cid % 3 == 1:
        return rand_probably_prime(root) ** 2
    return rand_probably_prime(root) * rand_probably_prime(root)
"""

_MAKE = """
def __make(seed, size, lid, cid):
    random.seed(seed)
    return generate_input(size, lid, cid)
"""


def generate(
    row: Row, box: Sandbox, seed: int, tests: tuple[int, ...]
) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """Argument tuples of every level.

    Args:
        row: The task.
        box: Where its generator runs.
        seed: Test m of level l is drawn from seed ^ number ^ (tests of earlier levels + m).
        tests: How many a level.

    Raises:
        CodealignError: If the generator fails, or returns what is no tuple of plain data.
    """
    offsets = [0, *accumulate(tests)]
    source = f"{HELPERS}\n{row.prompt}\n    pass\n{row.generator}\n{_MAKE}"
    calls = [
        (seed ^ row.number ^ (offsets[level] + test), size, level, test)
        for level, (size, count) in enumerate(zip(row.sizes, tests, strict=True))
        for test in range(count)
    ]
    (answers,) = box.answers([CallJob(source, "__make", calls, LIMITS)])
    for (_, _, level, test), answer in zip(calls, answers, strict=True):
        if type(answer.value) is not tuple:
            raise CodealignError(
                f"{row.task_id}: the input generator gave no input for level {level}, test {test}: "
                f"{answer.cause or type(answer.value).__name__}"
            )
    values = [answer.value for answer in answers]
    return tuple(tuple(values[a:b]) for a, b in pairwise(offsets))
