"""Material surfaces as an inspection camera sees them: one family a function, varied from image to image."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from exdd_ray.data.procedural.noise import (
    Field,
    Size,
    fbm,
    line_noise,
    perlin_noise,
    rotated_coordinates,
    smooth_noise,
    spectral_noise,
    standardize,
    warp,
    worley_cells,
)
from exdd_ray.errors import ConfigError

Material = Literal["brushed_metal", "ceramic", "textile", "wood", "leather", "concrete", "printed_grid"]
MATERIALS: tuple[Material, ...] = get_args(Material)
MIN_SIDE = 32


def make_surface(material: str, size: Size, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A defect-free image of a material, with uneven light and sensor noise.

    Args:
        material: one of MATERIALS.
        size: (height, width) in pixels, at least 32 each.

    Returns:
        uint8 `[H x W x 3]`.

    Raises:
        ConfigError: for an unknown material or an image too small.
    """
    if material not in MATERIALS:
        raise ConfigError(f"unknown material {material!r}: one of {', '.join(MATERIALS)}")
    if min(size) < MIN_SIDE:
        raise ConfigError(f"a surface of {size[1]} x {size[0]} pixels is too small: at least {MIN_SIDE} a side")
    return expose(PAINTERS[material](size, rng), rng, gradient=0.1 if material != "ceramic" else 0.16)


def expose(reflectance: Field, rng: np.random.Generator, *, gradient: float, noise: float = 2.0) -> NDArray[np.uint8]:
    """Reflectance `[H x W x 3]` in 0..255 under light that varies over the image, with gain and sensor noise."""
    size = reflectance.shape[:2]
    along, _ = rotated_coordinates(size, rng.uniform(0, 2 * np.pi))
    ramp = rng.uniform(0, gradient) * along / max(size)
    light = rng.normal(1, 0.3 * gradient) * (1 + ramp + 0.25 * gradient * smooth_noise(size, rng, knots=2))
    grain = rng.standard_normal(size, dtype=np.float32) * rng.uniform(0.5, 1.5) * noise
    return np.clip(np.rint(reflectance * light[..., None] + grain[..., None]), 0, 255).astype(np.uint8)


def _tint(field: Field, dark: tuple[float, float, float], bright: tuple[float, float, float]) -> Field:
    """Colours `[H x W x 3]` from `dark` where the field is 0 to `bright` where it is 1, and beyond."""
    low, high = np.asarray(dark, dtype=np.float32), np.asarray(bright, dtype=np.float32)
    return np.asarray(low + (high - low) * field[..., None], dtype=np.float32)


def _brushed_metal(size: Size, rng: np.random.Generator) -> Field:
    """Long fine horizontal grain over broad bands, as steel after grinding."""
    angle = rng.normal(0, 0.02)
    fine = spectral_noise(size, rng, exponent=0.9, stretch=60, angle=angle)
    coarse = spectral_noise(size, rng, exponent=1.6, stretch=25, angle=angle)
    bands = gaussian_filter1d(line_noise(size[0], rng, exponent=1.5), 1.5)[:, None]
    field = 0.55 + 0.085 * fine + 0.05 * coarse + 0.05 * bands
    return _tint(np.asarray(field, dtype=np.float32), (22, 24, 28), (238, 240, 242))


def _ceramic(size: Size, rng: np.random.Generator) -> Field:
    """A ground grey tile: vertical grinding streaks, glittering grains, broad cloudy light."""
    streaks = spectral_noise(size, rng, exponent=1.0, stretch=rng.uniform(25, 60), angle=np.pi / 2)
    columns = line_noise(size[1], rng, exponent=1.1)[None, :] * (
        0.6 + 0.4 * perlin_noise(size, rng, cell=size[0] / 2.3)
    )
    clouds = smooth_noise(size, rng, knots=int(rng.integers(2, 5)))
    glitter = np.maximum(spectral_noise(size, rng, exponent=0.4, stretch=6, angle=np.pi / 2) - 1.6, 0)
    visible = np.clip(0.6 + 0.5 * columns, 0.05, 2)
    field = 0.36 + 0.035 * streaks + 0.04 * columns + 0.05 * clouds + 0.14 * glitter * visible
    return _tint(np.asarray(field, dtype=np.float32), (4, 4, 4), (252, 252, 252))


def _textile(size: Size, rng: np.random.Generator) -> Field:
    """Plain weave: warp and weft threads that pass over and under each other, slightly uneven."""
    period = max(min(size) / rng.uniform(24, 27), 5.0)
    along, across = rotated_coordinates(size, rng.normal(0, 0.03))
    bend = period * 0.14
    along = along + bend * perlin_noise(size, rng, cell=9 * period)
    across = across + bend * perlin_noise(size, rng, cell=9 * period)
    column, row = np.floor(along / period), np.floor(across / period)
    over = (column + row) % 2 == 0
    profile_weft = np.sin(np.pi * (across / period % 1)) * (0.65 + 0.35 * np.sin(np.pi * (along / period % 1)))
    profile_warp = np.sin(np.pi * (along / period % 1)) * (0.65 + 0.35 * np.sin(np.pi * (across / period % 1)))
    threads = rng.normal(0, 0.05, (2, 97))
    shade = np.where(over, threads[0][row.astype(int) % 97], threads[1][column.astype(int) % 97])
    fibres = 0.05 * spectral_noise(size, rng, exponent=0.6)
    field = 0.25 + 0.55 * np.where(over, profile_weft, profile_warp) + shade + fibres
    return _tint(np.asarray(field, dtype=np.float32), (62, 54, 46), (206, 194, 172))


def _wood(size: Size, rng: np.random.Generator) -> Field:
    """Growth rings cut lengthwise, with pores along the grain."""
    angle = np.pi / 2 + rng.normal(0, 0.04)
    along, across = rotated_coordinates(size, angle)
    side = min(size)
    bend = 0.06 * side * smooth_noise(size, rng, knots=2) + 0.012 * side * perlin_noise(size, rng, cell=side / 4)
    rings = (across + bend + 0.1 * along * rng.uniform(-1, 1)) / (side / rng.uniform(9, 13)) + rng.uniform()
    saw = (rings % 1) ** 1.6
    pores = np.maximum(spectral_noise(size, rng, exponent=0.7, stretch=18, angle=angle) - 1.1, 0)
    fibres = spectral_noise(size, rng, exponent=1.1, stretch=30, angle=angle)
    field = 0.72 - 0.32 * gaussian_filter(saw, 0.7) + 0.06 * fibres - 0.16 * pores
    return _tint(np.asarray(field, dtype=np.float32), (72, 42, 22), (214, 164, 108))


def _leather(size: Size, rng: np.random.Generator) -> Field:
    """Rounded grains of uneven size between fine furrows, lit from the side."""
    cell = max(min(size) / rng.uniform(22, 26), 4.0)
    cells = worley_cells(size, rng, cell=cell)
    bend = 0.25 * cell
    height = np.minimum(cells.second - cells.first, 0.55) / 0.55
    height = warp(
        np.asarray(height, dtype=np.float32),
        bend * perlin_noise(size, rng, cell=2 * cell),
        bend * perlin_noise(size, rng, cell=2 * cell),
    )
    height = gaussian_filter(height, 0.7)
    slope = standardize(np.gradient(height, axis=0) + 0.6 * np.gradient(height, axis=1))
    field = 0.32 + 0.3 * height + 0.1 * slope + 0.03 * fbm(size, rng, cell=6 * cell)
    return _tint(np.asarray(field, dtype=np.float32), (34, 20, 14), (176, 118, 84))


def _concrete(size: Size, rng: np.random.Generator) -> Field:
    """Cloudy cement with grains of sand and small pores."""
    side = min(size)
    clouds = fbm(size, rng, cell=side / 3, octaves=5, gain=0.65)
    grains = spectral_noise(size, rng, exponent=0.7)
    cells = worley_cells(size, rng, cell=max(side / 26, 4.0))
    pore = np.clip(1 - cells.first / 0.13, 0, 1) * (cells.number % 5 == 0)
    field = 0.56 + 0.055 * clouds + 0.06 * grains - 0.22 * pore
    return _tint(np.asarray(field, dtype=np.float32), (30, 29, 27), (232, 229, 222))


def _printed_grid(size: Size, rng: np.random.Generator) -> Field:
    """A printed or etched lattice of lines and pads on a coated board."""
    period = max(min(size) / rng.uniform(11.5, 12.5), 8.0)
    along, across = rotated_coordinates(size, rng.normal(0, 0.01))
    along, across = along + rng.uniform(0, period), across + rng.uniform(0, period)
    from_line = [np.abs((axis / period + 0.5) % 1 - 0.5) * period for axis in (along, across)]
    lines = np.clip(0.09 * period + 0.5 - np.minimum(*from_line), 0, 1)
    pads = np.clip(0.24 * period + 0.5 - np.hypot(*from_line), 0, 1)
    holes = np.clip(0.1 * period + 0.5 - np.hypot(*from_line), 0, 1)
    ink = np.clip(np.maximum(lines, pads) - holes, 0, 1) * (1 + 0.05 * fbm(size, rng, cell=2 * period))
    board = _tint(0.5 + 0.035 * spectral_noise(size, rng, exponent=0.8), (10, 42, 32), (40, 104, 78))
    copper = np.asarray([196, 168, 112], dtype=np.float32)
    ink = np.asarray(gaussian_filter(ink, 0.6), dtype=np.float32)[..., None]
    return np.asarray(board * (1 - ink) + copper * ink, dtype=np.float32)


PAINTERS: dict[str, Callable[[Size, np.random.Generator], Field]] = {
    "brushed_metal": _brushed_metal,
    "ceramic": _ceramic,
    "textile": _textile,
    "wood": _wood,
    "leather": _leather,
    "concrete": _concrete,
    "printed_grid": _printed_grid,
}
