"""Noise fields in numpy, the raw material of every procedural image. All are float32 `[H x W]`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, zoom

Field = NDArray[np.float32]
Size = tuple[int, int]


class Cells(NamedTuple):
    """Worley cells: distances to the nearest and second nearest seed (in cells) and the nearest seed's number."""

    first: Field
    second: Field
    number: NDArray[np.int64]


def standardize(field: NDArray[np.floating]) -> Field:
    """The field with mean 0 and standard deviation 1; zeros where it is constant."""
    centred = field - field.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-8), dtype=np.float32)


def rank_unit(field: Field) -> Field:
    """The field mapped to 0..1 so that its 1 % and 99 % quantiles land on the ends."""
    low, high = np.quantile(field[::2, ::2], [0.01, 0.99])
    return np.asarray(np.clip((field - low) / max(float(high - low), 1e-8), 0, 1), dtype=np.float32)


def rotated_coordinates(size: Size, angle: float) -> tuple[Field, Field]:
    """Pixel coordinates (along, across) of an axis turned by `angle` radians, the origin in the centre."""
    rows, columns = np.meshgrid(
        np.arange(size[0], dtype=np.float32) - size[0] / 2,
        np.arange(size[1], dtype=np.float32) - size[1] / 2,
        indexing="ij",
    )
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def spectral_noise(
    size: Size, rng: np.random.Generator, *, exponent: float, stretch: float = 1.0, angle: float = 0.0
) -> Field:
    """Gaussian noise whose power falls as frequency^-exponent, standardised.

    Args:
        exponent: 0 is white, 2 is cloudy, 4 is very smooth.
        stretch: how many times longer the structures are along `angle` than across it.
        angle: direction of the stretch, in radians from the image's x axis.
    """
    vertical = np.fft.fftfreq(size[0])[:, None]
    horizontal = np.fft.rfftfreq(size[1])[None, :]
    along = (horizontal * np.cos(angle) + vertical * np.sin(angle)) * stretch
    across = vertical * np.cos(angle) - horizontal * np.sin(angle)
    power = along**2 + across**2
    power[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(size, dtype=np.float32)) * power ** (-exponent / 4)
    return standardize(np.fft.irfft2(spectrum, s=size))


def band_noise(size: Size, rng: np.random.Generator, *, period: float, width: float = 0.3) -> Field:
    """Isotropic noise of one scale (`period` in pixels; `width` is the band's width in octaves), standardised."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    octaves = np.log2(np.maximum(frequency, 1e-6) * period)
    spectrum = np.fft.rfft2(rng.standard_normal(size, dtype=np.float32)) * np.exp(-0.5 * (octaves / width) ** 2)
    return standardize(np.fft.irfft2(spectrum, s=size))


def perlin_noise(size: Size, rng: np.random.Generator, *, cell: float | tuple[float, float]) -> Field:
    """Gradient noise of Perlin (1985) with gradients `cell` pixels (down, across) apart, standardised."""
    return standardize(raw_perlin_noise(size, rng, cell=cell))


def raw_perlin_noise(size: Size, rng: np.random.Generator, *, cell: float | tuple[float, float]) -> NDArray[np.float64]:
    """perlin_noise as its unit gradients give it: 0 where they lie, at most the root of 1/2 either way."""
    cell_down, cell_across = cell if isinstance(cell, tuple) else (cell, cell)
    rows = np.arange(size[0]) / cell_down
    columns = np.arange(size[1]) / cell_across
    turns = rng.uniform(0, 2 * np.pi, (int(rows[-1]) + 2, int(columns[-1]) + 2))
    gradients = np.stack([np.sin(turns), np.cos(turns)])
    row, column = rows.astype(int), columns.astype(int)
    down, right = (rows - row)[:, None], (columns - column)[None, :]

    def corner(i: int, j: int) -> NDArray[np.float64]:
        gradient = gradients[:, row + i][:, :, column + j]
        return np.asarray(gradient[0] * (down - i) + gradient[1] * (right - j))

    ease_down, ease_right = (t**3 * (t * (t * 6 - 15) + 10) for t in (down, right))
    top = corner(0, 0) * (1 - ease_right) + corner(0, 1) * ease_right
    bottom = corner(1, 0) * (1 - ease_right) + corner(1, 1) * ease_right
    return np.asarray(top * (1 - ease_down) + bottom * ease_down)


def fbm(size: Size, rng: np.random.Generator, *, cell: float, octaves: int = 4, gain: float = 0.5) -> Field:
    """Fractional Brownian motion: octaves of Perlin noise, each half the size and `gain` times the height."""
    layers = [gain**i * perlin_noise(size, rng, cell=max(cell / 2**i, 2.0)) for i in range(octaves)]
    return standardize(np.sum(layers, axis=0))


def smooth_noise(size: Size, rng: np.random.Generator, *, knots: int = 3) -> Field:
    """A slowly changing field: `knots` + 1 random values a side joined by a cubic spline, standardised."""
    coarse = rng.standard_normal((knots + 1, knots + 1))
    fine = zoom(coarse, (size[0] / (knots + 1), size[1] / (knots + 1)), order=3, mode="nearest", grid_mode=True)
    return standardize(fine[: size[0], : size[1]])


def line_noise(length: int, rng: np.random.Generator, *, exponent: float) -> Field:
    """One-dimensional spectral noise `[length]`, standardised."""
    frequency = np.fft.rfftfreq(length)
    frequency[0] = np.inf
    spectrum = np.fft.rfft(rng.standard_normal(length)) * frequency ** (-exponent / 2)
    return standardize(np.fft.irfft(spectrum, n=length))


def worley_cells(size: Size, rng: np.random.Generator, *, cell: float, jitter: float = 1.0) -> Cells:
    """Cellular noise (Worley 1996) from one jittered seed in each square of `cell` pixels."""
    rows = (np.arange(size[0], dtype=np.float32) + 0.5)[:, None] / cell + 1
    columns = (np.arange(size[1], dtype=np.float32) + 0.5)[None, :] / cell + 1
    grid = (int(rows[-1, 0]) + 2, int(columns[0, -1]) + 2)
    shift = (0.5 + jitter * rng.uniform(-0.5, 0.5, (2, *grid))).astype(np.float32)
    first = np.full(size, np.inf, dtype=np.float32)
    second = first.copy()
    number = np.zeros(size, dtype=np.int64)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            row, column = rows.astype(int) + i, columns.astype(int) + j
            distance = np.hypot(row + shift[0][row, column] - rows, column + shift[1][row, column] - columns)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            number = np.where(nearer, row * grid[1] + column, number)
            first = np.minimum(first, distance)
    return Cells(first, second, number)


def warp(field: Field, shift_rows: Field, shift_columns: Field) -> Field:
    """The field sampled at displaced positions (displacements in pixels, bilinear, mirrored at the border)."""
    rows, columns = np.indices(field.shape, dtype=np.float32)
    moved = map_coordinates(field, [rows + shift_rows, columns + shift_columns], order=1, mode="mirror")
    return np.asarray(moved, dtype=np.float32)
