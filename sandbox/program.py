"""Programs and their tests."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from . import codec, judges
from .iotest import IOTest
from .limits import Limits

MAX_SOURCE = 16 * 2**20


def _check_source(source: str, what: str) -> None:
    if not isinstance(source, str):
        raise TypeError(f"{what} is of type {type(source).__name__}; give Python source as str")
    if len(source) > MAX_SOURCE:
        raise ValueError(f"{what} has {len(source)} characters; at most {MAX_SOURCE} are run")


@dataclass(frozen=True, slots=True)
class CallTest:
    """One call with data, compared outside the solution's process.

    The comparison is Python's `==`, as in `assert f(*args, **kwargs) == expected`, by the rules of
    `sandbox.judges`: `1 == 1.0 == True` holds, a list is no tuple, NaN equals nothing. With `tolerance` > 0
    numbers anywhere in the value may differ by that much, absolutely or relative to the expected one.

    Data are exact builtin types and the declared types of `sandbox.extras` (Counter, deque, Decimal,
    datetime, numpy arrays and others). An expected dataclass instance, namedtuple, enum member, exception or
    iterator is replaced by the value of `sandbox.values` that such an answer becomes; as an argument it
    reaches the program as an instance of its own type of that name, where it has one with these fields.

    Attributes:
        args: Positional arguments.
        expected: What the call must return.
        tolerance: 0 for `==`.
        kwargs: Named arguments.
        tuple_as_list: An answer that is a tuple counts as the list of its items, as in benchmarks whose
            expected values are JSON. Tuples inside it do not.
        judged: The comparison, made ready.

    Raises:
        ValueError: `args`, `kwargs` or `expected` cannot cross, or `tolerance` is negative.
    """

    args: tuple[Any, ...]
    expected: Any
    tolerance: float = 0.0
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tuple_as_list: bool = False
    _plain: tuple[bool, bool] = field(default=(True, True), init=False, repr=False, compare=False)
    judged: judges.Expected = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.args) is not tuple:
            raise ValueError(f"args is a {type(self.args).__name__}; give a tuple of arguments")
        if not isinstance(self.kwargs, Mapping) or not all(type(name) is str for name in self.kwargs):
            raise ValueError(f"kwargs is {self.kwargs!r}; give a mapping of names to values")
        args, plain_args = codec.crossed(self.args, "args")
        kwargs, plain_kwargs = codec.crossed(dict(self.kwargs), "kwargs")
        expected, plain_expected = codec.crossed(self.expected, "expected")
        for name, value in (("args", args), ("kwargs", kwargs), ("expected", expected)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_plain", (plain_args and plain_kwargs, plain_expected))
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise ValueError(f"tolerance is {self.tolerance!r}; give a number >= 0")
        size = len(codec.pack_arguments((expected,), None, plain_expected))
        object.__setattr__(
            self, "judged", judges.Expected(expected, self.tolerance, size, self.tuple_as_list)
        )

    def wire(self) -> tuple[int, bytes]:
        """Kind and payload as the engine reads them. The expected value never leaves the caller's process."""
        return (0, codec.pack_arguments(self.args, dict(self.kwargs), self._plain[0]))

    def key(self) -> Hashable:
        """Equal for equal tests; 1, 1.0 and True differ, and so do 0.0 and -0.0."""
        wire = self.wire()[1]
        expected = codec.pack_arguments((self.expected,), None, self._plain[1])
        return (wire, expected, self.tolerance, self.tuple_as_list)


@dataclass(frozen=True, slots=True)
class CodeTest:
    """Python source that runs in the test process with a proxy of the solution's function.

    If it defines `check`, `check(candidate)` is called after it; else its statements use the entry point by
    its name. Other functions and classes of the solution can be used by their names too. Data cross as they
    do in a `CallTest`; what is no data (instances of the program's classes, generators, functions) stays in
    the solution's process and is reached by proxy (`engine/proxies.py` says what such a proxy can do, and
    why it never equals data).

    Attributes:
        source: Python source.
        trusted: The test is a benchmark's own, not a model's: one test process serves many programs, which is
            faster. A test that nobody vouches for (the default) has a process for itself.
        in_process: The test runs in the solution's own process. For tests that truly need that; the program
            can then forge a pass, and the result says `verdict_trust="forgeable"`.

    Raises:
        TypeError: The source is no text.
        ValueError: Both `trusted` and `in_process`, or a source beyond `MAX_SOURCE` characters.
    """

    source: str
    trusted: bool = False
    in_process: bool = False

    def __post_init__(self) -> None:
        _check_source(self.source, "test source")
        if self.trusted and self.in_process:
            raise ValueError("a test is either trusted or in_process: give one of them")

    def wire(self) -> tuple[int, bytes]:
        """Kind and payload as the engine reads them."""
        kind = 3 if self.in_process else 2 if self.trusted else 1
        return (kind, self.source.encode("utf-8", "surrogatepass"))


Test: TypeAlias = CallTest | CodeTest | IOTest


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the function that is its entry point, and its tests.

    Attributes:
        source: Source text.
        entry_point: Name of the function to call, or a class and its method as `Solution.twoSum` (also
            written `Solution().twoSum`): every call makes a new instance, without arguments. May be empty
            where none is called.
        tests: All `IOTest`, or none of them. A program without tests passes when it loads and defines its
            entry point; in another language, when it compiles.
        id: Free; comes back in the result.
        limits: Limits of each test; the sandbox's own when absent.
        language: A name of the registry of languages (`sandbox.languages`).
    """

    source: str
    entry_point: str
    tests: tuple[Test, ...]
    id: str = ""
    limits: Limits | None = None
    language: str = "python"

    def __post_init__(self) -> None:
        check_job(self.source, self.entry_point, self.tests, self.language)


def check_job(source: str, entry_point: str, tests: Sequence[Test], language: str = "python") -> None:
    """Refuse what no worker could run.

    Raises:
        TypeError: A source is no text, or a test is none of `CallTest`, `CodeTest` and `IOTest`.
        ValueError: The source is too long, the entry point is no identifier, the language is unknown, or it
            does not run tests of this kind.
    """
    _check_source(source, "source")
    for test in tests:
        if not isinstance(test, (CallTest, CodeTest, IOTest)):
            raise TypeError(f"a test is of type {type(test).__name__}; give CallTest, CodeTest or IOTest")
    whole = sum(isinstance(test, IOTest) for test in tests)
    if whole not in (0, len(tests)):
        raise ValueError("an IOTest runs the whole program, other tests call its functions: do not mix them")
    if language != "python":
        _check_language(source, language, tests)
    if entry_point or not (whole or language != "python"):
        check_entry_point(entry_point)


def _check_language(source: str, name: str, tests: Sequence[Test]) -> None:
    from . import languages

    language = languages.get(name)
    if language.name == "python":
        return
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        raise ValueError(f"source takes more than {MAX_SOURCE} bytes; at most that many are compiled")
    if len({type(test) for test in tests}) > 1:
        raise ValueError(f"all tests of a program in {language.name} must be of one kind")
    for test in tests:
        if isinstance(test, CallTest) and language.calls is None:
            raise ValueError(
                f"CallTest does not run for language {language.name!r}: give IOTest(stdin, expected)"
            )
        if isinstance(test, CallTest) and language.calls is not None:
            if test.kwargs:
                raise ValueError(f"CallTest.kwargs: language {language.name!r} has no named arguments")
            language.calls.input(test.args)
        if isinstance(test, CodeTest) and not test.in_process:
            raise ValueError(
                f"CodeTest for language {language.name!r} must be in_process=True: its text is put behind "
                "the program and shares its process, and the result says verdict_trust='forgeable'"
            )


def check_entry_point(entry_point: str) -> None:
    """Refuse an entry point that is not the name of a function or of a method.

    Raises:
        ValueError: It is neither an identifier nor identifiers with dots between them.
    """
    parts = entry_point.split(".") if isinstance(entry_point, str) else [""]
    parts[:-1] = [part.removesuffix("()") for part in parts[:-1]]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(f"entry_point is {entry_point!r}; give the name of a function, or Class.method")
