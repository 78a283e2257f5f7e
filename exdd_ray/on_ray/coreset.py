"""The greedy order over shards in Ray actors: the same rounds as in one process, the same order."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
import torch

from exdd_ray.banks.coreset import FRONTIER, CoresetOrder, Progress, run_rounds
from exdd_ray.banks.projection import project
from exdd_ray.banks.shard import CoresetShard, Frontier
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.errors import DataError
from exdd_ray.features.embed import Embedding
from exdd_ray.on_ray.cluster import RESTARTS, one_line_errors, one_thread_workers, wait_until_started


@dataclass(frozen=True)
class _Part:
    """Points of a shard: all vectors of some images, the first of which has number `offset` among all points.

    Attributes:
        matrix: that projects them; None takes them as they are.
    """

    embedding: Embedding
    at: np.ndarray
    offset: int
    matrix: np.ndarray | None


@dataclass(frozen=True)
class _Round:
    """What every shard is asked: to add picks to the `before` picks that the order has, and then for its frontier."""

    order: str
    before: int
    ids: np.ndarray
    vectors: np.ndarray
    size: int
    target: float
    exact: bool


class _ShardActor:
    """One shard of the points. All that it holds comes with `begin`: Ray can start it again anywhere, empty."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._shard: CoresetShard | None = None
        self._order = ""
        self._latest = (0, 0)

    def begin(self, part: _Part, asked: _Round) -> Frontier:
        """Take in the points and all picks so far, whatever was before; return the frontier."""
        self._order, self._shard = "", None
        points = part.embedding.vectors(part.at)
        shard = CoresetShard(points if part.matrix is None else project(points, part.matrix), offset=part.offset)
        shard.update(asked.ids, asked.vectors)
        self._order, self._shard, self._latest = asked.order, shard, (0, len(asked.ids))
        return _frontier(shard, asked)

    def advance(self, asked: _Round) -> Frontier | None:
        """Add picks and return the frontier; None where this actor has not seen the picks of the order before them."""
        span = (asked.before, asked.before + len(asked.ids))
        if self._shard is None or asked.order != self._order:
            return None
        if span != self._latest:  # the latest come again where Ray repeats a call whose answer was lost
            if asked.before != self._latest[1]:
                return None
            self._shard.update(asked.ids, asked.vectors)
            self._latest = span
        return _frontier(self._shard, asked)


def _frontier(shard: CoresetShard, asked: _Round) -> Frontier:
    return shard.frontier(asked.size, target=asked.target, exact=asked.exact)


class _Shards:
    """The driver's side: sends each round's picks, and everything so far to an actor that does not know it."""

    def __init__(self, parts: Sequence[_Part], actors: Sequence[ray.actor.ActorHandle]) -> None:
        self._actors = actors
        self._parts = [ray.put(part) for part in parts]
        self._order = uuid.uuid4().hex
        self._ids = np.empty(0, dtype=np.int64)
        self._vectors: list[np.ndarray] = []

    def __call__(self, ids: np.ndarray, vectors: np.ndarray, size: int, target: float, exact: bool) -> list[Frontier]:
        asked = ray.put(_Round(self._order, len(self._ids), ids, vectors, size, target, exact))
        answers: list[Frontier | None] = [None] * len(self._parts)
        if len(self._ids):
            answers = ray.get([self._actors[i].advance.remote(asked) for i in range(len(self._parts))])
        self._ids = np.concatenate([self._ids, ids])
        self._vectors.append(vectors)
        lost = [i for i, answer in enumerate(answers) if answer is None]
        if lost:
            whole = ray.put(_Round(self._order, 0, self._ids, np.concatenate(self._vectors), size, target, exact))
            again = ray.get([self._actors[i].begin.remote(self._parts[i], whole) for i in lost])
            for i, answer in zip(lost, again, strict=True):
                answers[i] = answer
        return [answer for answer in answers if answer is not None]


def start_actors(count: int | None = None) -> list[ray.actor.ActorHandle]:
    """Actors for `greedy_order_on_ray`, one a CPU by default; they hold nothing before an order, and serve many.

    Raises ConfigError for a count below one, UserError where the cluster has no room for them.
    """
    workers, cpus = one_thread_workers(count)
    actor = ray.remote(num_cpus=cpus, max_restarts=RESTARTS, max_task_retries=RESTARTS)(_ShardActor)
    actors = [actor.remote() for _ in range(workers)]
    wait_until_started(actors)
    return actors


def greedy_order_on_ray(
    embedding: Embedding,
    at: np.ndarray,
    picks: int,
    *,
    first: int,
    actors: Sequence[ray.actor.ActorHandle],
    matrix: np.ndarray | None = None,
    frontier: int = FRONTIER,
    progress: Progress | None = None,
) -> CoresetOrder:
    """`greedy_order` of the images' vectors over the actors of `start_actors`; any number of them gives one order.

    An actor that is lost is started again, told the points and all picks so far, and the order goes on.

    Args:
        at: [n] positions of the images in the embedding; each actor takes a run of them.
        first: number of the first pick among their n * P vectors.
        matrix: projects the vectors first; None takes them as they are.
        frontier: points asked of each shard a round; changes the time only.

    Raises:
        DataError: no image, NaN or infinite values, `first` out of range, `picks` below 1.
    """
    points = len(at) * embedding.patches
    if not 0 <= first < points:
        raise DataError(f"the first pick {first} is not one of {points} vectors")
    if min(picks, frontier) < 1:
        raise DataError(f"a coreset needs at least one pick and a frontier of one, not {picks} and {frontier}")
    image, patch = divmod(first, embedding.patches)
    vector = embedding.image(int(at[image]))[patch : patch + 1].astype(np.float32)
    if matrix is not None:
        vector = project(VectorBlocks([vector]), matrix).take(np.array([0]))
    shards = _Shards(_cut(embedding.closed(), np.asarray(at), len(actors), matrix), actors)
    with one_line_errors("a shard of the coreset's points cannot answer"):
        return run_rounds(shards, first, vector, min(picks, points), frontier=frontier, progress=progress)


def _cut(embedding: Embedding, at: np.ndarray, count: int, matrix: np.ndarray | None) -> list[_Part]:
    runs = [run for run in np.array_split(at, count) if len(run)]
    starts = np.cumsum([0, *(len(run) for run in runs)]) * embedding.patches
    return [_Part(embedding, run, int(start), matrix) for run, start in zip(runs, starts, strict=False)]
