"""The decoding loop against transformers' own, and what a model folder must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import Request, Sampling
from codegen_eval.generation.hf import HFGenerator, load_model
from codegen_eval.generation.pool import GeneratorPool
from tests.alignment import tiny

PROMPTS = ["def f(xs):\n", "def has_over(xs):\n    return", "assert f([1, 2]) == ", "x"]


def requests(count: int, first: int = 0) -> list[Request]:
    return [Request(f"task/{i}", prompt, count, first) for i, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def generator() -> HFGenerator:
    return HFGenerator(tiny.model().eval(), tiny.tokenizer())


def test_greedy_text_is_that_of_transformers_generate(generator: HFGenerator) -> None:
    sampling = Sampling(temperature=0, max_new_tokens=24)
    ours = [texts[0] for texts in generator.generate(requests(1), sampling)]
    inputs = generator.tokenizer(PROMPTS, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    out = generator.model.generate(**inputs, do_sample=False, max_new_tokens=24)
    theirs = generator.tokenizer.batch_decode(
        out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert ours == theirs


def test_a_sample_depends_on_its_number_and_not_on_what_else_is_in_the_batch(generator: HFGenerator) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=16, seed=5)
    together = generator.generate(requests(4), sampling)
    alone = generator.generate(requests(1, first=2)[1:2], sampling)
    assert together[1][2] == alone[0][0]
    assert len({text for texts in together for text in texts}) > 4


def test_stop_texts_end_a_completion_early(generator: HFGenerator) -> None:
    free = generator.generate(requests(3), Sampling(temperature=1.0, max_new_tokens=24, seed=1))
    stop = next(text for texts in free for text in texts if len(text) > 6)[3:5]
    cut = generator.generate(requests(3), Sampling(temperature=1.0, max_new_tokens=24, seed=1, stop=(stop,)))
    for before, after in zip(free, cut, strict=True):
        assert [text.split(stop)[0] for text in before] == after


def test_the_end_token_ends_a_completion_and_is_not_part_of_it(generator: HFGenerator) -> None:
    model = tiny.model()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
        model.get_output_embeddings().weight[tiny.tokenizer().eos_token_id] = 0
    texts = HFGenerator(model.eval(), tiny.tokenizer()).generate(
        requests(1), Sampling(temperature=0, max_new_tokens=8)
    )
    assert texts == [[""]] * len(PROMPTS)


def test_a_prompt_that_fills_the_window_is_named(generator: HFGenerator) -> None:
    with pytest.raises(CodealignError, match=r"long.*512"):
        generator.generate([Request("long", "x = 1\n" * 400, 1)], Sampling(max_new_tokens=8))


@pytest.mark.slow
def test_workers_draw_the_same_text_as_one_process(tmp_path: Path) -> None:
    folder = str(tiny.save_model(tmp_path / "model"))
    batches = [(i, [request]) for i, request in enumerate(requests(3))]
    sampling = Sampling(temperature=1.0, max_new_tokens=12, seed=2)
    one, two = (GeneratorPool(folder, dtype="float32", device="cpu", workers=n) for n in (1, 2))
    drawn = dict(one.generate(batches, sampling))
    assert drawn == dict(two.generate(batches, sampling))
    # The processes stay: the next call is answered by them, a single batch too.
    pool = two._pool
    assert pool is not None
    assert [dict(two.generate(batches[:1], sampling)), two._own] == [{0: drawn[0]}, None]
    assert two._pool is pool


def test_a_missing_folder_is_an_error_and_nothing_is_downloaded() -> None:
    with pytest.raises(CodealignError, match=r"no such model folder: \./nowhere"):
        load_model("./nowhere")


def test_a_missing_folder_beside_an_existing_one_is_no_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CodealignError, match="no such model folder: models/nope"):
        load_model("models/nope")


@pytest.mark.parametrize(
    ("name", "message"), [("config.json", "not valid JSON"), ("model.safetensors", "load")]
)
def test_torn_files_are_an_error(tmp_path: Path, name: str, message: str) -> None:
    folder = tiny.save_model(tmp_path / "model")
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(CodealignError, match=message):
        load_model(str(folder))


def test_an_unknown_dtype_or_device_is_an_error(tmp_path: Path) -> None:
    folder = str(tiny.save_model(tmp_path / "model"))
    with pytest.raises(CodealignError, match="unknown dtype 'float33'"):
        load_model(folder, dtype="float33")
    with pytest.raises(CodealignError, match="cannot use the device 'nowhere'"):
        load_model(folder, device="nowhere")


@pytest.mark.slow
def test_what_workers_cannot_load_is_the_same_error(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    pool = GeneratorPool(str(tmp_path), dtype="float32", device="cpu", workers=2)
    with pytest.raises(CodealignError, match="holds no tokenizer"):
        list(pool.generate([(i, [request]) for i, request in enumerate(requests(1))], Sampling()))


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"config.json is missing"):
        load_model(str(tmp_path))


def test_a_folder_without_tokenizer_is_an_error_that_says_what_to_copy(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(CodealignError, match=r"holds no tokenizer.*tokenizer.json"):
        load_model(str(tmp_path))
