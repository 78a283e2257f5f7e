"""Where an experiment's work is done: in this process, or where the functions of a backend do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exdd_ray.errors import Fault
from exdd_ray.features.embedder import ImageOrderer, Searcher
from exdd_ray.features.slices import SliceRunner
from exdd_ray.progress import Advance
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.fits import FitRunner
from exdd_ray.synthesizers.job import ChunkRunner
from exdd_ray.training.config import TrainConfig

if TYPE_CHECKING:
    from exdd_ray.experiment.plan import PlannedTrial
    from exdd_ray.experiment.session import Session
    from exdd_ray.experiment.space import LoadedSweep, Point

# Runs a fit in all the processes that its training config asks for; its artifacts are then in the store.
Trainer = Callable[[Callable[[], object], TrainConfig, Store], None]
# Told of each trial as it ends, and why it failed if it did.
Done = Callable[["PlannedTrial", Fault | None], None]
# Puts the results of trials into the store.
TrialRunner = Callable[[Sequence["PlannedTrial"], "Session", Done], None]
# Chooses a sweep's points as it goes, keeping its state in a folder; their trials are in the store then.
Tuner = Callable[["LoadedSweep", "Session", Path, Advance], Sequence["Point"]]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Functions that do an experiment's work; what is None is done in this process.

    Attributes:
        embed: computes embedding slices.
        fine_tune: trains what synthesizers need first.
        paint: makes chunks of synthetic samples.
        order: makes coresets.
        search: searches banks.
        train: trains networks.
        trials: runs trials side by side; None is one after another.
        tune: chooses the points of an adaptive sweep; None is not to be had.
        device: what it computes on; None is this process's device.
    """

    embed: SliceRunner | None = None
    fine_tune: FitRunner | None = None
    paint: ChunkRunner | None = None
    order: ImageOrderer | None = None
    search: Searcher | None = None
    train: Trainer | None = None
    trials: TrialRunner | None = None
    tune: Tuner | None = None
    device: str | None = None


LOCAL = Backend()
