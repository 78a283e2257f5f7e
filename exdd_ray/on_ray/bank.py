"""A memory bank sharded over Ray actors: queries are scattered, neighbours merged as if it were one bank."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import ray
import torch

from exdd_ray.banks.memory_bank import open_bank
from exdd_ray.banks.scan import PreparedBank
from exdd_ray.banks.search import Neighbours, merge_neighbours, prepare_bank, require_found, search_part
from exdd_ray.banks.vectors import VectorBlocks, as_blocks
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.features.embedder import Exclude
from exdd_ray.on_ray.cluster import RESTARTS, end, one_line_errors, one_thread_workers, wait_until_started
from exdd_ray.store.artifact import Store

_BATCH = 4096


class _BankShard:
    """Some vectors of a bank, read from the store, so that Ray can start the actor again anywhere.

    They are read at the first search: what is wrong with them is then its error, and not an actor that died.
    """

    def __init__(self, store: Store, key: str, start: int, stop: int, groups: np.ndarray | None) -> None:
        torch.set_num_threads(1)
        self._store, self._key, self._start, self._stop = store, key, start, stop
        self._groups = groups
        self._prepared: dict[tuple[int, ...], PreparedBank] = {}

    def search(self, queries: np.ndarray, k: int, sizes: tuple[int, ...], groups: np.ndarray | None) -> Neighbours:
        """The nearest of this shard in each of S nested sizes of the whole bank, numbered within that.

        Infinite where a size ends before this shard begins, or all of it is of a query's own group.
        """
        ends = [min(size, self._stop) - self._start for size in sizes]
        here = tuple(sorted({end for end in ends if end > 0}))
        shape = (len(sizes), len(queries), min(k, here[0] if here else k))
        squares, indices = np.full(shape, np.inf), np.full(shape, -1, dtype=np.int64)
        if here:
            found = search_part(queries, self._bank(here), shape[2], groups=groups)
            for at, end in enumerate(ends):
                if end > 0:
                    squares[at], indices[at] = (part[here.index(end)] for part in (found.squares, found.indices))
            indices[indices >= 0] += self._start
        return Neighbours(np.sqrt(squares).astype(np.float32), squares, indices)

    def _bank(self, sizes: tuple[int, ...]) -> PreparedBank:
        if sizes not in self._prepared:
            vectors = open_bank(self._store, self._key).vectors[self._start : self._stop]
            self._prepared = {sizes: prepare_bank(vectors, sizes=sizes, groups=self._groups)}  # one at a time
        return self._prepared[sizes]


class ShardedBank:
    """A bank of the store, held by actors.

    A shard that is lost is built again from the store and its queries are asked again.

    Args:
        key: of the bank's artifact.
        shards: actors that hold a part each; None is as many as the CPUs allow for all replicas.
        replicas: how many actors hold each part, for throughput.
        in_flight: batches of queries under way at a time for each replica; bounds the memory of the object store.
        groups: of the vectors [M], where queries exclude their own.

    Raises:
        DataError: more shards than vectors, or no such bank in the store.
        ConfigError: a number below one.
        UserError: the cluster has no room for the actors.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        shards: int | None = None,
        replicas: int = 1,
        in_flight: int = 4,
        groups: np.ndarray | None = None,
    ) -> None:
        for name, value in (("shards", shards), ("replicas", replicas), ("in_flight", in_flight)):
            if value is not None and value < 1:
                raise ConfigError(f"a sharded bank needs {name} of at least 1, not {value}")
        bank = open_bank(store, key)
        self.key, self.space = key, bank.space
        self.size, self.dim = bank.vectors.shape
        if shards is None:
            shards = min(max(one_thread_workers()[0] // replicas, 1), self.size)
        if shards > self.size:
            raise DataError(f"a bank of {self.size} vectors cannot be cut into {shards} shards")
        _, cpus = one_thread_workers(shards * replicas)
        bounds = np.linspace(0, self.size, shards + 1).astype(int)
        actor = ray.remote(num_cpus=cpus, max_restarts=RESTARTS, max_task_retries=RESTARTS)(_BankShard)
        closed = store.again()
        self._grouped = groups is not None
        parts = [
            (int(start), int(stop), None if groups is None else groups[start:stop])
            for start, stop in itertools.pairwise(bounds)
        ]
        self.actors = [[actor.remote(closed, key, *part) for part in parts] for _ in range(replicas)]
        self._in_flight = in_flight * replicas
        wait_until_started([actor for replica in self.actors for actor in replica])

    def search(
        self,
        queries: VectorBlocks | np.ndarray,
        k: int,
        *,
        sizes: Sequence[int] | None = None,
        space: str | None = None,
        groups: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Neighbours:
        """The k nearest of every query [Q x D]: ids and distances of the unsharded bank.

        Args:
            sizes: ascending nested sizes, each the first so many vectors, answered in one pass for k = 1; None is the
                whole bank.
            space: of the queries' features; given, another one than the bank's is refused.
            groups: of the queries [Q], where the bank has some too; a query ignores vectors of its own group.
            advance: called with the number of queries answered since.

        Raises DataError for another dimension or space, NaN or infinite values, no query, k larger than the bank, or a
        query with fewer than k vectors outside of its own group;
        UserError for a shard that cannot be built.
        """
        points = as_blocks(queries)
        if space is not None and space != self.space:
            raise DataError(f"bank {self.key} holds features {self.space}, the queries are of other features, {space}")
        if points.dim != self.dim:
            raise DataError(f"queries have {points.dim} dimensions, the bank has {self.dim}")
        if not 1 <= k <= self.size:
            raise DataError(f"{k} neighbours asked of a bank of {self.size}")
        nested = (self.size,) if sizes is None else tuple(sizes)
        if sizes is not None and (k > 1 or list(nested) != sorted(set(nested) & set(range(1, self.size + 1)))):
            raise DataError(f"nested sizes {list(nested)} of a bank of {self.size} ascend, and are searched with k = 1")
        if (groups is not None) != self._grouped:
            raise DataError("groups are of the queries and of the bank vectors, or of neither")
        found = []
        with one_line_errors(f"a shard of bank {self.key} cannot answer"):
            for part in self._batches(points, k, nested, groups):
                found.append(part)
                if advance:
                    advance(part.indices.shape[1])
        whole = Neighbours(
            *(np.concatenate([getattr(part, name) for part in found], axis=1) for name in Neighbours.__annotations__)
        )
        require_found(whole, k)
        return whole

    def _batches(
        self, queries: VectorBlocks, k: int, sizes: tuple[int, ...], groups: np.ndarray | None
    ) -> Iterator[Neighbours]:
        waiting: deque[list[ray.ObjectRef]] = deque()
        for number, start in enumerate(range(0, len(queries), _BATCH)):
            if len(waiting) == self._in_flight:
                yield merge_neighbours(ray.get(waiting.popleft()), k)
            batch = ray.put(queries.take(np.arange(start, min(start + _BATCH, len(queries)))))
            own = None if groups is None else groups[start : start + _BATCH]
            actors = self.actors[number % len(self.actors)]
            waiting.append([actor.search.remote(batch, k, sizes, own) for actor in actors])
        while waiting:
            yield merge_neighbours(ray.get(waiting.popleft()), k)

    def close(self) -> None:
        """End the actors."""
        end([actor for replica in self.actors for actor in replica])


@dataclass(frozen=True)
class RaySearch:
    """Finds the nearest vectors of a stored bank on the connected cluster; a Searcher for `nearest`.

    Attributes:
        shards, replicas: as in ShardedBank.
    """

    shards: int | None = None
    replicas: int = 1

    def __call__(
        self,
        store: Store,
        key: str,
        space: str,
        queries: VectorBlocks,
        advance: Callable[[int], None],
        sizes: Sequence[int] | None = None,
        exclude: Exclude | None = None,
    ) -> Neighbours:
        """`search` with k = 1 in the bank of a key, or in nested sizes of it; the actors end with it."""
        of_queries, of_bank = exclude or (None, None)
        sharded = ShardedBank(store, key, shards=self.shards, replicas=self.replicas, groups=of_bank)
        try:
            return sharded.search(queries, 1, sizes=sizes, space=space, groups=of_queries, advance=advance)
        finally:
            sharded.close()
