"""What each of several trials at the same time has of a Ray cluster."""

import math
from dataclasses import dataclass

import ray

from exdd_ray.device import CUDA, compute_device
from exdd_ray.on_ray.cluster import one_thread_workers, require_gpu


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
