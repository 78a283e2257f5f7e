"""A memory bank sharded over Ray actors: queries are scattered, neighbours merged as if it were one bank."""

import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ray
import torch

from exdd_ray.banks.search import Neighbours, merge_neighbours, search
from exdd_ray.detectors.bank import open_bank
from exdd_ray.edge.cluster import one_thread_workers
from exdd_ray.errors import DataError
from exdd_ray.store.artifact import Store

_BATCH = 4096


class _BankShard:
    """Some vectors of a bank, read from the store, so that Ray can start the actor again anywhere."""

    def __init__(self, root: str, key: str, start: int, stop: int) -> None:
        torch.set_num_threads(1)
        self._vectors = open_bank(Store(Path(root)), key).vectors[start:stop]
        self._start = start

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """The nearest of this shard, numbered within the whole bank."""
        found = search(queries, self._vectors, min(k, len(self._vectors)))
        return Neighbours(found.distances, found.squares, found.indices + self._start)


class ShardedBank:
    """A bank of the store, held by actors.

    A shard that is lost is built again from the store and its queries are asked again.

    Args:
        key: of the bank's artifact.
        shards: actors that hold a part each; None is one a CPU.
        replicas: how many actors hold each part, for throughput.
        in_flight: batches of queries under way at a time; bounds the memory of the object store.

    Raises:
        DataError: more shards than vectors, or no such bank in the store.
    """

    def __init__(
        self, store: Store, key: str, *, shards: int | None = None, replicas: int = 1, in_flight: int = 4
    ) -> None:
        self.size, self.dim = open_bank(store, key).vectors.shape
        workers, cpus = one_thread_workers(None if shards is None else shards * replicas)
        parts = shards or workers
        if parts > self.size:
            raise DataError(f"a bank of {self.size} vectors cannot be cut into {parts} shards")
        bounds = np.linspace(0, self.size, parts + 1).astype(int)
        actor = ray.remote(num_cpus=cpus, max_restarts=-1, max_task_retries=-1)(_BankShard)
        root = str(store.root.resolve())
        self.actors = [
            [actor.remote(root, key, int(start), int(stop)) for start, stop in itertools.pairwise(bounds)]
            for _ in range(replicas)
        ]
        self._in_flight = in_flight

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """The k nearest of every query [Q x D]: ids and distances of the unsharded bank.

        Raises DataError for another dimension, or k larger than the bank.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise DataError(f"queries have shape {queries.shape}, the bank has {self.dim} dimensions")
        if not 1 <= k <= self.size:
            raise DataError(f"{k} neighbours asked of a bank of {self.size}")
        found = list(self._batches(queries, k))
        return Neighbours(
            *(np.concatenate([getattr(part, name) for part in found], axis=1) for name in Neighbours.__annotations__)
        )

    def _batches(self, queries: np.ndarray, k: int) -> Iterator[Neighbours]:
        waiting: deque[list[ray.ObjectRef]] = deque()
        for number, start in enumerate(range(0, len(queries), _BATCH)):
            if len(waiting) == self._in_flight:
                yield merge_neighbours(ray.get(waiting.popleft()), k)
            batch = ray.put(queries[start : start + _BATCH])
            waiting.append([actor.search.remote(batch, k) for actor in self.actors[number % len(self.actors)]])
        while waiting:
            yield merge_neighbours(ray.get(waiting.popleft()), k)

    def close(self) -> None:
        """End the actors."""
        for replica in self.actors:
            for actor in replica:
                ray.kill(actor)
