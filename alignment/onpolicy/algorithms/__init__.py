"""On-policy algorithms as strategies of one trainer: what they need, their advantages, their loss."""

from __future__ import annotations

from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.algorithms.grpo import GRPO
from alignment.onpolicy.algorithms.ppo import PPO
from alignment.onpolicy.algorithms.reinforce import Reinforce
from alignment.onpolicy.algorithms.reinforce_pp import ReinforcePP
from alignment.onpolicy.algorithms.remax import ReMax
from alignment.onpolicy.algorithms.rloo import RLOO

ALGORITHMS: dict[str, type[Algorithm]] = {
    kind.name: kind for kind in (Reinforce, ReMax, RLOO, ReinforcePP, GRPO, PPO)
}
