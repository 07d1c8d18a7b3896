"""`codealign card RUN`: writes a trained model's card anew, with evaluations, and pushes it if asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from alignment.cards import facts_of, write_card
from codegen_eval.errors import CodealignError
from codegen_eval.hub import Hub, check_repo_id, push_folder
from codegen_eval.runs import RunDir

FOLDERS = ("model", "members")


def main(argv: Sequence[str]) -> int:
    """Parses the command line of `codealign card`, writes the card and pushes the folder."""
    parser = argparse.ArgumentParser(
        prog="codealign card",
        description="Writes the card of a finished run's model: method, recipe, data, figures, evaluations.",
    )
    parser.add_argument("run", type=Path, help="run directory of `codealign train`")
    parser.add_argument(
        "--evaluation",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="run directories of `codealign eval` on the model",
    )
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="push the model's folder there")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    arguments = parser.parse_args(argv)
    print(
        f"card: {card(arguments.run, arguments.evaluation, arguments.push_to_hub, private=arguments.private)}"
    )
    return 0


def card(
    run: Path,
    evaluations: Sequence[Path] = (),
    push_to_hub: str | None = None,
    *,
    private: bool = False,
    hub: Hub | None = None,
) -> Path:
    """Writes the card of a finished run's model and pushes the folder where asked.

    Args:
        run: The run directory.
        evaluations: Of the model, by `codealign eval`.
        push_to_hub: `OWNER/NAME`; None pushes nothing.
        private: Of a repository that is made now.
        hub: As for `hub.push_folder`.

    Raises:
        CodealignError: If the run is not finished or holds no model, an evaluation is none, or the
            hub refuses.
    """
    if push_to_hub is not None:
        check_repo_id(push_to_hub, "--push-to-hub")
    if not (run / "finished.json").exists():
        raise CodealignError(f"{run} is no finished training run; run its command to the end first")
    folder = next((run / name for name in FOLDERS if (run / name).is_dir()), None)
    if folder is None:
        raise CodealignError(f"{run} holds no trained model (no folder {' or '.join(FOLDERS)})")
    command = facts_of(run, folder, evaluations=evaluations).command
    path = write_card(RunDir(run), folder, evaluations=evaluations)
    if push_to_hub is not None:
        push_folder(folder, push_to_hub, "model", f"codealign train {command}", private=private, hub=hub)
    return path


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
