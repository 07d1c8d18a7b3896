"""Folders to the Hugging Face hub: only when asked for, with the user's own token, in one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from codegen_eval.errors import CodealignError

Kind = Literal["model", "dataset"]


class Hub(Protocol):
    """What pushing needs of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> Any:
        """Makes the repository where it is not there."""
        ...

    def upload_folder(self, *, repo_id: str, repo_type: str, folder_path: str, commit_message: str) -> Any:
        """Uploads all files of a folder in one commit."""
        ...


def check_repo_id(repo_id: str, option: str) -> None:
    """Refuses what is no `OWNER/NAME`.

    Raises:
        CodealignError: With the option's name.
    """
    owner, slash, name = repo_id.partition("/")
    if not slash or not owner or not name or "/" in name:
        raise CodealignError(f"{option} {repo_id!r}: give OWNER/NAME")


def push_folder(
    folder: Path,
    repo_id: str,
    kind: Kind,
    message: str,
    *,
    private: bool,
    token: str | None = None,
    hub: Hub | None = None,
) -> None:
    """Uploads a folder to a repository of the hub, which is made where it is not there.

    Args:
        folder: Complete, with its card.
        repo_id: `OWNER/NAME`.
        kind: Of repository.
        message: Of the commit.
        private: Of a repository that is made now.
        token: The user's; the one that huggingface_hub has stored when absent.
        hub: The hub's interface; that of huggingface_hub when absent.

    Raises:
        CodealignError: The hub refuses, or huggingface_hub is not installed.
    """
    if hub is None:
        try:
            from huggingface_hub import HfApi
        except ModuleNotFoundError:
            raise CodealignError(
                "--push-to-hub needs huggingface_hub: pip install 'codealign[train]'"
            ) from None
        hub = HfApi(token=token)
    try:
        hub.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repo_id, repo_type=kind, folder_path=str(folder), commit_message=message)
    except Exception as error:
        # Of the network, of the hub and of the token: there is no common class.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CodealignError(
            f"the hub did not take {repo_id}: {first}; the {kind} is complete in {folder}: mend that and run "
            "the same command again"
        ) from error
