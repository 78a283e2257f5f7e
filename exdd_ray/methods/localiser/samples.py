"""What a localiser trains on: images with masks, read once; the samples of a step, from the seed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ImageError
from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.training.learner import ShuffledBatches

_READERS = 8


@dataclass(frozen=True)
class Sample:
    """An image uint8 [S x S x 3] and its mask bool [S x S], empty for a normal one."""

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Images with masks.

    Attributes:
        rows: n.
        pixels: uint8 [n x S x S x 3].
        masks: bool [n x S x S]; empty for normal images.
    """

    rows: tuple[CatalogRow, ...]
    pixels: np.ndarray
    masks: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """[n] 0 normal, 1 defective."""
        return np.array([row.label for row in self.rows], dtype=np.int64)

    def subset(self, at: np.ndarray) -> "Pairs":
        """Those at some positions."""
        return Pairs(tuple(self.rows[i] for i in at), self.pixels[at], self.masks[at])


def read_pairs(rows: Sequence[CatalogRow], size: int) -> Pairs:
    """The images of rows and their masks, resized to a square (bilinear, antialiased; a mask's upper half is full).

    Raises ImageError for a file that cannot be read, and for a defect without a mask.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        read = list(pool.map(lambda row: _read(row, size), rows))
    pixels = np.stack([one.image for one in read]) if read else np.zeros((0, size, size, 3), dtype=np.uint8)
    masks = np.stack([one.mask for one in read]) if read else np.zeros((0, size, size), dtype=bool)
    return Pairs(tuple(rows), pixels, masks)


@dataclass(frozen=True)
class Draws:
    """The samples of a step, each from (seed, step, place) alone.

    A number of an epoch's shuffled ones picks the image: of the normal ones by chance, else of a kind of defect, all of
    which are equally likely.

    Attributes:
        pairs: to train on.
        batches: of numbers of an epoch.
    """

    pairs: Pairs
    config: LocaliserConfig
    batches: ShuffledBatches
    seed: int

    def __call__(self, step: int) -> list[Sample]:
        """Those of a step."""
        normal, kinds = self.groups()
        samples = []
        for place, number in enumerate(self.batches(step)):
            rng = np.random.default_rng([self.seed, step, place])
            group = normal if rng.random() < self.config.normal_share else kinds[rng.integers(len(kinds))]
            at = group[number % len(group)]
            samples.append(Sample(self.pairs.pixels[at], self.pairs.masks[at]))
        return samples

    def groups(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Positions of the normal images, and those of each kind of defect."""
        labels, names = self.pairs.labels, np.array([row.defect for row in self.pairs.rows])
        defective = labels == 1
        kinds = [np.flatnonzero(defective & (names == kind)) for kind in np.unique(names[defective])]
        return np.flatnonzero(labels == 0), kinds


def _read(row: CatalogRow, size: int) -> Sample:
    image, mask = read_pair(row if row.label else replace(row, mask=None))
    resized = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    if not row.label:
        return Sample(resized, np.zeros((size, size), dtype=bool))
    if mask is None:
        raise ImageError(row.image, "has no mask")
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    return Sample(resized, np.asarray(grey) > 127)
