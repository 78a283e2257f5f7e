"""Soft shapes in 0..1 that defects are made of: blobs and strokes. Lengths are in pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from exdd_ray.data.procedural.noise import Field, Size, band_noise

SUPERSAMPLING = 4


def random_centre(size: Size, rng: np.random.Generator, *, margin: float = 0.1) -> tuple[float, float]:
    """A (row, column) at least `margin` of the side away from the border."""
    row, column = rng.uniform(margin, 1 - margin, 2)
    return row * size[0], column * size[1]


def radial_distance(
    size: Size, centre: tuple[float, float], *, radius: float, aspect: float = 1.0, angle: float = 0.0
) -> Field:
    """Distance from the centre in radii of an ellipse, `aspect` times longer along `angle` than across it."""
    rows = np.arange(size[0], dtype=np.float32)[:, None] - centre[0]
    columns = np.arange(size[1], dtype=np.float32)[None, :] - centre[1]
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    stretch = np.sqrt(aspect)
    return np.asarray(np.hypot(along / (radius * stretch), across * stretch / radius), dtype=np.float32)


def soft_inside(distance: Field, *, softness: float) -> Field:
    """1 inside (distance below 1), 0 outside, a linear ramp of width `softness` around the outline."""
    return np.asarray(np.clip((1 - distance) / softness + 0.5, 0, 1), dtype=np.float32)


def blob(
    size: Size,
    rng: np.random.Generator,
    *,
    centre: tuple[float, float],
    radius: float,
    aspect: float = 1.0,
    roughness: float = 0.2,
    softness: float = 0.3,
) -> Field:
    """An ellipse of random direction with an irregular outline."""
    distance = radial_distance(size, centre, radius=radius, aspect=aspect, angle=rng.uniform(0, np.pi))
    if roughness > 0:
        # bounded, or the noise's tails would scatter islands over the whole image
        bumps = np.clip(band_noise(size, rng, period=max(1.5 * radius, 4.0), width=0.7), -1.5, 1.5)
        distance = distance * (1 + roughness * bumps)
    return soft_inside(distance, softness=softness)


def wandering_path(
    rng: np.random.Generator,
    *,
    start: tuple[float, float],
    length: float,
    heading: float,
    wobble: float,
    step: float = 2.0,
) -> NDArray[np.float64]:
    """Points `[P x 2]` (row, column) of a walk whose heading changes by about `wobble` radians a step."""
    count = max(int(length / step), 2)
    drift = np.cumsum(rng.normal(0, wobble, count))
    headings = heading + drift - np.linspace(0, drift[-1], count) * 0.7
    moves = step * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    return np.vstack([[start], np.asarray(start) + np.cumsum(moves, axis=0)])


def stroke(size: Size, path: NDArray[np.float64], widths: NDArray[np.float64]) -> Field:
    """The path drawn with round joints, antialiased; `widths` `[P - 1]` are those of its segments."""
    canvas = Image.new("L", (size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    points = (path[:, ::-1] + 0.5) * SUPERSAMPLING
    for begin, end, width in zip(points[:-1], points[1:], widths * SUPERSAMPLING, strict=True):
        draw.line([tuple(begin), tuple(end)], fill=255, width=max(round(width), 1))
        if width > 3:
            draw.ellipse([*(end - width / 2), *(end + width / 2)], fill=255)
    small = canvas.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def tapered(count: int, *, width: float) -> NDArray[np.float64]:
    """Widths `[count]` of a stroke that is thin at both ends."""
    return np.asarray(width * np.clip(4 * np.sin(np.linspace(0.05, np.pi - 0.05, count)), 0.3, 1))
