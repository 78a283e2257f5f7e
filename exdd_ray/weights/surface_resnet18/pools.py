"""The pretraining images, drawn once into memory; no torch here, so that the drawing processes start fast."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from exdd_ray.data.procedural.defects import DEFECT_KINDS, add_defect
from exdd_ray.data.procedural.noise import Size, spectral_noise, worley_cells
from exdd_ray.data.procedural.surfaces import MATERIALS, expose, make_surface
from exdd_ray.progress import Advance, Progress, silent
from exdd_ray.weights.surface_resnet18.programs import make_program, render


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """How many images are drawn, and how large.

    Attributes:
        programs: number of texture classes.
        per_program: images of each class.
        defective: images with defects.
        side: side of the pool's images in pixels; training crops from them.
        seed: everything drawn depends on it and on the image's number only.
    """

    programs: int = 150
    per_program: int = 16
    defective: int = 6000
    side: int = 112
    seed: int = 0


@dataclass(frozen=True)
class Pools:
    """Textures `[C x M x S x S x 3]`, defective images `[N x S x S x 3]` and their labels `[N x S x S]`.

    A label is 0 where the surface is whole, else 1 + the index in DEFECT_KINDS.
    """

    textures: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def build_pools(spec: PoolSpec, *, workers: int = 0, progress: Progress = silent) -> Pools:
    """Draws all images, in this process or spread over `workers` others; the result is the same."""
    textures = np.empty((spec.programs, spec.per_program, spec.side, spec.side, 3), dtype=np.uint8)
    defective = np.empty((spec.defective, spec.side, spec.side, 3), dtype=np.uint8)
    labels = np.empty(defective.shape[:3], dtype=np.uint8)
    pools = Pools(textures, defective, labels)
    with progress("drawing images", spec.programs + spec.defective) as advance:
        if workers == 0:
            _fill(spec, pools, map, advance)
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
                _fill(spec, pools, partial(executor.map, chunksize=8), advance)
    return pools


def _fill(spec: PoolSpec, pools: Pools, spread: Callable[..., Iterator[Any]], advance: Advance) -> None:
    for number, images in enumerate(spread(partial(draw_textures, spec), range(spec.programs))):
        pools.textures[number] = images
        advance(1)
    for number, (image, label) in enumerate(spread(partial(draw_defective, spec), range(spec.defective))):
        pools.defective[number], pools.labels[number] = image, label
        advance(1)


def draw_textures(spec: PoolSpec, number: int) -> NDArray[np.uint8]:
    """All images of one program: `[M x S x S x 3]`."""
    program = make_program(spec.seed, number)
    streams = (np.random.default_rng([spec.seed, 1, number, index]) for index in range(spec.per_program))
    return np.stack([render(program, (spec.side, spec.side), rng) for rng in streams])


def draw_defective(spec: PoolSpec, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One surface with one to three defects, and its labels `[S x S]`."""
    rng = np.random.default_rng([spec.seed, 2, number])
    size = (spec.side, spec.side)
    image = _background(spec, size, rng)
    labels = np.zeros(size, dtype=np.uint8)
    for kind in rng.choice(len(DEFECT_KINDS), rng.integers(1, 4)):
        image, mask = add_defect(image, DEFECT_KINDS[kind], rng)
        labels[mask] = kind + 1
    return image, labels


def _background(spec: PoolSpec, size: Size, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A material seen from a random distance, or streaky or grainy noise of random contrast."""
    if rng.uniform() < 0.5:
        scale = float(rng.choice([1.0, 1.0, 1.5, 2.0]))
        large = make_surface(MATERIALS[rng.integers(len(MATERIALS))], (int(size[0] * scale), int(size[1] * scale)), rng)
        image = large[: size[0], : size[1]]
        return np.ascontiguousarray(image if rng.uniform() < 0.5 else image.transpose(1, 0, 2))
    if rng.uniform() < 0.25:
        return render(make_program(spec.seed, int(rng.integers(10**6, 2 * 10**6))), size, rng)
    stretch = float(np.exp(rng.uniform(0, np.log(60))))
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    noise = spectral_noise(size, rng, exponent=rng.uniform(0, 2), stretch=stretch, angle=angle)
    cloud = spectral_noise(size, rng, exponent=rng.uniform(2, 4))
    shade = rng.uniform(50, 180, 3) if rng.uniform() < 0.4 else np.full(3, rng.uniform(40, 190))
    field = 1 + rng.uniform(0.02, 0.2) * noise + rng.uniform(0, 0.2) * cloud
    return expose(np.asarray(shade * field[..., None], dtype=np.float32), rng, gradient=0.3, noise=rng.uniform(0.5, 4))


def region_maps(count: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Partitions `[count x side x side]` of the square into up to three regions: cells or level sets of noise."""
    maps = np.zeros((count, side, side), dtype=np.uint8)
    for number, rng in _streams(count, seed):
        if rng.uniform() < 0.5:
            maps[number] = worley_cells((side, side), rng, cell=side / rng.uniform(1.2, 3)).number % 3
        else:
            field = zoom(spectral_noise((side // 2, side // 2), rng, exponent=4), 2, order=1)
            maps[number, : field.shape[0], : field.shape[1]] = np.digitize(field, np.sort(rng.normal(0, 0.6, 2)))
    return maps


def _streams(count: int, seed: int) -> Iterable[tuple[int, np.random.Generator]]:
    return ((number, np.random.default_rng([seed, 3, number])) for number in range(count))
