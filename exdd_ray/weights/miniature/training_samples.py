"""Training samples drawn by formula: a surface, a defect on it, where to inpaint. No torch: the drawers start fast."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, label

from exdd_ray.data.procedural.defects import DEFECT_KINDS, add_defect
from exdd_ray.data.procedural.noise import Size, spectral_noise
from exdd_ray.data.procedural.surfaces import MATERIALS, expose, make_surface
from exdd_ray.progress import Advance, Progress, silent
from exdd_ray.weights.miniature.captions import COPPER, MATERIAL_WORDS, NORMAL
from exdd_ray.weights.miniature.masks import inpainting_mask
from exdd_ray.weights.surface_resnet18.programs import make_program, render

LABELS = (*DEFECT_KINDS, COPPER, NORMAL)
BACKGROUNDS = tuple(MATERIAL_WORDS)
SURFACE_SIDES = (64, 160)
NORMAL_SHARE = 0.08
COPPER_SHARE = 0.25
MIRRORED_SHARE = 0.4
VISIBLE = 22
STRENGTH = (45, 110)
MOST_STRENGTHENED = 6.0
COPPER_COLOUR = np.asarray([202, 118, 62], dtype=np.float32)

RgbImage = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """How many samples are drawn, and how large.

    Attributes:
        count: samples; their kinds take turns.
        side: side of the crops in pixels.
        seed: everything drawn depends on it and on the sample's number only.
    """

    count: int = 30000
    side: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """A square crop around one defect.

    Attributes:
        clean: the surface without it, uint8 `[S x S x 3]`.
        image: the surface with it; `clean` itself where `kind` is NORMAL.
        defect: its pixels, `[S x S]`; empty where `kind` is NORMAL.
        mask: where a model may paint, `[S x S]`; covers the defect.
        kind: one of LABELS.
        material: one of BACKGROUNDS.
    """

    clean: RgbImage
    image: RgbImage
    defect: Mask
    mask: Mask
    kind: str
    material: str


@dataclass(frozen=True)
class Samples:
    """Many samples: images uint8 `[N x S x S x 3]`, defects and masks bool `[N x S x S]`, indices in LABELS and
    BACKGROUNDS `[N]`."""

    images: NDArray[np.uint8]
    defects: Mask
    masks: Mask
    kinds: NDArray[np.uint8]
    materials: NDArray[np.uint8]


def draw_sample(spec: SampleSpec, number: int) -> Sample:
    """Sample `number` of the endless list that the seed names."""
    rng = np.random.default_rng([spec.seed, 5, number])
    kind = DEFECT_KINDS[number % len(DEFECT_KINDS)]
    surface, material = draw_background(int(rng.integers(SURFACE_SIDES[0], SURFACE_SIDES[1] + 1)), rng)
    image, drawn = _visible_defect(surface, kind, rng)
    name: str = kind
    if kind == "fray" and rng.uniform() < MIRRORED_SHARE:
        surface, image, drawn = (_mirrored(part) for part in (surface, image, drawn))
    if kind == "scratch" and rng.uniform() < COPPER_SHARE:
        image, name = _copper(surface, image, rng), COPPER
    box = _frame(drawn, rng)
    clean, framed = _resized(surface, box, spec.side), _resized(image, box, spec.side)
    defect = np.asarray(Image.fromarray(drawn.astype(np.uint8) * 255).resize((spec.side,) * 2, _BOX, box)) > 50
    if not defect.any():
        defect[spec.side // 2, spec.side // 2] = True
    mask = inpainting_mask(defect, rng)
    framed = _strengthened(framed, clean, defect, rng)
    if rng.uniform() < NORMAL_SHARE:
        return Sample(clean, clean, np.zeros_like(defect), mask, NORMAL, material)
    # beyond its mask a defect changes nothing; resampling must not change that
    framed = np.where(mask[..., None], framed, clean)
    return Sample(clean, framed, defect, mask, name, material)


def _visible_defect(surface: RgbImage, kind: str, rng: np.random.Generator) -> tuple[RgbImage, Mask]:
    """A defect whose stronger half stands out by VISIBLE grey values; after a few tries whatever was drawn."""
    for _ in range(4):
        image, mask = add_defect(surface, kind, rng)
        change = np.abs(image.astype(np.int16) - surface).max(axis=2)[mask]
        if np.quantile(change, 0.75) >= VISIBLE:
            break
    return image, mask


def _strengthened(image: RgbImage, clean: RgbImage, defect: Mask, rng: np.random.Generator) -> RgbImage:
    """A defect's change enlarged until its stronger half stands out by a grey value of STRENGTH.

    Drawn as faint as in a factory, thin kinds hardly show at this size, and a small model learns nothing of them.
    """
    change = image.astype(np.float32) - clean
    strength = max(float(np.quantile(np.abs(change).max(axis=2)[defect], 0.75)), 1.0)
    factor = np.clip(rng.uniform(*STRENGTH) / strength, 1, MOST_STRENGTHENED)
    return np.clip(np.rint(clean + factor * change), 0, 255).astype(np.uint8)


def _mirrored(part: NDArray[Any]) -> NDArray[Any]:
    """The part continued by its mirror image, so that a break at the border becomes one inside."""
    width = part.shape[0] // 3
    return np.pad(part, [(width, width), (width, width), (0, 0)][: part.ndim], mode="symmetric")


_BOX = Image.Resampling.BOX


def _resized(image: RgbImage, box: tuple[int, int, int, int], side: int) -> RgbImage:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS, box))


def _frame(mask: Mask, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A square (left, top, right, bottom) around the largest group of the mask, 1.1 to 2.6 times its extent."""
    side = mask.shape[0]
    groups, _ = label(binary_dilation(mask, iterations=max(side // 24, 2)))
    sizes = np.bincount(groups[mask])
    rows, columns = np.nonzero(mask & (groups == int(np.argmax(sizes))))
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    length = int(np.clip(extent * rng.uniform(1.1, 2.6), min(32, side), side))
    top = _offset(int(rows.min()), int(rows.max()) + 1, length, side, rng)
    left = _offset(int(columns.min()), int(columns.max()) + 1, length, side, rng)
    return left, top, left + length, top + length


def _offset(begin: int, end: int, length: int, side: int, rng: np.random.Generator) -> int:
    """Where a window of this length starts that lies in the image and holds begin..end (if it is long enough)."""
    low, high = max(end - length, 0), min(begin, side - length)
    return int(rng.integers(low, high + 1)) if low <= high else int(np.clip(begin, 0, side - length))


def _copper(surface: RgbImage, image: RgbImage, rng: np.random.Generator) -> RgbImage:
    """The scratch filled with the colour of copper, as strong as the scratch was drawn."""
    change = np.abs(image.astype(np.float32) - surface).max(axis=2)
    alpha = np.clip(change / max(float(np.quantile(change[change > 0], 0.8)), 1.0), 0, 1) * rng.uniform(0.7, 1)
    colour = COPPER_COLOUR * rng.uniform(0.75, 1.15)
    blended = surface + alpha[..., None] * (colour - surface)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def draw_background(side: int, rng: np.random.Generator) -> tuple[RgbImage, str]:
    """A square surface `[side x side x 3]` and its name in BACKGROUNDS: a material, a texture program, or grain."""
    choice = rng.uniform()
    if choice < 0.6:
        material = MATERIALS[rng.integers(len(MATERIALS))]
        scale = float(rng.choice([1.0, 1.0, 1.5, 2.0]))
        large = make_surface(material, (int(side * scale),) * 2, rng)[:side, :side]
        return _recoloured(large if rng.uniform() < 0.5 else large.transpose(1, 0, 2), rng), material
    if choice < 0.7:
        return render(make_program(0, int(rng.integers(10**6, 2 * 10**6))), (side, side), rng), "texture"
    return _grain((side, side), rng), "grain"


def _recoloured(image: RgbImage, rng: np.random.Generator) -> RgbImage:
    """A third of the images in grey, a third in another tint; half of all under another exposure."""
    scaled = image.astype(np.float32)
    choice = rng.uniform()
    if choice < 0.66:
        scaled = np.repeat(scaled.mean(axis=2, keepdims=True), 3, axis=2)
    if 0.33 < choice < 0.66:
        scaled = scaled * np.exp(rng.normal(0, 0.25, 3))
    if rng.uniform() < 0.5:
        mean = scaled.mean()
        scaled = (mean + (scaled - mean) * np.exp(rng.normal(0, 0.25))) * np.exp(rng.normal(0, 0.3))
    return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _grain(size: Size, rng: np.random.Generator) -> RgbImage:
    """Streaky or isotropic noise under uneven light, in grey or a colour."""
    stretch = float(np.exp(rng.uniform(0, np.log(60))))
    angle = float(rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]))
    noise = spectral_noise(size, rng, exponent=rng.uniform(0, 2), stretch=stretch, angle=angle)
    cloud = spectral_noise(size, rng, exponent=rng.uniform(2, 4))
    shade = rng.uniform(50, 190, 3) if rng.uniform() < 0.3 else np.full(3, rng.uniform(40, 200))
    field = 1 + rng.uniform(0.02, 0.15) * noise + rng.uniform(0, 0.15) * cloud
    return expose(np.asarray(shade * field[..., None], dtype=np.float32), rng, gradient=0.3, noise=rng.uniform(0.5, 4))


def draw_samples(spec: SampleSpec, *, workers: int = 0, progress: Progress = silent) -> Samples:
    """Draws all samples, in this process or spread over `workers` others; the result is the same."""
    shape = (spec.count, spec.side, spec.side)
    samples = Samples(
        np.empty((*shape, 3), np.uint8),
        np.empty(shape, np.bool_),
        np.empty(shape, np.bool_),
        np.empty(spec.count, np.uint8),
        np.empty(spec.count, np.uint8),
    )
    with progress("drawing samples", spec.count) as advance:
        if workers == 0:
            _fill(spec, samples, map, advance)
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
                _fill(spec, samples, partial(executor.map, chunksize=16), advance)
    return samples


def _fill(spec: SampleSpec, samples: Samples, spread: Callable[..., Iterator[Any]], advance: Advance) -> None:
    for number, sample in enumerate(spread(partial(draw_sample, spec), range(spec.count))):
        samples.images[number], samples.defects[number], samples.masks[number] = (
            sample.image,
            sample.defect,
            sample.mask,
        )
        samples.kinds[number] = LABELS.index(sample.kind)
        samples.materials[number] = BACKGROUNDS.index(sample.material)
        advance(1)
