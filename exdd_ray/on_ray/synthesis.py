"""Synthesis with Ray Data: actors that hold the model make the chunks that threads would make in one process."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from exdd_ray.device import CPU
from exdd_ray.errors import fault_of
from exdd_ray.on_ray.cluster import START_SECONDS, one_line_errors, one_thread_workers, require_gpus
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.chunk import in_groups, make_chunks
from exdd_ray.synthesizers.config import DeviceConfig
from exdd_ray.synthesizers.device import device_of
from exdd_ray.synthesizers.job import CHUNK, AnyJob
from exdd_ray.synthesizers.table import run_of

_log = logging.getLogger(__name__)


class _ChunkMaker:
    """An actor that makes chunks on one thread, or on its share of a GPU, and keeps the model loaded."""

    def __init__(self, store: Store) -> None:
        torch.set_num_threads(1)
        self._store = store

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        made = [self._make(group) for group in batch["jobs"]]
        return {name: [row[name] for row in made] for name in ("samples", "batch", "fault")}

    def _make(self, group: Sequence[AnyJob]) -> dict[str, Any]:
        """Make chunks, or say why they could not be."""
        samples = CHUNK * len(group)
        try:
            made = make_chunks(self._store, group)
        except Exception as error:
            return {"samples": samples, "batch": 0, "fault": fault_of(error)}
        return {"samples": samples, "batch": min(artifact.metadata["batch"] for artifact in made), "fault": None}


@dataclass(frozen=True)
class RayChunks:
    """Makes chunks of synthetic samples on the connected cluster; a ChunkRunner for `synthesize`.

    Attributes:
        workers: actors; None is one a CPU, or as many as share the cluster's GPUs.
    """

    workers: int | None = None

    def __call__(self, store: Store, jobs: Sequence[AnyJob], advance: Callable[[int], None]) -> None:
        """Make the chunks' artifacts in the store, which every worker reaches by its path.

        What a worker cannot make is raised after all others are made.

        Raises UserError where they need more GPUs than a node of the cluster has, no worker starts, or one cannot make
        a chunk.
        """
        run = run_of(jobs[0].config)
        gpus = _gpus(run)
        require_gpus(gpus, "synthesizer.run")
        workers = self.workers
        if workers is None and gpus:
            workers = max(int(ray.cluster_resources().get("GPU", 0) / gpus), 1)
        workers, cpus = one_thread_workers(workers)
        groups = in_groups(jobs)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.wait_for_min_actors_s = START_SECONDS
        rows = ray.data.from_items([{"jobs": list(group)} for group in groups], override_num_blocks=len(groups))
        made = rows.map_batches(
            _ChunkMaker,
            batch_size=1,
            fn_constructor_args=(store.again(),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(groups))),
            num_cpus=cpus,
            num_gpus=gpus or None,
        )
        with one_line_errors("a worker cannot paint"):
            _follow(made.iter_rows(), 1 if run is None else run.batch, advance)


def _follow(rows: Iterable[dict[str, Any]], batch: int, advance: Callable[[int], None]) -> None:
    """Say what workers say; raise the first fault when all is done."""
    faults = []
    for row in rows:
        if row["fault"]:
            faults.append(row["fault"])
        elif row["batch"] < batch:
            batch = int(row["batch"])
            _log.warning("out of memory on a worker: its batches are of %d from now on", batch)
        advance(int(row["samples"]))
    if faults:
        raise faults[0].told("a worker cannot paint")


def _gpus(run: DeviceConfig | None) -> float:
    """GPUs that a worker reserves: none for what is computed on a CPU."""
    return 0 if run is None or device_of(run) == CPU else run.gpus
