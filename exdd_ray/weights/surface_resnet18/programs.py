"""Image programs: each class of the pretraining task is one generator with fixed parameters.

The idea of learning features from programs instead of photographs: Baradad et al., "Learning to see by looking at
noise", NeurIPS 2021. Dead leaves: Ruderman 1997. A program's images differ by seed alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from exdd_ray.data.procedural.noise import (
    Field,
    Size,
    band_noise,
    fbm,
    perlin_noise,
    rank_unit,
    rotated_coordinates,
    spectral_noise,
    warp,
    worley_cells,
)

RAMP_STOPS = 4


@dataclass(frozen=True, kw_only=True)
class Program:
    """One class: a generator family and its constants.

    Attributes:
        family: name of the generator, a key of FAMILIES.
        scale: size of the structures in pixels.
        angle: direction of the structures in radians.
        shape: the family's own three constants, each in 0..1.
        ramp: colours of the field's values from 0 to 1, RGB in 0..255, RAMP_STOPS of them.
        blur: standard deviation of the lens blur in pixels.
    """

    family: str
    scale: float
    angle: float
    shape: tuple[float, float, float]
    ramp: tuple[tuple[float, float, float], ...]
    blur: float


def make_program(seed: int, number: int) -> Program:
    """Program `number` of the endless list that `seed` names."""
    rng = np.random.default_rng([seed, number])
    colours = rng.uniform(0, 255, (RAMP_STOPS, 3))
    grey = rng.uniform(0.0, 1.0) ** 0.5
    colours = grey * colours.mean(axis=1, keepdims=True) + (1 - grey) * colours
    first, second, third = rng.uniform(0, 1, 3)
    return Program(
        family=list(FAMILIES)[number % len(FAMILIES)],
        scale=float(np.exp(rng.uniform(np.log(3.5), np.log(24)))),
        angle=float(rng.uniform(0, np.pi)),
        shape=(float(first), float(second), float(third)),
        ramp=tuple((float(r), float(g), float(b)) for r, g, b in colours),
        blur=float(rng.choice([0.0, 0.6, 1.0])),
    )


def render(program: Program, size: Size, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One image of the program: uint8 `[H x W x 3]`."""
    field = np.clip(FAMILIES[program.family](program, size, rng), 0, 1)
    if program.blur > 0:
        field = gaussian_filter(field, program.blur)
    stops = np.linspace(0, 1, RAMP_STOPS)
    ramp = np.asarray(program.ramp)
    image = np.stack([np.interp(field, stops, ramp[:, channel]) for channel in range(3)], axis=2)
    grain = rng.normal(0, 3, size)[..., None]
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def _clouds(program: Program, size: Size, rng: np.random.Generator) -> Field:
    exponent, stretch, _ = program.shape
    noise = spectral_noise(size, rng, exponent=3.2 * exponent, stretch=1 + 40 * stretch**2, angle=program.angle)
    return rank_unit(noise)


def _bands(program: Program, size: Size, rng: np.random.Generator) -> Field:
    width, contrast, level = program.shape
    noise = band_noise(size, rng, period=program.scale, width=0.1 + 0.6 * width)
    return np.asarray(1 / (1 + np.exp(-(1 + 8 * contrast) * (noise + 1.5 * (level - 0.5)))), dtype=np.float32)


def _stripes(program: Program, size: Size, rng: np.random.Generator) -> Field:
    duty, wave, soft = program.shape
    _, across = rotated_coordinates(size, program.angle + rng.normal(0, 0.03))
    across = across + wave**2 * 0.8 * program.scale * perlin_noise(size, rng, cell=3 * program.scale)
    phase = np.abs((across / program.scale + rng.uniform()) % 1 - 0.5) * 2
    return np.asarray(np.clip((0.2 + 0.6 * duty - phase) / (0.1 + soft) + 0.5, 0, 1), dtype=np.float32)


def _cells(program: Program, size: Size, rng: np.random.Generator) -> Field:
    mode, jitter, walls = program.shape
    cells = worley_cells(size, rng, cell=max(program.scale, 5.0), jitter=0.3 + 0.7 * jitter)
    if mode < 0.35:
        return rank_unit(cells.first)
    wall = np.clip((cells.second - cells.first) / (0.08 + 0.4 * walls), 0, 1)
    if mode < 0.7:
        return wall
    shades = rng.uniform(0, 1, 64).astype(np.float32)
    return np.asarray(shades[cells.number % 64] * (wall if walls > 0.5 else 1), dtype=np.float32)


def _dots(program: Program, size: Size, rng: np.random.Generator) -> Field:
    radius, jitter, rare = program.shape
    cells = worley_cells(size, rng, cell=max(program.scale, 5.0), jitter=jitter)
    dot = np.clip((0.12 + 0.3 * radius - cells.first) * 8, 0, 1) * (cells.number % 7 < 2 + 5 * rare)
    back = rank_unit(spectral_noise(size, rng, exponent=1.5))
    return np.asarray(np.maximum(dot, 0.3 * back), dtype=np.float32)


def _canvas(size: Size, background: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("L", (2 * size[1], 2 * size[0]), background)
    return canvas, ImageDraw.Draw(canvas)


def _finish(canvas: Image.Image) -> Field:
    small = canvas.resize((canvas.width // 2, canvas.height // 2), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _dead_leaves(program: Program, size: Size, rng: np.random.Generator) -> Field:
    squareness, spread, stretch = program.shape
    canvas, draw = _canvas(size, 128)
    covered, area = 0.0, 16.0 * size[0] * size[1]
    while covered < area:
        radius = 2 * program.scale * float(np.exp(rng.normal(0, 0.1 + 0.7 * spread)))
        tall, wide = radius * (0.4 + stretch), radius * (1.4 - stretch)
        column, row = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
        box = (column - wide, row - tall, column + wide, row + tall)
        shade = int(rng.integers(256))
        if rng.uniform() < squareness:
            draw.rectangle(box, fill=shade)
        else:
            draw.ellipse(box, fill=shade)
        covered += 4 * tall * wide
    return _finish(canvas)


def _strokes(program: Program, size: Size, rng: np.random.Generator) -> Field:
    spread, length, thick = program.shape
    canvas, draw = _canvas(size, 30)
    reach = 2 * program.scale * (1 + 3 * length)
    count = int(1.5 * canvas.width * canvas.height / (reach * 2 * program.scale + 40))
    for _ in range(min(count, 400)):
        heading = program.angle + rng.normal(0, 0.05 + spread)
        steps = np.cumsum(rng.normal(0, 0.35 * spread, 5))
        moves = reach / 5 * np.stack([np.cos(heading + steps), np.sin(heading + steps)], axis=1)
        points = rng.uniform(0, 1, 2) * canvas.size + np.cumsum(moves, axis=0)
        draw.line([(x, y) for x, y in points], fill=int(rng.integers(90, 256)), width=1 + int(5 * thick))
    return _finish(canvas)


def _weave(program: Program, size: Size, rng: np.random.Generator) -> Field:
    over_run, relief, checker = program.shape
    along, across = rotated_coordinates(size, program.angle)
    period = max(program.scale, 4.0)
    along, across = along / period + rng.uniform(), across / period + rng.uniform()
    over = (np.floor(along) + np.floor(across)) % (2 + int(2 * over_run)) == 0
    if checker < 0.3:
        return np.asarray(over * (1 - 0.3 * relief), dtype=np.float32)
    profile = np.where(over, np.sin(np.pi * (across % 1)), np.sin(np.pi * (along % 1)) * (0.5 + 0.5 * relief))
    return np.asarray(profile, dtype=np.float32)


def _marble(program: Program, size: Size, rng: np.random.Generator) -> Field:
    strength, sharpness, veins = program.shape
    cell = max(1.5 * program.scale, 6.0)
    shift = (1 + 2 * strength) * 0.5 * cell
    base = fbm(size, rng, cell=cell, octaves=3, gain=0.3 + 0.4 * sharpness)
    bent = warp(base, shift * perlin_noise(size, rng, cell=cell), shift * perlin_noise(size, rng, cell=cell))
    if veins < 0.5:
        return rank_unit(bent)
    return np.asarray(np.clip(1 - np.abs(bent) * (1 + 3 * veins), 0, 1), dtype=np.float32)


FAMILIES: dict[str, Callable[[Program, Size, np.random.Generator], Field]] = {
    "clouds": _clouds,
    "bands": _bands,
    "stripes": _stripes,
    "cells": _cells,
    "dots": _dots,
    "dead_leaves": _dead_leaves,
    "strokes": _strokes,
    "weave": _weave,
    "marble": _marble,
}
