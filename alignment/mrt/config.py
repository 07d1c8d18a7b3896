"""What the two MRT trainers take, and how model, questions and style come from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from alignment.health.options import NAMES as HEALTH_OPTIONS
from alignment.health.options import HealthOptions
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from alignment.mrt.prover import Prover
    from alignment.mrt.traces import Question, Style
    from alignment.mrt.updates import Updates
    from alignment.ranks import Ranks

HEALTH = HealthOptions()
EPISODES = "episodes"
"""The data set's name for the embedded task."""


class MRTTrainConfig(Config):
    """What `mrt_star` and `mrt_rl` have in common; names are TRL's where it has the option."""

    model_name_or_path: str
    """Folder or hub id of the model to start from."""
    output_dir: Path
    """Run directory; the model appears in its folder `model`."""
    dataset_name: str
    """A JSONL file with `question` (or `prompt`) and `answer`, or `episodes` for the embedded task."""
    questions: int | None = Field(None, ge=1)
    """Use only the first so many questions; of the embedded task, so many are made (default 1000)."""
    prompt_template: str = "{question}"
    """The prompt, with `{question}` in it."""
    close: str = "</think>"
    """What the model writes to end its thinking; the embedded task has its own."""
    stop: str | None = None
    """Text of a forced stop, ending with `close`; default "Time is up." and the close."""
    max_steps_split: int = Field(49, ge=0)
    """Most cuts of thinking into episodes."""
    group_size: int = Field(1, ge=1)
    """Neighbouring episodes that count as one."""
    max_thinking_length: int = Field(64, ge=1)
    """Most new tokens of a trace, its answer included."""
    max_answer_length: int = Field(3, ge=1)
    """Most tokens of a forced answer, its end included."""
    temperature: float = Field(1.0, gt=0)
    """Of all samples."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus of all samples; below 1 the log-probabilities of training are not those of sampling."""
    batch_rows: int = Field(512, ge=1)
    """Rows at a time in sampling."""
    micro_rows: int = Field(16, ge=1)
    """Rows at a time in training; changes nothing but memory and rounding."""
    learning_rate: float = Field(5e-4, gt=0)
    """Of AdamW, constant behind the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Updates of linear warm-up."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    use_peft: bool = False
    """Train a LoRA adapter."""
    lora_r: int = Field(16, ge=1)
    """Rank of the adapter."""
    lora_alpha: float = Field(32.0, gt=0)
    """Scale of the adapter."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights; bfloat16 is for adapters."""
    use_cpu: bool = False
    """Leave GPUs alone."""
    threads: int = Field(1, ge=1)
    """Torch threads on a CPU."""
    seed: int = Field(0, ge=0)
    """Of everything that is drawn."""
    save_steps: int = Field(50, ge=1)
    """Updates between checkpoints."""
    logging_steps: int = Field(10, ge=1)
    """Updates between rows of metrics.jsonl."""
    overwrite: bool = False
    """Start anew."""
    heartbeat_seconds: float = HEALTH.heartbeat_seconds
    """Seconds between beats in OUTPUT_DIR/health."""
    hang_timeout: float = HEALTH.hang_timeout
    """Without progress for so many seconds (or ten median steps, if longer) the stacks are written and the
    run ends; 0 never."""
    on_nan: str = HEALTH.on_nan
    """A loss that is not finite: warn, skip the update, rewind to the last checkpoint, stop."""
    on_spike: str = HEALTH.on_spike
    """A loss more than six robust deviations above the last 200: as on_nan."""
    checkpoint_hashes: bool = HEALTH.checkpoint_hashes
    """Hash every file of a checkpoint; false notes sizes only."""
    straggler_steps: int = HEALTH.straggler_steps
    """Steps between looks for ranks that hold the others up; 0 never."""
    slow_save_seconds: float = HEALTH.slow_save_seconds
    """A checkpoint that takes longer is told as slow."""

    not_identity: ClassVar[frozenset[str]] = frozenset(
        {"output_dir", "overwrite", "threads", "use_cpu", "save_steps", *HEALTH_OPTIONS}
    )

    def health(self) -> HealthOptions:
        """The options of run health.

        Raises:
            CodealignError: For a value with which nothing could be watched.
        """
        own = type(self).model_fields
        return HealthOptions(**{name: getattr(self, name) for name in HEALTH_OPTIONS if name in own})

    def inputs(self) -> dict[str, Path]:
        """Files and folders that the run reads: these count by their content, a name as it is."""
        named = {name: Path(getattr(self, name)) for name in ("model_name_or_path", "dataset_name")}
        return {name: path for name, path in named.items() if path.exists()}


def style_of(config: MRTTrainConfig) -> Style:
    """How the model's thinking reads."""
    from alignment.mrt.styles import episode_style, thinking_style

    if config.dataset_name == EPISODES:
        return episode_style()
    return thinking_style(
        config.close, stop=config.stop, max_steps=config.max_steps_split, group_size=config.group_size
    )


def questions_of(config: MRTTrainConfig) -> list[Question]:
    """The questions to train on.

    Raises:
        CodealignError: For a template without its place, a missing or broken file, or a question without an
            answer that can be checked.
    """
    from alignment.mrt.questions import read_questions
    from alignment.mrt.styles import episode_questions
    from codegen_eval.tasks.episodes import EpisodeTask

    if "{question}" not in config.prompt_template:
        raise CodealignError(
            f"prompt_template has no place for the question: put {{question}} into {config.prompt_template!r}"
        )
    if config.dataset_name == EPISODES:
        return episode_questions(EpisodeTask(), config.seed, config.questions or 1000)
    return read_questions(Path(config.dataset_name), config.prompt_template, config.questions)


def load_policy(config: MRTTrainConfig, ranks: Ranks) -> tuple[Any, Any]:
    """Model (with a fresh adapter, where one is asked for) and tokenizer, on the GPU where there is one.

    All ranks get the same weights.

    Raises:
        CodealignError: For a model that cannot be used, or bfloat16 weights without an adapter.
    """
    import torch

    from codegen_eval.generation.hf import load_model

    if config.dtype != "float32" and not config.use_peft:
        raise CodealignError("updates of bfloat16 weights round to nothing: set use_peft, or dtype float32")
    torch.set_num_threads(config.threads)
    model, tokenizer = load_model(config.model_name_or_path, dtype=config.dtype, device=ranks.device)
    if config.use_peft:
        from peft import LoraConfig, get_peft_model

        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            lora = LoraConfig(
                r=config.lora_r,
                lora_alpha=config.lora_alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            # Adapters in float32 whatever the weights are: their updates are small.
            model = get_peft_model(model, lora)
    ranks.align(model)
    return model, tokenizer


def prover_of(config: MRTTrainConfig, updates: Updates, tokenizer: Any) -> Prover:
    """The prover over the policy that is trained, which all ranks ask together.

    Raises:
        CodealignError: For a tokenizer without an end token.
    """
    from alignment.mrt.decoding import Decoder
    from alignment.mrt.prover import Prover

    if tokenizer.eos_token_id is None:
        raise CodealignError(f"the tokenizer of {config.model_name_or_path} has no end token")
    model = updates.module
    ends = model.generation_config.eos_token_id
    known = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    decoder = Decoder(
        model,
        frozenset(map(int, known)),
        config.temperature,
        config.top_p,
        config.batch_rows,
        updates.ranks,
        updates.whole,
    )
    return Prover(decoder, tokenizer, style_of(config), config.max_thinking_length, config.max_answer_length)
