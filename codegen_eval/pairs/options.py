"""The configuration of pairs, and the registry of ways to build them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from codegen_eval.errors import CodealignError
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.rows import MatrixRow
from codegen_eval.registry import Registry

EfficiencyMethod = Literal["enlarged", "credible"]


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How pairs are made.

    Attributes:
        pairs_per_problem: Most pairs of one kind a problem gives; CodeDPO and DSTC give one at most.
        unloadable_rejected: Whether programs that do not compile may be rejected ones of `ranked` pairs;
            never more than half of a problem's pairs.
        seed: Seed of the draws.
        builder: A registered builder of pairs that say which program is right.
        min_confidence: Pairs whose order is less sure are not made; in [0.5, 1].
        min_gap: CodeDPO: least difference of the two scores, as a share of the higher one; in [0, 1].
        keep_same_code: DSTC: keep pairs that differ in the test alone.
        efficiency: How programs are timed against each other: on enlarged inputs, or, as CodeDPO does, on the
            credible tests.
        min_ratio: Credible timing: the rejected program takes at least this many times as long.

    Raises:
        CodealignError: A value out of its range.
    """

    pairs_per_problem: int = 2
    unloadable_rejected: bool = True
    seed: int = 0
    builder: str = "ranked"
    min_confidence: float = 0.5
    min_gap: float = 0.0
    keep_same_code: bool = False
    efficiency: EfficiencyMethod = "enlarged"
    min_ratio: float = 1.2

    def __post_init__(self) -> None:
        if self.pairs_per_problem < 1:
            raise CodealignError(f"pairs_per_problem is {self.pairs_per_problem}; give at least 1")
        if not 0.5 <= self.min_confidence <= 1:
            raise CodealignError(f"min_confidence is {self.min_confidence}; give a number in [0.5, 1]")
        if not 0 <= self.min_gap <= 1:
            raise CodealignError(f"min_gap is {self.min_gap}; give a share between 0 and 1")
        if not self.min_ratio >= 1:
            raise CodealignError(f"min_ratio is {self.min_ratio}; give a number of at least 1")


Builder = Callable[[MatrixRow, RankedRow, PairOptions, Counter[str]], list[Pair]]
BUILDERS: Registry[Builder] = Registry("pair builder", "codealign.pair_builders")
