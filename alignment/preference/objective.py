"""What a trainer minimises: one loss of alignment/losses by name, or a weighted sum of several.

Names are TRL's and ours. TRL's own options (`beta`, `label_smoothing`, `ld_alpha`, `f_divergence_type`, ...)
keep their meaning; every other option of a loss comes by `loss_options`. An option that the chosen losses
would not read is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from alignment.losses.base import ALIASES, LOSSES, Loss, LossResult, make_loss
from alignment.losses.tokens import summed, wpo_weights
from alignment.preference.options import PreferenceOptions
from codegen_eval.errors import CodealignError, unknown

TRL_MEANS = {"ipo": "ipo_avg", "ipo_sum": "ipo"}
"""TRL's `ipo` divides by lengths: in a training config it means that; `ipo_sum` is the summed form."""

UNPAIRED = ("kto", "apo_zero_unpaired")
SORTED = ("aot", "aot_unpaired")
# What TRL's single `beta` is called in each loss, by preference.
_BETAS = ("beta", "tau", "lambda_")


@dataclass(frozen=True, slots=True)
class Objective:
    """Losses with their weights.

    Attributes:
        losses: The losses with all options set.
        weights: The factor of each.
        wpo: Whether WPO's sequence weights multiply them (TRL's `use_weighting`).
    """

    losses: tuple[Loss, ...]
    weights: tuple[float, ...] = (1.0,)
    wpo: bool = False

    @property
    def inputs(self) -> frozenset[str]:
        """All tensors that the losses need."""
        return frozenset(name for loss in self.losses for name in loss.inputs)

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities (or divergences) of a reference are among them."""
        return self.needs_kl or any(loss.needs_reference for loss in self.losses)

    @property
    def needs_kl(self) -> bool:
        """Whether KL divergences over the vocabulary are among them, for which the reference must live."""
        return "chosen_seq_kl" in self.inputs

    @property
    def needs_segments(self) -> bool:
        """Whether the tokens' segments are among them."""
        return "chosen_segments" in self.inputs

    @property
    def needs_squares(self) -> bool:
        """Whether `log_sum_p2` is read."""
        return self.wpo or any("chosen_log_sum_p2" in loss.optional for loss in self.losses)

    def reads(self, option: str) -> bool:
        """Whether one of the losses has this option."""
        return any(option in loss.options for loss in self.losses)

    def __call__(
        self, tensors: Mapping[str, Tensor], weights: Tensor | None = None
    ) -> tuple[Tensor, LossResult, tuple[dict[str, float], ...]]:
        """The batch's loss, the first loss's result (rewards, extras), and what each carries on.

        Raises:
            CodealignError: As `Loss.__call__` and `LossResult.loss`.
        """
        results = [loss(tensors) for loss in self.losses]
        if self.wpo:
            factor = wpo_weights(
                tensors["chosen_token_logps"], tensors["chosen_mask"], tensors["chosen_log_sum_p2"]
            ) * wpo_weights(
                tensors["rejected_token_logps"], tensors["rejected_mask"], tensors["rejected_log_sum_p2"]
            )
            weights = factor if weights is None else factor * weights
        total = sum(w * r.loss(weights) for w, r in zip(self.weights, results, strict=True))
        return total, results[0], tuple(result.carry for result in results)

    def carried(self, carry: Sequence[Mapping[str, float]]) -> Objective:
        """The objective of the next batch, see `LossResult.carry`."""
        losses = tuple(
            loss.with_options(**part) if part else loss for loss, part in zip(self.losses, carry, strict=True)
        )
        return replace(self, losses=losses)


def resolve(name: str) -> str:
    """Our name of a loss that a training config calls `name`.

    Raises:
        CodealignError: For an unknown loss, with the nearest name.
    """
    ours = TRL_MEANS.get(name) or ALIASES.get(name, name)
    if ours not in LOSSES.names():
        raise unknown("loss_type", name, [*LOSSES.names(), *ALIASES, *TRL_MEANS])
    return ours


def defaults(names: Sequence[str]) -> dict[str, float]:
    """`beta` and `label_smoothing` as the losses themselves have them, where they have them.

    TRL's one default for all (beta 0.1, no smoothing) fits its own losses; `simpo` wants 2.
    """
    found: dict[str, float] = {}
    for name in names:
        options = make_loss(resolve(name)).options
        beta = next((options[key] for key in _BETAS if key in options), None)
        if beta is not None:
            found.setdefault("beta", beta)
        if options.get("label_smoothing") is not None:
            found.setdefault("label_smoothing", options["label_smoothing"])
    return found


def build(
    names: Sequence[str],
    *,
    loss_weights: Sequence[float] | None = None,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    ld_alpha: float | None = None,
    f_divergence_type: str = "reverse_kl",
    f_alpha_divergence_coef: float = 0.5,
    discopop_tau: float | None = None,
    use_weighting: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Objective:
    """The objective of a pair trainer; arguments are fields of TRL's DPOConfig, `options` the rest.

    Raises:
        CodealignError: For unknown names and options, a loss for single examples, weights that do not fit,
            an option that no chosen loss reads, or options that do not go together.
    """
    if not names:
        raise CodealignError("loss_type names no loss")
    ours = [resolve(name) for name in names]
    for name in ours:
        if name in UNPAIRED:
            raise CodealignError(f"the loss {name!r} is for single examples: use `codealign train kto`")
        if use_weighting and name in SORTED:
            raise CodealignError(f"use_weighting does not fit {name!r}: its losses belong to no pair")
    ours = _variants(ours, ld_alpha, f_divergence_type)
    weights = tuple(loss_weights or [1.0] * len(ours))
    if len(weights) != len(ours):
        raise CodealignError(f"{len(ours)} losses need as many loss_weights (given: {len(weights)})")
    losses = [make_loss(name) for name in ours]
    # A default of TRL is no wish; whoever sets an option that nothing reads is told.
    wishes: dict[str, Any] = dict(options or {})
    if label_smoothing:
        wishes["label_smoothing"] = label_smoothing
    if ld_alpha is not None:
        wishes["ld_alpha"] = ld_alpha
    if f_divergence_type != "reverse_kl":
        wishes |= {"divergence": f_divergence_type, "alpha": f_alpha_divergence_coef}
    for key in wishes:
        if not any(key in loss.options for loss in losses):
            raise _unread(key, losses)
    made = []
    for loss in losses:
        settings = {key: value for key, value in wishes.items() if key in loss.options}
        called = next((key for key in _BETAS if key in loss.options), None)
        if called is not None:
            settings.setdefault(called, beta)
        if loss.name == "discopop" and discopop_tau is not None:
            settings.setdefault("tau", discopop_tau)
        made.append(loss.with_options(**settings))
    return Objective(tuple(made), weights, use_weighting)


def objective_of(args: Any, options: PreferenceOptions) -> Objective:
    """The objective that a DPOConfig and our options ask for; a CodealignError where they do not fit."""
    return build(
        args.loss_type,
        loss_weights=args.loss_weights,
        beta=args.beta,
        label_smoothing=args.label_smoothing,
        ld_alpha=args.ld_alpha,
        f_divergence_type=args.f_divergence_type,
        f_alpha_divergence_coef=args.f_alpha_divergence_coef,
        discopop_tau=args.discopop_tau,
        use_weighting=args.use_weighting,
        options=options.loss_options,  # type: ignore[arg-type]
    )


def _variants(names: Sequence[str], ld_alpha: float | None, divergence: str) -> list[str]:
    """Losses that TRL reaches by an option of `sigmoid` and that have a name of their own here."""
    if ld_alpha is None and divergence == "reverse_kl":
        return list(names)
    if ld_alpha is not None and divergence != "reverse_kl":
        raise CodealignError("ld_alpha and f_divergence_type do not go together here; set one of them")
    target = "ld_dpo" if ld_alpha is not None else "f_dpo"
    option = "ld_alpha" if ld_alpha is not None else "f_divergence_type"
    if not any(name in ("dpo", target) for name in names):
        raise CodealignError(f"{option} changes the loss 'sigmoid' alone (given: {', '.join(names)})")
    return [target if name == "dpo" else name for name in names]


def _unread(key: str, losses: Sequence[Loss]) -> CodealignError:
    known = {name for loss in losses for name in loss.options}
    told = " + ".join(loss.name for loss in losses)
    if key == "label_smoothing":
        return CodealignError(
            f"label_smoothing does nothing in the loss {told!r}; the loss 'cdpo' is DPO with label smoothing"
        )
    return unknown(f"option of the loss {told!r}", key, known)


def token_tensors(side: str, scores: Mapping[str, Tensor], rows: slice, counted: Tensor) -> dict[str, Tensor]:
    """What losses read of one side of the pairs under the policy.

    Args:
        side: `chosen` or `rejected`.
        scores: As `scoring.score` gives them, shape (completions, tokens).
        rows: The side's completions.
        counted: Tokens that count (completion tokens, or those of a step mask), shape (completions, tokens).
    """
    logps, mask = scores["logps"][rows], counted[rows]
    found = {
        f"{side}_token_logps": logps,
        f"{side}_mask": mask,
        f"{side}_logps": summed(logps, mask),
        f"{side}_lengths": mask.sum(1),
    }
    if "log_sum_p2" in scores:
        found[f"{side}_log_sum_p2"] = scores["log_sum_p2"][rows]
    return found
