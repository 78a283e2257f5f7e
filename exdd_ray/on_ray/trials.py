"""Trials side by side on a Ray cluster: what they train and make is then in the store, for whoever reads them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import ray
import torch
from ray.util.queue import Queue

from exdd_ray.device import CUDA, compute_device
from exdd_ray.errors import Fault, fault_of
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.share import AssignedTrial
from exdd_ray.experiment.trial import run_trial
from exdd_ray.on_ray.cluster import one_line_errors, one_thread_workers, require_gpu
from exdd_ray.on_ray.log import told_to, workers_log
from exdd_ray.store.artifact import Store


@dataclass(frozen=True)
class TrialShare:
    """What each of `count` trials at the same time has of the cluster: reserved CPUs and GPUs, and threads."""

    count: int
    cpus: float
    gpus: float
    threads: int


def trial_share(at_once: int | None = None, device: str | None = None) -> TrialShare:
    """Equal shares of the connected cluster for so many trials, by default one a CPU; of its GPUs too for `cuda`.

    Args:
        device: that trials compute on; None is this process's.

    Raises UserError where trials are to run on a GPU and there is none, ConfigError for more than the cluster holds.
    """
    device = device or compute_device()
    require_gpu(device)
    count, cpus = one_thread_workers(at_once)
    return TrialShare(
        count, cpus, _gpus(count) if device == CUDA else 0.0, max(1, int(ray.cluster_resources()["CPU"]) // count)
    )


def _gpus(count: int) -> float:
    """Of a trial, where so many are to find a GPU, or a share of one, at the same time."""
    return 1 / math.ceil(count / ray.cluster_resources()["GPU"])


@dataclass(frozen=True)
class RayTrials:
    """Runs trials on the connected cluster, several at a time; an `Ahead` for a session.

    Attributes:
        at_once: trials that run at the same time, each on an equal share of the CPUs and of the GPUs.
    """

    at_once: int

    def __call__(self, trials: Sequence[AssignedTrial], store: Store, advance: Callable[[int], None]) -> None:
        """Run every trial in a worker that reaches the store by its path; one whose worker dies is run again.

        Raises UserError for the first trial that failed, after the others have ended.
        """
        share = trial_share(min(self.at_once, max(len(trials), 1)))
        task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(_run)
        waiting, faults = list(trials), []
        running: list[ray.ObjectRef[tuple[str, Fault] | None]] = []
        with one_line_errors("a worker cannot run a trial"), workers_log() as log:
            while waiting or running:
                while waiting and len(running) < share.count:
                    running.append(task.remote(waiting.pop(0), store.again(), share.threads, log))
                done, running = ray.wait(running)
                faults += [fault for fault in ray.get(done) if fault]
                advance(len(done))
        if faults:
            name, first = faults[0]
            more = f" (and {len(faults) - 1} more trials failed)" * (len(faults) > 1)
            raise replace(first, line=f"{first.line}{more}").told(name)


def _run(trial: AssignedTrial, store: Store, threads: int, log: Queue) -> tuple[str, Fault] | None:
    """Run a trial: its name and why it failed, or nothing."""
    torch.set_num_threads(threads)
    name = f"{trial.trial.name}, seed {trial.trial.config.seed}"
    try:
        with told_to(log, f"{name}: "):
            run_trial(trial.trial, trial.universe, Session(store))
    except Exception as error:
        return name, fault_of(error)
    return None
