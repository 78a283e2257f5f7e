"""Anomaly maps at full resolution. Upsampling and Gaussian blur are linear and separable: one small matrix a side."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from exdd_ray.banks.scoring.config import ScoringConfig
from exdd_ray.config.base import Size


@dataclass(frozen=True)
class MapMaker:
    """Turns patch maps into anomaly maps.

    Attributes:
        grid: (height, width) of the patches.
        input_size: (height, width) of the network's input, at which the blur is defined.
        blur, radius: as in ScoringConfig.
        covered: (height, width) in pixels that the grid covers, where the input was padded to whole patches: what of
            the input is beyond them has the value of their edge; None is the input's size.
    """

    grid: Size
    input_size: Size
    blur: str
    radius: float
    covered: Size | None = None

    def __call__(self, patch_map: np.ndarray, size: Size | None = None) -> np.ndarray:
        """Anomaly map float32 [size], by default the input's size, of one patch map [P] (bilinear, then blurred)."""
        if self.blur == "pillow8" and self.radius:
            blurred = _pillow8(self._upsampled(patch_map, self.input_size, 0.0), self.radius)
            return blurred if size in (None, self.input_size) else _resized(blurred, size)
        return self._upsampled(patch_map, size or self.input_size, self.radius)

    def many(self, patch_maps: np.ndarray) -> np.ndarray:
        """Anomaly maps float32 [n x H x W] at the input's size of patch maps [n x P], as `__call__` gives each."""
        if self.blur == "pillow8":
            return np.stack([self(patch_map) for patch_map in patch_maps])
        (_, wide), (height, width) = self.grid, self.input_size
        rows, columns = self.operators(self.input_size)
        across = patch_maps.reshape(-1, wide).astype(np.float32) @ columns.T
        side_by_side = across.reshape(-1, self.grid[0], width).swapaxes(0, 1).reshape(self.grid[0], -1)
        return (rows @ side_by_side).reshape(height, -1, width).swapaxes(0, 1)

    def _upsampled(self, patch_map: np.ndarray, size: Size, radius: float) -> np.ndarray:
        rows, columns = self.operators(size, radius)
        upsampled: np.ndarray = rows @ patch_map.reshape(self.grid).astype(np.float32) @ columns.T
        return upsampled

    def operators(self, size: Size, radius: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Matrices of the rows [H x h] and of the columns [W x w] that make a map of a size of a patch map [h x w].

        Args:
            radius: of the blur; None is its own.
        """
        radius = self.radius if radius is None else radius
        sides = zip(self.grid, self.covered or self.input_size, self.input_size, size, strict=True)
        rows, columns = (_operator(*lengths, radius) for lengths in sides)
        return rows, columns


def map_maker(config: ScoringConfig, grid: Size, input_size: Size, covered: Size | None = None) -> MapMaker:
    """The map maker of a scoring config."""
    return MapMaker(grid, input_size, config.blur, config.blur_radius, covered)


@lru_cache(maxsize=4096)
def _operator(patches: int, covered: int, length: int, final: int, radius: float) -> np.ndarray:
    """Matrix float32 [final x patches]: bilinear to `covered`, cut or extended by its edge to `length`, blurred there.

    Then bilinear to `final`.
    """
    from scipy.ndimage import gaussian_filter1d

    matrix = np.pad(_bilinear(patches, covered), ((0, max(length - covered, 0)), (0, 0)), mode="edge")[:length]
    if radius:
        matrix = gaussian_filter1d(matrix, radius, axis=0)
    if final != length:
        matrix = _bilinear(length, final) @ matrix
    return matrix.astype(np.float32)


def _bilinear(source: int, target: int) -> np.ndarray:
    """Matrix [target x source] of linear interpolation, corners not aligned."""
    import torch
    import torch.nn.functional as F

    identity = torch.eye(source, dtype=torch.float64)[None]
    matrix: np.ndarray = F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T.numpy()
    return matrix


def _resized(values: np.ndarray, size: Size | None) -> np.ndarray:
    assert size is not None
    rows, columns = (_bilinear(*lengths) for lengths in zip(values.shape, size, strict=True))
    return (rows @ values @ columns.T).astype(np.float32)


def _pillow8(values: np.ndarray, radius: float) -> np.ndarray:
    """Pillow's Gaussian blur of the map as an 8-bit image, levels relative to its maximum (ExDD's released code)."""
    top = np.float32(values.max())
    if top <= 0:
        return values
    grey = Image.fromarray((values / top * np.float32(255)).astype(np.uint8))
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    return blurred / np.float32(255) * top
