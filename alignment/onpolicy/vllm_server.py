"""Answers by a vLLM server, its weights the policy's: rollouts on another GPU or another node than training.

Before each rollout the first process writes the policy's weights to a folder that the server sees too (the
same machine, or a shared disk), the server's workers load them (`vllm_worker`), and the prefix cache is
emptied; then every process sends its requests. The server is started beforehand, as `START` says: its
development endpoints carry the order to load, so it must listen where nobody else can reach it.

As with the engine in the trainer's process, log-probabilities come with the answers.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alignment.onpolicy.rollout import Answer, Ask, Decoding
from alignment.onpolicy.vllm_rollout import whole_weights
from alignment.onpolicy.vllm_worker import EXTENSION, WEIGHTS_FILE, differences, shape_of
from codegen_eval.errors import CodealignError
from codegen_eval.generation.hf import end_tokens
from codegen_eval.generation.http_json import Client, T, Unusable, checked_url
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.records import cut_at_stop

START = (
    "VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model MODEL --host 127.0.0.1 "
    f"--logprobs-mode processed_logprobs --worker-extension-cls {EXTENSION} (on a CPU also --enforce-eager)"
)
_RETRIES = 3


class ServerSampler:
    """Draws by a server that has been given the policy's weights.

    Args:
        tokenizer: The policy's.
        url: Of the server, as http://127.0.0.1:8000.
        folder: Where weights are handed over; the server must see it under the same name.
        timeout: Seconds to wait for a server that is still starting, and for each of its answers.
        concurrency: Requests at a time; vLLM batches them.

    Raises:
        CodealignError: If the URL cannot be one, nobody answers there, or the server was not started in the
            way that takes weights.
    """

    exact = False

    def __init__(
        self, tokenizer: Any, url: str, folder: Path, *, timeout: float = 240.0, concurrency: int = 64
    ) -> None:
        self.tokenizer, self.folder = tokenizer, folder.resolve()
        self._url = checked_url(url, "--vllm_server_base_url").removesuffix("/v1")
        self._timeout, self._concurrency = timeout, concurrency
        self._ends: set[int] = set()
        self._model = self._name()
        self._shapes = self._described()

    def sync(self, model: Any) -> None:
        """Has the server take over the policy's weights; with several processes the first one sees to it.

        Raises:
            CodealignError: If the server holds another model, does not see the folder, or cannot load.
        """
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        self._ends = end_tokens(model.generation_config, self.tokenizer)
        state = PartialState()
        state.wait_for_everyone()  # nobody draws any more
        failed: list[str | None] = [None]
        if state.is_main_process:
            try:
                self._hand_over(model)
            except CodealignError as error:
                failed = [str(error)]
        if state.num_processes > 1:
            broadcast_object_list(failed)
        if failed[0] is not None:
            raise CodealignError(failed[0])

    def draw(self, asks: Sequence[Ask], decoding: Decoding) -> list[list[Answer]]:
        """As `rollout.Sampler.draw`; log-probabilities always come along.

        Raises:
            CodealignError: If the server refuses a request, or does not answer it.
        """
        wanted: list[tuple[Ask, int | None]] = []
        for ask in asks:
            wanted += [(ask, i) for i in range(ask.count)] + [(ask, None)] * ask.greedy
        client, stop = self._client("/v1/completions"), threading.Event()

        def one(which: tuple[Ask, int | None]) -> Answer:
            ask, sample = which
            try:
                return client.post(
                    self._request(ask, sample, decoding),
                    lambda answer: self._answer(answer, decoding),
                    where=f"{ask.key}, {'greedy' if sample is None else f'sample {sample}'}",
                    stop=stop,
                )
            except BaseException:
                stop.set()  # the others need not try again
                raise

        with ThreadPoolExecutor(min(self._concurrency, max(1, len(wanted)))) as pool:
            drawn = iter(list(pool.map(one, wanted)))
        return [[next(drawn) for _ in range(ask.count + ask.greedy)] for ask in asks]

    def _request(self, ask: Ask, sample: int | None, decoding: Decoding) -> dict[str, Any]:
        """Fields of one request; no sample is the greedy answer. None is left to the server's defaults, as
        those come from the model's generation config.
        """
        how: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0}
        if sample is not None:
            seed = sample_seed(decoding.seed, ask.key, sample)
            how = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": seed}
        return {
            "model": self._model,
            "prompt": list(ask.prompt_ids),
            "max_tokens": decoding.max_new_tokens,
            "stop": list(decoding.stop),
            "stop_token_ids": sorted(self._ends),
            "logprobs": 0,  # the drawn token's alone
            "return_token_ids": True,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **how,
        }

    def _answer(self, answer: Any, decoding: Decoding) -> Answer:
        try:
            (choice,) = answer["choices"]
            ids, logps = choice["token_ids"], choice["logprobs"]["token_logprobs"]
            found = Answer(
                [int(i) for i in ids], "", choice["finish_reason"] == "stop", [float(p) for p in logps]
            )
        except (TypeError, KeyError, ValueError) as error:
            raise Unusable(f"no tokens with log-probabilities in it ({type(error).__name__})") from None
        if len(found.ids) != len(found.logps):
            raise Unusable(f"{len(found.ids)} tokens, but {len(found.logps)} log-probabilities")
        text = self.tokenizer.decode(found.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(found.ids, cut_at_stop(text, decoding.stop), found.ended, found.logps)

    def _hand_over(self, model: Any) -> None:
        for shape in self._shapes:
            if differ := differences(shape_of(model.config.get_text_config()), shape):
                raise CodealignError(
                    f"the model that {self._url} serves is not the policy's (policy's {'; '.join(differ)}): "
                    "serve the model that is trained"
                )
        write_weights(model, self.folder)
        try:
            self._called("take_weights_from", folder=str(self.folder))
        except CodealignError as error:
            raise CodealignError(
                f"the server cannot take the weights from {self.folder}, which it must see under this name: "
                f"{error}"
            ) from None
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._forget_prefixes()

    def _forget_prefixes(self) -> None:
        """Empties the prefix cache; waits while requests of a trainer that was killed are still drawn."""
        end = time.monotonic() + self._timeout
        while not self._post("/reset_prefix_cache", {}, lambda answer: answer["success"]):
            if time.monotonic() > end:
                raise CodealignError(
                    f"the server at {self._url} did not empty its prefix cache in {self._timeout:g} s: is "
                    "something else drawing from it?"
                )
            time.sleep(0.2)

    def _name(self) -> str:
        """The served model's name, once the server is up."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                return self._post("/v1/models", None, lambda answer: str(answer["data"][0]["id"]), retries=0)
            except CodealignError as error:
                if time.monotonic() > end:
                    raise CodealignError(
                        f"no vLLM server at {self._url} after {self._timeout:g} s ({error}). Start one: "
                        + START
                    ) from None
            time.sleep(1)

    def _described(self) -> list[dict[str, Any]]:
        """Shapes of the models in the server's workers."""
        try:
            said = self._called("describe_model")
            modes = {one["logprobs_mode"] for one in said}
            shapes = [dict(one["shape"]) for one in said]
        except (CodealignError, TypeError, KeyError) as error:
            raise CodealignError(
                f"the server at {self._url} takes no weights ({error}). Start it so: {START}"
            ) from None
        if modes != {"processed_logprobs"}:
            raise CodealignError(
                f"the server at {self._url} gives {', '.join(sorted(modes))}, not the log-probabilities of "
                "what is drawn from: start it with --logprobs-mode processed_logprobs"
            )
        return shapes

    def _called(self, method: str, **arguments: str) -> list[Any]:
        """What the workers' method returned, one a worker; of several data-parallel engines the first's, but
        an error in any of them is one here.
        """
        body = {"method": method, "kwargs": arguments}
        return self._post("/collective_rpc", body, lambda answer: list(answer["results"]), retries=0)

    def _post(
        self, path: str, body: dict[str, Any] | None, read: Callable[[Any], T], retries: int = _RETRIES
    ) -> T:
        def checked(answer: Any) -> T:
            try:
                return read(answer)
            except (TypeError, KeyError, IndexError) as error:
                raise Unusable(f"of another form ({type(error).__name__}: {error})") from None

        return self._client(path, retries).post(body, checked, where=path, stop=threading.Event())

    def _client(self, path: str, retries: int = _RETRIES) -> Client:
        return Client(self._url + path, timeout=self._timeout, retries=retries)


def write_weights(policy: Any, folder: Path) -> None:
    """Writes the policy's whole weights as one safetensors file; weights that share memory once."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    seen: set[tuple[int, tuple[int, ...]]] = set()
    weights = {}
    for name, weight in whole_weights(policy):
        place = (weight.data_ptr(), tuple(weight.shape))
        if place not in seen:
            seen.add(place)
            weights[name] = weight.detach().contiguous()
    part = folder / f"{WEIGHTS_FILE}.part"
    save_file(weights, part)
    part.replace(folder / WEIGHTS_FILE)
