"""Painting pairs: whole images and their anomalous parts are denoised together, each pair from noise of its own."""

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.dualanodiff.adapter import load_adapter
from exdd_ray.synthesizers.dualanodiff.blend import blended
from exdd_ray.synthesizers.dualanodiff.boxes import Box
from exdd_ray.synthesizers.dualanodiff.config import DualConfig, DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.loss import by_branch, denoised, seen_around
from exdd_ray.synthesizers.dualanodiff.pairs import (
    LatentPair,
    backdrop_view,
    background_of,
    centred,
    check_box,
    encoded_views,
)
from exdd_ray.synthesizers.painting.denoiser import Condition, clean_of, encode_prompts
from exdd_ray.synthesizers.painting.model import check_prompts, fresh_pipeline, model_digest
from exdd_ray.synthesizers.painting.paint import in_batches, is_grey

_LUMA = (0.299, 0.587, 0.114)
_loaded: dict[Any, "PairPainter"] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class PairScene:
    """What a pair is painted on, at the model's size.

    Attributes:
        background: uint8 [h x w x 3].
        box: bool [h x w], in which an inpainting base paints.
        seed: of its noise.
    """

    background: np.ndarray
    box: np.ndarray
    seed: int


@dataclass(frozen=True)
class PairPainter:
    """A pipeline with an adapter; for any thread.

    Attributes:
        tuning: what the adapter was trained with.
        boxes: that it has learnt to paint in; none of a base that paints all.
        conditions: of a branch each, and of the empty prompt, of which guidance leads away.
    """

    config: DualConfig
    tuning: DualTuningConfig
    boxes: Sequence[Box]
    pipeline: Any
    conditions: Sequence[Condition]
    nothing: Condition

    def paint(self, scenes: Sequence[PairScene]) -> Iterator[tuple[list[np.ndarray], int]]:
        """Of each batch the pairs uint8 [2 x h x w x 3], the whole image first, and how many were painted at once.

        A device that runs out of memory halves the batch, which is logged. Raises UserError where one is too many.
        """
        return in_batches(self._paint, scenes, self.config.run.batch)

    @torch.no_grad()
    def _paint(self, scenes: Sequence[PairScene]) -> list[np.ndarray]:
        latents = self._denoise([self._encoded(scene) for scene in scenes], [scene.seed for scene in scenes])
        vae = self.pipeline.vae
        decoded = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
        images = (self.pipeline.image_processor.postprocess(decoded, output_type="np") * 255).round()
        pairs = np.stack(np.split(images, 2), axis=1)
        return [self._coloured(pair, scene.background) for pair, scene in zip(pairs, scenes, strict=True)]

    def _coloured(self, pair: np.ndarray, background: np.ndarray) -> np.ndarray:
        """A pair float [2 x h x w x 3] whose image is grey (ITU-R 601 luma) where its background is and is to be."""
        if self.config.colours == "canvas" and is_grey(background):
            pair[0] = (pair[0] @ _LUMA).round()[..., None]
        return pair

    def _encoded(self, scene: PairScene) -> LatentPair:
        """A normal image, a part that shows nothing, and the background."""
        image, how = scene.background, self.tuning.background
        views = [centred(image), backdrop_view(self.tuning.backdrop, (image.shape[0], image.shape[1]))]
        if how is not None:
            views.append(background_of(image, how))
        return encoded_views(views, scene.box, how, self.pipeline)

    def _denoise(self, scenes: Sequence[LatentPair], seeds: Sequence[int]) -> Tensor:
        """Latents [2N x C x h x w] of pairs, first of whole images, then of their parts."""
        schedule, device, pairs = copy.deepcopy(self.pipeline.scheduler), self.pipeline.unet.device, 2 * len(scenes)
        times, around, blend = self._times(schedule), seen_around(scenes), self.config.blend
        clean = [one.moments.chunk(2, dim=1)[0] for one in scenes]
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        noises = [torch.randn(one.shape, generator=source) for one, source in zip(clean, sources, strict=True)]
        there, noise = by_branch(clean).to(device), by_branch(noises).to(device)
        latents = noise[:pairs] * schedule.init_noise_sigma
        if self.config.strength < 1:
            latents = schedule.add_noise(there[:pairs], noise[:pairs], times[:1].repeat(pairs))
        for number, time in enumerate(times):
            seen = [
                schedule.add_noise(background, noise[pairs:], time.repeat(len(background)))
                for background in (torch.zeros_like(there[pairs:]), there[pairs:])
                if len(background)
            ]
            predicted = self._predicted(schedule, latents.chunk(2), seen, around, time)
            foreseen = clean_of(schedule, schedule.scale_model_input(latents, time), predicted, time)
            latents = schedule.step(predicted, time, latents, return_dict=False)[0]
            if blend is not None and number >= blend.start * len(times):
                latents = blended(latents, foreseen, there[:pairs], noise[:pairs], times[number + 1 :], schedule, blend)
        return latents

    def _predicted(
        self, schedule: Any, pair: Sequence[Tensor], seen: Sequence[Tensor], around: Tensor | None, time: Tensor
    ) -> Tensor:
        """What the denoiser predicts of pairs [2N x C x h x w], led away from the empty prompt by guidance.

        Args:
            pair: latents of whole images, and of parts.
            seen: noisy latents that the empty prompt sees as the background (of nothing), and those of the background;
                none without one.
            around: of `seen_around`.
        """
        guided, count, branches = self.config.guidance != 1, len(pair[0]), len(self.conditions)
        rows = [[latents, latents] for latents in pair] + ([list(seen)] if seen else [])
        halves = [[self.nothing, one] for one in self.conditions]
        if not guided:
            rows, halves = ([both[1:] for both in each] for each in (rows, halves))  # type: ignore[assignment]
        given = schedule.scale_model_input(torch.cat([half for both in rows for half in both]), time)
        conditions = [half for both in halves for half in both for _ in range(count)]
        if around is not None and guided:
            around = around.unflatten(0, (branches, 1, count)).expand(-1, 2, *[-1] * around.dim()).flatten(0, 2)
        predicted = denoised(given, time.repeat(len(given)), conditions, around, self.pipeline).float()
        each = predicted.unflatten(0, (branches, -1, count))[:2]
        towards = torch.lerp(each[:, 0], each[:, 1], self.config.guidance) if guided else each[:, 0]
        return towards.flatten(0, 1)

    def _times(self, schedule: Any) -> Tensor:
        """The times that are left of the schedule from the strength's noise on."""
        schedule.set_timesteps(self.config.steps, device=self.pipeline.unet.device)
        taken = max(int(self.config.steps * self.config.strength), 1)
        begin = (self.config.steps - taken) * schedule.order
        if hasattr(schedule, "set_begin_index"):
            schedule.set_begin_index(begin)
        times: Tensor = schedule.timesteps[begin:]
        return times


def pair_painter(config: DualConfig, file: Path, key: str) -> PairPainter:
    """The painter with an adapter's file, which the key names; the last one is kept.

    Raises:
        UserError: a model that cannot be had, an adapter that is not for it.
        ConfigError: a size that the model cannot work at, or a UNet that cannot denoise pairs.
    """
    made_of = (config, model_digest(config), key)
    with _loading:
        if made_of not in _loaded:
            _loaded.clear()
            _loaded[made_of] = _load(config, file)
        return _loaded[made_of]


@torch.no_grad()
def _load(config: DualConfig, file: Path) -> PairPainter:
    pipeline = fresh_pipeline(config)
    multiple = pipeline.image_processor.config.vae_scale_factor
    if any(side % multiple for side in config.size):
        height, width = config.size
        raise ConfigError(f"synthesizer.size {height} x {width} is not divisible by {multiple}")
    check_box(config, pipeline)
    learnt, boxes = load_adapter(pipeline, file, model_digest(config), config.model)
    tuning = config.tuning or learnt  # the same, but that a file known by content may lie elsewhere by now
    prompts = [tuning.whole_prompt, tuning.part_prompt]
    check_prompts(pipeline, tuple(prompts))
    whole, part, nothing = encode_prompts(pipeline, [*prompts, ""], config.clip_skip)
    conditions = [whole, part] if tuning.background is None else [whole, part, whole]
    return PairPainter(config, tuning, boxes, pipeline, conditions, nothing)
