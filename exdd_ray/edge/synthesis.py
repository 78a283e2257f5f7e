"""Synthesis with Ray Data: actors that hold the model make the chunks that threads would make in one process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from exdd_ray.config.synthesis import InpaintConfig
from exdd_ray.device import CPU, CUDA
from exdd_ray.edge.cluster import one_line, one_line_errors, one_thread_workers, require_gpu
from exdd_ray.errors import UserError
from exdd_ray.store.artifact import Store
from exdd_ray.synthesis.chunk import CHUNK, ChunkJob, make_chunk
from exdd_ray.synthesis.model import device_of


class _ChunkMaker:
    """An actor that makes chunks on one thread, or on its share of a GPU, and keeps the model loaded."""

    def __init__(self, root: str) -> None:
        torch.set_num_threads(1)
        self._store = Store(Path(root))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"samples": [CHUNK] * len(batch["job"]), "fault": [self._fault(job) for job in batch["job"]]}

    def _fault(self, job: ChunkJob) -> str:
        """Make a chunk: why it could not be, or nothing. As an exception it would lose its cause on the way."""
        try:
            make_chunk(self._store, job)
        except Exception as error:
            return one_line(error)
        return ""


@dataclass(frozen=True)
class RayChunks:
    """Makes chunks of synthetic samples on the connected cluster; a ChunkRunner for `synthesize`.

    Attributes:
        workers: actors; None is one a CPU, or as many as share the cluster's GPUs.
    """

    workers: int | None = None

    def __call__(self, store: Store, jobs: Sequence[ChunkJob], advance: Callable[[int], None]) -> None:
        """Make the chunks' artifacts in the store, which every worker reaches by its path.

        Raises UserError where they need a GPU and the cluster has none, or a worker cannot make one.
        """
        gpus = _gpus(jobs[0])
        require_gpu(CUDA if gpus else CPU)
        workers = self.workers
        if workers is None and gpus:
            workers = max(int(ray.cluster_resources().get("GPU", 0) / gpus), 1)
        workers, cpus = one_thread_workers(workers)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=len(jobs))
        made = rows.map_batches(
            _ChunkMaker,
            batch_size=1,
            fn_constructor_args=(str(store.root.resolve()),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(jobs))),
            num_cpus=cpus,
            num_gpus=gpus or None,
        )
        with one_line_errors("a worker cannot paint"):
            for row in made.iter_rows():
                if row["fault"]:
                    raise UserError(f"a worker cannot paint: {row['fault']}")
                advance(int(row["samples"]))


def _gpus(job: ChunkJob) -> float:
    """GPUs that a worker reserves: none for what is computed on a CPU."""
    config = job.config
    return config.run.gpus if isinstance(config, InpaintConfig) and device_of(config.run) != CPU else 0
