"""A real defect pasted into a normal image: cut out by its mask, turned, scaled, placed, blended."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from exdd_ray.data.masks import read_pair
from exdd_ray.errors import DataError
from exdd_ray.synthesizers.draw import Blended
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.pasted.blend import feathered, poisson
from exdd_ray.synthesizers.pasted.config import PastedConfig

MARGIN = 3  # pixels of its surroundings that come with a defect: on the outermost the blend meets the background
READ = 2  # pixels around those that bicubic and bilinear resampling read
TRIES = 50
HALF = 127  # of a mask's levels


class CutOut(NamedTuple):
    """A piece of an image uint8 [h x w x 3], and bool [h x w] where the defect is on it."""

    image: np.ndarray
    mask: np.ndarray


def paste(job: ChunkJob[PastedConfig], background: np.ndarray, rng: np.random.Generator) -> Blended:
    """A random one of the job's defects on a background uint8 [H x W x 3].

    Raises:
        ImageError: the defect cannot be read.
        DataError: its mask is empty, or it finds no place on the foreground.
    """
    row = job.defects[int(rng.integers(len(job.defects)))]
    image, mask = read_pair(row)
    if mask is None or not mask.any():
        raise DataError(f"{row.mask}: the mask is empty")
    return Blended(*paste_defect(background, CutOut(image, mask), job.config, rng), mask_source=str(row.mask))


def paste_defect(
    background: np.ndarray, defect: CutOut, config: PastedConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The background uint8 [H x W x 3] with the defect on it, and the defect's mask bool [H x W].

    Outside of the mask the image changes within MARGIN - 1 pixels of it, where the surroundings of both are joined.

    Args:
        defect: a whole defective image, of any size, and its mask.

    Raises:
        DataError: an empty foreground, or none of 50 random turns, sizes and places has the defect wholly on it.
    """
    ground = foreground(background, config.foreground)
    piece = cut_out(defect, int(np.ceil((MARGIN + READ) / min(config.scale[0], 1.0))))
    for _ in range(TRIES):
        turned = turn(piece, rng.uniform(-config.angle, config.angle), rng.uniform(*config.scale))
        corner = _draw_corner(ground, turned.mask, rng)
        if corner is not None:
            return _blend_at(background, turned, corner, config)
    raise DataError(f"the defect found no place on the foreground ({ground.mean():.2%} of the image) in {TRIES} tries")


def cut_out(defect: CutOut, margin: int = MARGIN) -> CutOut:
    """The box of a defect with so many pixels around it; where the image ends before, its edge is repeated."""
    image = np.pad(defect.image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    mask = np.pad(defect.mask, margin)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.s_[rows[0] - margin : rows[-1] + margin + 1, columns[0] - margin : columns[-1] + margin + 1]
    return CutOut(image[box], mask[box])


def turn(piece: CutOut, angle: float, scale: float) -> CutOut:
    """A piece turned by degrees and scaled, cut out anew; its mask may be empty where it is scaled to nothing."""
    # Of a square that holds it and what is read around it, however it is turned: outside is nothing, which is black.
    side = int(np.ceil(np.hypot(*piece.mask.shape))) + 2 * READ
    around = [((side - length) // 2, side - length - (side - length) // 2) for length in piece.mask.shape]
    image, level = np.pad(piece.image, [*around, (0, 0)], mode="edge"), np.pad(piece.mask, around).astype(np.uint8)
    size = (max(1, round(side * scale)),) * 2
    pixels = Image.fromarray(image).rotate(angle, Image.Resampling.BICUBIC).resize(size, Image.Resampling.BILINEAR)
    levels = Image.fromarray(level * 255).rotate(angle, Image.Resampling.BILINEAR)
    mask = np.asarray(levels.resize(size, Image.Resampling.BILINEAR)) > HALF
    turned = CutOut(np.asarray(pixels), mask)
    return cut_out(turned) if mask.any() else turned


def _draw_corner(ground: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """A random (top, left) of a mask on the foreground; None where that is no place for it."""
    free = [whole - part for whole, part in zip(ground.shape, mask.shape, strict=True)]
    if not mask.any() or min(free) < 0:
        return None
    top, left = (int(rng.integers(room + 1)) for room in free)
    window = ground[top : top + mask.shape[0], left : left + mask.shape[1]]
    return (top, left) if window[mask].all() else None


def _blend_at(
    background: np.ndarray, piece: CutOut, corner: tuple[int, int], config: PastedConfig
) -> tuple[np.ndarray, np.ndarray]:
    window = tuple(slice(start, start + side) for start, side in zip(corner, piece.mask.shape, strict=True))
    joined = binary_dilation(piece.mask, np.ones((3, 3), dtype=bool), iterations=MARGIN - 1)
    if config.blend == "poisson":
        blended = poisson(background[window], piece.image, joined)
    else:
        blended = feathered(background[window], piece.image, joined, config.feather)
    image, mask = background.copy(), np.zeros(background.shape[:2], dtype=bool)
    image[window], mask[window] = np.clip(np.rint(blended), 0, 255).astype(np.uint8), piece.mask
    return image, mask
