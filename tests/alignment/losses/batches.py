"""Made-up batches that hold every input which a loss may ask for."""

from __future__ import annotations

import torch
from torch import Tensor

LENGTHS = {"chosen": (5, 3, 6, 4), "rejected": (4, 6, 2, 4)}
WIDTH = 6


def batch(seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> dict[str, Tensor]:
    """Four pairs of completions; the sums agree with the tokens. `scale` multiplies all log-probabilities."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    tensors: dict[str, Tensor] = {}
    prefix = torch.randint(1, 40, (4, 1), generator=generator)
    for side, lengths in LENGTHS.items():
        count = torch.tensor(lengths)
        mask = torch.arange(WIDTH) < count[:, None]
        tensors[f"{side}_mask"] = mask
        tensors[f"{side}_lengths"] = count
        ids = torch.randint(1, 40, (4, WIDTH), generator=generator)
        ids[:, :1] = prefix
        tensors[f"{side}_ids"] = ids
        tensors[f"{side}_segments"] = torch.randint(0, 3, (4, WIDTH), generator=generator)
        for name in (side, f"ref_{side}"):
            tokens = -scale * 4 * draw(4, WIDTH)
            tensors[f"{name}_token_logps"] = tokens.to(dtype)
            tensors[f"{name}_logps"] = (tokens * mask).sum(1).to(dtype)
        tensors[f"{side}_seq_kl"] = (scale * 3 * draw(4)).to(dtype)
        tensors[f"{side}_log_sum_p2"] = (-2 * draw(4, WIDTH)).to(dtype)
    tensors["kl_logps"] = (-scale * 20 * draw(4)).to(dtype)
    tensors["ref_kl_logps"] = tensors["kl_logps"] - scale
    return tensors
