"""The HTTP service as its clients meet it, kind and unkind ones: a real server process on loopback."""

import asyncio
import base64
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from sandbox import (
    CallTest,
    CodeTest,
    InfraError,
    IOTest,
    Isolation,
    Limits,
    MatrixJob,
    Program,
    SandboxError,
    TimingJob,
    Verdict,
)

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'codealign[serve]'")
from sandbox.executors.base import Executor, Policy
from sandbox.executors.http_client import HttpExecutor
from sandbox.executors.http_server import Service
from sandbox.executors.orders import Execution, Script
from tests.sandbox.executors.common import (
    PLAIN,
    SPIN,
    VERDICTS,
    Server,
    program,
)

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server():
    made = Server("--queue", "64", "--max-body", "1000000", "--header-seconds", "1", "--body-seconds", "1.5")
    yield made
    assert made.stop() == 0, made.said


def test_a_request_written_by_hand_is_answered(server):
    status, _, answer = server.ask("POST", "/v1/run", {"program": PLAIN})
    assert status == 200 and answer["answer"]["result"]["verdict"] == "passed"
    assert answer["answer"]["result"]["isolation"]["level"] == "full"


def test_programs_matrices_timings_and_scripts_come_back_as_from_the_local_pool(server):
    values = (CallTest((1, (2, 3)), {1: {2, 3}}), CallTest((float("inf"), b"\0"), {float("inf"): {0}}))
    exact = Program("def f(a, b): return {a: set(b)}", "f", values, id="\ud800 exact")
    with HttpExecutor(server.url) as executor:
        assert executor.isolation.level == "full" and executor.workers == 2
        outcomes = list(executor.run([*map(program, range(90)), exact]))
        assert [o.id for o in outcomes] == [*map(str, range(90)), "\ud800 exact"]
        (printed,) = executor.run([Program("print(input())", "", (IOTest(b"x", "x"),))])
        assert printed.verdict is Verdict.passed
        assert [o.verdict for o in outcomes] == [*(VERDICTS[n % 3] for n in range(90)), "passed"]
        codes = ["def f(n): return n * n", "def f(n): return n + 2"]
        (matrix,) = executor.pass_matrices([MatrixJob(codes, [CallTest((k,), k * k) for k in range(4)], "f")])
        assert matrix.passed.tolist() == [[True] * 4, [False, False, True, False]]
        (times,) = executor.time_many([TimingJob(codes, "f", [(3,), (4,)], repeats=2)])
        assert times.shape == (2, 2) and np.isfinite(times).all()
        ran = executor.execute(Script("import sys\nprint(sys.stdin.read()[::-1]); sys.exit(3)", b"ab"))
        assert (ran.stdout, ran.return_code) == (b"ba\n", 3)


def test_all_tests_are_run_where_that_is_asked_for(server):
    wrong = Program("def f(n): return 0", "f", tuple(CallTest((k,), k) for k in range(4)))
    with HttpExecutor(server.url) as executor:
        (short,), (long,) = executor.run([wrong]), executor.run([wrong], all_tests=True)
    assert [c.verdict for c in short.cells] == ["passed", "wrong_answer"]
    assert [c.verdict for c in long.cells] == ["passed"] + ["wrong_answer"] * 3


def test_limits_above_the_hard_ones_are_lowered_and_said(server):
    asked = Limits(cpu_seconds=1000, wall_seconds=1000, memory_mb=512)
    with HttpExecutor(server.url) as executor:
        (found,) = executor.run([Program("def f(n): return n", "f", (CallTest((1,), 1),), limits=asked)])
    assert found.limits.cpu_seconds == 30 and found.limits.memory_mb == 512
    assert "limit cpu_seconds lowered from 1000 to the hard limit 30" in found.notes


def test_a_client_that_leaves_ends_its_work(server):
    limits = {"cpu_seconds": 30, "wall_seconds": 60}
    body = json.dumps(
        {"programs": [{**PLAIN, "source": SPIN + f" # {k}", "limits": limits} for k in range(4)]}
    )
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/run", body, {"Content-Type": "application/json"})
    time.sleep(0.7)
    assert "codealign_queue_length 4" in server.ask("GET", "/metrics")[2]
    connection.close()
    began = time.monotonic()
    assert server.ask("POST", "/v1/run", {"program": PLAIN})[0] == 200
    assert time.monotonic() - began < 10
    assert "codealign_queue_length 0" in server.ask("GET", "/metrics")[2]


def test_a_cancelled_coroutine_ends_its_work_on_the_server(server):
    endless = Program(SPIN, "f", (CallTest((1,), 1),), limits=Limits(cpu_seconds=30, wall_seconds=60))

    async def go(executor):
        tasks = [asyncio.create_task(executor.arun(endless)) for _ in range(4)]
        await asyncio.sleep(0.7)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError)
            for e in await asyncio.gather(*tasks, return_exceptions=True)
        )
        return await asyncio.wait_for(executor.arun(program(0)), 10)

    with HttpExecutor(server.url, policy=Policy(share_equal=False)) as executor:
        assert asyncio.run(go(executor)).verdict is Verdict.passed


def test_metrics_and_info_say_what_is_in_force(server):
    server.ask("POST", "/v1/run", {"program": PLAIN})
    text = server.ask("GET", "/metrics")[2]
    assert 'codealign_isolation_info{level="full"' in text
    assert re.search(r'codealign_programs_total\{verdict="passed"\} [1-9]', text)
    buckets = [int(n) for n in re.findall(r"request_seconds_bucket\{.*\} (\d+)", text)]
    assert buckets == sorted(buckets) and buckets[-1] > 0
    info = server.ask("GET", "/v1/info")[2]
    assert info["isolation"]["level"] == "full" and "python" in info["languages"] and info["queue"] == 64


# SandboxFusion's form.


def test_run_code_answers_in_the_shape_of_sandboxfusion(server):
    code = "import sys\nprint(input().upper())\nprint(open('data/a.txt').read(), file=sys.stderr)"
    code += "\nopen('o', 'w').write('x')"
    body = {
        "code": code,
        "language": "python",
        "stdin": "hello\n",
        "run_timeout": 5,
        "compile_timeout": 5,
        "memory_limit_MB": -1,
        "files": {"data/a.txt": base64.b64encode(b"inside").decode()},
        "fetch_files": ["o", "absent"],
    }
    _, _, answer = server.ask("POST", "/run_code", body)
    run = answer["run_result"]
    assert set(answer) == {"status", "message", "compile_result", "run_result", "executor_pod_name", "files"}
    assert set(run) == {"status", "execution_time", "return_code", "stdout", "stderr"}
    assert answer["status"] == "Success" and run["status"] == "Finished" and run["return_code"] == 0
    assert run["stdout"] == "HELLO\n" and run["stderr"] == "inside\n"
    assert answer["files"] == {"o": base64.b64encode(b"x").decode()}


@pytest.mark.parametrize(
    ("code", "status", "run_status", "return_code", "error"),
    [
        ("raise SystemExit(5)", "Failed", "Finished", 5, ""),
        ("1/0", "Failed", "Finished", 1, "ZeroDivisionError"),
        ("print(", "Failed", "Finished", 1, "SyntaxError"),
        ("while True: pass", "Failed", "TimeLimitExceeded", None, ""),
        ("import os\nos._exit(7)", "Failed", "Finished", 7, ""),
        ("import os\nos.kill(os.getpid(), 11)", "Failed", "Finished", -9, ""),
        ("x = bytearray(10**10)", "Failed", "Finished", 1, "MemoryError"),
        ("while True: print('x' * 10**5)", "Failed", "Finished", -9, "output_limit"),
    ],
)
def test_run_code_tells_failures_apart(server, code, status, run_status, return_code, error):
    body = {"code": code, "language": "python", "run_timeout": 0.5}
    _, _, answer = server.ask("POST", "/run_code", body)
    run = answer["run_result"]
    assert (answer["status"], run["status"]) == (status, run_status)
    assert error in run["stderr"]
    assert run["return_code"] == return_code or "os.kill" in code


def test_the_client_speaks_sandboxfusion_and_compares_outside(server):
    cases = [
        (Program("def f(a, b): print(b); return (a, {b})", "f", (CallTest((1, "x"), (1, {"x"})),)), "passed"),
        (Program("def f(a, b): return [a, {b}]", "f", (CallTest((1, "x"), (1, {"x"})),)), "wrong_answer"),
        (Program("def f(): return float('inf'), 10**40, -1, b'\\0', None, True, 1j, {1: 'é'}", "f",
                 (CallTest((), (float("inf"), 10**40, -1, b"\0", None, True, 1j, {1: "é"})),)), "passed"),
        (Program("def f(): raise KeyError(1)", "f", (CallTest((), 1),)), "runtime_error"),
        (Program("def f(:", "f", (CallTest((), 1),)), "syntax_error"),
        (Program("def f(): return object()", "f", (CallTest((), 1),)), "wrong_answer"),
        (Program("import sys\nsys.exit(0)", "f", (CallTest((), 1),)), "wrong_answer"),
        (Program("def f(): return print", "f", ()), "passed"),
        (Program("def f():\n while 1: 1", "f", (CallTest((), 1),), limits=Limits(0.5)), "timeout"),
        (Program("print(2 * int(input()))", "", (IOTest("2", "4"), IOTest(b"3", "6\n"))), "passed"),
        (Program("print(input())", "", (IOTest("2", "4"),)), "wrong_answer"),
        (Program("print(1 / 0)", "", (IOTest("2", "4"),)), "runtime_error"),
        (Program("def f(n): return n", "f", (CodeTest("assert f(2) == 2", in_process=True),)), "passed"),
        (Program("def f(n): return 0", "f", (CodeTest("def check(c): assert c(2) == 2", in_process=True),)),
         "wrong_answer"),
        (Program("print('\\n\\x02codealign:vMQ==')\ndef f(): return 0", "f", (CallTest((), 1),)),
         "wrong_answer"),
    ]  # fmt: skip
    with HttpExecutor(server.url + "/run_code", dialect="sandboxfusion") as executor:
        outcomes = list(executor.run([p for p, _ in cases]))
        assert [(o.verdict, p.source) for o, (p, _) in zip(outcomes, cases, strict=True)] == [
            (verdict, p.source) for p, verdict in cases
        ]
        assert [o.verdict_trust for o in outcomes[12:14]] == ["forgeable", "forgeable"]
        assert outcomes[0].isolation.level == "remote"
        with pytest.raises(ValueError, match="in_process=True"):
            executor.submit(Program("def f(n): return n", "f", (CodeTest("assert f(2) == 2"),)))


# Tokens.


def test_two_hundred_clients_at_a_tiny_queue_lose_nothing_and_run_nothing_twice():
    made = Server("--queue", "3")
    found = [[] for _ in range(200)]

    def client(number):
        body = {
            "program": {
                **PLAIN,
                "source": f"def f(n): return n + {1 + number % 2} # {number}",
                "id": str(number),
            }
        }
        end = time.monotonic() + 240  # on a machine that is busy with other things
        while time.monotonic() < end:
            status, headers, answer = made.ask("POST", "/v1/run", body, timeout=90)
            found[number].append((status, answer, headers.get("Retry-After")))
            if status == 200:
                return
            time.sleep(0.02 + 0.01 * (number % 7))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(200)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = 0
        for number, answers in enumerate(found):
            for status, answer, wait in answers[:-1]:
                assert status in (429, 503) and wait == "1" and "error" in answer
                refused += 1
            status, answer, _ = answers[-1]
            result = answer["answer"]["result"]
            assert (status, result["id"]) == (200, str(number))
            assert result["verdict"] == ("passed" if number % 2 == 0 else "wrong_answer")
        assert refused > 0, "the queue was never full: the test shows nothing"
        counts = dict(re.findall(r'programs_total\{verdict="(\w+)"\} (\d+)', made.ask("GET", "/metrics")[2]))
        assert counts == {"passed": "100", "wrong_answer": "100"}
    finally:
        assert made.stop() == 0


def test_our_client_waits_its_turn_at_a_full_queue():
    made = Server("--queue", "2")
    try:
        with HttpExecutor(made.url, batch=2) as executor:
            outcomes = list(executor.run(map(program, range(120))))
        assert [o.verdict for o in outcomes] == [VERDICTS[n % 3] for n in range(120)]
        assert executor.stats().infra_errors == 0
    finally:
        made.stop()


def test_sigterm_finishes_what_was_accepted_and_takes_no_more():
    made = Server()
    limits = {"cpu_seconds": 20, "wall_seconds": 20}
    slow = {
        **PLAIN,
        "source": "import time\ndef f(n):\n    time.sleep(1.5)\n    return n + 1",
        "limits": limits,
    }
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(made.ask("POST", "/v1/run", {"program": slow})))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.6)
    made.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(ConnectionError):
        made.ask("GET", "/health")
    for thread in threads:
        thread.join()
    assert [(s, a["answer"]["result"]["verdict"]) for s, _, a in found] == [(200, "passed")] * 4
    assert made.process.wait(20) == 0
    assert any("stopped" in line for line in made.said)


def test_a_killed_and_restarted_server_costs_no_verdict():
    made = Server()
    programs = [
        Program(p.source + "\nimport time; time.sleep(0.02)", "f", p.tests, id=p.id)
        for p in map(program, range(150))
    ]
    with HttpExecutor(made.url, batch=4) as executor:
        outcomes = []
        for outcome in executor.run(programs):
            outcomes.append(outcome)
            if len(outcomes) == 30:
                made.process.kill()
                made.process.wait()
                time.sleep(0.3)
                made = Server(port=made.port)
    made.stop()
    assert [o.id for o in outcomes] == [p.id for p in programs]
    assert [getattr(o, "verdict", o) for o in outcomes] == [VERDICTS[n % 3] for n in range(150)]


def test_of_two_servers_one_may_die():
    made = [Server(), Server()]
    with HttpExecutor([m.url for m in made], batch=4) as executor:
        outcomes = []
        for outcome in executor.run(map(program, range(200))):
            outcomes.append(outcome)
            if len(outcomes) == 40:
                made[0].process.kill()
    assert [o.verdict for o in outcomes] == [VERDICTS[n % 3] for n in range(200)]
    for one in made:
        one.stop()


def test_a_service_that_is_not_there_is_an_infrastructure_error_not_a_verdict():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SandboxError, match="patience=1 s"):
        HttpExecutor(f"http://127.0.0.1:{port}", patience=1)
    made = Server()
    with HttpExecutor(made.url, patience=1, policy=Policy(retries=0)) as executor:
        made.process.kill()
        made.process.wait()
        (found,) = executor.run([program(0)])
        assert isinstance(found, InfraError) and "patience" in found.message
        with pytest.raises(SandboxError, match=r"20 of 20 programs \(100%\) could not be run"):
            list(executor.run(map(program, range(30))))


def test_a_sandbox_that_fails_is_not_ready_and_one_that_works_again_is():
    class Failing(Executor):
        workers, isolation, environment, broken = 1, Isolation("full"), "", True

        def _submit(self, order):
            future = Future()
            if self.broken:
                future.set_exception(SandboxError("no more processes"))
            else:
                future.set_result(Execution(Verdict.passed, "", b"", b"", 0, 0.0))
            return future

        def close(self):
            pass

    executor = Failing(Policy(retries=0))
    service = Service(executor)

    def ask(method, path, body=b""):
        sent, messages = [], [{"type": "http.request", "body": body}]
        scope = {
            "type": "http",
            "path": path,
            "method": method,
            "headers": [(b"content-type", b"application/json")],
        }

        async def receive():
            return messages.pop() if messages else await asyncio.sleep(60)

        async def send(message):
            sent.append(message)

        asyncio.run(service(scope, receive, send))
        return sent[0]["status"], json.loads(sent[1]["body"])

    assert ask("GET", "/ready")[0] == 200
    for _ in range(5):
        _, answer = ask("POST", "/v1/run", json.dumps({"program": PLAIN}).encode())
        assert answer["answer"]["infra_error"]["message"] == "no more processes"
    status, answer = ask("GET", "/ready")
    assert status == 503 and "no more processes" in answer["reason"]
    status, answer = ask("POST", "/run_code", b'{"code": "1", "language": "python"}')
    assert status == 200 and answer["status"] == "SandboxError"
    executor.broken = False
    assert ask("GET", "/ready")[0] == 200


def test_no_process_is_left_when_the_server_is_killed():
    made = Server()
    children = Path(f"/proc/{made.process.pid}/task/{made.process.pid}/children").read_text().split()
    assert children
    os.kill(made.process.pid, signal.SIGKILL)
    made.process.wait()
    end = time.monotonic() + 10
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
