"""The data job on a real Ray cluster of two nodes on this machine (`make test-distributed`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.commands import generate_data
from codegen_eval.commands.generate_data import GenerateDataConfig
from codegen_eval.generation.base import Batch, Drawn, Sampling
from tests import ray_cluster
from tests.codegen_eval.datajob.made_up import COUNT, Model, problems

pytest.importorskip("ray", reason="ray is not installed: make test-distributed")
pytest.importorskip("pyarrow")

pytestmark = [pytest.mark.sandbox, pytest.mark.distributed, pytest.mark.timeout(240)]


@pytest.fixture
def cluster() -> Iterator[Any]:
    with ray_cluster.running() as made:
        yield made


class Watched(Model):
    """Calls back when it begins to write its second batch: programs of the first are under way then."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call, self.batches = call, 0

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        for drawn in super().generate(batches, sampling):
            self.batches += 1
            if self.batches == 2:
                self.call()
            yield drawn


def job(out: Path, executor: str, model: Model) -> dict[str, bytes]:
    config = GenerateDataConfig(
        model="none",
        backend="openai",
        base_url="http://127.0.0.1:1/v1",
        benchmark="made-up",
        programs=6,
        tests=2,
        batch_prompts=2,
        test_share=0.3,
        hygiene="full",
        out=out,
        executor=executor,
    )
    root = generate_data.run(config, None, model).path / "dataset"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_with_a_node_killed_it_makes_the_dataset_of_the_local_executor(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BENCHMARKS._entries, "made-up", lambda dataset, split: problems())
    second = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    killed = threading.Event()

    def kill() -> None:
        cluster.remove_node(second)
        killed.set()

    model = Watched(lambda: threading.Thread(target=kill, daemon=True).start())
    found = job(tmp_path / "ray", "ray", model)
    assert killed.wait(30) and len(model.asked) == 2 * COUNT
    assert found == job(tmp_path / "local", "local", Model())
    assert any(name.endswith(".parquet") for name in found)
