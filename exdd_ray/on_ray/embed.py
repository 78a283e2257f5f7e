"""Embedding slices with Ray Data: an actor pool makes the artifacts that threads would make in one process."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
import torch

from exdd_ray.device import CPU
from exdd_ray.errors import Fault, fault_of
from exdd_ray.features.slices import SliceJob, make_slice
from exdd_ray.on_ray.cluster import one_line_errors, one_thread_workers, require_gpu
from exdd_ray.store.artifact import Store

_TOGETHER = 2  # slices of a task: the first is written while the second is computed


class _SliceMaker:
    """An actor that embeds slices on one thread and keeps its backbone loaded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = threading.Semaphore()
        self._pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        images = [len(job.rows) for job in batch["job"]]
        return {"images": images, "fault": list(self._pool.map(self._fault, batch["job"]))}

    def _fault(self, job: SliceJob) -> Fault | None:
        """Make a slice: why it could not be, or nothing."""
        try:
            make_slice(self._store, job, self._turn)
        except Exception as error:
            return fault_of(error)
        return None


@dataclass(frozen=True)
class RaySlices:
    """Computes embedding slices on the connected cluster; a SliceRunner for `embed`.

    Attributes:
        workers: one-thread actors; None is one a CPU.
        gpus: GPUs that each actor reserves where slices are computed on them; with a half, one decodes while another
            computes.
    """

    workers: int | None = None
    gpus: float = 0.5

    def __call__(self, store: Store, jobs: Sequence[SliceJob], advance: Callable[[int], None]) -> None:
        """Make the slices' artifacts in the store, which every worker reaches by its path.

        Raises UserError where they are for a GPU and the cluster has none, or a worker cannot make one.
        """
        require_gpu(jobs[0].device)
        workers, cpus = one_thread_workers(self.workers)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=-(-len(jobs) // _TOGETHER))
        made = rows.map_batches(
            _SliceMaker,
            batch_size=_TOGETHER,
            fn_constructor_args=(store.again(),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, -(-len(jobs) // _TOGETHER))),
            num_cpus=cpus,
            num_gpus=self.gpus if jobs[0].device != CPU else None,
        )
        with one_line_errors("a worker cannot embed"):
            for row in made.iter_rows():
                if row["fault"]:
                    raise row["fault"].told("a worker cannot embed")
                advance(int(row["images"]))
