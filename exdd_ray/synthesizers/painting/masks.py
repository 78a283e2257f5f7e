"""Where a model is to paint: drawn shapes, the masks of a library, or those of the training positives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from exdd_ray.config.base import Size
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.files import images_under
from exdd_ray.data.images import resize_bilinear
from exdd_ray.data.masks import read_mask, read_pair
from exdd_ray.data.procedural.shapes import blob, random_centre, stroke, tapered, wandering_path
from exdd_ray.errors import DataError
from exdd_ray.synthesizers.painting.config import MaskConfig, MaskShape

LEVEL = 0.3  # of a soft shape
MIN_PIXELS = 4
TRIES = 50
LIBRARY_LEVEL = 127
_SEGMENTS = 24
_ROUGHNESS = 0.15
_REACH = 2.2  # radii from the centre to the farthest pixel of the longest and roughest spot


class PickedMask(NamedTuple):
    """A mask bool [H x W] to paint in, neither empty nor full, and its source: a shape, a file, a positive's mask."""

    mask: np.ndarray
    source: str


def pick_mask(
    config: MaskConfig,
    size: Size,
    foreground: np.ndarray,
    positives: Sequence[CatalogRow],
    rng: np.random.Generator,
    *,
    library: Sequence[str] | None = None,
    bicubic: bool = False,
    working_size: Size | None = None,
) -> PickedMask:
    """Where to paint.

    Drawn shapes and those of a library are fitted to the foreground. The mask of a positive is resized to the size
    (its aspect ignored) and stays where it is, as in DIAG (Girella et al., 2024), cut to the foreground; where less
    than half of it is left, it is moved as the others are.

    Args:
        size: (height, width) of the mask.
        foreground: bool [H x W] of that size.
        positives: training defects; read for the source `positives` only.
        library: files of the config's folder, as they were listed for a key; None lists them now.
        bicubic: of files; see resize_mask.
        working_size: (height, width) to which the mask of a positive is resized before.

    Raises:
        DataError: no positive with a mask, an unusable mask file, or no place on the foreground.
    """
    if config.source == "positives" and config.placed == "moved":
        return _moved_positive(positives, foreground, rng, working_size)
    if config.source == "positives":
        mask, source = _positive_mask(positives, size, rng, bicubic=bicubic, working_size=working_size)
        stays = 2 * (mask & foreground).sum() >= mask.sum()
        return PickedMask(mask & foreground if stays else fit_mask(mask, foreground, rng), source)
    if config.folder is not None:
        files = library_files(config.folder) if library is None else library
        file = files[int(rng.integers(len(files)))]
        return PickedMask(fit_mask(load_mask(file, size, bicubic=bicubic), foreground, rng), file)
    shape = config.shapes[rng.integers(len(config.shapes))]
    if shape == "edge":  # bites the foreground where it is drawn
        return PickedMask(_draw_until_usable(lambda: _draw_edge(foreground, rng), shape, size), shape)
    return PickedMask(fit_mask(draw_mask(shape, size, rng), foreground, rng), shape)


def resize_mask(mask: np.ndarray, size: Size, *, bicubic: bool) -> np.ndarray:
    """A mask bool [H x W] at (height, width): by the nearest pixel, or by bicubic interpolation, from one half on."""
    return _resize_levels(_levels(mask), size, bicubic=bicubic)


def _levels(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


def _resize_levels(levels: np.ndarray, size: Size, *, bicubic: bool) -> np.ndarray:
    how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(levels).resize((size[1], size[0]), how)) > LIBRARY_LEVEL


def draw_mask(shape: MaskShape, size: Size, rng: np.random.Generator) -> np.ndarray:
    """A random mask bool [H x W] of a shape, in proportion to the shorter side; 4 pixels to half of the image.

    `line` is a thin, slightly bent stroke, `blob` a rough ellipse, `scatter` a cluster of small ones, `edge` a bite at
    the border.

    Raises:
        DataError: no such mask in 50 tries (the image is too small).
    """
    return _draw_until_usable(lambda: _DRAWERS[shape](size, rng), shape, size)


def fit_mask(mask: np.ndarray, foreground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask bool [H x W] moved so that the centre of its box is a random foreground pixel, cut to the foreground.

    Redrawn up to 50 times until at least half of it is left; else the place of these that keeps the most.

    Raises:
        DataError: nothing is left of it at any of these places.
    """
    places = np.argwhere(foreground)
    if not len(places) or not mask.any():
        raise DataError("an empty mask or foreground: there is nothing to paint in")
    offsets = np.argwhere(mask)
    middle = (offsets.min(axis=0) + offsets.max(axis=0)) // 2
    best = np.zeros_like(foreground)
    for _ in range(TRIES):
        moved = _shift_and_cut(offsets + places[rng.integers(len(places))] - middle, foreground)
        best = moved if moved.sum() > best.sum() else best
        if 2 * best.sum() >= len(offsets):
            break
    if not best.any():
        raise DataError(f"the mask met no foreground ({foreground.mean():.2%} of the image) in {TRIES} tries")
    return best


def library_files(folder: Path) -> tuple[str, ...]:
    """The mask images that are now in a folder and its subfolders, sorted. Raises DataError where there is none."""
    files = images_under(folder)
    if not files:
        raise DataError(f"{folder}: no mask image in this folder")
    return files


def load_mask(file: str, size: Size, *, bicubic: bool = False) -> np.ndarray:
    """Mask bool [H x W] of an image file, resized to (height, width) as resize_mask does.

    Raises:
        ImageError: unreadable file.
        DataError: the mask is empty or full, in the file or after the reduction.
    """
    return _resize_usable(_levels(read_mask(file, None)), size, file, bicubic=bicubic)


def _positive_mask(
    positives: Sequence[CatalogRow],
    size: Size,
    rng: np.random.Generator,
    *,
    bicubic: bool,
    working_size: Size | None,
) -> PickedMask:
    mask, source = _any_positive(positives, rng)
    levels = _levels(mask) if working_size is None else resize_bilinear(_levels(mask), working_size)
    return PickedMask(_resize_usable(levels, size, source, bicubic=bicubic), source)


def _moved_positive(
    positives: Sequence[CatalogRow], foreground: np.ndarray, rng: np.random.Generator, working_size: Size | None
) -> PickedMask:
    mask, source = _any_positive(positives, rng)
    if working_size is not None:
        mask = resize_bilinear(_levels(mask), working_size) > LIBRARY_LEVEL
    if not mask.any():
        raise DataError(f"{source}: the mask is empty")
    return PickedMask(fit_mask(mask, foreground, rng), source)


def _any_positive(positives: Sequence[CatalogRow], rng: np.random.Generator) -> PickedMask:
    masked = [row for row in positives if row.mask is not None]
    if not masked:
        raise DataError("masks.source=positives needs a training defect that has a mask; there is none")
    row = masked[rng.integers(len(masked))]
    _, mask = read_pair(row)
    assert mask is not None
    return PickedMask(mask, str(row.mask))


def _resize_usable(levels: np.ndarray, size: Size, file: str, *, bicubic: bool) -> np.ndarray:
    if not levels.any():
        raise DataError(f"{file}: the mask is empty")
    if levels.all():
        raise DataError(f"{file}: the mask covers the whole image")
    resized = _resize_levels(levels, size, bicubic=bicubic)
    if not resized.any() or resized.all():
        left = "nothing" if not resized.any() else "nothing else"
        raise DataError(f"{file}: {left} is left of the mask at {size[1]} x {size[0]} pixels (width x height)")
    return resized


def _shift_and_cut(pixels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Mask bool [H x W] of those pixels [N x 2] that are on the foreground."""
    pixels = pixels[np.all((pixels >= 0) & (pixels < foreground.shape), axis=1)]
    mask = np.zeros_like(foreground)
    mask[pixels[:, 0], pixels[:, 1]] = True
    return mask & foreground


def _draw_until_usable(draw: Callable[[], np.ndarray], shape: str, size: Size) -> np.ndarray:
    for _ in range(TRIES):
        mask = draw()
        if MIN_PIXELS <= mask.sum() < mask.size / 2:
            return mask
    raise DataError(f"no mask of shape {shape} fits {size[1]} x {size[0]} pixels (width x height) in {TRIES} tries")


def _draw_line(size: Size, rng: np.random.Generator) -> np.ndarray:
    length = _share(size, rng, 0.15, 0.7)
    path = wandering_path(
        rng,
        start=(0, 0),
        length=length,
        heading=rng.uniform(0, 2 * np.pi),
        wobble=rng.uniform(0.01, 0.12),
        step=length / _SEGMENTS,
    )
    path += random_centre(size, rng) - path.mean(axis=0)
    width = max(_share(size, rng, 0.008, 0.03), 1.5)
    return np.asarray(stroke(size, path, tapered(len(path) - 1, width=width)) > LEVEL)


def _draw_blob(size: Size, rng: np.random.Generator) -> np.ndarray:
    return _spot(size, rng, random_centre(size, rng, margin=0.3), max(_share(size, rng, 0.03, 0.16), 1.5))


def _draw_scatter(size: Size, rng: np.random.Generator) -> np.ndarray:
    middle, spread = random_centre(size, rng, margin=0.3), _share(size, rng, 0.06, 0.14)
    mask = np.zeros(size, dtype=bool)
    for _ in range(rng.integers(3, 10)):
        row, column = middle + spread * rng.standard_normal(2)
        mask |= _spot(size, rng, (row, column), max(_share(size, rng, 0.01, 0.04), 1.0))
    return mask


def _draw_edge(foreground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = (foreground.shape[0], foreground.shape[1])
    outline = np.argwhere(foreground & ~binary_erosion(foreground))
    if not len(outline):
        raise DataError("an empty foreground: there is nothing to paint in")
    row, column = outline[rng.integers(len(outline))]
    bite = _spot(size, rng, (row, column), max(_share(size, rng, 0.05, 0.18), 2.0))
    return bite & foreground


def _spot(size: Size, rng: np.random.Generator, centre: tuple[float, float], radius: float) -> np.ndarray:
    """A rough ellipse, drawn in a window of its own: small spots on a large image cost little."""
    reach = int(np.ceil(_REACH * radius)) + 1
    window = (2 * reach + 1, 2 * reach + 1)
    aspect = rng.uniform(1, 2.5)
    drawn = blob(window, rng, centre=(reach, reach), radius=radius, aspect=aspect, roughness=_ROUGHNESS) > LEVEL
    corner = np.rint(centre).astype(int) - reach
    return _shift_and_cut(np.argwhere(drawn) + corner, np.ones(size, dtype=bool))


def _share(size: Size, rng: np.random.Generator, low: float, high: float) -> float:
    """Pixels: a log-uniform share of the shorter side."""
    return float(min(size) * np.exp(rng.uniform(np.log(low), np.log(high))))


_DRAWERS: dict[MaskShape, Callable[[Size, np.random.Generator], np.ndarray]] = {
    "line": _draw_line,
    "blob": _draw_blob,
    "scatter": _draw_scatter,
    "edge": lambda size, rng: _draw_edge(np.ones(size, dtype=bool), rng),
}
