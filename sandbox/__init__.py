"""Runs programs that nobody trusts and says what happened.

Light to import: the engine's own processes import this package too and must stay small, so the names below
are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import Answer, CallJob
    from .iotest import IOTest
    from .languages import LanguageUnavailable
    from .limits import Limits
    from .matrix import MatrixJob, PassMatrix
    from .pool import Sandbox
    from .program import CallTest, CodeTest, Program
    from .timing import Timing, TimingJob
    from .values import Drained, EnumValue, ErrorValue, NamedRecord, Record
    from .verdict import (
        CellResult,
        InfraError,
        Isolation,
        IsolationUnavailable,
        Level,
        Result,
        SandboxError,
        Verdict,
    )

_HOME = {
    "Answer": "answers",
    "CallJob": "answers",
    "CallTest": "program",
    "CellResult": "verdict",
    "CodeTest": "program",
    "Drained": "values",
    "EnumValue": "values",
    "ErrorValue": "values",
    "IOTest": "iotest",
    "InfraError": "verdict",
    "Isolation": "verdict",
    "IsolationUnavailable": "verdict",
    "LanguageUnavailable": "languages",
    "Level": "verdict",
    "Limits": "limits",
    "MatrixJob": "matrix",
    "NamedRecord": "values",
    "PassMatrix": "matrix",
    "Program": "program",
    "Record": "values",
    "Result": "verdict",
    "Sandbox": "pool",
    "SandboxError": "verdict",
    "Timing": "timing",
    "TimingJob": "timing",
    "Verdict": "verdict",
}

__all__ = [
    "Answer",
    "CallJob",
    "CallTest",
    "CellResult",
    "CodeTest",
    "Drained",
    "EnumValue",
    "ErrorValue",
    "IOTest",
    "InfraError",
    "Isolation",
    "IsolationUnavailable",
    "LanguageUnavailable",
    "Level",
    "Limits",
    "MatrixJob",
    "NamedRecord",
    "PassMatrix",
    "Program",
    "Record",
    "Result",
    "Sandbox",
    "SandboxError",
    "Timing",
    "TimingJob",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'sandbox' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    value = getattr(import_module(f"sandbox.{_HOME[name]}"), name)
    globals()[name] = value
    return value
