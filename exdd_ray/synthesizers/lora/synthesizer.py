"""DreamBooth-LoRA, as the table of synthesizers lists it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from exdd_ray.config.base import Size
from exdd_ray.synthesizers.lora.config import LoraConfig
from exdd_ray.synthesizers.synthesizer import Model, NeededDefects, Resources, Synthesizer, Training

if TYPE_CHECKING:
    from exdd_ray.progress import Progress
    from exdd_ray.store.artifact import Recipe, Store
    from exdd_ray.synthesizers.job import ChunkJob, Painted
    from exdd_ray.synthesizers.painting.adapter import Adapter
    from exdd_ray.training.config import TrainConfig


def _make(jobs: "Sequence[ChunkJob[LoraConfig]]") -> "Iterator[Painted]":
    from exdd_ray.synthesizers.painting.samples import painted_samples

    return painted_samples(jobs, _adapter(jobs[0]))


def _adapter(job: "ChunkJob[LoraConfig]") -> "Adapter | None":
    from exdd_ray.synthesizers.lora.config import kept_epochs
    from exdd_ray.synthesizers.lora.tune import epoch_folder
    from exdd_ray.synthesizers.painting.adapter import LORA, Adapter, adapter_digest
    from exdd_ray.synthesizers.painting.model import model_digest

    config = job.config
    base = model_digest(config)
    if config.adapter is not None:
        file = config.adapter.expanduser()
        return Adapter(file, config.merge, f"{adapter_digest(file)} {config.merge}", base)
    if config.tuning is None or job.trained is None:
        return None
    epoch = config.epoch or kept_epochs(config.tuning)[-1]
    file = epoch_folder(job.trained.folder, epoch) / LORA
    return Adapter(file, config.merge, f"{job.trained.key} {epoch} {config.merge}", base)


def _defects(config: LoraConfig) -> NeededDefects | None:
    tuned = config.tuning is not None and config.tuning.images == "defects"
    if tuned:
        return NeededDefects("synthesizer.tuning.images=defects", pixels=True, masks=not config.whole)
    if config.masks.source == "positives" and not config.whole:
        return NeededDefects("masks.source=positives", pixels=False)
    return None


def _files(config: LoraConfig) -> tuple[str, ...]:
    from exdd_ray.synthesizers.painting.masks import library_files

    return library_files(config.masks.folder) if config.masks.folder and not config.whole else ()


def _model(config: LoraConfig) -> Model:
    from exdd_ray.synthesizers.painting.adapter import adapter_digest
    from exdd_ray.synthesizers.painting.model import model_digest, revision_of

    name, digest = config.model, model_digest(config)
    if config.adapter is not None:
        file = config.adapter.expanduser()
        name, digest = f"{name} + {file.name}", f"{digest} {adapter_digest(file)}"
    return Model(name, revision_of(config), digest)


def _pinned(config: LoraConfig) -> LoraConfig:
    from exdd_ray.synthesizers.painting.model import pinned

    return pinned(config)


def _remarks(config: LoraConfig, working_size: Size | None) -> tuple[str, ...]:
    from exdd_ray.synthesizers.painting.remarks import mask_leak, resampled_apart

    learnt = config.tuning is not None and config.tuning.images == "defects"
    seen = (
        "the painter was tuned on all training defects: a detector that holds some of them out to choose by "
        "(checkpoint=validation) has seen them in its synthetic images"
    )
    leaks = () if config.whole or learnt else mask_leak(config)  # what was learnt is known with its masks
    return leaks + resampled_apart(config, working_size) + (seen,) * learnt


def _recipe(job: "ChunkJob[LoraConfig]") -> "Recipe | None":
    from exdd_ray.synthesizers.lora.tune import tuning_recipe

    return tuning_recipe(job)


def _remarks_of_tuning(job: "ChunkJob[LoraConfig]") -> tuple[str, ...]:
    from exdd_ray.synthesizers.lora.tune import tuning_remarks

    return tuning_remarks(job)


def _loop(config: LoraConfig) -> "TrainConfig":
    assert config.tuning is not None
    return config.tuning.training


def _prepare(job: "ChunkJob[LoraConfig]", resources: Resources) -> None:
    from exdd_ray.synthesizers.lora.tune import paint_prior

    paint_prior(job, resources)


def _train(job: "ChunkJob[LoraConfig]", store: "Store", progress: "Progress") -> None:
    from exdd_ray.synthesizers.lora.tune import fine_tune

    fine_tune(job, store, progress)


SYNTHESIZER = Synthesizer(
    config=LoraConfig,
    version=2,
    make=_make,
    prompts=lambda config: config.prompts,
    defects=_defects,
    files=_files,
    model=_model,
    run=lambda config: config.run,
    pinned=_pinned,
    training=Training(recipe=_recipe, config=_loop, train=_train, prepare=_prepare, remarks=_remarks_of_tuning),
    masks=lambda config: not config.whole,
    remarks=_remarks,
)
