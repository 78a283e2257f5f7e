"""Fine-tuning as an artifact: the adapters of a run's epochs, trained once, a killed run goes on."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exdd_ray.config.base import identity, without
from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.masks import read_pair
from exdd_ray.progress import Progress
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.synthesizers.chunk import contents
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.lora.config import LoraConfig, TuningConfig, kept_epochs
from exdd_ray.synthesizers.lora.instances import (
    Instance,
    instances,
    masked_instance,
    training_rows,
    whole_instance,
)
from exdd_ray.synthesizers.lora.latents import LatentInstance, encoded
from exdd_ray.synthesizers.lora.layers import TrainedLayers, add_layers, split_words, write_adapter
from exdd_ray.synthesizers.lora.loss import Drawn, denoising_loss
from exdd_ray.synthesizers.painting.denoiser import (
    Condition,
    compute_activations_anew,
    encode_nothing,
    encode_prompts,
    noise_seed,
    pipeline_to_train,
)
from exdd_ray.synthesizers.painting.model import check_prompts
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.segmentation import segmenters
from exdd_ray.synthesizers.synthesize import SyntheticSample, synthesize
from exdd_ray.synthesizers.synthesizer import NeededDefects, Resources
from exdd_ray.training.checkpoint import WEIGHTS, checkpoint_folder, read_modules
from exdd_ray.training.learner import Learner, ShuffledBatches
from exdd_ray.training.stored import memory_remark, trained, training_recipe

VERSION = 2
_NAME = "layers"

Job = ChunkJob[LoraConfig]


def tuning_recipe(job: Job) -> Recipe | None:
    """Names the adapters of a config's fine-tuning; None where it has none. Images are hashed, nothing is computed.

    Raises DataError where there is no image to learn from.
    """
    tuning = job.config.tuning
    if tuning is None or job.model is None:
        return None
    seed = _seed(job, tuning)
    rows = training_rows(job, tuning, seed)
    what = {
        "tuning": without(identity(tuning), "training", "seed"),
        "training": without(training_recipe(tuning.training), "checkpoint_every"),
        "painting": _painting(job.config, tuning),
        "model": job.model.digest,
        "seed": seed,
    }
    learnt = contents(
        [row for row in rows if row.label == 0],
        [row for row in rows if row.label],
        NeededDefects("", pixels=True),
        job.files,
    )
    # masks that are drawn on normal images: those of defects, where some are taken, and where the part is
    places = contents((), job.defects, None, segmenters(job.config)) if tuning.images == "normal" else ()
    kinds = [row.defect for row in rows] if any(token.kind for token in tuning.tokens) else []
    return Recipe("adapters", VERSION, {**what, "kinds": kinds}, (*learnt, *places, *_prior_keys(job, tuning)))


def _painting(config: LoraConfig, tuning: TuningConfig) -> dict[str, Any]:
    """What of the painting the training depends on: how images are cut, and the masks of those that have none."""
    names = ["base", "size", "crop_padding", "margin", "working_size", "clip_skip"]
    names += ["masks"] * (tuning.images == "normal")
    return {name: value for name, value in identity(config).items() if name in names}


def epoch_folder(folder: Path, epoch: int) -> Path:
    """Where the adapter after an epoch lies in an artifact."""
    return folder / f"epoch-{epoch:04d}"


def paint_prior(job: Job, resources: Resources) -> None:
    """Put the regularisation images of a config's fine-tuning into the store. Raises UserError as `synthesize`."""
    tuning = job.config.tuning
    assert tuning is not None
    if tuning.prior_weight:
        base, normal, defects = _prior(job, tuning)
        synthesize(
            base, normal, defects, _seed(job, tuning), resources.store, run=resources.paint, progress=resources.progress
        )


def fine_tune(job: Job, store: Store, progress: Progress) -> None:
    """Put the adapters of a config's fine-tuning into the store, which has its regularisation images.

    Raises DataError for too few images, ConfigError for a prompt that is too long, UserError for a model that cannot be
    had or tuned, TrainingError as `train`.
    """
    tuning, recipe = job.config.tuning, job.training
    assert tuning is not None
    assert recipe is not None
    seed, pipeline = _seed(job, tuning), _tuned_pipeline(job.config, tuning)
    split = _split_remarks(pipeline, tuning)
    layers = add_layers(pipeline, tuning, seed)
    check_prompts(pipeline, tuning.prompts())
    rows = training_rows(job, tuning, seed)
    count = len(rows) * tuning.repeats * (2 if tuning.prior_weight else 1)
    order = ShuffledBatches(count, tuning.training.batch, seed, drop_last=True)
    images = _images(job, rows, tuning, pipeline, store)
    pipeline.vae.to("cpu")
    steps = tuning.epochs * order.per_epoch
    config = tuning.training.model_copy(update={"checkpoint_every": tuning.keep_every * order.per_epoch})
    trained(
        _learner(layers, images, order, pipeline, job.config, tuning, steps, seed),
        steps,
        config=config,
        recipe=recipe,
        store=store,
        describe=lambda: {"split": split, "images": len(images)},
        collect=partial(_collect, layers, tuning, job, order.per_epoch),
        progress=progress,
    )


def tuning_remarks(job: Job) -> tuple[str, ...]:
    """What a reader must know of a fine-tuning that was done."""
    tuning, done = job.config.tuning, job.trained
    return () if tuning is None or done is None else (*done.metadata["split"], *memory_remark(done, tuning.training))


def _learner(
    layers: TrainedLayers,
    images: Sequence[LatentInstance],
    order: ShuffledBatches,
    pipeline: Any,
    config: LoraConfig,
    tuning: TuningConfig,
    steps: int,
    seed: int,
) -> Learner[Drawn]:
    from diffusers.optimization import get_cosine_with_hard_restarts_schedule_with_warmup

    optimizer = torch.optim.AdamW(layers.parameters(), lr=tuning.learning_rate, fused=True)
    schedule = get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, 0, steps, tuning.cycles)
    conditions = _conditions({"", *(one.prompt for one in images)}, pipeline, config, layers)

    def draw(step: int) -> list[Drawn]:
        chosen, rng = order(step), np.random.default_rng([seed, step])
        left_out = rng.uniform(size=len(chosen)) < tuning.unprompted
        return [
            Drawn(images[at], "" if alone else images[at].prompt, noise_seed(seed, step, place))
            for place, (at, alone) in enumerate(zip(chosen, left_out, strict=True))
        ]

    def loss(drawn: Sequence[Drawn], _: int) -> Tensor:
        encoding = conditions({one.prompt for one in drawn})
        return denoising_loss(drawn, encoding, pipeline, min_snr=tuning.min_snr, outside=tuning.outside)

    return Learner({_NAME: layers}, [optimizer], [schedule], draw, loss, seed)


def _conditions(
    prompts: set[str], pipeline: Any, config: LoraConfig, layers: TrainedLayers
) -> Callable[[set[str]], Mapping[str, Condition]]:
    """Gives the encodings of prompts: anew each time where encoders are trained, else those of before."""

    def encode(prompt: str) -> Condition:
        if not prompt:
            return encode_nothing(pipeline, config.clip_skip)
        return encode_prompts(pipeline, [prompt], config.clip_skip)[0]

    if any(not name.startswith("unet.") for name in layers.names):
        return lambda wanted: {prompt: encode(prompt) for prompt in sorted(wanted)}
    with torch.no_grad():
        known = {prompt: encode(prompt) for prompt in sorted(prompts)}
    return lambda _: known


def _images(
    job: Job, rows: Sequence[CatalogRow], tuning: TuningConfig, pipeline: Any, store: Store
) -> list[LatentInstance]:
    """Images to learn, and as many regularisation images, which take turns."""
    seed = _seed(job, tuning)
    learnt = encoded(instances(job, rows, tuning, pipeline, seed), pipeline)
    if not tuning.prior_weight:
        return learnt
    base, normal, defects = _prior(job, tuning)
    made = synthesize(base, normal, defects, seed, store).samples[: len(learnt)]
    prior = encoded((_regularisation(sample, job.config, tuning, pipeline) for sample in made), pipeline)
    return learnt + [prior[at % len(prior)] for at in range(len(learnt))]


def _regularisation(sample: SyntheticSample, config: LoraConfig, tuning: TuningConfig, pipeline: Any) -> Instance:
    image, mask = read_pair(sample.row)
    if mask is None:
        return whole_instance(image, sample.prompt, config, "stretch", pipeline, tuning.prior_weight)
    return masked_instance(image, mask, sample.prompt, config, pipeline, tuning.prior_weight)


def _prior(job: Job, tuning: TuningConfig) -> tuple[LoraConfig, Any, Any]:
    """The synthesis of regularisation images: what the untuned model paints of the class."""
    untuned = {"tuning": None, "epoch": None, "prompts": (tuning.class_prompt,), "count": tuning.prior_images}
    base = job.config.model_copy(update={**untuned, "output": None, "merge": 1.0, "filters": None})
    return base, build_catalog(list(job.backgrounds)), build_catalog(list(job.defects))


def _prior_keys(job: Job, tuning: TuningConfig) -> list[str]:
    if not tuning.prior_weight:
        return []
    base, normal, defects = _prior(job, tuning)
    return [chunk.recipe.key for chunk in plan_chunks(base, normal, defects, _seed(job, tuning))]


def _seed(job: Job, tuning: TuningConfig) -> int:
    return job.seed if tuning.seed is None else tuning.seed


def _tuned_pipeline(config: LoraConfig, tuning: TuningConfig) -> Any:
    pipeline = pipeline_to_train(config, tuning.training)
    if tuning.gradient_checkpointing:
        compute_activations_anew(pipeline, encoders_too=tuning.text_encoder)
    return pipeline


def _split_remarks(pipeline: Any, tuning: TuningConfig) -> list[str]:
    """The remark on words that the tokenizer takes apart, and that are not added to it."""
    split = [] if tuning.new_words else split_words(pipeline.tokenizer, tuning)
    parts = {word: " + ".join(pipeline.tokenizer.tokenize(word)) for word in split}
    remedy = "and they mean something already: take a word that is one token, or tuning.new_words=true"
    return [f"the tokenizer splits the word {word!r} into {part}, {remedy}" for word, part in parts.items()]


def _collect(
    layers: TrainedLayers, tuning: TuningConfig, job: Job, per_epoch: int, folder: Path, checkpoints: Path
) -> None:
    """Write the adapter of every kept epoch."""
    assert job.model is not None
    for epoch in kept_epochs(tuning):
        read_modules(checkpoint_folder(checkpoints, epoch * per_epoch) / WEIGHTS, {_NAME: layers})
        write_adapter(layers, tuning, job.model, epoch_folder(folder, epoch))
