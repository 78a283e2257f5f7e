"""CutPaste: a piece of an image pasted elsewhere on it (Li et al., CVPR 2021, section 2)."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance
from scipy.ndimage import map_coordinates

from exdd_ray.errors import DataError
from exdd_ray.synthesizers.cutpaste.config import CutPasteConfig
from exdd_ray.synthesizers.foreground import foreground

AREA = (0.02, 0.15)  # of the image
ASPECTS = ((0.3, 1.0), (1.0, 3.3))
PUBLISHED_SIDE = 256  # of the images for which a scar's lengths are given
SCAR_WIDTH = (2.0, 16.0)
SCAR_LENGTH = (10.0, 25.0)
SHORTEST_SCAR = 3  # pixels, on small images
SCAR_ANGLE = 45.0  # degrees, either way
JITTER = 0.1
TRIES = 50


class Piece(NamedTuple):
    """Cut pixels [h x w x 3] and which of them are pasted, bool [h x w]."""

    pixels: np.ndarray
    inside: np.ndarray


def cut_paste(image: np.ndarray, config: CutPasteConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A defective image uint8 [H x W x 3] and the mask bool [H x W] of its pasted pixels; all else is unchanged.

    `both` draws a patch or a scar with equal probability. The piece lies wholly on the image, its centre on the
    foreground.

    Raises:
        DataError: an empty foreground, or no place for a piece in 50 tries.
    """
    ground = foreground(image, config.foreground)
    scar = config.preset == "scar" or (config.preset == "both" and rng.random() < 0.5)
    for _ in range(TRIES):
        piece = cut_scar(image, rng) if scar else cut_patch(image, rng)
        corner = _draw_corner(ground, piece.inside, rng)
        if corner is not None:
            return _paste(image, jitter_colours(piece, rng), corner)
    shape = "scar" if scar else "patch"
    raise DataError(f"no place for a {shape} on the foreground ({ground.mean():.2%} of the image) in {TRIES} tries")


def cut_patch(image: np.ndarray, rng: np.random.Generator) -> Piece:
    """A rectangle of U(0.02, 0.15) of the image; aspect ratio U(0.3, 1) or U(1, 3.3), narrowed to fit the image."""
    area = rng.uniform(*AREA) * image.shape[0] * image.shape[1]
    aspect = rng.uniform(*ASPECTS[rng.integers(2)])
    height = _whole(np.sqrt(area / aspect), 1, image.shape[0])
    width = _whole(np.sqrt(area * aspect), 1, image.shape[1])
    top = rng.integers(image.shape[0] - height + 1)
    left = rng.integers(image.shape[1] - width + 1)
    return Piece(image[top : top + height, left : left + width], np.ones((height, width), dtype=bool))


def cut_scar(image: np.ndarray, rng: np.random.Generator) -> Piece:
    """An upright strip turned by U(-45, 45) degrees; 2-16 x 10-25 pixels where the shorter side has 256."""
    scale = min(image.shape[:2]) / PUBLISHED_SIDE
    width = _whole(scale * rng.uniform(*SCAR_WIDTH), 1, image.shape[1])
    length = _whole(scale * rng.uniform(*SCAR_LENGTH), SHORTEST_SCAR, image.shape[0])
    row = rng.integers(image.shape[0] - length + 1) + (length - 1) / 2
    column = rng.integers(image.shape[1] - width + 1) + (width - 1) / 2
    angle = np.deg2rad(rng.uniform(-SCAR_ANGLE, SCAR_ANGLE))
    return turned_strip(image, (row, column), length, width, angle)


def turned_strip(image: np.ndarray, centre: tuple[float, float], length: int, width: int, angle: float) -> Piece:
    """The upright `length` x `width` strip around a (row, column), turned by `angle` radians, bilinear."""
    cosine, sine = np.cos(angle), np.sin(angle)
    tall = int(np.ceil(length * abs(cosine) + width * abs(sine) - 1e-9))
    wide = int(np.ceil(length * abs(sine) + width * abs(cosine) - 1e-9))
    rows = np.arange(tall)[:, None] - (tall - 1) / 2
    columns = np.arange(wide)[None, :] - (wide - 1) / 2
    along = rows * cosine - columns * sine
    across = rows * sine + columns * cosine
    # sampled inside the strip only, also where the box of the turned strip is wider
    at = [
        centre[0] + np.clip(along, -(length - 1) / 2, (length - 1) / 2),
        centre[1] + np.clip(across, -(width - 1) / 2, (width - 1) / 2),
    ]
    channels = [map_coordinates(image[..., c].astype(np.float64), at, order=1, mode="nearest") for c in range(3)]
    inside = (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)
    return Piece(np.rint(np.stack(channels, axis=-1)).astype(np.uint8), inside)


def jitter_colours(piece: Piece, rng: np.random.Generator) -> Piece:
    """The piece with brightness, contrast and saturation each times U(0.9, 1.1), in random order."""
    pixels = Image.fromarray(np.ascontiguousarray(piece.pixels))
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for number in rng.permutation(len(enhancers)):
        pixels = enhancers[number](pixels).enhance(rng.uniform(1 - JITTER, 1 + JITTER))
    return Piece(np.asarray(pixels), piece.inside)


def _whole(length: float, shortest: int, longest: int) -> int:
    return min(max(round(length), shortest), longest)


def _draw_corner(ground: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """A random (top, left) at which the piece's centre is on the foreground; None where there is none."""
    height, width = inside.shape
    free = (ground.shape[0] - height + 1, ground.shape[1] - width + 1)
    if min(free) < 1:
        return None
    centres = ground[height // 2 : height // 2 + free[0], width // 2 : width // 2 + free[1]]
    places = np.flatnonzero(centres)
    if not len(places):
        return None
    top, left = divmod(int(places[rng.integers(len(places))]), free[1])
    return top, left


def _paste(image: np.ndarray, piece: Piece, corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    window = tuple(slice(start, start + side) for start, side in zip(corner, piece.inside.shape, strict=True))
    pasted, mask = image.copy(), np.zeros(image.shape[:2], dtype=bool)
    pasted[window][piece.inside] = piece.pixels[piece.inside]
    mask[window] = piece.inside
    return pasted, mask
