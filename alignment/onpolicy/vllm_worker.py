"""What runs inside vLLM's workers to take over a policy's weights: its `worker_extension_cls`.

On a CPU vLLM packs the weight of every linear layer once it is loaded and throws the weight itself away, so
the model's `load_weights` finds nothing to write to. `reload_weights` lays the layers out anew, loads them,
and packs again, but leaves out a head that is tied to the embeddings, as no weights of its own arrive: it
would go on with the packing of the old embeddings. Here it is packed again, too.

A compiled model has the old packing in its graph for good; so on a CPU the engine must be an eager one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

EXTENSION = f"{__name__}.WeightTaker"
WEIGHTS_FILE = "model.safetensors"

# What must agree between the policy and the model that a server holds.
_SHAPE = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings"),
)


class WeightTaker:
    """Methods that vLLM adds to its worker; they are called by `collective_rpc`."""

    def describe_model(self: Any) -> dict[str, Any]:
        """What a trainer must know before it draws: shape of the model, kind of log-probabilities."""
        config = self.model_runner.model_config
        return {"logprobs_mode": str(config.logprobs_mode), "shape": shape_of(config.hf_text_config)}

    def take_weights(self: Any, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replaces the model's weights.

        Args:
            weights: Names and weights as the model's checkpoint has them.

        Raises:
            ValueError: On a CPU, if the engine has compiled the model.
        """
        model = self.model_runner.get_model()
        if self.device.type == "cpu" and self.vllm_config.compilation_config.mode:
            raise ValueError("a compiled model keeps its old weights on a CPU: set enforce_eager true")
        self.reload_weights(weights_iterator=weights)
        pack_tied_heads(model)

    def take_weights_from(self: Any, folder: str) -> None:
        """Replaces the model's weights by those of a folder."""
        from safetensors.torch import load_file

        self.take_weights(load_file(Path(folder) / WEIGHTS_FILE).items())


def shape_of(config: Any) -> dict[str, Any]:
    """The part of a transformers config by which weights of one model fit another."""
    return {name: getattr(config, name, None) for name in _SHAPE}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Where two shapes differ, as `name: value, not value`; what only one of them says does not count."""
    return [
        f"{name}: {one[name]}, not {other[name]}"
        for name in _SHAPE
        if None not in (one.get(name), other.get(name)) and one[name] != other[name]
    ]


def pack_tied_heads(model: Any) -> None:
    """Packs heads again that share the embeddings' weight; on a GPU nothing is packed."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    layers = [layer for layer in model.modules() if isinstance(layer, VocabParallelEmbedding)]
    for head in layers:
        others = (layer for layer in layers if layer is not head)
        if isinstance(head, ParallelLMHead) and any(head.weight is layer.weight for layer in others):
            head.quant_method.process_weights_after_loading(head)
