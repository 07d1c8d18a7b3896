"""The on-policy trainer: draw answers, score them, make advantages, update; one loop for every algorithm.

What differs between algorithms is in algorithms/, what is computed in pure functions. Right by construction:
the temperature is in every log-probability; log-probabilities are the trainer's own; what was sampled is what
is trained, end token included; passes of a step add up to the global batch's loss however it is cut; a row
without a reward teaches nothing; there is no dropout.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignment.health import checkpoints
from alignment.health.loops import Watch
from alignment.health.monitor import phase
from alignment.onpolicy import checkpoint, health
from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.batch import Experience
from alignment.onpolicy.building import without_dropout
from alignment.onpolicy.collect import Rollout, collect
from alignment.onpolicy.kl_control import AdaptiveKL, FixedKL, KLController
from alignment.onpolicy.launching import accelerator_for, engine_for, optimizer_for, schedule_for
from alignment.onpolicy.options import OnPolicyConfig, check_batch, check_numbers
from alignment.onpolicy.policy import ActorCritic, Reference, save_policy
from alignment.onpolicy.preparing import Preparer
from alignment.onpolicy.prompts import PromptOrder, PromptRow
from alignment.onpolicy.reward_calls import FailureWindow, RewardCalls
from alignment.onpolicy.rollout import Decoding, HFSampler, Sampler
from alignment.onpolicy.updating import Updater
from alignment.rewards.protocol import Reward
from codegen_eval.errors import CodealignError


class OnPolicyTrainer:
    """Trains a policy, and where the algorithm has one its critic, by a reward.

    Args:
        module: Policy and critic.
        tokenizer: The policy's.
        config: Loop and optimiser.
        algorithm: With its options, see `algorithms.base.resolved`.
        prompts: Encoded prompts.
        reward: See rewards/protocol.py.
        folder: Where checkpoints go; None for none.
        sampler: Draws the answers; default: the policy itself (`HFSampler`).
        callbacks: transformers' TrainerCallbacks; `args` is the config, `on_log` gets the figures
            as `logs`, `on_step_end` this process's `rollout`.

    Raises:
        CodealignError: For options or a batch that cannot work, before the first step.
    """

    def __init__(
        self,
        module: ActorCritic,
        tokenizer: Any,
        config: OnPolicyConfig,
        algorithm: Algorithm,
        prompts: Sequence[PromptRow],
        reward: Reward,
        *,
        folder: Path | None = None,
        sampler: Sampler | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        from transformers import TrainerControl, TrainerState

        options = algorithm.options
        check_numbers(config, options)
        self.calls = RewardCalls(reward, options.reward_retries)
        self.accelerator = accelerator_for(config, folder)
        check_batch(config, options, len(prompts), self.accelerator.num_processes)
        self.config, self.options, self.algorithm = config, options, algorithm
        self.tokenizer, self.prompts, self.folder = tokenizer, prompts, folder
        without_dropout(module)
        self.module = module.to(self.accelerator.device).train()
        reference = Reference(module) if options.kl_coef > 0 else None
        optimizer = optimizer_for(module, config, options.value_learning_rate)
        self.scheduler = schedule_for(optimizer, config)
        self.engine = engine_for(module, optimizer, self.accelerator, config)
        self.optimizer = self.engine.optimizer
        if reference is not None:
            reference.divide(self.engine.frozen)
        self.tally = health.Tally()
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.preparer = Preparer(
            module, reference, algorithm, self.engine, config.per_device_train_batch_size, int(pad)
        )
        self.updater = Updater(self.engine, module, algorithm, self.accelerator, config, self.tally)
        self.failures = FailureWindow(options.failed_rewards_window, options.max_failed_rewards)
        self.sampler = sampler or HFSampler(tokenizer, self.engine.autocast)
        if not self.sampler.exact and not options.importance_correction:
            raise CodealignError(
                "this sampler draws from a distribution that is not quite the trainer's: set "
                "importance_correction true"
            )
        self.kl: KLController = FixedKL(options.kl_coef)
        if options.kl_target is not None:
            self.kl = AdaptiveKL(options.kl_coef, options.kl_target, options.kl_horizon)
        self.num_generations = options.num_generations or 1
        self.per_process = config.rollout_rows // self.num_generations
        per_step = self.per_process * self.accelerator.num_processes
        self.order = PromptOrder(len(prompts), per_step, config.seed)
        self.state = TrainerState(
            max_steps=config.max_steps,
            logging_steps=config.logging_steps,
            save_steps=config.save_steps,
            is_local_process_zero=self.accelerator.is_local_main_process,
            is_world_process_zero=self.accelerator.is_main_process,
        )
        self.control = TrainerControl()
        self.watch: Watch | None = None
        self.callbacks = list(callbacks)

    def train(self, resume: Path | None = None, watch: Watch | None = None) -> Any:
        """Runs all steps that are left; returns transformers' TrainerState.

        Args:
            resume: A whole checkpoint to go on from.
            watch: Of the run's health; None: an update that is not finite is an error.

        Raises:
            CodealignError: If a reward breaks its protocol, too many rewards are missing (a checkpoint is
                written first), or as `Watch.allows`.
        """
        self.watch = self.updater.watch = watch
        if resume is not None:
            self._load(resume)
        self._event("on_train_begin")
        try:
            while self.state.global_step < self.config.max_steps and not self.control.should_training_stop:
                self._event("on_step_begin")
                rollout, tokens = self._next()
                self.state.global_step += 1
                self.state.epoch = self.order.epoch(self.state.global_step)
                if watch is not None:
                    watch.step_done(self.state.global_step, self.config.max_steps, tokens)
                self._event("on_step_end", rollout=rollout)
                self._log_and_save()
        finally:
            self.calls.close()
        self._event("on_train_end")
        for tracker in self.accelerator.trackers:  # `end_training` would part the processes, too
            tracker.finish()
        return self.state

    def _next(self) -> tuple[Rollout | None, int]:
        """The next step, or nothing where a rewind passes over it: its rollout, and its trained tokens."""
        number, began = self.state.global_step, time.perf_counter()
        if self.watch is not None and self.watch.passes_over(number + 1):
            self.scheduler.step()
            return None, 0
        found = self.step(number)
        self.tally.add("time/step", time.perf_counter() - began)
        return found

    def step(self, number: int) -> tuple[Rollout, int]:
        """One rollout and the updates on it; returns the rollout, and how many of its tokens can teach."""
        rollout = self.draw(number)
        # A phase in which processes wait for one another, which time of their own must not show.
        with phase("prepare"):
            self._check_failures(rollout)
            health.note_rollout(self.tally, rollout)
            experience = self.preparer.experience(rollout, self.kl.beta, self.tally)
            health.note_experience(self.tally, experience)
        began = time.perf_counter()
        with phase("update"):
            updates = self.updater.learn(experience, number)
            self.tally.add("time/update", time.perf_counter() - began)
            self.tally.add("policy/updates", updates)
            self.scheduler.step()
            self._control_kl(experience)
        return rollout, int(experience.mask.sum())

    def draw(self, number: int) -> Rollout:
        """Answers and rewards of a step, this process's share."""
        o, first = self.options, self.accelerator.process_index * self.per_process
        places = self.order.step(number)[first : first + self.per_process]
        asked = [(f"{number}/{first + i}", self.prompts[place]) for i, place in enumerate(places)]
        with self.engine.whole(self.module.policy):
            with phase("rollout"):
                self.sampler.sync(self.module.policy)
            return collect(
                self.sampler,
                self.calls,
                asked,
                Decoding(
                    o.temperature,
                    o.top_p,
                    o.max_completion_length,
                    tuple(o.stop or ()),
                    self.config.seed,
                    logps=bool(o.importance_correction),
                ),
                num_generations=self.num_generations,
                greedy=self.algorithm.needs_greedy,
                at_once=o.local_rollout_forward_batch_size,
                trainer_state=self.state,
            )

    def save_model(self, folder: Path) -> None:
        """Writes policy and tokenizer, for `from_pretrained` or PEFT."""
        with self.engine.whole(self.module.policy):
            if self.accelerator.is_main_process:
                save_policy(self.module.policy, self.tokenizer, folder)
        self.accelerator.wait_for_everyone()

    def _control_kl(self, e: Experience) -> None:
        """Tells the controller the mean KL of the answers, in nats an answer."""
        if e.logps is None or e.ref_logps is None:
            return
        self.tally.add("kl_coef", self.kl.beta)
        rows = e.mask.any(1)
        kl = torch.where(rows, self.algorithm.sequence_kl(e), 0.0).double().sum()
        total, answers = self.accelerator.reduce(torch.stack([kl, rows.sum().double()]), "sum").tolist()
        if answers:
            self.kl.update(total / answers, int(answers))

    def _check_failures(self, rollout: Rollout) -> None:
        """Stops training, with a checkpoint of the last whole step, where too many rewards are missing."""
        rewards = [*rollout.rewards, *rollout.greedy_rewards]
        counts = torch.tensor([sum(r is None for r in rewards), len(rewards)], device=self.accelerator.device)
        missing, answers = self.accelerator.reduce(counts, "sum").tolist()
        if not self.failures.add(missing, answers):
            return
        seen = list(self.failures.recent)
        self.failures.load_state_dict([])  # who mends the reward and goes on begins with an empty window
        where = self._save() if self.folder is not None else None
        raised = [call.error for call in (*rollout.scored, *rollout.greedy_scored) if call.error]
        why = f"it raised {raised[-1]}" if raised else "it gave None"
        raise CodealignError(
            f"{sum(m for m, _ in seen)} answers of the last {len(seen)} steps have no reward ({why}), more "
            f"than max_failed_rewards {self.options.max_failed_rewards} allows in a window of "
            f"{self.options.failed_rewards_window} steps"
            + (f". {where} is whole: mend the reward and run the same command again" if where else "")
        )

    def _log_and_save(self) -> None:
        step, last = self.state.global_step, self.state.global_step >= self.config.max_steps
        if step % self.config.logging_steps == 0 or last or self.control.should_log:
            self._log()
        due = step % self.config.save_steps == 0 or last or self.control.should_save
        if self.folder is not None and due:
            self._save()
        self.control.should_log = self.control.should_save = False

    def _log(self) -> None:
        from accelerate.utils import gather_object

        figures = health.finished(self.tally.take(gather_object))
        figures["lr"] = float(self.scheduler.get_last_lr()[0])
        figures["episode"] = float(self.state.global_step * self.order.per_step * self.num_generations)
        figures["epoch"] = float(self.state.epoch or 0.0)
        self.accelerator.log(figures, step=self.state.global_step)
        self._event("on_log", logs=figures)

    def _event(self, name: str, **more: Any) -> None:
        """Tells the callbacks, with what transformers' Trainer gives them."""
        known = {
            "model": self.module.policy,
            "processing_class": self.tokenizer,
            "optimizer": self.optimizer,
            "lr_scheduler": self.scheduler,
        }
        for callback in self.callbacks:
            found = getattr(callback, name)(self.config, self.state, self.control, **known, **more)
            self.control = self.control if found is None else found

    def _save(self) -> Path:
        """Writes a checkpoint of the steps done so far; returns its folder."""
        assert self.folder is not None
        step, main = self.state.global_step, self.accelerator.is_main_process
        target = self.folder / f"checkpoint-{step}"
        with contextlib.nullcontext(True) if self.watch is None else self.watch.saving(step) as hashes:
            self._write(target, main, hashes)
        self._event("on_save")
        return target

    def _write(self, target: Path, main: bool, hashes: bool) -> None:
        if main:
            checkpoints.begin(target)
        self.accelerator.wait_for_everyone()
        part = checkpoints.aside(target)
        weights, optimizer = self.engine.weights(), self.engine.state_dict()
        checkpoint.write_process(
            part,
            self.accelerator.process_index,
            self.tally.state_dict(),
            optimizer if self.engine.divided else None,
        )
        if main:
            state = {
                "step": self.state.global_step,
                "kl": self.kl.state_dict(),
                "rewards": self.preparer.state_dict(),
                "failures": self.failures.state_dict(),
            }
            common = {"schedule": self.scheduler.state_dict()}
            if not self.engine.divided:
                common["optimizer"] = optimizer
            checkpoint.write(part, weights, common, state)
        self.accelerator.wait_for_everyone()
        if main:
            checkpoints.finish(target, hashes=hashes)
            checkpoints.prune(target.parent, self.config.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _load(self, path: Path) -> None:
        saved = checkpoint.read(path, self.accelerator.process_index, divided=self.engine.divided)
        self.engine.load_weights(saved.weights)
        self.engine.load_state_dict(saved.optimizer)
        self.scheduler.load_state_dict(saved.schedule)
        self.kl.load_state_dict(saved.state["kl"])
        self.preparer.load_state_dict(saved.state["rewards"])
        self.failures.load_state_dict(saved.state["failures"])
        self.tally.load_state_dict(saved.figures)
        self.state.global_step = int(saved.state["step"])
        self.state.epoch = self.order.epoch(self.state.global_step)
