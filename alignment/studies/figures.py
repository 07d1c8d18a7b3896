"""What the studies share: figures as SVG files (equal numbers give equal bytes), one torch thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "codealign",
    "text.parse_math": False,
}


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread within the block: on a busy machine two are many times slower than one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def svg_file(path: Path, width: float, height: float, columns: int = 1) -> Iterator[list[Axes]]:
    """Axes side by side in one figure (inches), written to `path` on leaving.

    Raises:
        CodealignError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodealignError(f"figures need matplotlib ({error}): pip install 'codealign[report]'") from None
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield list(figure.subplots(1, columns, squeeze=False)[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
