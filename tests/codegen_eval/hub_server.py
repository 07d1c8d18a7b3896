"""A stand-in of the hub's HTTP API: repositories are made, and commits of small files taken, as the hub does.

Written after what huggingface_hub sends: POST /api/repos/create; POST /api/KINDs/ID/preupload/main, where all
files are answered to go with the commit; POST /api/validate-yaml for cards; POST /api/KINDs/ID/commit/main,
lines of JSON with base64 contents.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What the stand-in holds: by repository whether it is private, its messages and files."""

    url: str = ""
    token: str = "hf_right"
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    validated: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    site: Site

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        repo = self.path.split("?")[0].removeprefix("/api/").partition("/")[2].removesuffix("/revision/main")
        if repo in self.site.repos:
            self.answer({"id": repo, "sha": "0" * 40, "siblings": []})
        else:
            self.answer({"error": "Repository not found"}, 404)

    def do_POST(self) -> None:
        body = self.read()
        if self.headers.get("Authorization") != f"Bearer {self.site.token}":
            self.answer({"error": "Invalid username or password."}, 401)
            return
        if self.path == "/api/validate-yaml":
            self.site.validated.append(json.loads(body)["content"])
            self.answer({"errors": [], "warnings": []})
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.site.repos:
                self.answer({"error": "exists", "url": f"{self.site.url}/{repo}"}, 409)
                return
            self.site.repos[repo] = {
                "private": asked.get("visibility") == "private" or bool(asked.get("private")),
                "type": asked.get("type", "model"),
                "files": {},
            }
            self.site.repos[repo]["messages"] = []
            self.answer({"url": f"{self.site.url}/{repo}", "id": repo, "name": repo})
            return
        kind, owner, name, action, _ = self.path.removeprefix("/api/").split("?")[0].split("/")
        repo = f"{owner}/{name}"
        if action == "preupload":
            files = json.loads(body)["files"]
            self.answer(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
                    ]
                }
            )
            return
        assert action == "commit" and kind == f"{self.site.repos[repo]['type']}s"
        for line in body.splitlines():
            row = json.loads(line)
            if row["key"] == "header":
                self.site.repos[repo]["messages"].append(row["value"]["summary"])
            else:
                content = base64.b64decode(row["value"]["content"])
                self.site.repos[repo]["files"][row["value"]["path"]] = content
        self.answer(
            {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.site.url}/{repo}/commit/{'0' * 40}"}
        )


@contextlib.contextmanager
def hub_server() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
