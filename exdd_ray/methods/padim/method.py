"""PaDiM as a method."""

from collections.abc import Iterator

from exdd_ray.data.catalog import select_rows
from exdd_ray.methods.embedding import backbone_inputs, embed_universe, embedding_need, unembedded
from exdd_ray.methods.method import (
    GAUSSIANS,
    Fitted,
    LearnsFrom,
    Method,
    Need,
    PlannedFit,
    Resources,
    TrainingImages,
)
from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.store.hashes import digest


def _fit(config: PadimConfig, images: TrainingImages, resources: Resources, _: int) -> Fitted:
    from exdd_ray.methods.padim.detector import fit_padim, predict_from_files

    fitted = fit_padim(config, images.train, resources.embedder(config.features, images.universe))
    normal = select_rows(images.train, label=0).num_rows
    return Fitted(fitted.predict, lambda catalog: predict_from_files(fitted, catalog), (normal, 0, 0))


def _needs(config: PadimConfig, fit: PlannedFit, resources: Resources) -> Iterator[Need]:
    embedding = embedding_need(config, fit, resources)
    yield embedding
    normal = select_rows(fit.train, label=0)["id"].to_pylist()
    yield Need(GAUSSIANS, "artifacts", (digest([embedding.keys, normal, config.regularisation]),))


METHOD = Method(
    config=PadimConfig,
    learns_from=lambda _: LearnsFrom(defects=False, masks=False, name="PaDiM"),
    fit=_fit,
    needs=_needs,
    inputs=backbone_inputs,
    unfitted=("blur_radius",),
    faults=unembedded,
    prepare=embed_universe,
    reads_maps=True,
)
