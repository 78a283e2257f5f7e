"""The training loop: optimiser steps, checkpoints, validation; killed and resumed as if never interrupted."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from exdd_ray.device import CPU
from exdd_ray.errors import ConfigError
from exdd_ray.progress import Progress, silent
from exdd_ray.training.checkpoint import (
    TrainingProgress,
    checkpoint_folder,
    infinite_tensor,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.device import training_device
from exdd_ray.training.gradients import accumulate, no_memory_for, parameters_of
from exdd_ray.training.learner import Learner, Sample, TrainingError, Value

if TYPE_CHECKING:
    from accelerate import Accelerator

Found = TypeVar("Found")

_log = logging.getLogger(__name__)
_SAY_EVERY_S = 20.0


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        steps: done.
        best_step: steps after which the chosen weights were; the last without validation.
        best_value: what validation gave there.
        losses: of each step.
        folder: of the chosen checkpoint.
        micro_batch: at the end.
    """

    steps: int
    best_step: int
    best_value: Value | None
    losses: tuple[float, ...]
    folder: Path
    micro_batch: int


def train(
    learner: Learner[Sample],
    steps: int,
    *,
    config: TrainConfig,
    checkpoints: Path,
    validate: Callable[[], Value] | None = None,
    keep_latest: bool = False,
    keep_all: bool = False,
    progress: Progress = silent,
) -> TrainResult:
    """Train until `steps` steps are done, from the latest checkpoint where there is one.

    On return the modules hold the chosen weights (averaged ones with `config.ema`), in evaluation mode. On a CPU a run
    that was interrupted gives the same bits as one that was not: it goes on with as many threads as it began with.
    Where the processes of a distributed run call this together, each takes its share of every batch. Loss, rate and
    time left are logged every 20 seconds.

    Args:
        checkpoints: folder of this run's checkpoints.
        validate: value of the modules' current weights, higher is better; the checkpoint with the best is chosen. Of
            several values none may be lower than at the checkpoint that was best before.
        keep_latest: of checkpoints of one value the last is chosen, not the first.
        keep_all: every checkpoint is kept, not the latest and the best alone.

    Raises:
        TrainingError: a loss, gradient or weight that is not finite (the last good checkpoint stays), too little memory
            for one sample, a checkpoint of another architecture.
        ConfigError: another number of processes than config.workers.
    """
    accelerator = _accelerator(config)
    if accelerator.num_processes != config.workers:
        raise ConfigError(f"training.workers={config.workers}, but {accelerator.num_processes} process(es) train")
    gpus = () if accelerator.device.type == CPU else (torch.cuda.current_device(),)
    with torch.random.fork_rng(gpus), _same_threads(), progress("training", steps) as advance:
        run = _Run(learner, config, checkpoints, validate, keep_latest, keep_all, accelerator)
        if run.steps > steps:
            raise TrainingError(f"{checkpoints}: has {run.steps} steps already, more than {steps}")
        advance(run.steps)
        say = _speaker(run.steps, steps)
        while run.steps < steps:
            run.step(last=run.steps + 1 == steps)
            advance(1)
            say(run.steps, run.losses[-1])
    result = run.result()
    accelerator.wait_for_everyone()
    return result


@dataclass
class _Run(Generic[Sample]):
    """A run under way."""

    learner: Learner[Sample]
    config: TrainConfig
    checkpoints: Path
    validate: Callable[[], Value] | None
    keep_latest: bool
    keep_all: bool
    accelerator: "Accelerator"
    averages: dict[str, AveragedModel] = field(default_factory=dict)
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    micro_batch: int = 1
    best_step: int | None = None
    best_value: Value | None = None
    threads: int = field(default_factory=torch.get_num_threads)

    def __post_init__(self) -> None:
        """Moves the networks to the device, and goes on where the latest checkpoint is."""
        for name, module in self.learner.modules.items():
            module.to(self.accelerator.device)
            if self.config.ema is not None:
                average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(self.config.ema))
                self.averages[name] = average.requires_grad_(False)
        self.micro_batch = self.config.micro_batch or self.config.batch
        latest = latest_checkpoint(self.checkpoints)
        if latest is not None:
            _log.info("going on from %s", latest)
            self._take(load_checkpoint(latest, self.learner, self.averages))

    def _take(self, reached: TrainingProgress) -> None:
        self.steps, self.losses, self.micro_batch = reached.steps, list(reached.losses), reached.micro_batch
        self.best_step, self.best_value = reached.best_step, reached.best_value
        self.threads = reached.threads or self.threads
        torch.set_num_threads(self.threads)  # sums in another order are other bits

    def step(self, *, last: bool) -> None:
        """One step of all optimisers, and the validation and the checkpoint that are due after it."""
        for module in self.learner.modules.values():
            module.train()
        try:
            loss, self.micro_batch = accumulate(self.accelerator, self.learner, self.steps, self.micro_batch)
        except TrainingError as error:
            raise TrainingError(f"{error}; {_kept(self.checkpoints)}") from error
        with no_memory_for(f"step {self.steps}: the update of the weights"):
            self._update()
        self.losses.append(loss)
        self.steps += 1
        judged = self.validate is not None and (last or self.steps % self.config.validate_every == 0)
        saved = last or self.steps % self.config.checkpoint_every == 0
        if judged or saved:
            self._require_finite()
        if (judged and self._improved()) or saved:
            self._save()

    def _update(self) -> None:
        if self.config.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters_of(self.learner), self.config.max_grad_norm)
        for optimizer in self.learner.optimizers:
            optimizer.step()
        for schedule in self.learner.schedulers:
            if schedule is not None:
                schedule.step()
        for name, average in self.averages.items():
            average.update_parameters(self.learner.modules[name])

    def _require_finite(self) -> None:
        """Raises TrainingError where a weight or a running statistic is not: a finite gradient may still burst one."""
        found = self._from_main(lambda: infinite_tensor(self.learner.modules) or infinite_tensor(self.averages))
        if found:
            raise TrainingError(f"after step {self.steps - 1}: {found} is not finite; {_kept(self.checkpoints)}")

    def _improved(self) -> bool:
        """Validate; says whether it is the best so far."""
        assert self.validate is not None
        value = self._on_main(self.validate)
        if not np.isfinite(value).all():
            raise TrainingError(f"after step {self.steps - 1}: validation gives {value}; {_kept(self.checkpoints)}")
        _log.info("after %d steps: validation %s", self.steps, ", ".join(f"{one:.5g}" for one in np.atleast_1d(value)))
        if self.best_value is not None and not self._better(value, self.best_value):
            return False
        self.best_step, self.best_value = self.steps, value
        return True

    def _better(self, value: Value, best: Value) -> bool:
        apart = np.atleast_1d(value) - np.atleast_1d(best)
        return bool((apart >= 0).all() and (self.keep_latest or (apart > 0).any()))

    def _on_main(self, validate: Callable[[], Value]) -> Value:
        def found() -> Value:
            with _evaluating(self.learner, self.averages), no_memory_for(f"after step {self.steps - 1}: validation"):
                return validate()

        return self._from_main(found)

    def _from_main(self, find: Callable[[], Found]) -> Found:
        """What the first process finds: the others' running statistics differ from its own."""
        from accelerate.utils import broadcast_object_list

        found = [find() if self.accelerator.is_main_process else None]
        shared: Found = broadcast_object_list(found)[0]
        return shared

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            reached = TrainingProgress(
                self.steps, tuple(self.losses), self.micro_batch, self.best_step, self.best_value, self.threads
            )
            save_checkpoint(self.checkpoints, self.learner, self.averages, reached, keep_all=self.keep_all)
        self.accelerator.wait_for_everyone()

    def result(self) -> TrainResult:
        """The finished run, with the chosen weights in the modules."""
        chosen = self.best_step or self.steps
        folder = checkpoint_folder(self.checkpoints, chosen)
        load_checkpoint(folder, self.learner, self.averages)
        for name, module in self.learner.modules.items():
            if name in self.averages:
                module.load_state_dict(self.averages[name].module.state_dict())
            module.eval()
        return TrainResult(self.steps, chosen, self.best_value, tuple(self.losses), folder, self.micro_batch)


@contextmanager
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _evaluating(learner: Learner[Sample], averages: dict[str, AveragedModel]) -> Iterator[None]:
    """Puts the networks in evaluation mode, with their averaged weights where there are such."""
    own = {name: _copy(learner.modules[name]) for name in averages}
    for name, module in learner.modules.items():
        module.eval()
        if name in averages:
            module.load_state_dict(averages[name].module.state_dict())
    try:
        with torch.no_grad():
            yield
    finally:
        for name, state in own.items():
            learner.modules[name].load_state_dict(state)


def _copy(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def _accelerator(config: TrainConfig) -> "Accelerator":
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    on_cpu = training_device(config) == CPU
    AcceleratorState._reset_state(reset_partial_state=True)  # it remembers the device and precision of an earlier run
    return Accelerator(mixed_precision="bf16" if config.precision == "bfloat16" else "no", cpu=on_cpu)


def _kept(checkpoints: Path) -> str:
    latest = latest_checkpoint(checkpoints)
    return "there was no checkpoint before it" if latest is None else f"the last good checkpoint is {latest}"


def _speaker(done: int, total: int) -> Callable[[int, float], None]:
    """Logs loss, rate and time left, given the steps done and the loss, when it has not for a while."""
    started = said = time.monotonic()

    def say(steps: int, loss: float) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < _SAY_EVERY_S:
            return
        said, rate = now, (steps - done) / (now - started)
        left = (total - steps) / rate
        _log.info("step %d of %d: loss %.4g, %.2f steps a second, %.0f s left", steps, total, loss, rate, left)

    return say
