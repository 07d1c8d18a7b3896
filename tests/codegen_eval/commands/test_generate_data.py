"""generate-data as a command: equal bytes after any kill, bad input, what reaches the dataset."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.commands import generate_data
from codegen_eval.commands.generate_data import GenerateDataConfig
from codegen_eval.errors import CodealignError
from codegen_eval.ranking.rows import read_matrix_row
from codegen_eval.runs import read_jsonl
from sandbox.executors import registry
from tests.codegen_eval.datajob.made_up import COUNT, WORDS, Executor, Model, problems

pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS._entries, "made-up", lambda dataset, split: problems())


def settings(out: Path, **options: Any) -> GenerateDataConfig:
    given: dict[str, Any] = {"model": "none", "backend": "openai", "base_url": "http://127.0.0.1:1/v1"}
    given |= {"benchmark": "made-up", "programs": 6, "tests": 2, "batch_prompts": 3, "test_share": 0.3}
    return GenerateDataConfig(**{**given, "hygiene": "full", "out": out, **options})


def job(out: Path, model: Model | None = None, hub: Any = None, **options: Any) -> Path:
    return generate_data.run(settings(out, **options), Executor(), model or Model(), hub).path


ADAPTIVE: dict[str, Any] = {"execution": "adaptive", "weights": "ones", "hygiene": "off"}


class Tests(Model):
    """Writes enough tests for programs to leave a race."""

    __test__ = False

    def _texts(self, request: Any) -> list[str]:
        texts = super()._texts(request)
        if request.key.startswith("tests/"):
            word = request.key.rpartition("_")[2]
            n = WORDS.index(word) + 1
            # The first tells two wrong programs apart: a set that passes nothing stays in a race for long.
            texts[0] = f"assert add_{word}(0) == {n}\n" + texts[0]
            texts[0] += "".join(f"assert add_{word}({x}) == {x + n}\n" for x in range(10, 30))
        return texts


def folder(path: Path) -> dict[str, bytes]:
    root = path / "dataset"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def columns(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [
        row for file in sorted((path / "dataset/data").iterdir()) for row in pq.read_table(file).to_pylist()
    ]


@pytest.mark.parametrize("execution", ["full", "adaptive"])
def test_killed_before_or_after_any_write_it_ends_with_the_same_bytes(tmp_path: Path, execution: str) -> None:
    """Every attempt is a forked child, killed at its first, second, ... rename, before and after it."""
    out, attempts = tmp_path / "killed", 0
    options = ADAPTIVE if execution == "adaptive" else {}
    while attempts < 40:
        attempts += 1
        child = os.fork()
        if not child:
            try:
                _kill_at_rename(1 + attempts // 2, after=bool(attempts % 2))
                job(out, Tests(), **options)
            finally:
                os._exit(0 if (out / "finished.json").exists() else 1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert 6 < attempts < 40
    assert folder(out) == folder(job(tmp_path / "whole", Tests(), **options))
    assert list(read_jsonl(out / "pairs.jsonl")) == list(read_jsonl(tmp_path / "whole/pairs.jsonl"))


def _kill_at_rename(number: int, after: bool) -> None:
    replace, count = Path.replace, 0

    def counted(self: Path, target: Any) -> Path:
        nonlocal count
        count += 1
        if count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = replace(self, target)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Path.replace = counted  # type: ignore[method-assign]


def test_what_was_drawn_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(Executor):
        def submit_order(self, order: Any) -> Any:
            if self.jobs >= 9:
                raise KeyboardInterrupt
            return super().submit_order(order)

    model = Model()
    with pytest.raises(KeyboardInterrupt):
        generate_data.run(settings(tmp_path / "a", hygiene="off"), Stops(), model)
    again = Model()
    generate_data.run(settings(tmp_path / "a", hygiene="off"), Executor(), again)
    assert 0 < len(again.asked) < len(model.asked) + len(again.asked)
    assert len(set(again.asked)) == len(again.asked) == 2 * 3
    third = Model()
    job(tmp_path / "a", third, hygiene="off")
    assert third.asked == []


def test_the_dataset_holds_right_against_wrong_once_and_split_by_prompt(tmp_path: Path) -> None:
    path = job(tmp_path / "a")
    rows = columns(path)
    assert rows and {row["task_id"] for row in rows} == {p.task_id for p in problems()}
    for row in rows:
        names: dict[str, Any] = {}
        exec(row["prompt"] + row["chosen"], names)
        word = row["task_id"].rpartition("_")[2]
        expected = next(p.tests[0].expected for p in problems() if p.task_id == row["task_id"])
        assert names[f"add_{word}"](5) == expected
        assert row["chosen_sha"] != row["rejected_sha"] and row["licence"] == "not stated"
    card = (path / "dataset/README.md").read_text()
    funnel = json.loads((path / "funnel.json").read_text())
    assert f"| pairs_kept | {len(rows)} |" in card and funnel["pairs_kept"] == len(rows)
    assert funnel["problems"] == COUNT and "| canaries |" in card
    splits = [row["event"] for row in read_jsonl(path / "metrics.jsonl")]
    assert splits == ["part"] * 4 + ["finished"]


def test_it_loads_as_a_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = job(tmp_path / "a")
    loaded = datasets.load_dataset(str(path / "dataset"), cache_dir=str(tmp_path / "c"))
    assert set(loaded) == {"train", "test"}
    assert sum(map(len, loaded.values())) == len(columns(path))
    assert {"prompt", "chosen", "rejected"} <= set(loaded["train"].column_names)
    assert not set(loaded["train"]["prompt"]) & set(loaded["test"]["prompt"])


def test_adaptive_execution_spares_executions_counts_them_and_makes_pairs(tmp_path: Path) -> None:
    path = job(tmp_path / "a", Tests(), **ADAPTIVE)
    funnel = json.loads((path / "funnel.json").read_text())
    rows = list(read_jsonl(path / "matrices.jsonl"))
    made = sum(int(read_matrix_row(row).known.sum()) for row in rows)  # type: ignore[union-attr]
    cells = sum(row["matrix"]["shape"][0] * row["matrix"]["shape"][1] for row in rows)
    assert funnel["executions_made"] == made < cells == made + funnel["executions_spared"]
    last = [row for row in read_jsonl(path / "metrics.jsonl") if row["event"] == "part"][-1]
    assert (last["executions"], last["executions_spared"]) == (made, funnel["executions_spared"])
    card = (path / "dataset/README.md").read_text()
    assert f"| executions_spared | {cells - made} |" in card and "as long as they were in the race" in card
    pairs = columns(path)
    assert {row["task_id"] for row in pairs} == {p.task_id for p in problems()}
    for ranking in read_jsonl(path / "rankings.jsonl"):
        assert ranking["left_race"]["programs"] and ranking["informative"]
        assert all(ranking["scores"][i] is None for i in ranking["left_race"]["programs"])
    assert 0.9999 in {row["confidence"] for row in pairs if row["rejected_score"] is None}


def test_adaptive_execution_that_lets_nobody_leave_gives_the_pairs_of_full_execution(tmp_path: Path) -> None:
    full = job(tmp_path / "a", Tests(), **{**ADAPTIVE, "execution": "full"})
    adaptive = job(tmp_path / "b", Tests(), **ADAPTIVE, least=0.0, tests_at_a_time=3)
    rows = [list(read_jsonl(path / "pairs.jsonl")) for path in (full, adaptive)]
    scores = [[(row.pop("chosen_score"), row.pop("rejected_score")) for row in some] for some in rows]
    assert rows[0] == rows[1] and rows[0]
    for one, other in zip(*scores, strict=True):
        assert one == pytest.approx(other)
    assert json.loads((adaptive / "funnel.json").read_text())["executions_spared"] == 0


@pytest.mark.sandbox
def test_adaptive_execution_in_the_real_sandbox_gives_the_pairs_of_the_stand_in(tmp_path: Path) -> None:
    real = generate_data.run(settings(tmp_path / "a", limit=4, **ADAPTIVE), backend=Tests()).path
    stand_in = job(tmp_path / "b", Tests(), limit=4, **ADAPTIVE)
    assert (real / "pairs.jsonl").read_bytes() == (stand_in / "pairs.jsonl").read_bytes()
    assert (real / "funnel.json").read_bytes() == (stand_in / "funnel.json").read_bytes()


def test_how_samples_are_batched_and_where_they_run_changes_nothing(tmp_path: Path) -> None:
    one = folder(job(tmp_path / "a"))
    assert one == folder(job(tmp_path / "b", Model(single=True), executor="ray", sandbox_workers=3))


def test_programs_run_in_the_executor_that_is_named_with_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def maker(*, address: str) -> Executor:
        made.append({"address": address})
        return Executor()

    monkeypatch.setitem(registry._made, "made-up", maker)
    named = settings(tmp_path / "a", executor="made-up", executor_options='{"address": "there"}')
    path = generate_data.run(named, backend=Model()).path
    assert made == [{"address": "there"}] and folder(path) == folder(job(tmp_path / "b"))
    wrong = settings(tmp_path / "c", executor="made-up", executor_options='{"adress": "there"}')
    with pytest.raises(CodealignError, match=r"do not fit the executor made-up: .*adress"):
        generate_data.run(wrong, backend=Model())


@pytest.mark.sandbox
def test_the_real_sandbox_gives_the_bytes_of_the_stand_in(tmp_path: Path) -> None:
    real = generate_data.run(settings(tmp_path / "a", limit=4), backend=Model()).path
    stand_in = job(tmp_path / "b", limit=4)
    assert list(read_jsonl(real / "pairs.jsonl")) == list(read_jsonl(stand_in / "pairs.jsonl"))
    assert (
        folder(real)["data/train-00000-of-00001.parquet"]
        == (folder(stand_in)["data/train-00000-of-00001.parquet"])
    )


def test_a_chat_gives_messages(tmp_path: Path) -> None:
    class Chats(Model):
        def _texts(self, request: Any) -> list[str]:
            texts = super()._texts(request)
            if request.key.startswith("tests/"):
                return [f"```python\n{text}```" for text in texts]
            word = request.key.rpartition("_")[2]
            return [f"Here it is:\n```python\ndef add_{word}(x):\n{text}```\n" for text in texts]

    template = "Complete this.\n{prompt}"
    path = job(tmp_path / "a", Chats(), chat=True, chat_template=template)
    rows = columns(path)
    assert rows and all(row["prompt"][0]["content"].startswith("Complete this.\ndef add_") for row in rows)
    assert all(row["chosen"][0]["content"].startswith("```python\n") for row in rows)
    assert "texts are messages" in (path / "dataset/README.md").read_text()


def test_tasks_by_the_model_take_the_place_of_the_seeds(tmp_path: Path) -> None:
    class Invents(Model):
        def _texts(self, request: Any) -> list[str]:
            if not request.key.startswith("instruct/"):
                return super()._texts(request)
            self.asked.append(request.key)
            assert "return secret(x)" in request.prompt
            number = int(request.key.rpartition("_")[2])
            if number == 3:
                return ["I would rather not."]
            return [f"Sure.\n```python\n{problems()[number].prompt}    pass\n```\n"]

    (tmp_path / "src").mkdir()
    functions = [f'def seed_{i}(x):\n    """Seed {i}."""\n    return secret(x)\n' for i in range(4)]
    (tmp_path / "src/m.py").write_text("\n".join(functions))
    given = {"source_tree": tmp_path / "src", "benchmark": "minipy", "instruct": True, "near_duplicates": 0.0}
    path = job(tmp_path / "a", Invents(), **given)
    assert [row["entry_point"] for row in read_jsonl(path / "prompts.jsonl")] == [
        "add_one",
        "add_two",
        "add_three",
    ]
    counts = json.loads((path / "prompts.json").read_text())
    assert (counts["seeds_used"], counts["invented_used"], counts["prompts_used"]) == (4, 3, 3)
    assert all(row["origin"].startswith("m.py:") for row in columns(path))
    with pytest.raises(CodealignError, match="give --source-tree"):
        job(tmp_path / "b", instruct=True)


def test_no_usable_pair_is_an_error_with_the_funnel_and_no_dataset(tmp_path: Path) -> None:
    class Wrong(Model):
        def _texts(self, request: Any) -> list[str]:
            return ["    return None\n"] * request.count

    message = rf"no usable pair in {COUNT} problems[\s\S]*problem_nothing_passes +{COUNT}"
    with pytest.raises(CodealignError, match=message):
        job(tmp_path / "a", Wrong(), hygiene="off")
    assert not (tmp_path / "a/dataset").exists() and not (tmp_path / "a/pairs.jsonl").exists()
    assert json.loads((tmp_path / "a/funnel.json").read_text())["problems"] == COUNT


def test_a_contaminated_set_leaves_no_prompt_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"no prompt is left[\s\S]*prompts_contaminated +12"):
        job(tmp_path / "a", decontaminate=("made-up",), overlap_words=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_data": Path("x.jsonl")}, "--prompt-data, --benchmark name several"),
        ({"sources": ()}, "no source of tests"),
        ({"tests": 0}, "--sources own needs tests"),
        ({"ranker": "b5"}, "did you mean 'b4'"),
        ({"builder": "rankd"}, "did you mean 'ranked'"),
        ({"ranker": "codet", "fit": True}, "--fit finds"),
        ({**ADAPTIVE, "ranker": "codet"}, r"goes only with --ranker b4 \(the rule asks"),
        ({"execution": "adaptive"}, r"--weights ones \([^;]*\); --hygiene off \([^;]*\); give these, or"),
        ({**ADAPTIVE, "builder": "dstc"}, r"--builder ranked"),
        ({**ADAPTIVE, "drop_trivial_tests": True}, r"--drop-trivial-tests false"),
        ({**ADAPTIVE, "fit": True}, r"--fit false"),
        ({"least": 0.1}, r"--least is for adaptive execution"),
        ({"executor": "lokal"}, "unknown executor 'lokal'; there are: local"),
        ({"executor": "http", "sandbox_workers": 2}, "is for the executors local and ray"),
        ({"push_to_hub": "name"}, "give OWNER/NAME"),
        ({"decontaminate": ("humanevil",)}, "unknown benchmark 'humanevil'"),
        ({"decontaminate": (":x",)}, "give NAME, NAME:PATH"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_drawn(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    model = Model()
    with pytest.raises(CodealignError, match=message):
        job(tmp_path / "a", model, **options)
    assert model.asked == []


def test_unknown_keys_and_bad_values_of_the_recipe_are_refused(tmp_path: Path) -> None:
    for text, message in [
        ("rankr: b4\n", "did you mean 'ranker'"),
        ("test_share: 1.0\n", "test_share"),
        ("programs: 1\n", "programs"),
        ("executor_options: '[1]'\n", "JSON object"),
    ]:
        (tmp_path / "bad.yaml").write_text(f"model: m\nout: o\n{text}")
        with pytest.raises(CodealignError, match=message):
            generate_data.main(["--config", str(tmp_path / "bad.yaml")])


def test_the_recipe_is_a_configuration() -> None:
    recipe = Path(generate_data.__file__).parents[2] / "recipes/tiny-coder/data.yaml"
    config = GenerateDataConfig.parse(["--config", str(recipe)], prog="x", description="x")
    generate_data.check(config)
    assert config.limit == 240 and config.hygiene == "full"


def test_it_is_uploaded_only_if_asked_and_also_when_it_was_finished_before(tmp_path: Path) -> None:
    class Hub:
        sent: list[str] = []  # noqa: RUF012

        def create_repo(self, repo_id: str, **options: Any) -> None:
            assert options["private"]

        def upload_folder(self, *, repo_id: str, folder_path: str, **options: Any) -> None:
            self.sent.append(f"{repo_id} {Path(folder_path).name}")

    job(tmp_path / "a", hub=Hub())
    assert Hub.sent == []
    job(tmp_path / "a", hub=Hub(), push_to_hub="me/pairs")
    assert Hub.sent == ["me/pairs dataset"]
