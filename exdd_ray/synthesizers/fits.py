"""What synthesizers train before they make samples: each once, and side by side where there is room."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from exdd_ray.errors import ConfigError, one_line, told_of
from exdd_ray.progress import Advance, Progress, silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.job import AnyJob
from exdd_ray.synthesizers.leaves import Leaf
from exdd_ray.synthesizers.synthesizer import Resources, Training
from exdd_ray.synthesizers.table import synthesizer_of
from exdd_ray.training.config import TrainConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """What is trained for some chunks.

    Attributes:
        name: tells it from others in messages; may be empty.
        job: one of those chunks.
    """

    name: str
    job: AnyJob

    @property
    def recipe(self) -> Recipe:
        """Names it in the store."""
        assert self.job.training is not None
        return self.job.training

    @property
    def config(self) -> TrainConfig:
        """How it is trained."""
        return self._training.config(self.job.config)

    def prepare(self, resources: Resources) -> None:
        """Put what it needs first into the store."""
        with told_of(self.name):
            self._training.prepare(self.job, resources)

    def train(self, store: Store, progress: Progress = silent) -> None:
        """Put it into the store, unless it is there. Raises UserError where it cannot be trained."""

        def named(label: str, total: int) -> AbstractContextManager[Advance]:
            return progress(f"{self.name}: {label}" if self.name else label, total)

        if store.find(self.recipe.key) is None:
            with told_of(self.name):
                self._training.train(self.job, store, named)

    @property
    def _training(self) -> Training[SynthesizerConfig]:
        training = synthesizer_of(self.job.config).training
        assert training is not None
        return training


# Trains all of them, whatever becomes of the others; gives the errors of those that failed.
FitRunner = Callable[[Sequence[Fit], Store, Progress], Sequence[Exception]]


def lacking_fits(parts: Sequence[tuple[Leaf, Sequence[AnyJob]]], store: Store, name: str = "") -> list[Fit]:
    """What is to be trained for the chunks of a synthesizer's parts and is not in the store, each once."""
    return list({fit.recipe.key: fit for fit in _fits(parts, name) if store.find(fit.recipe.key) is None}.values())


def _fits(parts: Sequence[tuple[Leaf, Sequence[AnyJob]]], name: str) -> Iterator[Fit]:
    for leaf, jobs in parts:
        several = len({job.training.key for job in jobs if job.training is not None}) > 1
        for job in jobs:
            if job.training is not None:
                yield Fit(": ".join(filter(None, (name, leaf.part, job.prompt * several))), job)


def train_all(fits: Sequence[Fit], resources: Resources, run: FitRunner) -> None:
    """Put fits into the store. Raises the error of one that failed, by its name, when all others are done."""
    ready, failed = [], list[Exception]()
    for fit in fits:
        try:
            fit.prepare(resources)
            ready.append(fit)
        except Exception as error:  # whatever it is, the others go on
            failed.append(error)
    if ready:
        failed += run(ready, resources.store, resources.progress)
    for other in failed[1:]:
        _log.warning("%s", one_line(other))
    if failed:
        raise failed[0]


def train_here(fits: Sequence[Fit], store: Store, progress: Progress) -> list[Exception]:
    """Train one after another in this process; a FitRunner."""
    failed = list[Exception]()
    for fit in fits:
        try:
            _require_one_process(fit)
            fit.train(store, progress)
        except Exception as error:  # whatever it is, the others go on
            failed.append(error)
    return failed


def _require_one_process(fit: Fit) -> None:
    with told_of(fit.name):
        if fit.config.workers > 1:
            raise ConfigError(f"training.workers={fit.config.workers} needs a Ray cluster: --ray")
