"""What differences are tested on: test images, known by their contents, with their scores."""

from collections.abc import Sequence

import numpy as np

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.influence import Scored
from exdd_ray.store.contents import telling_apart


def scored(predictions: Predictions) -> Scored:
    """The images with their scores; hashes them."""
    labels = np.array([row.label for row in predictions.rows])
    return Scored(tuple(contents_of(predictions.rows)), labels, np.asarray(predictions.scores, dtype=np.float64))


def contents_of(rows: Sequence[CatalogRow]) -> list[str]:
    """What images are known by wherever they lie: the hash of their bytes, with the region of one that is cut out."""
    contents = telling_apart([row.image for row in rows])
    return [
        content if row.region is None else f"{content} {list(row.region)}"
        for row, content in zip(rows, contents, strict=True)
    ]
