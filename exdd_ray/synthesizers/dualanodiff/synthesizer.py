"""DualAnoDiff, as the table of synthesizers lists it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from exdd_ray.config.base import Size
from exdd_ray.synthesizers.dualanodiff.config import ASKED_BY, DualConfig
from exdd_ray.synthesizers.synthesizer import Model, NeededDefects, Synthesizer, Training

if TYPE_CHECKING:
    from exdd_ray.progress import Progress
    from exdd_ray.store.artifact import Recipe, Store
    from exdd_ray.synthesizers.job import ChunkJob, Painted
    from exdd_ray.training.config import TrainConfig


def _make(jobs: "Sequence[ChunkJob[DualConfig]]") -> "Iterator[Painted]":
    from exdd_ray.synthesizers.dualanodiff.samples import pair_samples

    return pair_samples(jobs)


def _defects(config: DualConfig) -> NeededDefects | None:
    return None if config.tuning is None else NeededDefects(ASKED_BY, pixels=True, masks=False)


def _model(config: DualConfig) -> Model:
    from exdd_ray.store.contents import content_digests
    from exdd_ray.synthesizers.dualanodiff.adapter import tuning_of
    from exdd_ray.synthesizers.painting.model import model_digest, revision_of
    from exdd_ray.synthesizers.segmentation import segmenters

    name, digest = config.model, model_digest(config)
    if config.adapter is not None:
        file = config.adapter.expanduser()
        contents = content_digests([file, *segmenters(tuning_of(file))])
        name, digest = f"{name} + {file.name}", " ".join([digest, *contents])
    return Model(name, revision_of(config), digest)


def _pinned(config: DualConfig) -> DualConfig:
    from exdd_ray.synthesizers.painting.model import pinned

    return pinned(config)


def _remarks(config: DualConfig, _: Size | None) -> tuple[str, ...]:
    seen = (
        "the painter was tuned on all training defects: a detector that holds some of them out to choose by "
        "(checkpoint=validation) has seen them in its synthetic images"
    )
    return (seen,) * (config.tuning is not None)


def _recipe(job: "ChunkJob[DualConfig]") -> "Recipe | None":
    from exdd_ray.synthesizers.dualanodiff.tune import tuning_recipe

    return tuning_recipe(job)


def _loop(config: DualConfig) -> "TrainConfig":
    assert config.tuning is not None
    return config.tuning.training


def _train(job: "ChunkJob[DualConfig]", store: "Store", progress: "Progress") -> None:
    from exdd_ray.synthesizers.dualanodiff.tune import tune

    tune(job, store, progress)


def _remarks_of_tuning(job: "ChunkJob[DualConfig]") -> tuple[str, ...]:
    from exdd_ray.synthesizers.dualanodiff.tune import tuning_remarks

    return tuning_remarks(job)


SYNTHESIZER = Synthesizer(
    config=DualConfig,
    version=2,
    make=_make,
    prompts=lambda config: config.kinds or ("",),
    defects=_defects,
    model=_model,
    run=lambda config: config.run,
    pinned=_pinned,
    training=Training(recipe=_recipe, config=_loop, train=_train, remarks=_remarks_of_tuning),
    remarks=_remarks,
)
