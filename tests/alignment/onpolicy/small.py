"""A language model of three tokens whose every answer can be written down, and trainers around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from alignment.onpolicy.algorithms import ALGORITHMS
from alignment.onpolicy.algorithms.base import resolved
from alignment.onpolicy.building import build_module
from alignment.onpolicy.options import OnPolicyConfig, OnPolicyOptions
from alignment.onpolicy.prompts import PromptRow
from alignment.onpolicy.rollout import Answer, Ask, Decoding
from alignment.onpolicy.trainer import OnPolicyTrainer

EOS, LONGEST, VOCABULARY = 0, 2, 3
TOKENIZER = SimpleNamespace(pad_token_id=EOS, eos_token_id=EOS, chat_template=None)


def llama(seed: int, **shape: Any) -> Any:
    """A Llama with weights drawn by `seed`; torch's own generator stays where it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_attention_heads=2, bos_token_id=None, eos_token_id=EOS, pad_token_id=EOS, **shape
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = LlamaForCausalLM(config)
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):  # zero otherwise
                torch.nn.init.normal_(parameter, std=0.3)
    return made


def model(seed: int = 0) -> Any:
    """A Llama of one layer in float64."""
    return llama(
        seed,
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        max_position_embeddings=64,
        attn_implementation="eager",
        initializer_range=0.6,  # far from uniform: every answer has a probability of its own
    ).double()


def wide(vocabulary: int, seed: int = 0, *, tied: bool = True) -> Any:
    """A Llama for vLLM on a CPU, whose attention takes no heads of fewer than 32 numbers.

    Far from uniform, too: what it says hangs on the whole prompt. Untied it has biases as well.
    """
    return llama(
        seed,
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        attention_bias=not tied,
        initializer_range=0.3,
    )


def answers() -> Iterator[tuple[int, ...]]:
    """All answers of up to two tokens: the end, a token and the end, or two tokens and cut."""
    yield (EOS,)
    yield from product(range(1, VOCABULARY), range(VOCABULARY))


def text(ids: Sequence[int]) -> str:
    return "".join("_ab"[token] for token in ids)


def answer(ids: Sequence[int], logps: Sequence[float] = ()) -> Answer:
    return Answer(list(ids), text(ids), EOS in ids, list(logps))


class Scripted:
    """A sampler that answers what it is told, in the order of the rows; greedy answers apart."""

    exact = True

    def __init__(self, samples: Sequence[Answer], greedy: Sequence[Answer] = ()) -> None:
        self.samples, self.greedy = list(samples), list(greedy)

    def sync(self, model: Any) -> None:
        """Nothing to take over."""

    def draw(self, asks: Sequence[Ask], decoding: Decoding) -> list[list[Answer]]:
        samples, greedy = iter(self.samples), iter(self.greedy)
        return [
            [*(next(samples) for _ in range(a.count)), *([next(greedy)] if a.greedy else [])] for a in asks
        ]


class Recorder:
    """Stands where the optimiser does and keeps the gradient instead of a step."""

    def __init__(self, module: torch.nn.Module, groups: list[dict[str, Any]]) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.param_groups = groups
        self.gradients: list[Tensor] = []

    def step(self) -> None:
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self.gradients.append(torch.cat([g.flatten().double() for g in flat]))

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def trainer(
    name: str,
    reward: Callable[..., Any],
    *,
    sampler: Any = None,
    rows: int = 1,
    passes: int = 1,
    prompts: Sequence[Sequence[int]] = ((1, 2),),
    policy: Any = None,
    peft_config: Any = None,
    folder: Any = None,
    callbacks: Sequence[Any] = (),
    tokenizer: Any = TOKENIZER,
    loop: dict[str, Any] | None = None,
    **options: Any,
) -> OnPolicyTrainer:
    """A trainer of the algorithm; `rows` answers in each of `passes` passes."""
    settings = {"max_grad_norm": 1e9, "learning_rate": 1e-2, "use_cpu": True, "max_steps": 4, **(loop or {})}
    config = OnPolicyConfig(per_device_train_batch_size=rows, gradient_accumulation_steps=passes, **settings)
    asked = OnPolicyOptions(algorithm=name, **{"max_completion_length": LONGEST, **options})
    algorithm = resolved(ALGORITHMS[name], asked, {"algorithm": name, **options})
    module = build_module(
        model() if policy is None else policy,
        asked.temperature,
        peft_config=peft_config,
        value_model=asked.value_model if algorithm.needs_value else None,
        value_model_path=asked.value_model_path,
    )
    encoded = [PromptRow(f"prompt {i}", tuple(ids), {"number": i}) for i, ids in enumerate(prompts)]
    return OnPolicyTrainer(
        module,
        tokenizer,
        config,
        algorithm,
        encoded,
        reward,
        sampler=sampler,
        folder=folder,
        callbacks=callbacks,
    )


def gradient(t: OnPolicyTrainer, number: int = 0) -> Tensor:
    """The gradient of a step's first update, flat, through the whole path: draw, score, advantages, loss."""
    recorder = Recorder(t.module, t.optimizer.param_groups)
    t.engine.optimizer = recorder
    rollout = t.draw(number)
    experience = t.preparer.experience(rollout, t.kl.beta, t.tally)
    t.updater.learn(experience, number)
    return recorder.gradients[0]


def logps_of(policy: Any, prompt: Sequence[int], ids: Sequence[int], temperature: float) -> Tensor:
    """Log-probabilities of an answer's tokens by transformers' own logits, (tokens,), with gradient."""
    whole = torch.tensor([[*prompt, *ids]])
    logits = policy(input_ids=whole).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


def greedy(policy: Any, prompt: Sequence[int]) -> tuple[int, ...]:
    """The greedy answer, token by token."""
    ids: list[int] = []
    while len(ids) < LONGEST and EOS not in ids:
        ids.append(int(policy(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, -1].argmax()))
    return tuple(ids)
