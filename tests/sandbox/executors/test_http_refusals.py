"""What the HTTP service refuses: bad requests, slow clients, who has no token."""

import http.client
import socket
import subprocess
import sys
import time

import pytest

from sandbox import (
    SandboxError,
    Verdict,
)

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'codealign[serve]'")
from sandbox.executors.http_client import HttpExecutor
from tests.sandbox.executors.common import PLAIN, REPO, TOKEN, Server, program

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server():
    made = Server("--queue", "64", "--max-body", "1000000", "--header-seconds", "1", "--body-seconds", "1.5")
    yield made
    assert made.stop() == 0, made.said


@pytest.mark.parametrize(
    ("path", "method", "body", "headers", "status", "text"),
    [
        ("/v1/run", "POST", b'{"program": {"source": ', {}, 400, "line 1 column 24"),
        ("/v1/run", "POST", b'{"program": {"source": NaN}}', {}, 400, "NaN is not JSON"),
        ("/v1/run", "POST", b'{"program": 1, "program": 2}', {}, 400, "given twice"),
        ("/v1/run", "POST", b"[" * 100_000, {}, 400, "nested too deep"),
        ("/v1/run", "POST", b"\xff\xfe{", {}, 400, "not UTF-8 at byte 0"),
        ("/v1/run", "POST", b"", {}, 400, "line 1 column 1"),
        ("/v1/run", "POST", [1], {}, 400, "expected an object"),
        ("/v1/run", "POST", {"programs": []}, {}, 400, "at least one program"),
        ("/v1/run", "POST", {"program": PLAIN, "version": 2}, {}, 400, "version 2 is not spoken"),
        (
            "/v1/run",
            "POST",
            {"program": {**PLAIN, "entrypoint": "f"}},
            {},
            400,
            "did you mean 'entry_point'?",
        ),
        ("/v1/run", "POST", {"program": {**PLAIN, "source": 3}}, {}, 400, "program.source: expected text"),
        ("/v1/run", "POST", {"program": {**PLAIN, "entry_point": "f("}}, {}, 400, "entry_point is 'f('"),
        (
            "/v1/run",
            "POST",
            {"program": {**PLAIN, "tests": [{"args": [1], "expectd": 2}]}},
            {},
            400,
            "program.tests[0]",
        ),
        (
            "/v1/run",
            "POST",
            {"program": {**PLAIN, "tests": [{"args": {"$codec": "AAAA"}, "expected": 2}]}},
            {},
            400,
            "malformed value",
        ),
        (
            "/v1/run",
            "POST",
            {"program": {**PLAIN, "limits": {"cpu_seconds": -1}}},
            {},
            400,
            "cpu_seconds is -1",
        ),
        ("/v1/run", "POST", {"programs": [PLAIN] * 65}, {}, 413, "the queue holds 64"),
        ("/v1/run", "POST", b"x" * 1_000_001, {}, 413, "at most 1000000"),
        ("/v1/run", "POST", b"{}", {"Content-Type": "text/plain"}, 415, "send application/json"),
        ("/v1/run", "POST", b"{}", {"Content-Encoding": "gzip"}, 415, "compressed"),
        ("/v1/run", "POST", {"program": PLAIN}, {"Host": "evil.example:80"}, 421, "not this machine"),
        ("/v1/run", "GET", None, {}, 405, "takes POST"),
        ("/health", "POST", b"{}", {}, 405, "takes GET"),
        ("/v2/run", "POST", b"{}", {}, 404, "there is no /v2/run"),
        ("/run_code", "POST", {"code": "print(1)", "language": "cobol"}, {}, 400, "'cobol'"),
        (
            "/run_code",
            "POST",
            {"code": "1", "language": "python", "files": {"../x": ""}},
            {},
            400,
            "not inside",
        ),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(server, path, method, body, headers, status, text):
    found, _, answer = server.ask(method, path, body, headers)
    assert found == status
    assert text in answer["error"]
    assert server.ask("GET", "/ready")[0] == 200


def test_a_body_without_a_length_is_counted_while_it_comes(server):
    def pieces():
        for _ in range(40):
            yield b"x" * 50_000

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/run", pieces(), {"Content-Type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413 and b"more than 1000000" in answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", b"408"),
        (b"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Ty", b"408"),
        (b"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         b'Content-Length: 100\r\n\r\n{"program"', b"408"),
        (b"BREW /pot HTCPCP/1.0\r\n\r\n", b"400"),
        (b"\0" * 200_000, b"400"),
    ],
)  # fmt: skip
def test_half_a_request_ends_in_a_refusal_not_in_a_held_connection(server, data, status):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        answer = b""
        try:
            raw.sendall(data)
            while piece := raw.recv(65536):
                answer += piece
        except ConnectionError:
            assert len(data) > 100_000, "only who sends too much is cut off"
    assert time.monotonic() - began < 8
    if len(data) < 100_000:
        assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_slow_clients_do_not_keep_others_waiting(server):
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for raw in held:
        raw.sendall(b"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n")
    began = time.monotonic()
    assert server.ask("POST", "/v1/run", {"program": PLAIN})[0] == 200
    assert time.monotonic() - began < 5
    for raw in held:
        raw.close()


def test_without_a_token_nobody_listens_to_the_network():
    done = subprocess.run(
        [sys.executable, "-m", "alignment.cli", "serve-sandbox", "--host", "0.0.0.0", "--port", "0"],
        cwd=REPO, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "a token is needed" in done.stderr


def test_a_short_token_is_refused(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    done = subprocess.run(
        [sys.executable, "-m", "alignment.cli", "serve-sandbox", "--token-file", str(tmp_path / "token")],
        cwd=REPO, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "at least 16" in done.stderr


def test_only_who_has_the_token_is_served(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    made = Server("--host", "0.0.0.0", "--token-file", str(file))
    try:
        assert made.ask("GET", "/health")[0] == 200
        for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {TOKEN}"}):
            status, headers, answer = made.ask("POST", "/v1/run", {"program": PLAIN}, wrong)
            assert status == 401 and headers["WWW-Authenticate"] == "Bearer" and "token" in answer["error"]
            assert made.ask("GET", "/metrics", headers=wrong)[0] == 401
        assert made.ask("POST", "/v1/run", {"program": PLAIN}, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        with HttpExecutor(made.url, token_file=file) as executor:
            assert next(iter(executor.run([program(0)]))).verdict is Verdict.passed
        with pytest.raises(SandboxError, match="401"):
            HttpExecutor(made.url, token="another-token-of-some-length")
        assert not any(TOKEN in line for line in made.said)
    finally:
        made.stop()


# Load and loss.
