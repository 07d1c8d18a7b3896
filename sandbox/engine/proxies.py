"""The test's side of objects by handle: stand-ins for the functions, classes and objects of the program.

What crosses as data is data here, and a program that answers with data has to choose it before it sees what
it is compared with. A live object could answer each question as it likes, so what a stand-in does is bounded:

- It never equals data. Two stand-ins are equal if they stand for one object, or if their types have one name
  and the program says so.
- Every stand-in has attributes and methods, can be called, iterated, entered, printed and hashed.
- Only objects of a class that the test makes, by calling a name with a capital letter (`s = Stack()`),
  act as containers and numbers (`len`, items, `bool`, `float`), they and other objects of that class.
- Only an object that the test made itself is shown the test's data by an operator (`s + 1`, `s < 1`,
  `1 in s`), and only where the test's text also uses one as an object (`s.push`, `Stack.of`): so
  `abs(F(2) - 4) < 1e-6` is never answered by the very thing that it tests.

A test that needs more runs `in_process`, and its result says that it can be forged.
"""

from __future__ import annotations

import builtins
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, TracebackType
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from .. import codec, extras
from . import objects, wire
from .pipe import Pipe

MAX_CALLS = 1_000_000
_MAX_ATTRIBUTE = 200
# Read by others to learn what an object is; `__array_interface__` and its like would be believed.
_DUNDERS = frozenset(("__name__", "__qualname__", "__doc__", "__module__", "__dict__"))


class SolutionError(Exception):
    """The solution raised an exception that is no builtin one."""


class Gone(BaseException):
    """The solution is not there any more, or sends what is no answer."""


class Link:
    """Requests to the solution, one at a time, for one test.

    Attributes:
        source: The test's text.
        made: Names of types whose instances the test made.
        gone: The solution is not there any more, or sent what is no answer.
        raised: The last exception that came from the solution.
        cause: The name of its type there.
    """

    def __init__(self, pipe: Pipe, entry: str) -> None:
        self.source = ""
        self.made: set[str] = set()
        self.gone = False
        self.raised: BaseException | None = None
        self.cause = ""
        self._pipe = pipe
        self._entry = entry
        self._calls = 0
        self._released: list[tuple[int, int]] = []
        self._handles: WeakValueDictionary[int, Handle] = WeakValueDictionary()
        self._classes: dict[str, type] = {}
        self._objects: dict[str, bool] = {}

    def ask(self, operation: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Have the solution do something and give what comes of it.

        Raises:
            CodecError: The arguments cannot cross.
            Exception: What the solution raised, or TypeError for a value that cannot cross.
            Gone: There will be no answer; noted in `gone`, since a test may catch everything.
        """
        if operation == "entry" and not self._released:
            return self._exchange(wire.CALL, (args, kwargs or {}), False)
        released, self._released = self._released, []
        request = (released, operation, args, kwargs or {})
        return self._exchange(wire.ASK, request, operation == "next")

    def _exchange(self, kind: int, request: tuple[Any, ...], may_stop: bool) -> Any:
        """Send a request and take the answer for what it is."""
        if self._calls >= MAX_CALLS:
            raise RuntimeError(f"a test may ask the program at most {MAX_CALLS} times")
        body = codec.encode(request, _reduce, codec.MAX_ARGUMENT_BYTES)
        self._calls += 1
        answer = None
        if not self.gone:
            with contextlib.suppress(OSError):
                self._pipe.write(kind, self._calls, body)
                answer = self._pipe.read()
        if answer is None or answer[0] not in wire.ANSWERS or answer[1] != self._calls:
            self.gone = True
            raise Gone
        try:
            value = codec.decode(answer[2], self._build)
        except codec.CodecError as error:
            self._refuse(error)
        if answer[0] == wire.VALUE:
            return value
        if answer[0] == wire.FAILED and type(value) is tuple and len(value) == 4 and type(value[0]) is tuple:
            # Names of types and no more: a program can write anything, such as what the engine says of tests.
            names = [name for name in value[0] if type(name) is str and name.isidentifier()]
            names = list(dict.fromkeys(names)) or ["Exception"]
            self._raise(self._exception(names, may_stop, *value[1:]), names[0])
        self._refuse(value)

    def _refuse(self, reason: object) -> NoReturn:
        self._raise(TypeError(f"the program returned what is not plain data: {reason}"), "TypeError")

    def _raise(self, error: BaseException, cause: str) -> NoReturn:
        self.raised, self.cause = error, cause
        raise error

    def _exception(self, names: list[str], may_stop: bool, args: Any, text: Any, own: Any) -> BaseException:
        """An exception that test code catches by the names of its type and of the bases of that.

        What ends an iteration would end a test's own, `for got, want in zip(map(candidate, ...), ...)`, and
        pass: it is that only as the answer of an iterator.
        """
        known = [kind for kind in map(_builtin_exception, names) if kind is not None]
        if not may_stop:
            known = [kind for kind in known if not issubclass(kind, (StopIteration, StopAsyncIteration))]
        kind: Any = known[0] if known else Exception
        if _builtin_exception(names[0]) is not kind:
            named = [self._classes[name] for name in names if name in self._classes]
            bases = (*(named or [SolutionError]), kind)
            content = {"_ours": True, "_own": own, "__str__": lambda _: str(text), "__getattr__": _original}
            kind = _Class(names[0], bases, content)
        for arguments in (args, (text,)):
            try:
                return kind(*arguments)  # type: ignore[no-any-return]
            except Exception:  # UnicodeDecodeError and its like want more arguments
                continue
        return SolutionError(f"{names[0]}: {text}")

    def handle(self, number: int, type_name: str) -> Handle:
        """The stand-in of an object; the same one as long as it lives."""
        found = self._handles.get(number)
        if found is None:
            found = Handle(self, number, type_name)
            self._handles[number] = found
        object.__setattr__(found, "_count", found._count + 1)
        return found

    def release(self, number: int, count: int) -> None:
        """The test holds an object no more; said with the next request."""
        self._released.append((number, count))

    def _build(self, code: int, fields: list[Any]) -> Any:
        if code != objects.HANDLE[0]:
            return extras.build(code, fields)
        number, name = fields
        if type(number) is not int or type(name) is not str or len(name) > _MAX_ATTRIBUTE:
            raise codec.CodecError("malformed handle")
        return self.handle(number, name)

    def class_named(self, name: str) -> type:
        """The stand-in of a class."""
        if name not in self._classes:
            content = {"_ours": True, "_link": self, "__new__": _make, "__module__": "solution"}
            self._classes[name] = _Class(name, (SolutionError,), content)
        return self._classes[name]

    def uses_as_object(self, name: str) -> bool:
        """Whether the test's text reads an attribute of the class or of a variable that it sets to one."""
        if name not in self._objects:
            names = name
            if name == self._entry:
                names = "|".join((name, "candidate", *re.findall(r"def check\(\s*(\w+)", self.source)))
            holders = re.findall(rf"([\w.]+)(?:\s*:[^=\n]+)?\s*=\s*(?:{names})\s*\(", self.source)
            holders = [*map(re.escape, holders), f"(?:{names})"]
            found = [rf"(?<![\w.]){holder}\s*\.\s*[A-Za-z]" for holder in holders]
            self._objects[name] = any(re.search(pattern, self.source) for pattern in found)
        return self._objects[name]


def _builtin_exception(name: str) -> type[Exception] | None:
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else None


def _original(error: Any, name: str) -> Any:
    """Attribute of an exception of the program's own type."""
    if name.startswith("_") or type(error)._own is None:
        raise AttributeError(name)
    return getattr(type(error)._own, name)


def _make(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """What calling the stand-in of a class does."""
    if "_link" not in cls.__dict__:  # an exception to raise here, of a type that has the stand-in as a base
        return Exception.__new__(cls, *args)
    made = cls._link.ask("call", (cls, *args), kwargs)
    if type(made) is Handle:
        object.__setattr__(made, "_made", cls.__name__)
        cls._link.made.add(made._type_name)
    return made


def _reduce(value: Any, kind: type) -> extras.Parts:
    """Stand-ins by number or name; data as ever."""
    if kind is Handle:
        return objects.HANDLE, (value._number,)
    if kind is Function or kind is _Class:
        return objects.NAME, (value.__name__,)
    return extras.reduce(value, kind)


class Function:
    """A function of the program by its name; as the entry point, whatever that is."""

    def __init__(self, link: Link, name: str, entry: bool) -> None:
        self.__name__ = self.__qualname__ = name
        self._link = link
        self._entry = entry

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it in the solution's process."""
        if self._entry:
            return self._link.ask("entry", args, kwargs)
        return self._link.ask("call", (self, *args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("getattr", (self, name))


class _Class(type):
    """Type of stand-ins for classes. Each is an exception type as well, so that `except` can name it."""

    _link: Link

    def __new__(mcs, name: str, bases: tuple[type, ...], content: dict[str, Any]) -> Any:
        if "_ours" not in content:
            raise TypeError(f"a test cannot derive {name!r} from a class of the program; use in_process=True")
        return type.__new__(mcs, name, bases, content)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or "_link" not in cls.__dict__:
            raise AttributeError(name)
        return cls._link.ask("getattr", (cls, name))

    def __instancecheck__(cls, instance: object) -> bool:
        if type(instance) is Handle and "_link" in cls.__dict__:
            return cls._link.ask("isinstance", (instance, cls)) is True
        return cls in type(instance).__mro__

    def __subclasscheck__(cls, subclass: type) -> bool:
        if "_link" in cls.__dict__ and "_link" in subclass.__dict__:
            return cls is subclass or cls._link.ask("issubclass", (subclass, cls)) is True
        return cls in subclass.__mro__


class Handle:
    """An object in the solution's process."""

    __slots__ = ("__weakref__", "_count", "_link", "_made", "_number", "_type_name")

    _link: Link
    _number: int
    _type_name: str
    _count: int
    _made: str

    def __init__(self, link: Link, number: int, type_name: str) -> None:
        put = object.__setattr__
        put(self, "_link", link)
        put(self, "_number", number)
        put(self, "_type_name", type_name)
        put(self, "_count", 0)
        put(self, "_made", "")

    def __del__(self) -> None:
        self._link.release(self._number, self._count)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _DUNDERS:
            raise AttributeError(f"{self._type_name} object has no attribute {name!r} that a test can read")
        return self._link.ask("getattr", (self, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("setattr", (self, name, value))

    def __delattr__(self, name: str) -> None:
        self._link.ask("delattr", (self, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object there."""
        return self._link.ask("call", (self, *args), kwargs)

    def __iter__(self) -> Iterator[Any]:
        return self._link.ask("iter", (self,))  # type: ignore[no-any-return]

    def __next__(self) -> Any:
        return self._link.ask("next", (self,))

    def __enter__(self) -> Any:
        return self._link.ask("enter", (self,))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        name = None if kind is None else kind.__name__
        return self._link.ask("exit", (self, name, str(error)[:2000])) is True

    def __eq__(self, other: object) -> bool:
        if type(other) is not Handle:
            return False
        if self._number == other._number:
            return True
        return self._type_name == other._type_name and self._link.ask("eq", (self, other)) is True

    def __hash__(self) -> int:
        return self._link.ask("hash", (self,))  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        # Without leave to act as a value: as an object that does not say.
        return self._link.ask("bool", (self,)) is True if self._poses(False) else True

    def __copy__(self) -> Any:
        return self._link.ask("copy", (self,))

    def __deepcopy__(self, memo: Any) -> Any:
        return self._link.ask("deepcopy", (self,))

    def _poses(self, sees_data: bool) -> bool:
        """Whether it may act as a number or container, and be shown the test's data."""
        if sees_data:
            return bool(self._made) and self._link.uses_as_object(self._made)
        return bool(self._made) or self._type_name in self._link.made


def _check(handle: Handle, operation: str, sees_data: bool) -> None:
    if not handle._poses(sees_data):
        raise TypeError(
            f"{operation!r} on a {handle._type_name} object of the program: only objects that the test makes "
            "by calling a capitalised name act as numbers or containers, and meet the test's data only where "
            "the test uses them as objects; use attributes and methods, or in_process=True"
        )


def _free(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._link.ask(name, (self, *args))


def _guarded(name: str) -> Callable[..., Any]:
    """An operation that shows the object nothing, or places only."""

    def method(self: Handle, *args: Any) -> Any:
        _check(self, name, sees_data=False)
        return self._link.ask(name, (self, *args))

    return method


def _with_operand(name: str, reflected: bool = False) -> Callable[..., Any]:
    """An operation that shows the object what the test compares or computes with."""

    def method(self: Handle, other: Any) -> Any:
        if type(other) is not Handle:
            _check(self, name, sees_data=True)
        return self._link.ask(name, (other, self) if reflected else (self, other))

    return method


def _furnish() -> None:
    for name in ("str", "repr", "format"):
        setattr(Handle, f"__{name}__", _free(name))
    guarded = "len bool int float complex index reversed neg pos abs invert round getitem setitem delitem"
    for name in guarded.split():
        if name != "bool":
            setattr(Handle, f"__{name}__", _guarded(name))
    for name in ("lt", "le", "gt", "ge", "contains"):
        setattr(Handle, f"__{name}__", _with_operand(name))
    for operation in (*objects.BINARY, "rshift", "divmod"):
        name = operation.rstrip("_")
        setattr(Handle, f"__{name}__", _with_operand(operation))
        setattr(Handle, f"__r{name}__", _with_operand(operation, reflected=True))
        if name != "divmod":
            setattr(Handle, f"__i{name}__", _with_operand(f"i{name}"))


_furnish()


def names_in(code: CodeType) -> tuple[str, ...]:
    """Names that a piece of code looks up and that are no builtins: any of them may be the program's.

    Some tests use helpers that the program defines (HumanEval/32, /38, /50).
    """
    found = sorted({n for n in _names(code) if not (hasattr(builtins, n) or n.startswith("__"))})
    return tuple(name for name in found if len(name) < _MAX_ATTRIBUTE)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def bind(namespace: dict[str, Any], names: Iterable[str], link: Link, entry: str) -> Any:
    """Give a test's namespace stand-ins for what it may use of the program, and return the candidate."""
    for name in names:
        namespace[name] = stand_in(link, name)
    if entry != "check":
        namespace.pop("check", None)
    candidate = stand_in(link, entry)
    if type(candidate) is Function:
        candidate = Function(link, entry, entry=True)
    namespace[entry.rpartition(".")[2]] = candidate
    namespace["candidate"] = candidate
    return candidate


def stand_in(link: Link, name: str) -> Any:
    """A class for a capitalised name, else a function."""
    if name[:1].isupper() and name.isidentifier():
        return link.class_named(name)
    return Function(link, name, entry=False)
