"""Weights that ZeRO-3 has divided over the processes: which they are, and how they are whole for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from torch import Tensor


def is_divided(parameter: Tensor) -> bool:
    """Whether a parameter is divided over the processes."""
    return hasattr(parameter, "ds_id")


def gathered(
    parameters: Iterable[Tensor], *, changed: bool = False
) -> contextlib.AbstractContextManager[Any]:
    """Within, these parameters are whole in each process; all processes must come here.

    Args:
        parameters: Divided ones and others, which stay as they are.
        changed: Whether what the first process writes there is to count; else they are to be read alone.
    """
    divided = [parameter for parameter in parameters if is_divided(parameter)]
    if not divided:
        return contextlib.nullcontext()
    from deepspeed import zero

    return zero.GatheredParameters(divided, modifier_rank=0 if changed else None)  # type: ignore[no-any-return]
