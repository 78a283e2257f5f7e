"""Supervised training on cells: which program, which defect."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.data.procedural.defects import DEFECT_KINDS
from exdd_ray.errors import ConfigError
from exdd_ray.weights.surface_resnet18.batches import IGNORED, Batch, defect_batch, texture_batch
from exdd_ray.weights.surface_resnet18.model import Heads, Trunk, seeded_model
from exdd_ray.weights.surface_resnet18.pools import Pools, region_maps


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the backbone is trained.

    Attributes:
        textures: images of a step that show program mosaics (0: this task is left out).
        defects: images of a step that show defects (0: left out).
        side: side of the crops in pixels, a multiple of 16.
        mosaics: number of partitions of the square that the mosaics use.
        rate: the highest learning rate of AdamW.
        decay: AdamW's weight decay.
        whole_weight: weight of a defect-free cell in the defect loss; most cells are such.
        seed: seeds the weights and the batches.
    """

    textures: int = 16
    defects: int = 16
    side: int = 64
    mosaics: int = 400
    rate: float = 2e-3
    decay: float = 0.02
    whole_weight: float = 0.25
    seed: int = 0


@dataclass(frozen=True)
class StepState:
    """The state after a step: its number from 1, the share of the budget used, the losses, the images a second."""

    step: int
    used: float
    texture_loss: float
    defect_loss: float
    speed: float


class Trainer:
    """Trunk, heads and optimizer; each step of `run` trains on one mixed batch."""

    def __init__(self, pools: Pools, recipe: Recipe) -> None:
        if recipe.textures + recipe.defects == 0:
            raise ConfigError("a recipe needs texture or defect images in its batches")
        if recipe.side % 16 or recipe.side > pools.defective.shape[1]:
            raise ConfigError(f"crops of {recipe.side} px: a multiple of 16, at most {pools.defective.shape[1]}")
        self.pools = pools
        self.recipe = recipe
        self.maps = region_maps(recipe.mosaics, recipe.side, recipe.seed)
        self.trunk, self.heads = seeded_model(
            textures=len(pools.textures), defects=len(DEFECT_KINDS) + 1, seed=recipe.seed
        )
        self.trunk.to(memory_format=torch.channels_last)
        weights = [*self.trunk.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=recipe.decay)

    def run(self, *, seconds: float | None = None, steps: int | None = None) -> Iterator[StepState]:
        """Trains until the time or the number of steps is used up, the learning rate following it; yields each step."""
        if (seconds is None) == (steps is None):
            raise ConfigError("give the training a number of seconds or of steps, not both")
        if (seconds or steps or 0) <= 0:
            raise ConfigError("the training needs more than no time")
        rng = np.random.default_rng([self.recipe.seed, 4])
        begin, step, used = time.monotonic(), 0, 0.0
        while used < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate * schedule(used)
            started = time.monotonic()
            texture_loss, defect_loss = self._step(rng)
            step += 1
            speed = (self.recipe.textures + self.recipe.defects) / (time.monotonic() - started)
            used = step / steps if steps else (time.monotonic() - begin) / (seconds or 1.0)
            yield StepState(step, min(used, 1.0), texture_loss, defect_loss, speed)
        self.trunk.eval()

    def _step(self, rng: np.random.Generator) -> tuple[float, float]:
        recipe = self.recipe
        batches: list[Batch] = []
        if recipe.textures:
            batches.append(texture_batch(self.pools, self.maps, recipe.textures, rng))
        if recipe.defects:
            batches.append(defect_batch(self.pools, recipe.side, recipe.defects, rng))
        images = torch.cat([batch.images for batch in batches]).contiguous(memory_format=torch.channels_last)
        levels = self.trunk(images)
        texture_loss = torch.zeros(())
        defect_loss = torch.zeros(())
        if recipe.textures:
            texture_loss = _texture_loss(self.heads, [level[: recipe.textures] for level in levels], batches[0])
        if recipe.defects:
            rest = [level[recipe.textures :] for level in levels]
            defect_loss = _defect_loss(self.heads, rest, batches[-1], recipe.whole_weight)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(texture_loss + 2 * defect_loss)
        self.optimizer.step()
        return texture_loss.item(), defect_loss.item()


def schedule(used: float) -> float:
    """Share of the highest rate once this share of the budget is used: linear warm-up over 5 %, then a cosine."""
    if used < 0.05:
        return 0.05 + 0.95 * used / 0.05
    return 0.5 * (1 + float(np.cos(np.pi * (used - 0.05) / 0.95))) + 1e-3


def _texture_loss(heads: Heads, levels: list[Tensor], batch: Batch) -> Tensor:
    """Mean cross-entropy over the cells, averaged over layer2 and layer3."""
    losses = [
        functional.cross_entropy(head(level), labels, ignore_index=IGNORED)
        for head, level, labels in zip(heads.texture, levels, batch.labels, strict=True)
    ]
    return torch.stack(losses).mean()


def _defect_loss(heads: Heads, levels: list[Tensor], batch: Batch, whole_weight: float) -> Tensor:
    weights = torch.ones(len(DEFECT_KINDS) + 1)
    weights[0] = whole_weight
    losses = [
        functional.cross_entropy(head(level), labels, weight=weights, ignore_index=IGNORED)
        for head, level, labels in zip(heads.defect, levels, batch.labels, strict=True)
    ]
    return torch.stack(losses).mean()


def trained_trunk(trainer: Trainer) -> Trunk:
    """The trainer's trunk in evaluation mode and plain memory format."""
    return trainer.trunk.eval().to(memory_format=torch.contiguous_format)
