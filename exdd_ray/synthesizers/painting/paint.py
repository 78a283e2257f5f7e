"""Painting scenes with an inpainting pipeline: many prompts and images in one call, each with noise of its own."""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from exdd_ray.device import out_of_memory
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.synthesizers.painting.adapter import Adapter
from exdd_ray.synthesizers.painting.config import PaintConfig
from exdd_ray.synthesizers.painting.model import check_prompts, load_pipeline

Scenes = TypeVar("Scenes")
_log = logging.getLogger(__name__)
NOT_FINITE = "the model made NaN values"


@dataclass(frozen=True)
class Scene:
    """What is to be painted.

    Attributes:
        canvas: uint8 [H x W x 3].
        mask: bool [H x W], where.
        prompt: what.
        seed: of the sample's own noise.
    """

    canvas: np.ndarray
    mask: np.ndarray
    prompt: str
    seed: int


@dataclass(frozen=True)
class _Prepared:
    """A scene as the model gets it: image and mask [1 x C x h x w], and the crop of the canvas that they show."""

    scene: Scene
    image: torch.Tensor
    mask: torch.Tensor
    crop: tuple[int, int, int, int] | None


class Painter:
    """An inpainting pipeline with its settings; for one thread.

    diffusers paints crops (`padding_mask_crop`) one image a call. Here each scene is cropped and pasted back by
    itself, with diffusers' own functions, so that a batch can hold any scenes.

    Raises:
        UserError: the model cannot be had.
        ConfigError: a prompt that its encoder would cut, a size that it cannot work at, or a setting that it does not
            know.

    Attributes:
        batch: scenes in one call.
    """

    def __init__(self, config: PaintConfig, adapter: Adapter | None = None) -> None:
        self._config = config
        self._pipeline = load_pipeline(config, adapter)
        self.batch = config.run.batch
        self._accepted = set(inspect.signature(type(self._pipeline).__call__).parameters)
        if config.negative_prompt and "negative_prompt" not in self._accepted:
            raise ConfigError(f"{config.model} takes no negative prompt: leave synthesizer.negative_prompt empty")
        multiple = self._pipeline.image_processor.config.vae_scale_factor
        if any(side % multiple for side in config.size):
            height, width = config.size
            raise ConfigError(
                f"synthesizer.size {height} x {width} is not divisible by {multiple}, as {config.model} needs"
            )
        check_prompts(self._pipeline, (*config.prompts, config.negative_prompt))

    def paint(self, scenes: Sequence[Scene]) -> list[np.ndarray | str]:
        """For each scene the painted canvas uint8 [H x W x 3], or why there is none.

        A device that runs out of memory halves the batch, which is logged. A scene that the pipeline refuses does not
        lose the others.

        Raises:
            UserError: out of memory with a single image.
        """
        painted: list[np.ndarray | str] = []
        for found, batch in in_batches(self._paint_batch, scenes, self.batch):
            painted += found
            self.batch = batch
        return painted

    def _paint_batch(self, scenes: Sequence[Scene]) -> list[np.ndarray | str]:
        try:
            prepared = [self._prepare(scene) for scene in scenes]
            images = self._call(prepared)
        except ValueError as error:
            if len(scenes) == 1:
                return [f"the model refused it: {(str(error).strip().splitlines() or ['no reason given'])[0]}"]
            return [result for scene in scenes for result in self._paint_batch([scene])]
        return [self._finish(part, image) for part, image in zip(prepared, images, strict=True)]

    def _prepare(self, scene: Scene) -> _Prepared:
        height, width = self._config.size
        canvas, mask = Image.fromarray(scene.canvas), _mask_image(scene.mask)
        crop, mode = None, "default"
        if self._config.crop_padding is not None:
            pad = self._config.crop_padding
            crop, mode = self._pipeline.mask_processor.get_crop_region(mask, width, height, pad=pad), "fill"
        how = {"height": height, "width": width, "crops_coords": crop, "resize_mode": mode}
        image = self._pipeline.image_processor.preprocess(canvas, **how)
        return _Prepared(scene, image / 2 + 0.5, self._pipeline.mask_processor.preprocess(mask, **how), crop)

    def _call(self, prepared: Sequence[_Prepared]) -> np.ndarray:
        """Images float32 [B x h x w x 3] of 0..1."""
        config = self._config
        settings: dict[str, Any] = {
            "prompt": [part.scene.prompt for part in prepared],
            "image": torch.cat([part.image for part in prepared]),
            "mask_image": torch.cat([part.mask for part in prepared]),
            "height": config.size[0],
            "width": config.size[1],
            "strength": config.strength,
            "num_inference_steps": config.steps,
            "guidance_scale": config.guidance,
            "clip_skip": config.clip_skip or None,
            "original_size": config.size,
            "target_size": config.size,
            "generator": [torch.Generator("cpu").manual_seed(part.scene.seed) for part in prepared],
            "output_type": "np",
        }
        if config.negative_prompt:  # an empty one is not none: SDXL encodes it
            settings["negative_prompt"] = [config.negative_prompt] * len(prepared)
        known = {name: value for name, value in settings.items() if name in self._accepted}
        return np.asarray(self._pipeline(**known).images)

    def _finish(self, part: _Prepared, image: np.ndarray) -> np.ndarray | str:
        if not np.isfinite(image).all():
            return NOT_FINITE
        painted = Image.fromarray(np.round(image * 255).astype(np.uint8))
        canvas, mask = part.scene.canvas, part.scene.mask
        if self._config.colours == "canvas" and not self._config.whole and is_grey(canvas):
            painted = painted.convert("L").convert("RGB")
        if part.crop is None:
            whole = np.asarray(painted.resize((canvas.shape[1], canvas.shape[0]), Image.Resampling.LANCZOS))
            return np.where(mask[..., None], whole, canvas) if self._config.composite else whole
        overlay = self._pipeline.image_processor.apply_overlay
        return np.asarray(overlay(_mask_image(mask), Image.fromarray(canvas), painted, part.crop))


def in_batches(
    paint: Callable[[Sequence[Scenes]], list[Any]], scenes: Sequence[Scenes], batch: int
) -> Iterator[tuple[list[Any], int]]:
    """What `paint` makes of the scenes, `batch` at a time; yields each result with the batch in use.

    Out of memory, the batch is halved and the same scenes are tried again. Raises UserError where one is too many.
    """
    start = 0
    while start < len(scenes):
        try:
            found = paint(scenes[start : start + batch])
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if batch == 1:
                raise UserError(
                    "out of memory with one image: set synthesizer.run.memory=slicing or offload, a half precision, or "
                    "a smaller synthesizer.size"
                ) from error
            batch //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _log.warning("out of memory: batches of %d from now on", batch)
            continue
        start += batch
        yield found, batch


def is_grey(image: np.ndarray) -> bool:
    """Whether the channels of an image [H x W x 3] are alike."""
    return bool((image == image[..., :1]).all())


def _mask_image(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)
