"""Connecting to Ray, how its workers are sized and started, and their errors as one line each."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from exdd_ray.device import CPU, CUDA
from exdd_ray.errors import ConfigError, Fault, UserError, one_line
from exdd_ray.on_ray.probe import require_cluster

LOCAL = "local"
START_SECONDS = 600  # a cloud's new machine comes within
RESTARTS = 3  # of an actor that is lost; one that dies each time shall not do so for ever


def connect(address: str | None = None) -> None:
    """Connect to a cluster: `local` starts one here, None takes the environment's (RAY_ADDRESS, or a job's own).

    Raises UserError where there is none at the address.
    """
    # An error reaches who asked; the answers beside it, which nobody reads any more, would be printed with tracebacks.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    if ray.is_initialized():
        return
    if address != LOCAL:
        require_cluster(address)
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == LOCAL else None)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "the default address"
        raise UserError(f"no Ray cluster at {where}: {' '.join(str(error).split())}") from error


def one_thread_workers(workers: int | None = None) -> tuple[int, float]:
    """Number of one-thread workers, by default one a CPU, and the CPUs to reserve for each, so that all run at once.

    One whole CPU stays unreserved: Ray's own tasks starve, and the job hangs, where actors have taken them all.

    Raises ConfigError for less than one worker, or more than 100 a CPU.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers asked of the Ray cluster: at least one is needed")
    rooms = sorted(int(100 * node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    count = max(sum(rooms) // 100, 1) if workers is None else workers
    rooms[-1] = max(rooms[-1] - 100, 50)
    for share in range(100, 0, -1):
        if sum(room // share for room in rooms) >= count:
            return count, share / 100
    raise ConfigError(f"{count} workers are more than the Ray cluster can hold")


def cluster_device() -> str:
    """`cuda` where the cluster has a GPU, else `cpu`; EXDD_DEVICE=cpu or =cuda decides instead."""
    wanted = os.environ.get("EXDD_DEVICE", "auto")
    if wanted in (CPU, CUDA):
        return wanted
    return CUDA if ray.cluster_resources().get("GPU") else CPU


def require_gpu(device: str) -> None:
    """Raise UserError where work for a GPU would wait for ever: the cluster has none."""
    if device != CPU and not ray.cluster_resources().get("GPU"):
        raise UserError(
            f"the work is set to run on {device}, and the Ray cluster has no GPU (EXDD_DEVICE=cpu asks none)"
        )


def require_gpus(share: float, key: str) -> None:
    """Raise UserError where work that reserves so many GPUs would wait for ever: no node has them.

    Args:
        key: of the group that says so by `gpus`, in the message.
    """
    most = most_of("GPU")
    if share > most:
        raise UserError(
            f"a worker needs {share:g} GPUs ({key}.gpus), and no node of the Ray cluster has more than "
            f"{most:g} ({key}.device=cpu needs none)"
        )


def most_of(resource: str) -> float:
    """What the node of the cluster that has most of a resource, as `GPU`, has of it."""
    return max((float(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]), default=0.0)


def wait_until_started(actors: Sequence[ray.actor.ActorHandle]) -> None:
    """Wait until all actors run; where the cluster has no room for some, end all and raise UserError."""
    ready = [actor.__ray_ready__.remote() for actor in actors]
    _, late = ray.wait(ready, num_returns=len(ready), timeout=START_SECONDS)
    if late:
        end(actors)
        raise UserError(
            f"{len(late)} of {len(actors)} Ray actors did not start in {START_SECONDS} s: the cluster's CPUs are taken"
        )


def end(actors: Sequence[ray.actor.ActorHandle]) -> None:
    """End actors."""
    for actor in actors:
        ray.kill(actor)


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Raise what a worker raised, or one UserError that begins with `what`, for an error that Ray delivers."""
    try:
        yield
    except RayError as error:
        cause: BaseException = error
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        if isinstance(cause, UserError):
            raise cause from None
        raise Fault(one_line(cause), str(error)).told(what) from error  # Ray's text holds the worker's traceback


def require_shared(root: Path) -> None:
    """Raise UserError where a node of the cluster does not reach a folder of this process by its path."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    with tempfile.NamedTemporaryFile(dir=root, prefix="reached-by-all-") as token:
        look = ray.remote(num_cpus=0)(os.path.exists)
        asked = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                token.name
            )
            for node in nodes
        ]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=START_SECONDS)
        blind = len(nodes) - sum(ray.get(done))
    if blind:
        raise UserError(
            f"{root}: {blind} of {len(nodes)} nodes of the Ray cluster do not reach this folder: use shared storage"
        )
