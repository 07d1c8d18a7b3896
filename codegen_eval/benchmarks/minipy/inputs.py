"""Generators of arguments for MiniPy: small ones for tests and examples, graded large ones for efficiency.

Small arguments sit near the parameter (k - 1, k, k + 1, multiples), or boundary mistakes would pass
unnoticed, and are short, so that a small language model can work out the answer. Large arguments come from
a generator that denies slow programs an early exit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

Params = Mapping[str, Any]

LEVELS = 4
_LENGTHS = (0, 1, 2, 3, 4)
_LENGTH_WEIGHTS = (8, 20, 32, 28, 12)
_ALPHABET = "abcdefghiklmnoprst"


def _length(rng: Random) -> int:
    return rng.choices(_LENGTHS, _LENGTH_WEIGHTS)[0]


def _near(rng: Random, *centres: int) -> int:
    """A number at or beside one of the centres, sometimes any small one."""
    centre = rng.choice(centres)
    if rng.random() < 0.7:
        return max(0, centre + rng.choice((-1, 0, 1)))
    return rng.randint(0, max(centres) + 5)


def _list(rng: Random, draw: Callable[[], int]) -> list[int]:
    return [draw() for _ in range(_length(rng))]


def _word(rng: Random, letters: str, most: int = 5) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(0 if most > 4 else 1, most)))


def _letters(rng: Random, *wanted: str) -> str:
    """The wanted letters and two others, the wanted ones twice as likely."""
    return "".join(wanted) * 2 + "".join(rng.sample(_ALPHABET, 2))


def _ints_sum(p: Params, rng: Random) -> list[int]:
    k = int(p["k"])
    x = rng.randint(0, k)
    pool = [x, k - x, k, rng.randint(0, k), k // 2]
    return rng.sample(pool, rng.randint(1, 3))


def _dict(rng: Random, keys: str, draw: Callable[[], int]) -> dict[str, int]:
    chosen = list(dict.fromkeys(rng.choice(keys) for _ in range(rng.choice((0, 1, 2, 2, 3)))))
    return {key: draw() for key in chosen}


def _multiple(p: Params, rng: Random) -> int:
    k = int(p["k"])
    return max(0, k * rng.randint(0, 3) + rng.choice((0, 0, 1, -1, rng.randint(0, k))))


SMALL: dict[str, Callable[[Params, Random], Any]] = {
    "ints": lambda p, r: _list(r, lambda: _near(r, p["k"])),
    "ints_repeats": lambda p, r: _list(r, lambda: p["k"] if r.random() < 0.5 else _near(r, p["k"])),
    "ints_range": lambda p, r: _list(r, lambda: _near(r, p["lo"], p["hi"])),
    "ints_small": lambda p, r: _list(r, lambda: r.choice((p["k"], 2 * p["k"], *range(10)))),
    "ints_pair": lambda p, r: _list(r, lambda: r.choice((p["a"], p["a"], p["b"], r.randint(0, 9)))),
    "ints_runs": lambda p, r: [
        p["k"] if r.random() < 0.65 else r.randint(0, 9) for _ in range(r.randint(0, 5))
    ],
    "ints_sorted": lambda p, r: sorted(_near(r, p["k"]) for _ in range(_length(r))),
    "ints_double": lambda p, r: (lambda pool: _list(r, lambda: r.choice(pool)))(
        [_near(r, p["k"]) for _ in range(2)]
    ),
    "ints_sum": _ints_sum,
    "int_near": lambda p, r: _near(r, p["k"]),
    "int_multiple": _multiple,
    "int_range": lambda p, r: _near(r, p["lo"], p["hi"]),
    "int_small": lambda p, r: r.randint(0, 9),
    "int_close": lambda p, r: max(0, p["k"] + r.randint(-4, 4)),
    "int_tiny": lambda p, r: min(r.randint(0, 7), r.randint(0, 7)),
    "word": lambda p, r: _word(r, _letters(r, p["c"])),
    "word_pair": lambda p, r: _word(r, _letters(r, p["a"], p["b"])),
    "words": lambda p, r: [_word(r, _letters(r, p["c"]), 3) for _ in range(r.choice((0, 1, 2, 2, 3)))],
    "dict_key": lambda p, r: _dict(r, _letters(r, p["c"]), lambda: r.randint(1, 9)),
    "dict_values": lambda p, r: _dict(r, _ALPHABET, lambda: _near(r, p["k"])),
}
"""Small arguments by the name in `Family.inputs`: (params, rng) -> argument."""


def _numbers(n: int, draw: Callable[[], int]) -> list[int]:
    return [draw() for _ in range(n)]


def _other_letter(p: Params, r: Random) -> str:
    return r.choice([c for c in _ALPHABET if c != p["c"]])


LARGE: dict[str, Callable[[Params, int, Random], Any]] = {
    "ints": lambda p, n, r: _numbers(n, lambda: r.randint(0, 40)),
    "ints_under": lambda p, n, r: sorted(_numbers(n, lambda: r.randint(0, p["k"] - 1))),
    "ints_over": lambda p, n, r: _numbers(n, lambda: p["k"] + r.randint(1, 20)),
    "ints_inside": lambda p, n, r: _numbers(n, lambda: r.randint(p["lo"], p["hi"])),
    "ints_same": lambda p, n, r: [p["k"]] * n,
    "ints_mostly": lambda p, n, r: [r.randint(20, 40) for _ in range(n // 2)] + [p["k"]] * (n // 2),
    "ints_a": lambda p, n, r: [p["a"]] * n,
    "ints_not_multiple": lambda p, n, r: _numbers(n, lambda: p["k"] * r.randint(0, 9) + 1),
    "ints_large": lambda p, n, r: r.sample(range(100, 100 + 2 * n), n),
    "int": lambda p, n, r: n + r.randint(0, 9),
    "exact": lambda p, n, r: n,
    "word": lambda p, n, r: "".join(r.choice(_ALPHABET) for _ in range(n)),
    "word_without": lambda p, n, r: _other_letter(p, r) * n,
    "word_same": lambda p, n, r: p["c"] * n,
    "word_a": lambda p, n, r: p["a"] * n,
    "word_first": lambda p, n, r: p["c"] + _other_letter(p, r) * n,
    "words_starting": lambda p, n, r: [p["c"] + r.choice(_ALPHABET) for _ in range(n)],
    "dict": lambda p, n, r: {f"{r.choice(_ALPHABET)}{i}": r.randint(0, 9) for i in range(n)},
    "dict_over": lambda p, n, r: {f"key{i}": p["k"] + r.randint(1, 9) for i in range(n)},
    "dict_under": lambda p, n, r: {f"key{i}": r.randint(0, p["k"] - 1) for i in range(n)},
}
"""Large arguments by the name in `Family.worst`: (params, size, rng) -> argument."""


def small(kind: str, params: Params, rng: Random) -> Any:
    """One small argument of a kind in `SMALL`."""
    return SMALL[kind](params, rng)


def large(kind: str, inputs: str, params: Params, size: int, rng: Random) -> Any:
    """One argument of the given size; an empty `kind` takes the plain generator for the type of `inputs`."""
    return LARGE[kind or inputs.split("_")[0].replace("words", "words_starting")](params, size, rng)


def levels(kind: str, scale: int) -> tuple[int, int, int, int]:
    """The four sizes of graded inputs: powers of four up to `scale`, or even steps where cost is
    exponential.
    """
    if kind == "exact":
        return scale // 4, scale // 2, 3 * scale // 4, scale
    return scale // 64, scale // 16, scale // 4, scale
