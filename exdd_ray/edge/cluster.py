"""Connecting to Ray, and how its workers are sized."""

import math

import ray

from exdd_ray.errors import UserError

LOCAL = "local"


def connect(address: str | None = None) -> None:
    """Connect to a cluster: `local` starts one here, None takes the environment's (RAY_ADDRESS, or a job's own).

    Raises UserError where there is none at the address.
    """
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == LOCAL else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {address or 'the default address'}: {error}") from error


def one_thread_workers(workers: int | None = None) -> tuple[int, float]:
    """Number of one-thread workers, by default one a CPU, and the CPUs to reserve for each.

    One whole CPU stays unreserved: Ray's own tasks starve, and the job hangs, where actors have taken them all.
    """
    cpus = int(ray.cluster_resources().get("CPU", 1))
    count = workers or max(cpus, 1)
    share = max(cpus - 1, 0.5) / count
    return count, 1.0 if share >= 1 else max(math.floor(share * 100) / 100, 0.01)
