"""The task of the ReMax study: sort four letters; a transformer of 39 k parameters; rewards with an offset.

The prompt is four letters of eight and a separator, the right answer their sorted string and the end token.
`accuracy` is half the share of right positions, half an exact match. A reward may add c(prompt), a number
that depends on the prompt alone: the nuisance that a reward model trained on pairs always has, since pairs
compare answers to one prompt and fix nothing between prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

LETTERS, LONG = 8, 4
SEPARATOR, END, PAD = LETTERS, LETTERS + 1, LETTERS + 2
VOCABULARY = LETTERS + 3
PROMPT, ANSWER = LONG + 1, LONG + 1  # tokens: letters and separator; letters and end
WIDTH, HEADS, LAYERS = 48, 4, 2
OFFSETS = (-1.0, -0.5, 0.0, 0.5, 1.0)
SFT_STEPS, SFT_BATCH, SFT_RATE = 45, 32, 3e-3


class Sorter(nn.Module):  # type: ignore[misc]
    """A causal transformer without dropout; `outputs` is the vocabulary, or 1 for a critic."""

    def __init__(self, outputs: int = VOCABULARY) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(PROMPT + ANSWER, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (batch, tokens) to (batch, tokens, outputs)."""
        size = ids.shape[1]
        causal = torch.triu(torch.full((size, size), -math.inf), diagonal=1)
        hidden = self.tokens(ids) + self.positions(torch.arange(size))
        output: Tensor = self.head(self.layers(hidden, mask=causal, is_causal=True))
        return output


def critic_of(policy: Sorter) -> Sorter:
    """A critic that starts as a copy of the policy with a head of zeros."""
    critic = Sorter(outputs=1)
    own = {name: value for name, value in policy.state_dict().items() if not name.startswith("head")}
    critic.load_state_dict(own, strict=False)
    nn.init.zeros_(critic.head.weight)
    nn.init.zeros_(critic.head.bias)
    return critic


def copy_of(policy: Sorter) -> Sorter:
    """The same weights in a model of its own."""
    other = Sorter()
    other.load_state_dict(policy.state_dict())
    return other


@dataclass(frozen=True, slots=True)
class Answers:
    """A batch of answers.

    Attributes:
        prompts: (batch, PROMPT) token ids.
        ids: (batch, ANSWER), PAD behind the end token.
        mask: (batch, ANSWER), true up to and with the end token.
    """

    prompts: Tensor
    ids: Tensor
    mask: Tensor


def draw_prompts(count: int, generator: torch.Generator) -> Tensor:
    """(count, PROMPT): random letters, the separator behind them."""
    letters = torch.randint(LETTERS, (count, LONG), generator=generator)
    return torch.cat([letters, torch.full((count, 1), SEPARATOR)], dim=1)


def answer(policy: Sorter, prompts: Tensor, generator: torch.Generator | None) -> Answers:
    """One answer a prompt: sampled at temperature 1, or greedy where there is no generator."""
    ids = prompts
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    mask = []
    with torch.no_grad():
        for _ in range(ANSWER):
            logits = policy(ids)[:, -1]
            if generator is None:
                token = logits.argmax(-1)
            else:
                token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            token = torch.where(ended, PAD, token)
            mask.append(~ended)
            ended = ended | (token == END)
            ids = torch.cat([ids, token[:, None]], dim=1)
    return Answers(prompts, ids[:, PROMPT:], torch.stack(mask, dim=1))


def log_probabilities(policy: Sorter, answers: Answers) -> Tensor:
    """Of each answer's tokens under the whole distribution, (batch, ANSWER), 0 where masked."""
    logits = policy(torch.cat([answers.prompts, answers.ids], dim=1)[:, :-1])[:, PROMPT - 1 :]
    logps = logits.log_softmax(-1).gather(2, answers.ids[..., None])[..., 0]
    return torch.where(answers.mask, logps, 0.0)


def values(critic: Sorter, answers: Answers) -> Tensor:
    """Of the state in which each token is chosen, (batch, ANSWER)."""
    return critic(torch.cat([answers.prompts, answers.ids], dim=1)[:, :-1])[:, PROMPT - 1 :, 0]


def right_answers(prompts: Tensor) -> Tensor:
    """(batch, ANSWER): the sorted letters and the end token."""
    return torch.cat([prompts[:, :LONG].sort(dim=1).values, torch.full((len(prompts), 1), END)], dim=1)


def accuracy(answers: Answers) -> Tensor:
    """(batch,), from 0 to 1: half the share of right positions, half whether all of it is right."""
    right = answers.ids == right_answers(answers.prompts)
    return right[:, :LONG].float().mean(1) / 2 + right.all(1).float() / 2


def offset(prompts: Tensor) -> Tensor:
    """c(prompt), (batch,): one of `OFFSETS`, a fixed function of the letters."""
    weights = torch.tensor([1, 3, 2, 4])
    return torch.tensor(OFFSETS)[(prompts[:, :LONG] * weights).sum(1) % len(OFFSETS)]


def fine_tuned(seed: int, steps: int = SFT_STEPS) -> Sorter:
    """A policy after a little supervised training, as RL starts from; 0 steps give random weights."""
    torch.manual_seed(seed)
    policy = Sorter()
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.Adam(policy.parameters(), lr=SFT_RATE)
    for _ in range(steps):
        prompts = draw_prompts(SFT_BATCH, generator)
        answers = right_answers(prompts)
        logits = policy(torch.cat([prompts, answers], dim=1)[:, :-1])[:, PROMPT - 1 :]
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), answers.flatten()).backward()
        optimizer.step()
    return policy
