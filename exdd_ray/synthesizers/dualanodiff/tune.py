"""Training as an artifact: the adapter of a kind of defect, trained once; a killed run goes on."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from exdd_ray.config.base import identity, without
from exdd_ray.progress import Progress
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.synthesizers.chunk import contents
from exdd_ray.synthesizers.dualanodiff.adapter import FILE, write_adapter
from exdd_ray.synthesizers.dualanodiff.boxes import Box, learnt_boxes
from exdd_ray.synthesizers.dualanodiff.config import DualConfig, DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.loss import DrawnPair, pair_loss
from exdd_ray.synthesizers.dualanodiff.network import DualLayers, add_branches
from exdd_ray.synthesizers.dualanodiff.pairs import LatentPair, check_box, latent_pairs, rows_of
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.painting.denoiser import (
    Condition,
    compute_activations_anew,
    encode_prompts,
    noise_seed,
    pipeline_to_train,
)
from exdd_ray.synthesizers.segmentation import segmenters
from exdd_ray.synthesizers.synthesizer import NeededDefects
from exdd_ray.training.learner import Learner, ShuffledBatches
from exdd_ray.training.stored import memory_remark, trained, training_recipe

VERSION = 2
_NAME = "layers"
_PAINTING = ("size", "window", "box", "working_size", "clip_skip")  # what of it training depends on

Job = ChunkJob[DualConfig]


def tuning_recipe(job: Job) -> Recipe | None:
    """Names the adapter of a chunk's kind; None where an adapter is given. Images are hashed, nothing is computed.

    Raises DataError for too few images, or without masks.
    """
    tuning = job.config.tuning
    if tuning is None or job.model is None:
        return None
    rows = rows_of(job.defects, job.prompt)
    what = {
        "tuning": without(identity(tuning), "training", "seed"),
        "training": training_recipe(tuning.training),
        "painting": {name: value for name, value in identity(job.config).items() if name in _PAINTING},
        "model": job.model.digest,
        "seed": _seed(job, tuning),
    }
    return Recipe("pairs", VERSION, what, contents([], rows, NeededDefects("", pixels=True), segmenters(tuning)))


def tune(job: Job, store: Store, progress: Progress) -> None:
    """Put the adapter of a chunk's kind into the store.

    Raises DataError for images that cannot be learnt from, ConfigError or UserError for a model that cannot be tuned or
    had, TrainingError as `train`.
    """
    tuning, recipe = job.config.tuning, job.training
    assert tuning is not None
    assert recipe is not None
    seed, pipeline = _seed(job, tuning), _pipeline(job.config, tuning)
    check_box(job.config, pipeline)
    layers = add_branches(pipeline, tuning, seed)
    rows = rows_of(job.defects, job.prompt)
    pairs = latent_pairs(rows, job.config, tuning, pipeline, seed)
    boxes = learnt_boxes([pair.surroundings for pair in pairs])
    learner = _learner(layers, pairs, pipeline, job.config, tuning, seed)
    pipeline.vae.to("cpu")
    trained(
        learner,
        tuning.steps,
        config=tuning.training,
        recipe=recipe,
        store=store,
        describe=lambda: {"images": len(rows), "kind": job.prompt},
        collect=partial(_collect, layers, tuning, boxes, job),
        progress=progress,
    )


def tuning_remarks(job: Job) -> tuple[str, ...]:
    """What a reader must know of a training that was done."""
    tuning, done = job.config.tuning, job.trained
    return () if tuning is None or done is None else memory_remark(done, tuning.training)


def _learner(
    layers: DualLayers,
    pairs: Sequence[LatentPair],
    pipeline: Any,
    config: DualConfig,
    tuning: DualTuningConfig,
    seed: int,
) -> Learner[DrawnPair]:
    order = ShuffledBatches(len(pairs), tuning.training.batch, seed, drop_last=True)
    prompts = branch_prompts(tuning)
    fixed = None if tuning.text_rank is not None else _encoded(pipeline, prompts, config)

    def draw(step: int) -> list[DrawnPair]:
        return [DrawnPair(pairs[at], noise_seed(seed, step, place)) for place, at in enumerate(order(step))]

    def loss(drawn: Sequence[DrawnPair], _: int) -> Tensor:
        conditions = encode_prompts(pipeline, prompts, config.clip_skip) if fixed is None else fixed
        return pair_loss(drawn, conditions, pipeline)

    optimizer = torch.optim.AdamW(layers.parameters(), lr=tuning.learning_rate)
    falling = CosineAnnealingLR(optimizer, tuning.steps) if tuning.schedule == "cosine" else None
    return Learner({_NAME: layers}, [optimizer], [falling], draw, loss, seed)


@torch.no_grad()
def _encoded(pipeline: Any, prompts: Sequence[str], config: DualConfig) -> list[Condition]:
    return encode_prompts(pipeline, prompts, config.clip_skip)


def branch_prompts(tuning: DualTuningConfig) -> list[str]:
    """Of whole images, of their parts, and of backgrounds where there are such."""
    both = [tuning.whole_prompt, tuning.part_prompt]
    return both if tuning.background is None else [*both, tuning.whole_prompt]


def _pipeline(config: DualConfig, tuning: DualTuningConfig) -> Any:
    pipeline = pipeline_to_train(config, tuning.training)
    if tuning.gradient_checkpointing:
        compute_activations_anew(pipeline, encoders_too=tuning.text_rank is not None)
    return pipeline


def _seed(job: Job, tuning: DualTuningConfig) -> int:
    return job.seed if tuning.seed is None else tuning.seed


def _collect(
    layers: DualLayers, tuning: DualTuningConfig, boxes: Sequence[Box], job: Job, folder: Path, _: Path
) -> None:
    assert job.model is not None
    write_adapter(layers, tuning, boxes, job.model, folder / FILE)
