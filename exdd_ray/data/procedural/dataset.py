"""A whole dataset of procedural surfaces on disk, in the MVTec AD layout, one category a material."""

import shutil
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exdd_ray.data.procedural.defects import DEFECT_KINDS, add_defect
from exdd_ray.data.procedural.noise import Size
from exdd_ray.data.procedural.surfaces import MATERIALS, make_surface
from exdd_ray.errors import ConfigError, DataError

DEMO_MATERIALS = ("ceramic", "textile", "wood")
DEMO_KINDS = ("scratch", "hole", "stain", "crack")
GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class ProceduralSpec:
    """What a procedural dataset holds; raising a count adds images and changes none.

    Attributes:
        size: (height, width) of the images in pixels.
        normal_train: normal training images of a material.
        normal_test: normal test images of a material.
        per_kind: test images of a material for each kind of defect.
        materials: names from MATERIALS.
        kinds: names from DEFECT_KINDS.
        seed: everything drawn depends on it.
    """

    size: Size = (128, 128)
    normal_train: int = 40
    normal_test: int = 20
    per_kind: int = 10
    materials: Sequence[str] = DEMO_MATERIALS
    kinds: Sequence[str] = DEMO_KINDS
    seed: int = 0


@dataclass(frozen=True)
class ImageKey:
    """What one image depends on, beside its size."""

    seed: int
    material: str
    split: str
    kind: str
    index: int

    def rng(self) -> np.random.Generator:
        """The image's own stream of random numbers."""
        name = zlib.crc32(f"{self.material}/{self.split}/{self.kind}".encode())
        return np.random.default_rng([self.seed, name, self.index])


def draw_image(key: ImageKey, size: Size) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The image `[H x W x 3]` of a key and its mask `[H x W]`; None for a normal one."""
    rng = key.rng()
    surface = make_surface(key.material, size, rng)
    return (surface, None) if key.kind == GOOD else add_defect(surface, key.kind, rng)


def write_procedural_dataset(folder: Path, spec: ProceduralSpec) -> int:
    """Writes the dataset as PNG: `<material>/train/good/000.png`, `<material>/test/<kind>/000.png` and
    `<material>/ground_truth/<kind>/000_mask.png` (0 and 255).

    The folder appears complete or not at all.

    Returns:
        The number of images, masks not counted.

    Raises:
        ConfigError: for an unknown material or kind, a negative seed or count, or nothing to write.
        DataError: when the folder is there already and holds something.
    """
    keys = list(image_keys(spec))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty: give a folder that is not there yet")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        for key in keys:
            _write(partial, key, spec.size)
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(keys)


def image_keys(spec: ProceduralSpec) -> Iterator[ImageKey]:
    """Every image of the dataset. Raises ConfigError where the spec cannot be met."""
    _check(spec)
    for material in spec.materials:
        for split, kind, count in _groups(spec):
            yield from (ImageKey(spec.seed, material, split, kind, index) for index in range(count))


def _groups(spec: ProceduralSpec) -> list[tuple[str, str, int]]:
    normal = [("train", GOOD, spec.normal_train), ("test", GOOD, spec.normal_test)]
    return normal + [("test", kind, spec.per_kind) for kind in spec.kinds]


def _check(spec: ProceduralSpec) -> None:
    for name, chosen, known in (("material", spec.materials, MATERIALS), ("kind", spec.kinds, DEFECT_KINDS)):
        unknown = [value for value in chosen if value not in known]
        if unknown:
            raise ConfigError(f"unknown {name} {unknown[0]!r}: one of {', '.join(known)}")
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"a {name} is named twice: {', '.join(chosen)}")
    if min(spec.normal_train, spec.normal_test, spec.per_kind, spec.seed) < 0:
        raise ConfigError("the counts and the seed of a procedural dataset must not be negative")
    if not spec.materials or sum(count for _, _, count in _groups(spec)) == 0:
        raise ConfigError("a procedural dataset needs at least one material and one image")


def _write(root: Path, key: ImageKey, size: Size) -> None:
    image, mask = draw_image(key, size)
    _save(root / key.material / key.split / key.kind / f"{key.index:03d}.png", image)
    if mask is not None:
        _save(root / key.material / "ground_truth" / key.kind / f"{key.index:03d}_mask.png", np.uint8(255) * mask)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
