"""Generation by any server that speaks OpenAI's HTTP interface, as vLLM's own, SGLang's or llama.cpp's.

Each sample is one request with a seed of its own. Threads carry `concurrency` of them at a time; what fails
for a reason that may pass is sent again, later each time, and what has been drawn is never lost.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import GENERATORS, Backend, BackendOptions, Batch, Drawn, Request, Sampling
from codegen_eval.generation.http_json import Client, Unusable, checked_url
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.records import cut_at_stop

# OpenAI refuses more; the rest is cut here, so the text is the same.
_MAX_STOPS = 4


@GENERATORS.register("openai")
def open_server(options: BackendOptions) -> Backend:
    """An HTTP server: `model`, `chat`, `base_url`, `api_key_env`, `concurrency`, `timeout`, `retries` and
    `body`.

    Raises:
        CodealignError: Without a URL, for one that is malformed or holds a password, for a variable that is
            not set.
    """
    if not options.base_url:
        raise CodealignError("the backend openai needs --base-url, as http://127.0.0.1:8000/v1")
    url = checked_url(options.base_url, "--base-url")
    key = None
    if options.api_key_env is not None:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise CodealignError(f"--api-key-env {options.api_key_env}: this variable is not set")
        if not key.isascii() or not key.isprintable():
            raise CodealignError(f"--api-key-env {options.api_key_env}: its value cannot be a key")
    path = "/chat/completions" if options.chat else "/completions"
    client = Client(url + path, key=key, timeout=options.timeout, retries=options.retries)
    return OpenAIBackend(
        client, options.model, chat=options.chat, concurrency=options.concurrency, body=options.body
    )


class OpenAIBackend:
    """Carries requests to one server.

    Args:
        client: Sends one request until it is answered.
        model: The name that the server knows.
        chat: Prompts are messages.
        concurrency: Requests at a time.
        body: Further fields; None takes a field out.
    """

    single = True

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        chat: bool = False,
        concurrency: int = 16,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._model = model
        self._chat = chat
        self._concurrency = concurrency
        self._body = dict(body or {})

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        """Yields the batches as they are answered.

        After a request that failed for good no further one is begun; those under way are awaited and yielded
        before the error.

        Raises:
            CodealignError: If the server refuses a request, or did not answer it in all attempts.
        """
        waiting: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        for batch in batches:
            waiting.put(batch)
        done: queue.SimpleQueue[Drawn | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()
        count = min(self._concurrency, len(batches))
        for _ in range(count):
            # Daemons: after Ctrl-C nobody waits for an answer that may take minutes.
            threading.Thread(
                target=self._carry, args=(waiting, done, sampling, stop), name="generation", daemon=True
            ).start()
        failed: BaseException | None = None
        try:
            while count:
                found = done.get()
                if found is None:
                    count -= 1
                elif isinstance(found, BaseException):
                    failed = failed or found
                else:
                    yield found
        finally:
            stop.set()
        if failed is not None:
            raise failed

    def _carry(
        self,
        waiting: queue.SimpleQueue[Batch],
        done: queue.SimpleQueue[Drawn | BaseException | None],
        sampling: Sampling,
        stop: threading.Event,
    ) -> None:
        """One thread's work: batches until there are none left or one of them failed for good."""
        try:
            while not stop.is_set():
                number, requests = waiting.get_nowait()
                done.put((number, [self._samples(request, sampling, stop) for request in requests]))
        except queue.Empty:
            pass
        except BaseException as error:  # the caller raises it
            stop.set()
            done.put(error)
        finally:
            done.put(None)

    def _samples(self, request: Request, sampling: Sampling, stop: threading.Event) -> list[str]:
        return [self._sample(request, request.first + i, sampling, stop) for i in range(request.count)]

    def _sample(self, request: Request, sample: int, sampling: Sampling, stop: threading.Event) -> str:
        body = self._request(request, sample, sampling)
        text = self._client.post(body, self._text, where=f"{request.key}, sample {sample}", stop=stop)
        return cut_at_stop(text, sampling.stop)

    def _request(self, request: Request, sample: int, sampling: Sampling) -> dict[str, Any]:
        """The fields of one request."""
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sample_seed(sampling.seed, request.key, sample),
            "n": 1,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop[:_MAX_STOPS])
        if self._chat:
            body["messages"] = [{"role": "user", "content": request.prompt}]
        else:
            body["prompt"] = request.prompt
        return {name: value for name, value in {**body, **self._body}.items() if value is not None}

    def _text(self, answer: Any) -> str:
        """The one completion of an answer.

        Raises:
            Unusable: For an answer of another form.
        """
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list):
            raise Unusable("it has no choices")
        if len(choices) != 1:
            raise Unusable(f"it has {len(choices)} choices, one was asked for")
        choice = choices[0] if isinstance(choices[0], dict) else {}
        if not self._chat:
            text = choice.get("text")
        else:
            message = choice.get("message")
            if not isinstance(message, dict):
                raise Unusable("its choice has no message")
            # Servers that take the thinking out leave null where it never ended.
            text = message.get("content") or ""
            if isinstance(text, list):
                text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        if not isinstance(text, str):
            raise Unusable("its choice has no text")
        return text
