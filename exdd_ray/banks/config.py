"""Configs of coresets and of the search for nearest bank vectors."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from exdd_ray.config.base import Frozen


class CoresetConfig(Frozen):
    """How a memory bank is thinned.

    Attributes:
        rate: share of the vectors kept, in (0, 1].
        minimum: at least so many vectors are kept (all of them if there are fewer).
        method: `greedy` exact farthest-first; `approximate` PatchCore's released one (ten random starts, their mean
            distance); `merge_reduce` the greedy coreset of the chunks' greedy coresets, for banks beyond one machine's
            patience (covers within 4 times the least radius, `greedy` within 2); `random` a seeded random subset.
        chunk: vectors of a chunk of `merge_reduce`.
        projection: dimensions of a Gaussian random projection in which the greedy order is computed; None for none.
        seed: of the first pick and the projection; None takes the experiment's.
    """

    rate: float = Field(0.01, gt=0, le=1)
    minimum: int = Field(1, ge=1)
    method: Literal["greedy", "approximate", "merge_reduce", "random"] = "greedy"
    chunk: int = Field(200_000, ge=1)
    projection: int | None = Field(None, ge=1)
    seed: int | None = None

    def aside(self) -> Iterator[str]:
        """What the method does not use."""
        if self.method != "merge_reduce":
            yield "chunk"
        if self.method == "random":
            yield "projection"


class SearchConfig(Frozen):
    """How nearest bank vectors are found.

    Attributes:
        index: `exact`; or FAISS's `flat` (exact but for rounding), `hnsw` or `ivf`, which trade neighbours for speed:
            measure their recall (benchmarks/search.py). Held-out images are always searched exactly.
        precision: of the exact search's products; bfloat16 finds the same neighbours, faster where the hardware is.
        memory_mib: bound of the products that each thread holds at a time; None is what measured fastest.
    """

    index: Literal["exact", "flat", "hnsw", "ivf"] = "exact"
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_mib: int | None = Field(None, ge=1)

    def aside(self) -> Iterator[str]:
        """What changes the time alone: neighbours are decided by exact distances."""
        yield from ("precision", "memory_mib")
