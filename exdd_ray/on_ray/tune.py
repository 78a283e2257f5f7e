"""A sweep's trials on Ray Tune: light readers of what was made before them, several at a time on equal shares."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# read when Tune runs: its own files of each trial would repeat what the store holds, and Ctrl-C is the caller's
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")

import torch
from ray import tune
from ray.tune.experiment import Trial

from exdd_ray.errors import Fault
from exdd_ray.experiment.batches import in_batches
from exdd_ray.experiment.plan import PlannedTrial
from exdd_ray.experiment.run_plan import run_planned
from exdd_ray.experiment.session import Session
from exdd_ray.on_ray.cluster import one_line_errors, require_shared
from exdd_ray.on_ray.trials import trial_share
from exdd_ray.progress import Advance
from exdd_ray.store.artifact import Store
from exdd_ray.store.mirror import is_remote

RETRIES = 3  # of a trial whose worker or node is lost
FOLDER = "tune"
_workshops: dict[str, Session] = {}


@dataclass(frozen=True)
class Place:
    """What a worker needs of the driver's session: the store, the device that the cluster embeds on, and the run."""

    store: Store
    device: str | None
    token: str

    def session(self, threads: int) -> Session:
        """This worker's own session, kept from trial to trial."""
        torch.set_num_threads(threads)
        known = f"{self.store.root} {self.device} {self.token}"
        return _workshops.setdefault(known, Session(self.store, device=self.device, token=self.token))


def place_of(session: Session) -> Place:
    """What workers are given of a session."""
    return Place(session.store.again(), session.device, session.token)


def tune_storage(session: Session, folder: Path) -> str:
    """Where Tune keeps what it keeps: in the results' folder, or on the store's file system."""
    mirror = session.store.mirror
    return str(folder) if mirror is None else mirror.uri


@dataclass(frozen=True)
class TuneTrials:
    """Runs trials on the connected cluster; a TrialRunner.

    Attributes:
        storage: folder or URI that every node reaches, for what Tune itself keeps.
        at_once: trials at the same time; None is one a CPU.
    """

    storage: str
    at_once: int | None = None

    def __call__(self, trials: Sequence[PlannedTrial], session: Session, advance: Advance) -> Mapping[str, Fault]:
        """Run every trial in a worker that reaches the store by its path; tells why those failed that did.

        Light trials come to a worker several at a time. Those that are lost with a worker are run again one by one, so
        that one that kills its worker each time fails alone.
        """
        batches = in_batches(trials, trial_share(self.at_once, session.device).count)
        errors, lost = self._run(batches, session, advance)
        if lost:
            errors |= self._run([[one] for one in lost], session, advance)[0]
        return errors

    def _run(
        self, batches: Sequence[Sequence[PlannedTrial]], session: Session, advance: Advance
    ) -> tuple[dict[str, Fault], list[PlannedTrial]]:
        """Errors by key, and the trials that were lost with others of their batch."""
        work = tune.with_parameters(_run, batches=list(batches), place=place_of(session))
        space = {"batch": tune.grid_search(list(range(len(batches))))}

        errors: dict[str, Fault] = {}
        lost: list[PlannedTrial] = []

        def note(one: Ended) -> None:
            batch = batches[one.config["batch"]]
            if one.error and len(batch) > 1:
                lost.extend(batch)
                return
            errors.update({batch[0].key: Fault(one.error)} if one.error else one.metrics["errors"])
            advance(len(batch))

        fit(work, space, tune.TuneConfig(num_samples=1), self.storage, self.at_once, note, device=session.device)
        return errors, lost


def _run(config: Mapping[str, Any], batches: Sequence[Sequence[PlannedTrial]], place: Place) -> None:
    session = place.session(int(config["threads"]))
    found = {planned.key: run_planned(planned, session) for planned in batches[config["batch"]]}
    tune.report({"errors": {key: error for key, error in found.items() if error}})


@dataclass(frozen=True)
class Ended:
    """A trial of Tune's: its config, what it reported last, and why it was lost in the end, if it was."""

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    error: str = ""


class _Log(tune.Callback):  # type: ignore[misc]
    """Keeps and tells what trials reported, which Tune reads from files that are not written."""

    def __init__(self, told: Callable[[Ended], None]) -> None:
        self.ended: list[Ended] = []
        self._told = told

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **_: object) -> None:
        del iteration, trials
        self._note(Ended(trial.config, trial.last_result))

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **_: object) -> None:
        del iteration, trials
        lost = f"its worker was lost {trial.num_failures} times: {_last_line(trial.get_error())}"
        self._note(Ended(trial.config, trial.last_result, lost))

    def _note(self, one: Ended) -> None:
        self.ended.append(one)
        self._told(one)


def fit(
    work: Any,
    space: Mapping[str, Any],
    config: tune.TuneConfig,
    storage: str,
    at_once: int | None,
    told: Callable[[Ended], None],
    *,
    device: str | None = None,
) -> list[Ended]:
    """What Tune's trials of a function of a config gave; the config says how many `threads` it has, too.

    Args:
        storage: folder or URI that every node reaches.
        told: called with each as it ends.
        device: that trials compute on; None is this process's.

    Raises UserError where Tune itself fails.
    """
    if not is_remote(storage):
        require_shared(Path(storage))
    share = trial_share(at_once, device)
    config.max_concurrent_trials, config.reuse_actors = share.count, True
    resources = {"cpu": share.cpus, "gpu": share.gpus}
    log = _Log(told)
    run = tune.RunConfig(
        name=FOLDER,
        storage_path=storage,
        failure_config=tune.FailureConfig(max_failures=RETRIES),
        callbacks=[log],
        verbose=0,
    )
    tuner = tune.Tuner(
        tune.with_resources(work, resources),
        param_space={**space, "threads": share.threads},
        tune_config=config,
        run_config=run,
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it misses the files, and says so trial by trial
    with one_line_errors("Ray Tune cannot run the trials"), redirect_stdout(None):
        tuner.fit()
    return log.ended


def _last_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [""])[-1]
