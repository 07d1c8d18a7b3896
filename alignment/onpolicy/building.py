"""Policy and critic from what a recipe says: adapters, a critic's start, what must hold of both."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from alignment.onpolicy.options import ValueModel
from alignment.onpolicy.policy import CRITIC, ActorCritic, plain
from codegen_eval.errors import CodealignError

_BOTH_WAYS = frozenset(
    {
        *("bert", "roberta", "xlm-roberta", "deberta", "deberta-v2", "electra", "distilbert", "albert"),
        *("modernbert", "camembert", "mpnet"),
    }
)


def build_module(
    model: Any,
    temperature: float,
    *,
    peft_config: Any = None,
    value_model: ValueModel | None = None,
    value_model_path: str | None = None,
    checkpointing: bool = False,
) -> ActorCritic:
    """The module that is trained.

    Args:
        model: A causal language model in memory.
        temperature: Of sampling, for every log-probability.
        peft_config: Adapters to train instead of the model; None trains all of it.
        value_model: "head" or "critic"; None for no critic.
        value_model_path: Start of the critic; None takes the policy.
        checkpointing: Keep block inputs alone.

    Raises:
        CodealignError: For a critic that does not fit, or checkpointing with a critic's adapter.
    """
    critic = load_critic(value_model_path, model) if value_model_path and value_model == "critic" else None
    second = peft_config is not None and value_model == "critic" and critic is None
    if checkpointing and second:
        # What is computed again in the backward pass would be computed with the policy's adapter.
        raise CodealignError(
            "gradient_checkpointing does not go with adapters for policy and critic on one trunk: set "
            "value_model head, or gradient_checkpointing false"
        )
    policy = model if peft_config is None else with_adapters(model, peft_config, critic=second)
    module = ActorCritic(policy, temperature, value_model, critic)
    if checkpointing:
        plain(policy).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if peft_config is not None:
            plain(policy).enable_input_require_grads()
        if module.critic is not None:
            module.critic.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
    return module


def with_adapters(model: Any, peft_config: Any, *, critic: bool) -> Any:
    """The model with new adapters: the policy's, and with `critic` a second one for the critic."""
    from peft import get_peft_model

    policy = get_peft_model(model, peft_config)
    if critic:
        policy.add_adapter(CRITIC, copy.deepcopy(peft_config))
        for name, parameter in policy.named_parameters():
            if f".{CRITIC}." in name:
                parameter.requires_grad_(True)
    return policy


def without_dropout(model: nn.Module) -> None:
    """Takes all dropout out: with it the ratio would not be 1 on the first pass."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "hidden_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def load_critic(path: str, policy: Any) -> tuple[Any, Tensor | None]:
    """Trunk and head's weights of a critic from a folder: a reward model of one output, or a language model.

    Any architecture will do whose hidden states look at earlier tokens alone and whose tokens are the
    policy's.

    Args:
        path: The folder.
        policy: Whose tokens it must understand.

    Raises:
        CodealignError: If it cannot be loaded, speaks another vocabulary, has a smaller window, reads both
            ways, or is a classifier of more than one output.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    from codegen_eval.generation.hf import check_folder

    check_folder(path)
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise CodealignError(f"cannot read the critic's config in {path}: {_first_line(error)}") from None
    scorer = any("SequenceClassification" in name for name in config.architectures or [])
    own, theirs = plain(policy).config.get_text_config(), config.get_text_config()
    if theirs.vocab_size != own.vocab_size:
        raise CodealignError(
            f"the critic {path} has {theirs.vocab_size} tokens, the policy {own.vocab_size}: it must read "
            "the policy's tokens; take a model of the same tokenizer"
        )
    window, wanted = (getattr(c, "max_position_embeddings", None) for c in (theirs, own))
    if window is not None and wanted is not None and window < wanted:
        raise CodealignError(
            f"the critic {path} has a window of {window} tokens, the policy {wanted}: take a critic that "
            "reads as far"
        )
    if getattr(config, "is_encoder_decoder", False) or config.model_type in _BOTH_WAYS:
        raise CodealignError(f"the critic {path} ({config.model_type}) reads both ways: take a decoder")
    if scorer and config.num_labels != 1:
        raise CodealignError(f"the critic {path} has {config.num_labels} outputs: a reward model has one")
    kind = AutoModelForSequenceClassification if scorer else AutoModelForCausalLM
    try:
        model = kind.from_pretrained(path, dtype=next(policy.parameters()).dtype)
    except Exception as error:
        raise CodealignError(f"cannot load the critic from {path}: {_first_line(error)}") from None
    head = getattr(model, "score", None) if scorer else None
    return model.base_model.to(
        next(policy.parameters()).device
    ), None if head is None else head.weight.detach()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
