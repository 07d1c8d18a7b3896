"""Objects by handle: class tasks work as in one process, and no object answers for a value."""

# ruff: noqa: E501 (programs as text)

import pytest

from sandbox import CallTest, CodeTest, Limits, Program, Sandbox, Verdict
from sandbox.codec import encode
from sandbox.values import Record

pytestmark = pytest.mark.sandbox
LIMITS = Limits(cpu_seconds=1.0, wall_seconds=4.0, memory_mb=256, output_kb=64)


@pytest.fixture(scope="module")
def box():
    with Sandbox(1, limits=LIMITS) as sandbox:
        yield sandbox


def run(box, source, test, entry="f"):
    tests = (test,) if isinstance(test, CallTest) else (CodeTest(test),)
    (result,) = box.run([Program(source, entry, tests)])
    return result


SOURCE = """
from collections import Counter, namedtuple
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
import enum, functools

class Empty(LookupError):
    def __init__(self, text, size):
        super().__init__(text, size)
        self.size = size

class VeryEmpty(Empty): pass

class Stack:
    limit = 9
    made = []
    def __init__(self, items=()):
        self.items = list(items)
    @classmethod
    def of(cls, *items): return cls(items)
    @property
    def top(self): return self.items[-1]
    def push(self, *items):
        self.items.extend(items)
        return self
    def pop(self):
        if not self.items: raise VeryEmpty("nothing here", 0)
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __contains__(self, x): return x in self.items
    def __getitem__(self, i): return self.items[i]
    def __setitem__(self, i, x): self.items[i] = x
    def __delitem__(self, i): del self.items[i]
    def __eq__(self, other): return isinstance(other, Stack) and self.items == other.items
    def __hash__(self): return hash(tuple(self.items))
    def __lt__(self, other): return len(self) < (len(other) if isinstance(other, Stack) else other)
    def __add__(self, other): return Stack(self.items + (other.items if isinstance(other, Stack) else [other]))
    def __radd__(self, other): return Stack([other] + self.items)
    def __iadd__(self, other):
        self.items.append(other)
        return self
    def __neg__(self): return Stack(self.items[::-1])
    def __bool__(self): return bool(self.items)
    def __float__(self): return float(len(self.items))
    def __str__(self): return "|".join(map(str, self.items))
    def __repr__(self): return f"Stack({self.items})"
    def __format__(self, spec): return spec + str(self)
    def __call__(self, x): return x + 1
    def __enter__(self): return self
    def __exit__(self, kind, error, trace):
        self.items.append(kind and kind.__name__)
        return kind is ValueError

class Small(Stack): pass

@dataclass
class Point:
    x: int
    y: int = 0
    def norm(self): return self.x + self.y

class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    def mixed(self): return self.name + "!"

class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next

Pair = namedtuple("Pair", "a b")

def build(values):
    node = None
    for value in reversed(values): node = Node(value, node)
    return node

def total(node):
    result = 0
    while node: result, node = result + node.value, node.next
    return result

def adder(n): return lambda x: x + n
def numbers(n):
    for i in range(n): yield i
def echo():
    got = None
    while True: got = yield got
def counted(text): return Counter(text)
def area(point): return point.x * point.y
def apply(function, x): return function(x)
def kind_of(x): return type(x).__name__
def points(n): return [Point(i) for i in range(n)]
def mixed(): return {"p": Point(1), "d": Decimal("1.5")}
def favourite(): return Colour.RED
def raises(kind): raise {"own": Empty("text", 3), "value": ValueError("v", 1), "exit": SystemExit(3),
                         "unicode": UnicodeDecodeError("utf-8", b"x", 0, 1, "why")}[kind]
@functools.lru_cache
def f(n): return n * n
"""


@pytest.mark.parametrize(
    "test",
    [
        "s = Stack(); s.push(1).push(2); assert s.pop() == 2; assert len(s) == 1; assert list(s) == [1]",
        "s = Stack([1, 2]); assert s.top == 2 and s.items == [1, 2] and Stack.limit == 9 and s.limit == 9",
        "s = Stack([1, 2]); s.push(3); assert 3 in s and 4 not in s and s[0] == 1 and s[1:] == [2, 3]",
        "s = Stack([1]); s[0] = 5; assert s[0] == 5; del s[0]; assert len(s) == 0 and not s",
        "s = Stack([1]); s.extra = [7]; assert s.extra == [7]; del s.extra; assert not hasattr(s, 'extra')",
        "assert Stack([1]) == Stack([1]) and Stack([1]) != Stack([2]) and Stack() != 3",
        "s = Stack([1]); assert s < 3 and s < Stack([1, 2]) and not s < 1; s.pop()",
        "s = Stack([1]); s.push(); assert (s + 2).items == [1, 2] and (0 + s).items == [0, 1]; t = s; t += 4; assert t is s",
        "s = Stack([1])\ntry: s + 2\nexcept TypeError: pass  # nothing says that it is an object",
        "a, b = Stack([1]), Stack([2]); assert (a + b).items == [1, 2] and list(-(a + b)) == [2, 1]",
        "a, b = Stack([1]), Stack([2]); assert len(a + b) == 2 and (a + b)[1] == 2 and a + b == Stack([1, 2])",
        "assert {Stack([1]), Stack([1])} == {Stack([1])} and len({Stack([1]), Stack([2])}) == 2",
        "assert sorted([Stack([1, 2]), Stack([3])])[0][0] == 3",
        "s = Stack([1, 2]); assert str(s) == '1|2' and repr(s) == 'Stack([1, 2])' and f'{s:>}' == '>1|2'",
        "s = Stack([1, 2]); assert float(s) == 2.0 and list(reversed(s)) == [2, 1] and s(4) == 5",
        "with Stack() as s: s.push(1)\nassert s.items == [1, None]",
        "with Stack() as s: raise ValueError('x')\nassert s.items == ['ValueError']",
        "s = Stack.of(1, 2); assert s.items == [1, 2] and isinstance(s, Stack)",
        "assert isinstance(Small(), Stack) and not isinstance(Stack(), Small) and issubclass(Small, Stack)",
        "assert not isinstance(3, Stack) and isinstance(Stack(), object)",
        "try: Stack().pop()\nexcept Empty as e:\n    assert e.size == 0 and e.args == ('nothing here', 0)\nelse: assert False",
        "try: Stack().pop()\nexcept LookupError as e: assert isinstance(e, VeryEmpty) and not isinstance(e, Stack)",
        "import contextlib\nwith contextlib.suppress(VeryEmpty): Stack().pop()",
        "try: raises('value')\nexcept ValueError as e: assert e.args == ('v', 1) and type(e) is ValueError",
        "try: raises('unicode')\nexcept UnicodeDecodeError as e: assert e.args[4] == 'why'",
        "try: raises('exit')\nexcept Exception as e: assert 'SystemExit' in type(e).__name__",
        "p = Point(1, y=2); assert p.norm() == 3 and p == Point(1, 2) and p.x == 1 and area(p) == 2",
        "assert [p.x for p in points(3)] == [0, 1, 2] and mixed()['p'].x == 1",
        "from decimal import Decimal\nassert mixed()['d'] == Decimal('1.50')",
        "assert favourite() is Colour.RED and favourite() == Colour.RED != Colour.BLUE",
        "assert Colour.RED.value == 1 and Colour.BLUE.mixed() == 'BLUE!' and Colour(2) is Colour.BLUE",
        "node = build([1, 2, 3]); assert node.value == 1 and node.next.next.value == 3 and node.next.next.next is None",
        "node = build([1, 2]); node.next = Node(5); assert total(node) == 6\nwhile node: last, node = node, node.next\nassert last.value == 5",
        "assert adder(3)(4) == 7 and apply(adder(1), 2) == 3 and apply(Stack, [1]).items == [1]",
        "assert list(numbers(3)) == [0, 1, 2] and next(numbers(1)) == 0 and sum(numbers(4)) == 6",
        "g = numbers(1); next(g)\ntry: next(g)\nexcept StopIteration: pass\nelse: assert False",
        "g = echo(); next(g); assert g.send(5) == 5; g.close()",
        "assert counted('aab') == {'a': 2, 'b': 1} and counted('aab').most_common(1) == [('a', 2)]",
        "from fractions import Fraction\nassert apply(str, 3) == '3' if False else f(Fraction(1, 2)) == Fraction(1, 4)",
        "from collections import deque\nassert kind_of(deque()) == 'deque' and kind_of(iter([1])) == 'list_iterator'",
        "assert Pair(1, 2) == (1, 2) and Pair(1, 2).a == 1",
        "f(2); f(2); assert f.cache_info()[0] == 1 and f.__name__ == 'f'",
        "import copy\ns = Stack([[1]]); t = copy.deepcopy(s); t.items; assert t == s and t is not s",
        "def check(candidate):\n    assert candidate(3) == 9\n    assert isinstance(candidate(3), int)",
        "s = Stack([1]); t = s.push(2); assert s is t and s == t",
        "for i in range(300):\n    s = Stack([i]); s.push(i)\nassert s.items == [299, 299]",
    ],
    ids=range(46),
)
def test_class_tasks_work_as_in_one_process(box, test):
    result = run(box, SOURCE, test)
    assert result.verdict is Verdict.passed, (result.cause, result.message)
    scope = {}
    exec(SOURCE + "\ncandidate = f", scope)
    if "SystemExit" not in test and "except TypeError" not in test:
        exec(test, scope)  # and the test holds in one process


@pytest.mark.parametrize(
    ("entry", "test"),
    [
        (
            "Stack",
            "def check(candidate):\n    s = candidate([1])\n    s.push(2)\n    assert len(s) == 2 and 2 in s",
        ),
        ("Solution.square", "assert candidate(3) == 9 and square(3) == 9 and Solution().square(n=2) == 4"),
        (
            "Solution().count",
            "def check(candidate):\n    assert candidate() == 1\n    assert candidate() == 1",
        ),
        ("Outer.Inner.value", "assert candidate() == 7"),
        ("Solution.fixed", "assert candidate(2) == 3"),
        ("check", "assert check(2) == 4"),
    ],
)
def test_entry_points_may_be_classes_and_methods(box, entry, test):
    source = SOURCE + (
        "\nclass Solution:\n    def __init__(self): self.n = 0\n    def square(self, n): return n * n\n"
        "    def count(self):\n        self.n += 1\n        return self.n\n"
        "    @staticmethod\n    def fixed(n): return n + 1\n"
        "class Outer:\n    class Inner:\n        def value(self): return 7\ndef check(n): return n * 2\n"
    )
    result = run(box, source, test, entry)
    assert result.verdict is Verdict.passed, (result.cause, result.message)


def test_dotted_entry_points_serve_calls_and_timing(box):
    source = "class Solution:\n    def twoSum(self, nums, target): return sorted(nums)[:target]"
    test = CallTest(([3, 1],), [1], kwargs={"target": 1})
    assert run(box, source, test, "Solution.twoSum").verdict is Verdict.passed
    assert box.time_calls([source], "Solution.twoSum", [([1], 2)], repeats=1)[0, 0] < 0.1
    for bad in ("Solution.missing", "Missing.twoSum"):
        result = run(box, source, test, bad)
        assert (result.verdict, result.cause) == (Verdict.runtime_error, "NameError")
    result = run(
        box, "class S:\n    def __init__(self, x): pass\n    def m(self): pass", CallTest((), None), "S.m"
    )
    assert result.cause == "TypeError"


def test_declared_types_cross_in_calls(box):
    from collections import Counter, deque
    from decimal import Decimal

    for entry, args, expected in (
        ("counted", ("aab",), Counter("aab")),
        ("counted", ("aab",), {"a": 2, "b": 1}),
        ("points", (2,), [Record("Point", {"x": 0, "y": 0}), Record("Point", {"x": 1, "y": 0})]),
        ("area", (Record("Point", {"x": 2, "y": 3}),), 6),
        ("kind_of", (Record("Point", {"x": 2, "y": 3}),), "Point"),
        ("kind_of", (Record("Unknown", {"x": 2}),), "Record"),
        ("kind_of", (iter([1]),), "list_iterator"),
        ("kind_of", (deque(),), "deque"),
        ("numbers", (3,), iter([0, 1, 2])),
        ("mixed", (), {"p": Record("Point", {"x": 1, "y": 0}), "d": Decimal("1.5")}),
    ):
        result = run(box, SOURCE, CallTest(args, expected), entry)
        assert result.verdict is Verdict.passed, (entry, result.cause, result.message)


def test_arrays_cross_both_ways_where_numpy_is_let_in():
    np = pytest.importorskip("numpy")
    if "/tmp" in np.__file__[:4]:
        pytest.skip("numpy lies below /tmp, where no box can see it: run the interpreter of another place")
    source = (
        "import numpy as np\ndef f(x): return x * 2\ndef g(x): return np.mean(x)\ndef h(x): return {'a': [x]}\n"
        "def objects(x): return np.array([object()])\n"
    )
    two = np.array([[1, 2], [3, 4]])
    code = (
        "import numpy as np\nassert (f(np.array([1, 2])) == np.array([2, 4])).all()\nassert g(np.ones(3)) == 1.0\n"
        "assert f(np.float32(1.5)) == 3 and h(np.arange(2))['a'][0].shape == (2,)"
    )
    with Sandbox(1, limits=Limits(cpu_seconds=5, wall_seconds=60), libraries=("numpy",)) as box:
        for entry, test in (
            ("f", CallTest((two,), two * 2.0)),
            ("f", CallTest((two / 3,), two * (2 / 3), 1e-9)),
            ("g", CallTest((two,), 2.5)),
            ("h", CallTest((two,), {"a": [two]})),
            ("f", CodeTest(code)),
            ("f", CodeTest(code, trusted=True)),
        ):
            (result,) = box.run([Program(source, entry, (test,))])
            assert result.verdict is Verdict.passed, (entry, test, result)
        for entry, test in (
            ("f", CallTest((two,), two)),
            ("objects", CallTest((1,), two)),
            ("f", CallTest((two,), [[2, 4], [6, 8]])),
        ):
            (result,) = box.run([Program(source, entry, (test,))])
            assert result.verdict is Verdict.wrong_answer, (entry, test, result)


def test_an_array_where_numpy_is_not_let_in_is_refused_with_the_reason(box):
    source = (
        "import sys, types\nnp = types.ModuleType('numpy')\nclass ndarray:\n    shape = (1,)\n    nbytes = 8\n"
        "    class dtype: str = '<i8'\n    def tobytes(self): return bytes(8)\nndarray.__module__ = 'numpy'\n"
        "np.ndarray, np.generic = ndarray, type('generic', (), {})\nsys.modules['numpy'] = np\n"
        "def f(n): return ndarray()"
    )
    result = run(box, source, "f(1)")
    assert result.cause == "TypeError" and "libraries=('numpy',)" in result.message


LIAR = """
class Liar:
    def __init__(self, *a): pass
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __abs__ = __mod__ = __xor__ = __sub__
    def __float__(self): return 9.0
    def __int__(self): return 9
    __index__ = __int__
    def __len__(self): return 1
    def __getitem__(self, i): return 9
    def __hash__(self): return hash(9)
    def __bool__(self): return False
    def __round__(self, n=None): return 9
    __array_priority__ = 1e9
"""
FORGED = [
    "assert candidate(3) == 9",
    "assert 9 == candidate(3)",
    "assert candidate(3).__eq__(9)",
    "assert not candidate(3) != 9",
    "assert abs(candidate(3) - 9.0) < 1e-6",
    "assert abs(9.0 - candidate(3)) < 1e-6",
    "import math\nassert math.isclose(candidate(3), 9)",
    "import math\nassert math.fabs(candidate(3) - 9) < 1e-6",
    "assert candidate(3) < 10",
    "assert 8 < candidate(3)",
    "assert candidate(3) in [9]",
    "assert candidate(3) in {9}",
    "assert 9 in candidate(3)",
    "assert int(candidate(3)) == 9",
    "assert round(candidate(3)) == 9",
    "assert len(candidate(3)) == 1",
    "assert candidate(3)[0] == 9",
    "assert [candidate(3)] == [9]",
    "assert (candidate(3), 1) == (9, 1)",
    "assert {9: 1}[candidate(3)] == 1",
    "assert not candidate(3)",
    "assert isinstance(candidate(3), int)",
    "assert type(candidate(3)) is int",
    "assert max(candidate(3), 8) == 9",
    "assert range(10)[candidate(3)] == 9",
    "assert 'x' * candidate(3) == 'x' * 9",
    "assert candidate(3) ^ 9 == 0",
    "assert [9].count(candidate(3)) == 1",
    "from decimal import Decimal\nassert Decimal(9) == candidate(3)",
    "from unittest import TestCase\nTestCase().assertAlmostEqual(candidate(3), 9)",
    "from unittest import TestCase\nTestCase().assertEqual(candidate(3), 9)",
]


@pytest.mark.parametrize("test", FORGED, ids=range(len(FORGED)))
@pytest.mark.parametrize("base", ["", "int", "float", "list", "dict", "str"])
def test_an_object_of_a_function_never_answers_for_a_value(box, test, base):
    if base:
        source = LIAR.replace("class Liar:", f"class Liar({base}):").replace(
            "def __init__(self, *a): pass", "pass"
        )
    else:
        source = LIAR
    assert run(box, source + "\ndef f(n): return Liar()", test).verdict is not Verdict.passed


@pytest.mark.parametrize("entry", ["F", "f"])
def test_a_class_in_the_place_of_the_function_does_not_either(box, entry):
    for test in (
        "assert candidate(3) == 9",
        "x = candidate(3)\nassert abs(x - 9) < 1e-6",
        "assert F(3) < 10 and 9 in F(3)",
    ):
        result = run(box, LIAR + f"\n{entry} = Liar\nF = Liar", test, entry)
        assert result.verdict is not Verdict.passed, test


@pytest.mark.parametrize("kind", ["StopIteration", "StopAsyncIteration", "GeneratorExit", "Own"])
@pytest.mark.parametrize(
    "test",
    [
        "for got, want in zip(map(f, [2, 3]), [4, 9]): assert got == want",
        "assert all(f(n) == n * n for n in [2, 3])",
        "assert list(map(f, [2, 3])) == []",
        "assert not [x for x in map(f, [2]) if x != 4]",
    ],
)
def test_no_exception_ends_a_tests_own_iteration(box, kind, test):
    source = f"class Own(StopIteration): pass\ndef f(n): raise {kind}"
    assert run(box, source, test).verdict is Verdict.runtime_error


def test_equality_of_objects_is_the_programs_own_and_identity_is_kept(box):
    source = LIAR + "\nclass Other: pass\na, b = Liar(), Liar()\ndef f(n): return [a, b, Other()][n]"
    assert run(box, source, "assert f(0) is f(0) and f(0) is not f(1)").verdict is Verdict.passed
    assert run(box, source, "assert f(0) == f(1)").verdict is Verdict.passed  # both are the program's
    assert run(box, source, "assert f(0) == f(2)").verdict is Verdict.wrong_answer


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("v", b"x\2\0\0\0H" + encode("1") + encode(1)),
        ("v", b"x\2\0\0\0H" + encode(1) + encode("X" * 999)),
        ("v", b"x\1\0\0\0L" + encode("open")),
        ("v", b"x\2\0\0\0H" + encode(1) + encode("int")),
        ("v", b""),
        ("v", encode(9) + b"n"),
        ("e", encode(9)),
        ("e", encode(())),
        ("e", encode(((), None, None, None))),
        ("e", encode((("AssertionError",), None, None, None))),
        ("e", encode((("BaseException",), (), "", None))),
        ("e", encode((("test:AssertionError", "a\0b"), [1], 5, 6))),
        ("e", encode((("ValueError",) * 9, [1], 5, 6))),
        ("e", encode((("E", "f", "E", "Stack", "OSError", "ValueError"), (1,), "x", 6))),
        ("r", encode(9)),
        ("r", b""),
        ("p", b""),
        ("l", b""),
    ],
    ids=range(18),
)
def test_forged_answers_are_the_programs_failure(box, kind, answer):
    source = (
        "import os, struct\ndef f(n):\n"
        f"    data = struct.pack('<IBI', {len(answer)}, {ord(kind)}, 1) + {answer!r}\n"
        "    for fd in range(3, 20):\n"
        "        try: os.write(fd, data)\n        except OSError: pass\n"
        "    while True: pass\n"
    )
    result = run(box, source, "Stack\nassert f(3) == 9")
    assert result.verdict is not Verdict.passed and not result.cause.startswith("test:"), result


def test_a_test_cannot_hold_objects_without_end(box):
    test = CodeTest("held = [f(i) for i in range(20000)]\nassert True")
    limits = Limits(cpu_seconds=20, wall_seconds=120)
    (result,) = box.run([Program("class Node: pass\ndef f(n): return Node()", "f", (test,), limits=limits)])
    assert (result.verdict, result.cause) == (Verdict.runtime_error, "TypeError")
    assert "10000 objects" in result.message


def test_released_objects_are_free_in_the_program(box):
    source = (
        "import weakref\nlive = weakref.WeakSet()\nclass Node:\n    def __init__(self): live.add(self)\n"
        "def f(n): return Node()\ndef count(): return len(live)"
    )
    test = "for i in range(500): x = f(i)\ndel x\nassert count() <= 1, count()\nassert count() == 0"
    result = run(box, source, test)
    assert result.verdict is Verdict.passed, result


def test_objects_of_one_test_are_unknown_to_the_next(box):
    source = "class Node: pass\nkept = []\ndef f(n):\n    return Node()"
    tests = (CodeTest("a = f(1); a.x = 5; assert a.x == 5"), CodeTest("assert not hasattr(f(1), 'x')"))
    (result,) = box.run([Program(source, "f", tests)])
    assert result.verdict is Verdict.passed, result


@pytest.mark.parametrize(
    "source",
    [
        "class E(Exception):\n    def __str__(self): raise KeyError\ndef f(n): raise E",
        "class E(Exception):\n    def __str__(self): return 'x' * 10**7\ndef f(n): raise E",
        "class E(Exception):\n    def __str__(self): return '\\ud800\\x1b[31m\\0'\ndef f(n): raise E",
        "class E(Exception):\n    def __str__(self): return 5\ndef f(n): raise E",
        "class S(str):\n    def __getitem__(self, i): raise SystemExit\nclass E(Exception):\n"
        "    def __str__(self): return S('x')\ndef f(n): raise E",
        "class M(type):\n    __name__ = property(lambda c: 1 / 0)\n    __mro__ = ()\n"
        "class E(Exception, metaclass=M): pass\ndef f(n): raise E",
        "E = type('E' * 10**6, (Exception,), {})\ndef f(n): raise E('a')",
        "E = type('E', (Exception,), {'args': property(lambda e: 1 / 0)})\ndef f(n): raise E('a', 'b')",
        "E = type('\\x1b[31mE', (Exception,), {})\ndef f(n): raise E('x' * 10**7)",
        "def f(n): raise ValueError(10**5000)",
        "def f(n): raise ValueError([[[object()]]])",
    ],
    ids=range(11),
)  # fmt: skip
@pytest.mark.parametrize("form", ["call", "code", "inside"])
def test_text_of_hostile_exceptions_is_bounded_and_clean(box, source, form):
    test = {"call": CallTest((1,), 1), "code": CodeTest("f(1)"), "inside": CodeTest("f(1)", in_process=True)}[
        form
    ]
    (result,) = box.run([Program(source, "f", (test,))])
    assert result.verdict is Verdict.runtime_error, result
    assert (
        len(result.message) < 600 and len(result.cause) < 120 and "\x1b" not in result.message + result.cause
    )
    (result.message + result.cause).encode()
