"""RRHF and RAFT: the loss against the model's own logits, accumulation, options, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import SFTConfig

from alignment import raft, rrhf
from alignment.offpolicy.data import Candidates
from alignment.offpolicy.trainer import CandidateTrainer, Imitation, Ranking, encode_candidates
from codegen_eval.errors import CodealignError
from tests.alignment.preference import small as tiny
from tests.alignment.preference.test_trainer import killed_after_a_checkpoint
from tests.conftest import REPO

PROMPT = 'def f(xs):\n    """Return the {}."""\n'
GROUPS = [
    Candidates(PROMPT.format("largest"), ("    return max(xs)\n", "    x = 1\n", ""), (1.0, 0.0, 0.0)),
    Candidates(PROMPT.format("x"), ("    return 2\n", "    return min(xs) + 2\n"), (0.25, 0.75)),
    Candidates(PROMPT.format("xs"), ("    return xs\n",), (0.0,)),
    Candidates(PROMPT.format("f"), ("    x = 1\n    return x\n", "    return f\n"), (0.5, 0.5)),
]


def make(folder: Path, objective: Any, groups: Any = GROUPS, **changes: Any) -> CandidateTrainer:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "max_steps": 1,
        "learning_rate": 0.1,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
        "max_length": 64,
        **changes,
    }
    return CandidateTrainer(
        tiny.model(0), SFTConfig(**settings), groups, tiny.tokenizer(), objective=objective
    )


def by_hand(objective: str) -> float:
    """The loss of all groups in float64 from whole logits, written out a second time."""
    model, tokenizer = tiny.model(0).double().eval(), tiny.tokenizer()
    total, tokens = 0.0, 0
    for group in GROUPS:
        prompt = tokenizer.encode(group.prompt)
        sums, lengths = [], []
        for text in group.completions:
            ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            with torch.no_grad():
                logps = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            sums.append(sum(float(logps[len(prompt) - 1 + k, token]) for k, token in enumerate(ids)))
            lengths.append(len(ids))
        if objective == "raft":
            total -= sum(sums)
            tokens += sum(lengths)
            continue
        scores = [value / length for value, length in zip(sums, lengths, strict=True)]
        best = max(range(len(sums)), key=lambda i: (group.rewards[i], -i))
        total -= sums[best]
        for i, low in enumerate(group.rewards):
            for j, high in enumerate(group.rewards):
                total += max(0.0, scores[i] - scores[j]) if low < high else 0.0
        tokens += 1
    return total / tokens


@pytest.mark.parametrize(("name", "objective"), [("rrhf", Ranking(1.0, 1.0, "sum")), ("raft", Imitation())])
def test_the_loss_is_the_formula_s_and_micro_batches_change_nothing(
    tmp_path: Path, name: str, objective: Any
) -> None:
    weights = []
    for size, steps in ((4, 1), (1, 4)):
        trainer = make(
            tmp_path, objective, per_device_train_batch_size=size, gradient_accumulation_steps=steps
        )
        trainer.train()
        logged = trainer.state.log_history[0]
        assert logged["loss"] == pytest.approx(by_hand(name), rel=1e-4)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        if name == "rrhf":
            assert set(logged) >= {"rank_loss", "sft_loss", "rewards/accuracies", "nll", "entropy"}
            assert logged["sft_loss"] + logged["rank_loss"] == pytest.approx(logged["loss"], rel=1e-4)
        else:
            assert logged["nll"] == pytest.approx(logged["loss"], rel=1e-4)
    start = torch.cat([p.detach().flatten() for p in tiny.model(0).parameters()])
    moved = (weights[0] - start).abs().max()
    assert moved > 1e-3
    for other in weights[1:]:
        assert (weights[0] - other).abs().max() < 1e-5 * moved + 1e-6


def test_long_answers_go_whole_and_a_prompt_without_any_goes_too() -> None:
    found, dropped = encode_candidates(GROUPS, tiny.tokenizer(), None, append_eos=True)
    lengths = found["lengths"]
    assert [len(row) for row in lengths] == [3, 2, 1, 2] and dropped == 0
    longest = len(found["prompt_ids"][0]) + max(lengths[0])
    cut, dropped = encode_candidates(GROUPS[:1], tiny.tokenizer(), longest - 1, append_eos=True)
    assert dropped == 1 and len(cut["rewards"][0]) == 2
    with pytest.raises(CodealignError, match="all 8 answers are longer than max_length=3"):
        encode_candidates(GROUPS, tiny.tokenizer(), 3, append_eos=True)
    with pytest.raises(CodealignError, match="an answer to prompt 0 has no token"):
        encode_candidates(GROUPS, tiny.tokenizer(), None, append_eos=False)


@pytest.mark.parametrize(
    ("method", "flags", "message"),
    [
        (rrhf, ["--rank_weight", "-1"], "rank_weight must be"),
        (rrhf, ["--candidates", "1"], "one has no rank"),
        (rrhf, ["--imitation", "max"], "imitation"),
        (rrhf, ["--top", "2"], "unknown config key 'top'"),
        (raft, ["--top", "0"], "top must be 1 or more"),
        (raft, ["--kl_coef", "-0.1"], "kl_coef must be"),
        (raft, ["--packing", "true"], "--packing is an option of TRL's SFT that does nothing here"),
        (raft, ["--assistant_only_loss", "true"], "does nothing here"),
        (raft, ["--label_smoothing_factor", "0.1"], "does nothing here"),
        (raft, ["--mim_reward", "0.1"], "did you mean 'min_reward'"),
    ],
)
def test_options_that_cannot_work_or_do_nothing_are_refused(
    method: Any, flags: list[str], message: str
) -> None:
    name = method.__name__.rpartition(".")[2]
    recipe = str(REPO / f"recipes/tiny-coder/{name}.yaml")
    with pytest.raises(CodealignError, match=message):
        method.parse(["--config", recipe, "--dataset_name", "d", "--output_dir", "o", *flags])


@pytest.mark.slow
def test_runs_killed_and_started_again_give_the_same_weights(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "model")
    rows = [
        {"prompt": g.prompt, "completions": list(g.completions), "rewards": list(g.rewards)} for g in GROUPS
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method, more in ((rrhf, ["--candidates", "2"]), (raft, ["--min_reward", "0.5"])):
        name = method.__name__.rpartition(".")[2]
        words = ["--config", str(REPO / f"recipes/tiny-coder/{name}.yaml"), "--max_steps", "6"]
        words += ["--save_steps", "3", "--logging_steps", "1", "--per_device_train_batch_size", "2"]
        words += ["--model_name_or_path", str(tmp_path / "model"), "--dataset_name", str(tmp_path / "data")]
        words += [*more, "--output_dir"]
        method.run([*words, str(tmp_path / name)])
        killed_after_a_checkpoint(method.run, [*words, str(tmp_path / f"{name}-killed")], 3)
        assert not (tmp_path / f"{name}-killed/finished.json").exists()
        method.run([*words, str(tmp_path / f"{name}-killed")])
        both = [tmp_path / folder / "model/model.safetensors" for folder in (name, f"{name}-killed")]
        assert both[0].read_bytes() == both[1].read_bytes()
        facts = json.loads((tmp_path / name / "data.json").read_text())
        assert facts["answers"] == 8 and facts["kept"] == (7 if name == "rrhf" else 3)
