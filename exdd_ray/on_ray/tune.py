"""Ray Tune: functions of a config run side by side on equal shares of a cluster."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# read when Tune runs: its own files of each trial would repeat what the store holds, and Ctrl-C is the caller's
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")

import torch
from ray import tune
from ray.tune.experiment import Trial

from exdd_ray.experiment.backend import Backend
from exdd_ray.experiment.session import Session
from exdd_ray.on_ray.cluster import one_line_errors, require_shared
from exdd_ray.on_ray.shares import trial_share
from exdd_ray.store.artifact import Store
from exdd_ray.store.folders import UNFINISHED
from exdd_ray.store.mirror import is_remote

RETRIES = 3  # of a trial whose worker or node is lost
FOLDER = "tune"
_sessions: dict[str, Session] = {}


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
        session = Session(self.store, backend=Backend(device=self.device), token=self.token)
        return _sessions.setdefault(known, session)


def place_of(session: Session) -> Place:
    """What workers are given of a session."""
    return Place(session.store.again(), session.backend.device, session.token)


@contextmanager
def tune_storage(store: Store) -> Iterator[str]:
    """Where Tune keeps what it keeps while it runs: beside the store's artifacts, where every node reaches it."""
    if store.mirror is not None:
        yield store.mirror.uri
        return
    place = store.root.resolve() / UNFINISHED / f"tune-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield str(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


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
