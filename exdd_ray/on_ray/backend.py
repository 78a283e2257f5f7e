"""The backend of a Ray cluster: stages on its workers, trials and adaptive searches on Ray Tune."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exdd_ray.device import CPU, compute_device
from exdd_ray.experiment.backend import LOCAL, Backend, Done
from exdd_ray.experiment.plan import PlannedTrial
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, Point
from exdd_ray.progress import Advance, Progress
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.fits import Fit

HERE = "local"  # the address that starts a cluster of this machine


def ray_stages() -> Backend:
    """A backend whose stages are the connected cluster's work; trials are run in this process."""
    from exdd_ray.on_ray.bank import RaySearch
    from exdd_ray.on_ray.cluster import cluster_device
    from exdd_ray.on_ray.embed import RaySlices
    from exdd_ray.on_ray.fits import fine_tune_on_ray
    from exdd_ray.on_ray.orders import RayOrders
    from exdd_ray.on_ray.synthesis import RayChunks
    from exdd_ray.on_ray.train import train_on_ray

    backend = Backend(
        embed=RaySlices(),
        fine_tune=fine_tune_on_ray,
        paint=RayChunks(),
        train=train_on_ray,
        device=cluster_device(),
    )
    if compute_device() != CPU:  # banks on Ray are the CPUs' work: this process's GPU is not to wait for them
        return backend
    return replace(backend, order=RayOrders(), search=RaySearch())


def with_tune(stages: Backend, address: str | None, at_once: int | None = None) -> Backend:
    """A backend whose trials run on Ray Tune, which fine-tunes side by side, and chooses points by adaptive search.

    A cluster is connected to when there are trials to run; one of this machine is started then.

    Args:
        stages: where all else is done.
        address: as `connect` takes it.
        at_once: trials at the same time; None is one a CPU.
    """

    def trials(planned: Sequence[PlannedTrial], session: Session, done: Done) -> None:
        from exdd_ray.on_ray.cluster import connect
        from exdd_ray.on_ray.trials import TuneTrials

        connect(address)
        TuneTrials(at_once)(planned, session, done)

    def tune(loaded: LoadedSweep, session: Session, folder: Path, advance: Advance) -> list[Point]:
        from exdd_ray.on_ray.adaptive import search_asha, search_tpe
        from exdd_ray.on_ray.cluster import connect

        connect(address)
        if loaded.sweep.tuner.kind == "asha":
            return search_asha(loaded, session, advance)
        return search_tpe(loaded, session, folder, advance)

    def fine_tune(fits: Sequence[Fit], store: Store, progress: Progress) -> Sequence[Exception]:
        from exdd_ray.on_ray.cluster import connect
        from exdd_ray.on_ray.fits import fine_tune_on_ray

        connect(address)
        return fine_tune_on_ray(fits, store, progress)

    return replace(stages, trials=trials, tune=tune, fine_tune=stages.fine_tune or fine_tune)


def run_backend(address: str | None, at_once: int | None = None) -> Backend:
    """The backend of a run: a cluster's, which is connected to; trials in this process, or so many at once on it.

    Raises UserError where there is no cluster.
    """
    from exdd_ray.on_ray.cluster import connect

    connect(address)
    stages = ray_stages()
    return stages if at_once is None else with_tune(stages, address, at_once)


def sweep_backend(store: Store, address: str | None, at_once: int | None) -> Backend:
    """The backend of a sweep: a cluster's, or this process with trials on a cluster that is started here.

    Raises UserError where there is no cluster, or a node does not reach the store.
    """
    if address == HERE:  # a cluster of this machine alone has nothing to add to the stages
        return with_tune(LOCAL, address, at_once)
    from exdd_ray.on_ray.cluster import connect, require_shared

    connect(address)
    if store.mirror is None:
        store.root.mkdir(parents=True, exist_ok=True)
        require_shared(store.root)
    return with_tune(ray_stages(), address, at_once)
