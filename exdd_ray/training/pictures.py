"""Images as a network gets them, for training: read once, and kept as far as memory allows."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ImageError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.prepare import prepare_image

_KEPT_BYTES = 1 << 30
_THREADS = 8


@dataclass(frozen=True)
class Pictures:
    """Readable images.

    Attributes:
        rows: of the images that could be read, n.
        reasons: id -> why an image could not be read.
        features: the geometry.
    """

    rows: tuple[CatalogRow, ...]
    reasons: Mapping[str, str]
    features: FeaturesConfig
    _kept: Sequence[np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """[n] 0 normal, 1 defective."""
        return np.array([row.label for row in self.rows], dtype=np.int64)

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Normalised images [B x 3 x h x w]. Raises ImageError where a file has changed since it was read."""
        at = [int(position) for position in positions]
        with ThreadPoolExecutor(_THREADS) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._one, at))))

    def _one(self, at: int) -> np.ndarray:
        return self._kept[at] if at < len(self._kept) else _prepared(self.rows[at], self.features)


def read_pictures(rows: Sequence[CatalogRow], features: FeaturesConfig) -> Pictures:
    """Read all images, and keep the first gigabyte of them."""
    height, width = features.input_size
    most = _KEPT_BYTES // (height * width * 3 * 4)
    readable: list[CatalogRow] = []
    reasons: dict[str, str] = {}
    kept: list[np.ndarray] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(rows), 64):
            block = rows[start : start + 64]
            for row, found in zip(block, pool.map(lambda row: _attempt(row, features), block), strict=True):
                if isinstance(found, ImageError):
                    reasons[row.id] = str(found)
                    continue
                readable.append(row)
                if len(kept) < most:
                    kept.append(found)
    return Pictures(tuple(readable), reasons, features, kept)


def _attempt(row: CatalogRow, features: FeaturesConfig) -> np.ndarray | ImageError:
    try:
        return _prepared(row, features)
    except ImageError as error:
        return error


def _prepared(row: CatalogRow, features: FeaturesConfig) -> np.ndarray:
    image, _ = read_pair(replace(row, mask=None), working_size=features.working_size)
    return prepare_image(image, features)
