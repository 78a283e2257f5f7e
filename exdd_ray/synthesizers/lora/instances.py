"""The images that a fine-tuning learns from, as the model sees them: which, how they are cut, and their prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from exdd_ray.config.base import Size
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import grown, read_pair
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.lora.config import LoraConfig, TuningConfig
from exdd_ray.synthesizers.painting.masks import pick_mask

_BUCKET_CELLS = 8  # sides of a bucket are multiples of so many cells of the latent grid, which the UNet halves thrice
_DRAW = 3  # second word of the seed: which images are drawn does not depend on how they are cut


@dataclass(frozen=True)
class Instance:
    """An image to learn.

    Attributes:
        image: float32 [1 x 3 x h x w] of -1..1.
        mask: float32 [1 x 1 x h x w], 1 where the model may paint; all of it without a mask.
        prompt: that the image belongs to.
        weight: of its loss.
    """

    image: Tensor
    mask: Tensor
    prompt: str
    weight: float = 1.0


def training_rows(job: ChunkJob[LoraConfig], tuning: TuningConfig, seed: int) -> list[CatalogRow]:
    """The images that are learnt from.

    Raises DataError where no defect, or none of the `shots`, is of a kind that has a word.
    """
    given = job.backgrounds if tuning.images == "normal" else job.defects
    kinds = {token.kind for token in tuning.tokens}
    rows = [row for row in given if None in kinds or row.defect in kinds]
    if missing := kinds - {None} - {row.defect for row in rows}:
        there = ", ".join(sorted({row.defect for row in given})) or "none"
        raise DataError(
            f"synthesizer.tuning.tokens: no training defect is of kind {min(map(str, missing))!r} (there: {there})"
        )
    if tuning.shots is None or tuning.shots >= len(rows):
        return rows
    chosen = np.random.default_rng([seed, _DRAW]).permutation(len(rows))[: tuning.shots]
    drawn = [rows[at] for at in sorted(chosen)]
    if missing := kinds - {None} - {row.defect for row in drawn}:
        raise DataError(
            f"synthesizer.tuning.shots={tuning.shots} leaves no defect of kind {min(map(str, missing))!r} to learn"
        )
    return drawn


def instances(
    job: ChunkJob[LoraConfig], rows: Sequence[CatalogRow], tuning: TuningConfig, pipeline: Any, seed: int
) -> Iterator[Instance]:
    """Every repeat of every image; with an inpainting base each has a mask and a crop of its own.

    The mask is that of the defect; that of a normal image is drawn as for painting.

    Raises ImageError for an unreadable image or mask, DataError for a defect without a mask with an inpainting base.
    """
    config, words = job.config, {token.kind: token.word for token in tuning.tokens}
    for number, row in enumerate(rows):
        image, mask = read_pair(row, working_size=config.working_size)
        prompt = tuning.prompt.replace("{token}", words.get(row.defect) or words[None])
        if config.whole and not tuning.flips:
            yield from [whole_instance(image, prompt, config, tuning.aspect, pipeline)] * tuning.repeats
            continue
        for repeat in range(tuning.repeats):
            rng = np.random.default_rng([seed, number, repeat])
            turned, place = _turned(image, mask, rng) if tuning.flips else (image, mask)
            if config.whole:
                yield whole_instance(turned, prompt, config, tuning.aspect, pipeline)
            else:
                where = _somewhere(job, turned, rng) if row.label == 0 else _of_defect(place, row)
                yield masked_instance(turned, where, prompt, config, pipeline)


def _of_defect(mask: np.ndarray | None, row: CatalogRow) -> np.ndarray:
    if mask is None or not mask.any():
        raise DataError(f"{row.image}: an inpainting base learns defects in their masks, and this one has none")
    return mask


def _somewhere(job: ChunkJob[LoraConfig], image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ground = foreground(image, job.config.masks.foreground)
    picked = pick_mask(job.config.masks, (image.shape[0], image.shape[1]), ground, job.defects, rng, library=job.files)
    return picked.mask


def masked_instance(
    image: np.ndarray, mask: np.ndarray, prompt: str, config: LoraConfig, pipeline: Any, weight: float = 1.0
) -> Instance:
    """An image uint8 [H x W x 3] and a mask bool [H x W] as they are cut for painting, its margin included."""
    height, width = config.size
    drawn, where = Image.fromarray(image), Image.fromarray(grown(mask, config.margin).astype(np.uint8) * 255)
    crop, mode = None, "default"
    if config.crop_padding is not None:
        crop, mode = pipeline.mask_processor.get_crop_region(where, width, height, pad=config.crop_padding), "fill"
    how = {"height": height, "width": width, "crops_coords": crop, "resize_mode": mode}
    levels = pipeline.mask_processor.preprocess(where, **how)
    return Instance(pipeline.image_processor.preprocess(drawn, **how), (levels > 0.5).float(), prompt, weight)


def whole_instance(
    image: np.ndarray, prompt: str, config: LoraConfig, aspect: str, pipeline: Any, weight: float = 1.0
) -> Instance:
    """An image uint8 [H x W x 3] at the model's size, or in a bucket of about its aspect."""
    target = config.size
    if aspect == "bucket":
        step = _BUCKET_CELLS * pipeline.image_processor.config.vae_scale_factor
        target = bucket_of((image.shape[0], image.shape[1]), config.size, step)
        image = _covering(image, target)
    picture = pipeline.image_processor.preprocess(Image.fromarray(image), height=target[0], width=target[1])
    return Instance(picture, torch.ones(1, 1, *target), prompt, weight)


def bucket_of(image: Size, size: Size, step: int) -> Size:
    """Of all (height, width) in multiples of `step` with at most the area of `size`, the largest of those whose aspect
    is nearest to the image's (NovelAI's aspect-ratio buckets); sides are between half and twice those of `size`.

    Raises ConfigError for a size that is smaller than a step.
    """
    area, aspect = size[0] * size[1], image[0] / image[1]
    least, most = max(step, min(size) // 2), 2 * max(size)
    sides = [(h, w) for h in range(step, most + 1, step) for w in (area // h // step * step,) if least <= min(h, w)]
    sides = [side for side in sides if max(side) <= most]
    if not sides:
        raise ConfigError(f"synthesizer.tuning.aspect=bucket needs a synthesizer.size of at least {step} x {step}")
    return min(sides, key=lambda side: (abs(np.log(side[0] / side[1] / aspect)), -side[0] * side[1]))


def _turned(
    image: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mirrored at random: left to right, and top to bottom."""
    axes = tuple(axis for axis in (0, 1) if rng.uniform() < 0.5)
    turned = np.ascontiguousarray(np.flip(image, axes))
    return turned, None if mask is None else np.ascontiguousarray(np.flip(mask, axes))


def _covering(image: np.ndarray, size: Size) -> np.ndarray:
    """Resized, its aspect kept, so that it just covers the size, and cut to it centrally."""
    scale = max(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(round(side * scale), least) for side, least in zip(image.shape, size, strict=False))
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized[top : top + size[0], left : left + size[1]]
