"""An exported detector: images in; scores, verdicts and anomaly maps out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from exdd_ray.data.images import read_image, resize_bilinear
from exdd_ray.line.folder import Manifest, read_manifest
from exdd_ray.line.geometry import prepare
from exdd_ray.line.graph import MOST, read_graph

BATCH = 8  # images in one call of the network


@dataclass(frozen=True)
class Prediction:
    """What a detector says of an image.

    Attributes:
        score: higher is more anomalous.
        defective: whether it reaches the threshold; None where the detector has none.
        margin: by how much it is above the threshold, below 0 where it is below.
        map: float32 [h x w] anomaly map at the network's input size.
    """

    score: float
    defective: bool | None
    margin: float | None
    map: np.ndarray


@dataclass(frozen=True)
class Detector:
    """A detector as it was exported.

    >>> Detector.load("model").predict(["part.png"])  # doctest: +SKIP
    """

    manifest: Manifest
    module: nn.Module

    @classmethod
    def load(cls, folder: str | Path) -> "Detector":
        """Of a folder that `exdd export` wrote. Raises ModelError for one that is not whole."""
        place = Path(folder)
        return cls(read_manifest(place), read_graph(place))

    def predict(self, images: Iterable[str | Path | np.ndarray], batch: int = BATCH) -> Iterator[Prediction]:
        """One after another, in their order.

        Args:
            images: files, or RGB pixels uint8 [H x W x 3].
            batch: images in one call of the network, 64 at most.

        Raises ImageError for a file that cannot be read.
        """
        waiting = iter(images)
        while group := list(islice(waiting, min(batch, MOST))):
            yield from self._predicted(np.stack([self._prepared(image) for image in group]))

    def read(self, file: str | Path) -> np.ndarray:
        """RGB pixels uint8 [H x W x 3] of a file, as in training. Raises ImageError where it cannot be read."""
        return read_image(str(file), self.manifest.bit_depth)

    def picture(self, prediction: Prediction) -> Image.Image:
        """An anomaly map as a grey picture, black and white where the report's first and last colours are."""
        low, high = self.manifest.map_scale
        share = np.clip((prediction.map - low) / max(high - low, 1e-12), 0, 1)
        return Image.fromarray((255 * share).round().astype(np.uint8))

    def _prepared(self, image: str | Path | np.ndarray) -> np.ndarray:
        geometry = self.manifest.geometry
        pixels = image if isinstance(image, np.ndarray) else self.read(image)
        if geometry.working_size is not None:
            pixels = resize_bilinear(pixels, geometry.working_size)
        return prepare(pixels, geometry, geometry.mean, geometry.std)

    @torch.inference_mode()
    def _predicted(self, prepared: np.ndarray) -> Iterator[Prediction]:
        found = self.module(torch.from_numpy(prepared))
        scores, maps = (part.float().numpy() for part in found)
        threshold = self.manifest.threshold
        for score, anomaly_map in zip(scores.tolist(), maps, strict=True):
            margin = None if threshold is None else score - threshold.value
            yield Prediction(score, None if margin is None else margin >= 0, margin, anomaly_map)
