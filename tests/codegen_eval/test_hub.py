"""Pushing a folder, through huggingface_hub's own client, to a stand-in of the hub's HTTP API."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.hub import check_repo_id, push_folder
from tests.codegen_eval.hub_server import hub_server

pytest.importorskip("huggingface_hub")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Tests run with the hub switched off; here it is the stand-in."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return monkeypatch


def test_a_folder_arrives_whole_in_one_commit_and_a_second_push_replaces_it(
    tmp_path: Path, online: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("# card\n")
    (tmp_path / "members/0").mkdir(parents=True)
    (tmp_path / "members/0/model.safetensors").write_bytes(bytes(range(256)) * 40)
    with hub_server() as site:
        online.setattr("huggingface_hub.constants.ENDPOINT", site.url)
        online.setattr("huggingface_hub.hf_api.ENDPOINT", site.url, raising=False)
        push_folder(tmp_path, "me/model", "model", "codealign train dpo", private=True, token="hf_right")
        repo = site.repos["me/model"]
        assert repo["private"] is True and repo["type"] == "model"
        assert set(repo["files"]) == {"README.md", "members/0/model.safetensors"}
        assert repo["files"]["members/0/model.safetensors"] == bytes(range(256)) * 40
        (tmp_path / "README.md").write_text("# better card\n")
        push_folder(tmp_path, "me/model", "model", "again", private=True, token="hf_right")
        assert repo["files"]["README.md"] == b"# better card\n"
        assert repo["messages"] == ["codealign train dpo", "again"]
        with pytest.raises(CodealignError, match=r"did not take me/other: .*401.*the model is complete in"):
            push_folder(tmp_path, "me/other", "model", "m", private=False, token="hf_wrong")
        assert "me/other" not in site.repos


@pytest.mark.parametrize("bad", ["", "name", "/name", "owner/", "a/b/c"])
def test_only_owner_and_name_is_a_repository(bad: str) -> None:
    with pytest.raises(CodealignError, match="give OWNER/NAME"):
        check_repo_id(bad, "--push-to-hub")
    check_repo_id("owner/name", "--push-to-hub")
