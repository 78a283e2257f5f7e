"""Surface defects blended into an image, each with its exact mask."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from exdd_ray.data.procedural.noise import Field, Size, band_noise, fbm, spectral_noise
from exdd_ray.data.procedural.shapes import (
    blob,
    radial_distance,
    random_centre,
    soft_inside,
    stroke,
    tapered,
    wandering_path,
)
from exdd_ray.errors import ConfigError

DefectKind = Literal["scratch", "hole", "stain", "crack", "dent", "white_marks", "fray", "inclusion"]
DEFECT_KINDS: tuple[DefectKind, ...] = get_args(DefectKind)

MASK_LEVEL = 0.12
TRIES = 8

RgbImage = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Patch(NamedTuple):
    """What a defect does: where (`alpha` `[H x W]`, 0..1) and the look that it puts there (`[H x W x 3]`, 0..255)."""

    alpha: Field
    look: Field


def add_defect(image: RgbImage, kind: str, rng: np.random.Generator) -> tuple[RgbImage, Mask]:
    """Draws one defect (some kinds are a group of marks) into an image.

    Args:
        image: uint8 `[H x W x 3]`; not changed.
        kind: one of DEFECT_KINDS.

    Returns:
        The defective image and its mask `[H x W]`; pixels outside the mask are the image's own.

    Raises:
        ConfigError: for an unknown kind, or when no visible defect can be drawn (an image of a few pixels).
    """
    if kind not in DEFECT_KINDS:
        raise ConfigError(f"unknown defect kind {kind!r}: one of {', '.join(DEFECT_KINDS)}")
    surface = image.astype(np.float32)
    for _ in range(TRIES):
        patch = DRAWERS[kind](surface, rng)
        mask = patch.alpha > MASK_LEVEL
        blended = surface + np.where(mask, patch.alpha, 0)[..., None] * (patch.look - surface)
        defective = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
        difference = np.abs(defective.astype(np.int16) - image).max(axis=2)
        if mask.sum() >= 4 and difference[mask].max() >= 8:
            return defective, mask
    raise ConfigError(f"no visible {kind} can be drawn into an image of {image.shape[1]} x {image.shape[0]} pixels")


def _side(surface: Field) -> float:
    return float(min(surface.shape[:2]))


def _size(surface: Field) -> Size:
    return surface.shape[0], surface.shape[1]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _around(surface: Field, radius: float) -> Field:
    """The surface without its fine texture: what a filled-in or worn place looks like."""
    return np.asarray(gaussian_filter(surface, (radius, radius, 0)), dtype=np.float32)


def _relief(height: Field, rng: np.random.Generator) -> Field:
    """Lambertian shading of a height field lit from a random side, about -1..1."""
    slope_rows, slope_columns = np.gradient(height)
    light = rng.uniform(0, 2 * np.pi)
    shading = slope_rows * np.sin(light) + slope_columns * np.cos(light)
    return np.asarray(shading / max(float(np.abs(shading).max()), 1e-6), dtype=np.float32)


def _draw_scratch(surface: Field, rng: np.random.Generator) -> Patch:
    """A nearly straight groove: bright or dark, with the opposite shade on one flank."""
    size, side = _size(surface), _side(surface)
    length = _log_uniform(rng, 0.12, 0.7) * side
    heading = rng.uniform(0, 2 * np.pi)
    centre = np.asarray(random_centre(size, rng))
    start = centre - 0.5 * length * np.asarray([np.sin(heading), np.cos(heading)])
    path = wandering_path(rng, start=(start[0], start[1]), length=length, heading=heading, wobble=0.02)
    widths = tapered(len(path) - 1, width=max(_log_uniform(rng, 0.005, 0.014) * side, 0.9))
    core = stroke(size, path, widths)
    flank = stroke(size, path + np.asarray([np.cos(heading), -np.sin(heading)]) * (widths.max() * 0.9), widths)
    contrast = rng.choice([-1.0, 1.0]) * _log_uniform(rng, 22, 75)
    broken = np.clip(1.0 + 0.35 * band_noise(size, rng, period=max(0.1 * side, 6.0)), 0.3, 1)
    shade = (core - 0.5 * flank * (1 - core)) * broken
    return Patch(np.maximum(core, flank * 0.9) * (broken > 0.35), surface + contrast * shade[..., None])


def _draw_hole(surface: Field, rng: np.random.Generator) -> Patch:
    """A dark pit, deepest in the middle, with a lit rim on one side; sometimes two or three."""
    size, side = _size(surface), _side(surface)
    alpha = np.zeros(size, dtype=np.float32)
    rim = alpha.copy()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        radius = max(_log_uniform(rng, 0.012, 0.045) * side, 1.6)
        centre = random_centre(size, rng, margin=0.06)
        pit = blob(
            size,
            rng,
            centre=centre,
            radius=radius,
            aspect=rng.uniform(1, 2),
            roughness=0.15,
            softness=rng.uniform(0.3, 0.8),
        )
        alpha = np.maximum(alpha, pit)
        edge = np.maximum(gaussian_filter(pit, 0.8) - 0.75 * pit, 0) * 2
        side_lit = rng.uniform(0, 2 * np.pi)
        rows, columns = np.indices(size, dtype=np.float32)
        lit = (rows - centre[0]) * np.sin(side_lit) + (columns - centre[1]) * np.cos(side_lit) > 0
        rim = np.maximum(rim, edge * lit)
    dark = surface * rng.uniform(0.12, 0.6) - rng.uniform(0, 10)
    look = np.where(alpha[..., None] > rim[..., None], dark, surface * 1.3 + 12)
    return Patch(np.maximum(alpha, 0.6 * rim), look)


def _draw_stain(surface: Field, rng: np.random.Generator) -> Patch:
    """A translucent film with an irregular outline and a darker border where it dried; the texture shows through."""
    size, side = _size(surface), _side(surface)
    centre = random_centre(size, rng)
    radius = _log_uniform(rng, 0.05, 0.17) * side
    spot = blob(
        size,
        rng,
        centre=centre,
        radius=radius,
        aspect=rng.uniform(1, 2.2),
        roughness=0.25,
        softness=rng.uniform(0.25, 0.8),
    )
    border = np.maximum(spot - gaussian_filter(spot, max(0.18 * radius, 1.0)), 0)
    strength = rng.choice([-1.0, -1.0, 1.0]) * rng.uniform(0.1, 0.36)
    tint = 1 + strength * (1 + 0.35 * rng.uniform(-1, 1, 3))
    mottled = 1 + 0.15 * np.clip(fbm(size, rng, cell=max(radius, 4.0)), -2, 2)
    look = surface * (1 + (tint - 1) * mottled[..., None]) - 40 * border[..., None] * np.sign(-strength)
    return Patch(spot, np.asarray(look, dtype=np.float32))


def _draw_crack(surface: Field, rng: np.random.Generator) -> Patch:
    """A dark jagged line that branches and fades."""
    size, side = _size(surface), _side(surface)
    length = _log_uniform(rng, 0.2, 0.8) * side
    width = max(_log_uniform(rng, 0.005, 0.018) * side, 0.8)
    heading = rng.uniform(0, 2 * np.pi)
    trunk = wandering_path(
        rng,
        start=random_centre(size, rng, margin=0.2),
        length=length,
        heading=heading,
        wobble=0.28,
        step=max(0.02 * side, 2),
    )
    trunk += rng.normal(0, 0.004 * side, trunk.shape)
    alpha = stroke(size, trunk, tapered(len(trunk) - 1, width=width) * rng.uniform(0.6, 1.3, len(trunk) - 1))
    for _ in range(rng.integers(0, 4)):
        begin = trunk[rng.integers(1, len(trunk))]
        turn = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        twig = wandering_path(
            rng,
            start=(begin[0], begin[1]),
            length=length * rng.uniform(0.1, 0.35),
            heading=turn,
            wobble=0.3,
            step=max(0.02 * side, 2),
        )
        alpha = np.maximum(alpha, stroke(size, twig, np.linspace(0.8 * width, 0.4, len(twig) - 1)))
    depth = rng.uniform(0.35, 0.95)
    return Patch(alpha, surface * (1 - depth * 0.85))


def _draw_dent(surface: Field, rng: np.random.Generator) -> Patch:
    """A smooth hollow: the texture stays, the shading goes from dark to bright across it."""
    size, side = _size(surface), _side(surface)
    radius = _log_uniform(rng, 0.04, 0.13) * side
    centre = random_centre(size, rng)
    distance = radial_distance(size, centre, radius=radius, aspect=rng.uniform(1, 2.5), angle=rng.uniform(0, np.pi))
    height = np.exp(-((1.6 * distance) ** 2))
    relief = _relief(np.asarray(height, dtype=np.float32), rng)
    gain = rng.uniform(0.16, 0.55)
    look = surface * (1 + gain * relief[..., None]) + 14 * gain * relief[..., None]
    return Patch(soft_inside(distance, softness=0.5), np.asarray(look, dtype=np.float32))


def _draw_white_marks(surface: Field, rng: np.random.Generator) -> Patch:
    """Chalky specks and smears in a loose group."""
    size, side = _size(surface), _side(surface)
    centre = random_centre(size, rng, margin=0.15)
    group = blob(
        size, rng, centre=centre, radius=_log_uniform(rng, 0.05, 0.14) * side, aspect=rng.uniform(1, 3), softness=0.9
    )
    grain = spectral_noise(size, rng, exponent=1.2, stretch=rng.uniform(1, 4), angle=rng.uniform(0, np.pi))
    chalk = np.clip(1.1 * (grain - rng.uniform(0.0, 0.7)) + 0.3, 0, 1) * group
    chalk = gaussian_filter(chalk, 0.6) * rng.uniform(0.35, 0.95)
    white = np.maximum(surface, _around(surface, 3.0)) + rng.uniform(45, 110)
    return Patch(np.asarray(chalk, dtype=np.float32), np.minimum(white, 250))


def _draw_fray(surface: Field, rng: np.random.Generator) -> Patch:
    """A ragged break at an edge of the image: material is missing, its fringe is bright or torn."""
    size, side = _size(surface), _side(surface)
    along = rng.uniform(0.1, 0.9)
    border = rng.integers(4)
    row, column = ((0, along), (1, along), (along, 0), (along, 1))[border]
    radius = _log_uniform(rng, 0.05, 0.14) * side
    turn = 0.0 if border < 2 else np.pi / 2
    distance = radial_distance(
        size, (row * size[0], column * size[1]), radius=radius, aspect=rng.uniform(1, 3.5), angle=turn
    )
    bumps = np.clip(band_noise(size, rng, period=max(0.8 * radius, 4.0), width=0.9), -1.6, 1.6)
    ragged = distance * (1 + 0.22 * bumps)
    missing = soft_inside(np.asarray(ragged, dtype=np.float32), softness=0.15)
    fringe = maximum_filter(missing, 3 if side < 200 else 5)
    gone = np.full(3, rng.uniform(8, 50)) + 6 * band_noise(size, rng, period=8)[..., None]
    torn = np.clip(surface * rng.uniform(1.1, 1.45) + 12, 0, 255)
    look = missing[..., None] * gone + (1 - missing[..., None]) * torn
    return Patch(np.maximum(missing, 0.8 * fringe), np.asarray(look, dtype=np.float32))


def _draw_inclusion(surface: Field, rng: np.random.Generator) -> Patch:
    """A grain of another material: sharp outline, its own colour and a smoother surface."""
    size, side = _size(surface), _side(surface)
    centre = random_centre(size, rng)
    radius = max(_log_uniform(rng, 0.018, 0.07) * side, 2.0)
    grain = blob(size, rng, centre=centre, radius=radius, aspect=rng.uniform(1, 4), roughness=0.3, softness=0.25)
    local = _around(surface, max(radius / 2, 2.0))
    shift = rng.choice([-1.0, 1.0]) * rng.uniform(20, 70) + rng.normal(0, 8, 3)
    texture = 5 * band_noise(size, rng, period=max(radius / 2, 3.0))[..., None]
    rounded = 12 * _relief(np.asarray(gaussian_filter(grain, max(radius / 3, 0.8)), dtype=np.float32), rng)[..., None]
    return Patch(grain, np.asarray(local + shift + texture + rounded, dtype=np.float32))


DRAWERS: dict[str, Callable[[Field, np.random.Generator], Patch]] = {
    "scratch": _draw_scratch,
    "hole": _draw_hole,
    "stain": _draw_stain,
    "crack": _draw_crack,
    "dent": _draw_dent,
    "white_marks": _draw_white_marks,
    "fray": _draw_fray,
    "inclusion": _draw_inclusion,
}
