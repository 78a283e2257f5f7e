"""The greedy order over shards in Ray actors: the same rounds as in one process, the same order."""

from collections.abc import Sequence

import numpy as np
import ray
import torch

from exdd_ray.banks.coreset import FRONTIER, CoresetOrder, Progress, run_rounds
from exdd_ray.banks.shard import CoresetShard, Frontier
from exdd_ray.edge.cluster import one_thread_workers
from exdd_ray.features.embed import Embedding


class _ShardActor:
    """One shard of the points. It is built from the store alone, so that Ray can start it again anywhere."""

    def __init__(self, embedding: Embedding, at: np.ndarray, offset: int) -> None:
        torch.set_num_threads(1)
        self._shard = CoresetShard(embedding.vectors(at), offset=offset)
        self._seen = 0

    def advance(
        self, before: int, ids: np.ndarray, vectors: np.ndarray, size: int, target: float, exact: bool
    ) -> Frontier | None:
        """Add picks and return the frontier; None where this actor has not seen the picks before them."""
        if before != self._seen:
            return None
        self._shard.update(ids, vectors)
        self._seen += len(ids)
        return self._shard.frontier(size, target=target, exact=exact)


class _Shards:
    """The driver's side: sends each round's picks, and all picks so far to an actor that was started again."""

    def __init__(self, actors: Sequence[ray.actor.ActorHandle]) -> None:
        self.actors = actors
        self._ids: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []

    def __call__(self, ids: np.ndarray, vectors: np.ndarray, size: int, target: float, exact: bool) -> list[Frontier]:
        before = sum(len(part) for part in self._ids)
        self._ids.append(ids)
        self._vectors.append(vectors)
        asked = [actor.advance.remote(before, ids, vectors, size, target, exact) for actor in self.actors]
        return [
            frontier if frontier is not None else self._replay(actor, size, target, exact)
            for actor, frontier in zip(self.actors, ray.get(asked), strict=True)
        ]

    def _replay(self, actor: ray.actor.ActorHandle, size: int, target: float, exact: bool) -> Frontier:
        ids, vectors = np.concatenate(self._ids), np.concatenate(self._vectors)
        while (frontier := ray.get(actor.advance.remote(0, ids, vectors, size, target, exact))) is None:
            pass  # it was lost once more in between
        return frontier


def start_shards(embedding: Embedding, at: np.ndarray, shards: int | None = None) -> list[ray.actor.ActorHandle]:
    """Actors that hold the images' vectors, a run of images each; one a CPU by default."""
    workers, cpus = one_thread_workers(shards)
    parts = [part for part in np.array_split(np.asarray(at), workers) if len(part)]
    starts = np.cumsum([0, *(len(part) for part in parts)]) * embedding.patches
    actor = ray.remote(num_cpus=cpus, max_restarts=-1, max_task_retries=-1)(_ShardActor)
    source = embedding.closed()
    return [actor.remote(source, part, int(start)) for part, start in zip(parts, starts, strict=False)]


def greedy_order_on_ray(
    embedding: Embedding,
    at: np.ndarray,
    picks: int,
    *,
    first: int,
    actors: Sequence[ray.actor.ActorHandle],
    frontier: int = FRONTIER,
    progress: Progress | None = None,
) -> CoresetOrder:
    """`greedy_order` of the images' vectors over the actors of `start_shards`; any number of them gives one order.

    An actor that is lost is built again from the store, told all picks so far, and the order goes on.

    Args:
        at: [n] positions of the images in the embedding.
        first: number of the first pick among their n * P vectors.
        frontier: points asked of each shard a round; changes the time only.
    """
    image, patch = divmod(first, embedding.patches)
    vector = embedding.image(int(at[image]))[patch : patch + 1].astype(np.float32)
    count = min(picks, len(at) * embedding.patches)
    return run_rounds(_Shards(actors), first, vector, count, frontier=frontier, progress=progress)
