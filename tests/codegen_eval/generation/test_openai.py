"""The HTTP backend against a server that misbehaves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import BackendOptions, Request, Sampling
from codegen_eval.generation.http_json import Client
from codegen_eval.generation.openai import OpenAIBackend, open_server
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.records import cut_at_stop
from tests.codegen_eval.generation.misbehaving import (
    Handler,
    Server,
    completion,
    hang_up,
    serving,
    text_of,
    trickle,
)

SAMPLING = Sampling(
    temperature=0.5, top_p=0.9, max_new_tokens=7, stop=("\n@", "\nb", "\nc", "\nd", "\ne"), seed=3
)


def backend(server: Server, *, chat: bool = False, concurrency: int = 4, **client: Any) -> OpenAIBackend:
    path = "/chat/completions" if chat else "/completions"
    waits = {"first_wait": 0.01, "retries": 3, "timeout": 10.0, **client}
    return OpenAIBackend(Client(server.url + path, **waits), "m", chat=chat, concurrency=concurrency)


def batches(count: int) -> list[tuple[int, list[Request]]]:
    return [(i, [Request(f"t/{i // 2}", f"p{i // 2}", 1, first=i % 2)]) for i in range(count)]


def draw(server: Server, count: int = 6, **options: Any) -> dict[int, list[list[str]]]:
    return dict(backend(server, **options).generate(batches(count), SAMPLING))


def test_a_request_holds_the_sampling_and_a_seed_of_its_own() -> None:
    with serving() as server:
        drawn = draw(server)
    assert set(server.paths) == {"/v1/completions"}
    body = next(b for b in server.bodies if b["seed"] == sample_seed(3, "t/1", 1))
    assert body == {
        "model": "m",
        "prompt": "p1",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": sample_seed(3, "t/1", 1),
        "n": 1,
        "stop": ["\n@", "\nb", "\nc", "\nd"],
    }
    assert len({b["seed"] for b in server.bodies}) == 6 and all(0 <= b["seed"] < 2**31 for b in server.bodies)
    assert drawn[3] == [[cut_at_stop(text_of(body), SAMPLING.stop)]]
    assert not any("Authorization" in headers for headers in server.headers)


def test_a_chat_sends_a_message_and_keeps_the_whole_answer() -> None:
    with serving() as server:
        drawn = dict(backend(server, chat=True).generate(batches(1), Sampling(seed=3)))
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "p0"}]
    assert "stop" not in server.bodies[0] and "prompt" not in server.bodies[0]
    assert drawn[0][0][0] == completion(server.bodies[0])["choices"][0]["message"]["content"]


def test_further_fields_are_sent_and_null_takes_one_out() -> None:
    with serving() as server:
        client = Client(server.url + "/completions")
        extended = OpenAIBackend(client, "m", body={"top_k": 5, "seed": None})
        list(extended.generate(batches(1), SAMPLING))
    assert server.bodies[0]["top_k"] == 5 and "seed" not in server.bodies[0]


def first_time(misdeed: Callable[[Handler], Any]) -> Callable[[Handler, dict[str, Any], int], bool]:
    """Does it with the first request of each sample only."""

    def do(handler: Handler, body: dict[str, Any], before: int) -> bool:
        if before == 0:
            misdeed(handler)
        return before == 0

    return do


MISDEEDS: dict[str, Callable[[Handler], Any]] = {
    "429": lambda h: h.answer(429, {"error": "slow down"}, {"Retry-After": "0"}),
    "500": lambda h: h.answer(500, b"<html>oops</html>"),
    "503 with a date": lambda h: h.answer(503, {}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "529 with nonsense": lambda h: h.answer(529, {}, {"Retry-After": "soon"}),
    "a lost connection": hang_up,
    "no answer at all": lambda h: h.connection.close(),
    "half of the JSON": lambda h: h.answer(200, b'{"choices": ['),
    "no JSON": lambda h: h.answer(200, b"\xff\xfe<html>"),
    "deep JSON": lambda h: h.answer(200, b"[" * 100_000),
    "a list": lambda h: h.answer(200, []),
    "no choices": lambda h: h.answer(200, {"choices": []}),
    "two choices": lambda h: h.answer(200, {"choices": [{"text": "a"}, {"text": "b"}]}),
    "a choice without text": lambda h: h.answer(200, {"choices": [{"text": None}]}),
    "a number for a choice": lambda h: h.answer(200, {"choices": [7]}),
}


@pytest.mark.parametrize("name", MISDEEDS)
def test_what_passes_is_asked_for_again_and_gives_the_same_text(name: str) -> None:
    with serving() as good:
        expected = draw(good)
    with serving(first_time(MISDEEDS[name])) as server:
        assert draw(server) == expected
    assert len(server.bodies) == 12 and server.answered == 6


def test_retry_after_is_waited_for() -> None:
    misdeed = first_time(lambda h: h.answer(429, {}, {"Retry-After": "1"}))
    start = time.monotonic()
    with serving(misdeed) as server:
        draw(server, 2, concurrency=2)
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("misdeed", [trickle, lambda h: time.sleep(1.5)])
def test_an_answer_that_takes_too_long_is_given_up(misdeed: Callable[[Handler], Any]) -> None:
    with serving(first_time(misdeed)) as server:
        start = time.monotonic()
        assert set(draw(server, 2, timeout=0.3)) == {0, 1}
    assert time.monotonic() - start < 10 and len(server.bodies) == 4


def test_no_more_requests_than_allowed_are_under_way() -> None:
    def slowly(handler: Handler, body: dict[str, Any], before: int) -> bool:
        time.sleep(0.02)
        return False

    with serving(slowly) as server:
        draw(server, 30, concurrency=3)
    assert server.most_under_way == 3 and server.answered == 30


def test_what_was_drawn_before_a_failure_is_yielded_before_the_error() -> None:
    def fails(handler: Handler, body: dict[str, Any], before: int) -> bool:
        if body["prompt"] != "p1":
            return False
        handler.answer(500, {"error": "always"})
        return True

    with serving(fails) as server:
        found = []
        with pytest.raises(CodealignError, match=r"t/1, sample \d in 4 attempts; the last: HTTP 500.*run"):
            for number, _ in backend(server, concurrency=2).generate(batches(6), SAMPLING):
                found.append(number)
    assert set(found) >= {0, 1} and not {2, 3} & set(found)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302])
def test_a_refusal_is_final_and_shows_what_the_server_said(status: int) -> None:
    headers = {"Location": "http://127.0.0.1:9/elsewhere"}

    def refuses(handler: Handler, body: dict[str, Any], before: int) -> bool:
        handler.answer(status, {"error": {"message": "no such\x1b[31m model: secret-key"}}, headers)
        return True

    with serving(refuses) as server, pytest.raises(CodealignError, match=f"refuses.*HTTP {status}") as raised:
        draw(server, 1, key="secret-key")
    assert len(server.bodies) == 1
    assert "secret-key" not in str(raised.value) and "\x1b" not in str(raised.value)
    assert server.headers[0]["Authorization"] == "Bearer secret-key"


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}/v1/completions", retries=1, first_wait=0.01)
    with pytest.raises(CodealignError, match=rf"127.0.0.1:{port}.*2 attempts.*refused"):
        list(OpenAIBackend(client, "m").generate(batches(1), SAMPLING))


def test_a_consumer_that_stops_ends_the_requests() -> None:
    with serving() as server:
        drawn = backend(server, concurrency=1).generate(batches(200), SAMPLING)
        next(drawn)
        drawn.close()
        time.sleep(0.3)
        before = len(server.bodies)
        time.sleep(0.3)
        assert before == len(server.bodies) < 200


def test_an_endless_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen_eval.generation.http_json.MAX_ANSWER_BYTES", 1000)
    endless = serving(lambda h, body, n: h.answer(200, b" " * 100_000) is None)
    with endless as server, pytest.raises(CodealignError, match="longer than 1000 bytes"):
        draw(server, 1, retries=0)


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, ""), ("a", "a"), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab")],
)
def test_the_forms_of_a_messages_content_are_read(content: Any, text: str) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": content}}]}
    with serving(lambda h, body, n: h.answer(200, answer) is None) as server:
        assert dict(backend(server, chat=True).generate(batches(1), Sampling())) == {0: [[text]]}


def options(**changes: Any) -> BackendOptions:
    return BackendOptions(**{"model": "m", "base_url": "http://127.0.0.1:1/v1", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": None}, "needs --base-url"),
        ({"base_url": "127.0.0.1:8000"}, "give one as https://"),
        ({"base_url": "ftp://host/v1"}, "give one as https://"),
        ({"base_url": "http://host/v1?key=1"}, "give one as https://"),
        ({"base_url": "https://user:secret@host/v1"}, "user name or password"),
        ({"api_key_env": "NO_SUCH_VARIABLE_HERE"}, "NO_SUCH_VARIABLE_HERE: this variable is not set"),
        ({"api_key_env": "A_BAD_KEY"}, "cannot be a key"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_BAD_KEY", "a\nInjected: b")
    with pytest.raises(CodealignError, match=message) as raised:
        open_server(options(**changes))
    assert "secret" not in str(raised.value) and "Injected" not in str(raised.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "abc ")
    with serving() as server:
        list(
            open_server(options(base_url=server.url + "/", api_key_env="SOME_KEY")).generate(
                batches(1), SAMPLING
            )
        )
    assert server.headers[0]["Authorization"] == "Bearer abc" and server.paths == ["/v1/completions"]


def test_waits_grow_stay_in_bounds_and_differ() -> None:
    client = Client("http://127.0.0.1:1/", first_wait=1.0)
    waits = [[client._pause(attempt, None) for _ in range(50)] for attempt in (0, 3, 40)]
    for most, drawn in zip((1.0, 8.0, 60.0), waits, strict=True):
        assert most / 2 <= min(drawn) < max(drawn) <= most
    assert 5.0 <= client._pause(0, 5.0) <= 6.0 and client._pause(0, 1e9) <= 601.0


def test_an_interrupted_wait_makes_no_further_attempt() -> None:
    stop = threading.Event()
    stop.set()
    with serving(lambda h, body, n: h.answer(500, {}) is None) as server:
        client = Client(server.url, retries=5, first_wait=60.0)
        with pytest.raises(CodealignError, match="in 1 attempts"):
            client.post({}, lambda answer: answer, where="x", stop=stop)
