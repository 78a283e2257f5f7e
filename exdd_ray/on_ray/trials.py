"""Trials on Ray Tune: light readers of what was made before them, and fits of networks, several at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.util.queue import Queue

from exdd_ray.errors import Fault
from exdd_ray.experiment.backend import Done
from exdd_ray.experiment.batches import in_batches
from exdd_ray.experiment.plan import PlannedTrial
from exdd_ray.experiment.run_plan import run_here, run_planned
from exdd_ray.experiment.session import Session
from exdd_ray.methods.table import method_of
from exdd_ray.on_ray.log import told_to, workers_log
from exdd_ray.on_ray.shares import trial_share
from exdd_ray.on_ray.tune import Ended, Place, fit, place_of, tune_storage


@dataclass(frozen=True)
class TuneTrials:
    """Runs trials on the connected cluster; a TrialRunner.

    Attributes:
        at_once: trials at the same time; None is one a CPU.
    """

    at_once: int | None = None

    def __call__(self, trials: Sequence[PlannedTrial], session: Session, done: Done) -> None:
        """Run every trial in a worker that reaches the store by its path.

        Light trials come to a worker several at a time. Those that are lost with a worker are run again one by one, so
        that one that kills its worker each time fails alone. A trial that trains in several workers has the cluster to
        itself, after the others.
        """
        wide = [one for one in trials if _trains_in_several(one)]
        others = [one for one in trials if not _trains_in_several(one)]
        if others:
            batches = in_batches(others, trial_share(self.at_once, session.backend.device).count)
            if lost := self._run(batches, session, done):
                self._run([[one] for one in lost], session, done)
        run_here(wide, session, done)

    def _run(self, batches: Sequence[Sequence[PlannedTrial]], session: Session, done: Done) -> list[PlannedTrial]:
        """The trials that were lost with others of their batch."""
        space = {"batch": tune.grid_search(list(range(len(batches))))}
        lost: list[PlannedTrial] = []

        def note(one: Ended) -> None:
            batch = batches[one.config["batch"]]
            if one.error and len(batch) > 1:
                lost.extend(batch)
                return
            errors = {batch[0].key: Fault(one.error)} if one.error else one.metrics["errors"]
            for planned in batch:
                done(planned, errors.get(planned.key))

        with workers_log() as log, tune_storage(session.store) as storage:
            work = tune.with_parameters(_run, batches=list(batches), place=place_of(session), log=log)
            config = tune.TuneConfig(num_samples=1)
            fit(work, space, config, storage, self.at_once, note, device=session.backend.device)
        return lost


def _trains_in_several(one: PlannedTrial) -> bool:
    detector = one.trial.config.detector
    training = method_of(detector).training(detector)
    return training is not None and training.workers > 1


def _run(config: Mapping[str, Any], batches: Sequence[Sequence[PlannedTrial]], place: Place, log: Queue) -> None:
    session, errors = place.session(int(config["threads"])), {}
    for planned in batches[config["batch"]]:
        with told_to(log, f"{planned.trial.name}, seed {planned.trial.config.seed}: "):
            if fault := run_planned(planned, session):
                errors[planned.key] = fault
    tune.report({"errors": errors})
