"""Values in files that may not mean what they are read as: masks of many values or inverted, and unused bits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import deep_colour, sixteen_bit
from exdd_ray.data.masks import mask_files, mask_threshold, mask_values, unite_masks

_DEEP = 16
_GREY = 0.2
_LEAST_DEPTH = 9  # that dataset.bit_depth takes


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """What the values of a defect's mask are, and what is made of them.

    Attributes:
        id: of its image.
        levels: number of distinct values.
        highest: of the values.
        threshold: the highest value that is read as normal.
        grey: share of the marked pixels (a good deal above the lowest value) that are read as normal all the same.
        share: of the pixels that are read as defective.
    """

    id: str
    levels: int
    highest: int
    threshold: int
    grey: float
    share: float


def mask_facts(row: CatalogRow) -> MaskFacts:
    """Read the mask of a row that has one; of several files those of the one of which most is read as normal.

    Raises ImageError where it is unreadable.
    """
    assert row.mask is not None
    facts, defects = zip(*(_file_facts(row, file) for file in mask_files(row.mask)), strict=True)
    return replace(max(facts, key=lambda of_file: of_file.grey), share=float(unite_masks(row.mask, defects).mean()))


def _file_facts(row: CatalogRow, file: str) -> tuple[MaskFacts, np.ndarray]:
    """The facts of one file, and its defect pixels bool [H x W]."""
    values = mask_values(file, by_index=row.mask_threshold is not None)
    threshold = mask_threshold(values) if row.mask_threshold is None else row.mask_threshold
    levels = np.unique(values)
    lowest, highest = int(levels[0]), int(levels[-1])
    marked = values > lowest + (highest - lowest) // 8  # not what a lossy format leaves around a shape
    defects = values > threshold
    facts = MaskFacts(
        id=row.id,
        levels=len(levels),
        highest=highest,
        threshold=threshold,
        grey=float((values[marked] <= threshold).mean()) if marked.any() else 0.0,
        share=float(defects.mean()),
    )
    return facts, defects


def mask_notes(masks: Sequence[MaskFacts]) -> Iterator[str]:
    """What a user should look at: masks of many values of which much is read as normal, and inverted ones."""
    many = [mask for mask in masks if mask.levels > 2 and mask.grey > _GREY]
    if many:
        first = max(many, key=lambda mask: mask.grey)
        yield (
            f"{len(many)} of {len(masks)} masks have more than two values, and {_GREY:.0%} or more of their marked "
            f"pixels are read as normal (the worst: {first.id}, {first.grey:.0%}, with values up to {first.highest} of "
            f"which those above {first.threshold} count): dataset.mask_threshold sets another"
        )
    wide = [mask for mask in masks if mask.share > 0.5]
    if wide:
        yield (
            f"{len(wide)} of {len(masks)} masks mark more than half of their image (the first: {wide[0].id}, "
            f"{wide[0].share:.0%}): are they inverted?"
        )


@dataclass(frozen=True, kw_only=True)
class DeepFacts:
    """An image file of 16 bits a value.

    Attributes:
        highest: of its values.
        colour: whether it has three channels, of which only the upper 8 bits are read.
    """

    highest: int
    colour: bool


def deep_facts(path: str) -> DeepFacts | None:
    """What a 16-bit image file holds; None for other files. Raises ImageError for values that do not fit 16 bits."""
    colour = deep_colour(path)
    with Image.open(path) as image:
        if colour:
            return DeepFacts(highest=256 * int(np.asarray(image).max()) + 255, colour=True)
        return DeepFacts(highest=int(sixteen_bit(path, image).max()), colour=False) if image.mode[0] == "I" else None


def depth_notes(images: Sequence[DeepFacts], bit_depth: int | None) -> Iterator[str]:
    """Whether 16-bit images that are read as so many bits leave the upper ones unused."""
    for colour in (False, True):
        highest = max((image.highest for image in images if image.colour is colour), default=0)
        used, read = max(highest.bit_length(), _LEAST_DEPTH), _DEEP if colour or bit_depth is None else bit_depth
        if not highest or used >= read:
            continue
        levels = (255 * highest + 2 ** (read - 1)) // (2**read - 1) + 1
        remedy = "files of 8 bits a channel would keep more" if colour else f"dataset.bit_depth={used} uses all 256"
        yield (
            f"{sum(image.colour is colour for image in images)} images have 16 bits{' a channel' * colour}, of which "
            f"values up to {highest} use {used}: read as {read} bits they have {levels} levels, and {remedy}"
        )
