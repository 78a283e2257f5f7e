"""Coresets on Ray: the orders that a detector asks for while it is fitted."""

from dataclasses import dataclass

import numpy as np

from exdd_ray.banks.coreset import CoresetOrder, Progress
from exdd_ray.features.embed import Embedding
from exdd_ray.on_ray.cluster import end
from exdd_ray.on_ray.coreset import greedy_order_on_ray, start_actors


@dataclass(frozen=True)
class RayOrders:
    """Greedy orders of images' vectors on the connected cluster; an Orderer for `fit_patch_bank`.

    Attributes:
        shards: actors; None is one a CPU.
    """

    shards: int | None = None

    def __call__(
        self,
        embedding: Embedding,
        at: np.ndarray,
        picks: int,
        first: int,
        progress: Progress | None = None,
        matrix: np.ndarray | None = None,
    ) -> CoresetOrder:
        """`greedy_order` of all vectors of the images at positions `at`; the actors end with it.

        Args:
            matrix: projects the vectors first; None takes them as they are.
        """
        actors = start_actors(self.shards)
        try:
            return greedy_order_on_ray(
                embedding, at, picks, first=first, actors=actors, matrix=matrix, progress=progress
            )
        finally:
            end(actors)
