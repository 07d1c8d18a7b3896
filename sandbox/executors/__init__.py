"""Where programs run: a local pool, Ray actors, an HTTP service; one interface over all of them (base.py)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Executor, Policy, Stats
    from .cache import ResultCache
    from .registry import make_executor

_HOME = {
    "Executor": "base",
    "Policy": "base",
    "ResultCache": "cache",
    "Stats": "base",
    "make_executor": "registry",
}

__all__ = ["Executor", "Policy", "ResultCache", "Stats", "make_executor"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'sandbox.executors' has no attribute {name!r}")
    value = getattr(import_module(f"sandbox.executors.{_HOME[name]}"), name)
    globals()[name] = value
    return value
