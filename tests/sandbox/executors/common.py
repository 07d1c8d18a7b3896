"""Programs of known verdicts, and a `codealign serve-sandbox` process, for the tests of executors."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sandbox import CallTest, Program

REPO = Path(__file__).resolve().parents[3]
VERDICTS = ("passed", "wrong_answer", "runtime_error")
TOKEN = "a-token-of-some-length"
SPIN = "def f(n):\n    while True: pass"
PLAIN = {"source": "def f(n): return n + 1", "entry_point": "f", "tests": [{"args": [1], "expected": 2}]}


def program(number):
    body = {0: "return n + {k}", 1: "return n - {k} - 1", 2: "raise KeyError({k})"}[number % 3]
    return Program(
        f"def f(n):\n    {body.format(k=number)}", "f", (CallTest((1,), 1 + number),), id=str(number)
    )


def verdicts(outcomes):
    return [getattr(outcome, "verdict", outcome) for outcome in outcomes]


def expected(count):
    return [VERDICTS[number % 3] for number in range(count)]


class Server:
    """A `codealign serve-sandbox` process."""

    def __init__(self, *arguments, port=0):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "alignment.cli",
                "serve-sandbox",
                "--port",
                str(port),
                "--workers",
                "2",
                *arguments,
            ],
            cwd=REPO,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        self.port = 0
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"listening on \S+ port (\d+)", line):
                self.port = int(found[1])
                break
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, headers=None, timeout=60):
        """Status, headers, JSON or text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, data, {**kind, **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, answer.headers, json.loads(text) if is_json else text

    def stop(self, number=signal.SIGTERM, wait=30):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(wait)
