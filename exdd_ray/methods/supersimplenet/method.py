"""SuperSimpleNet as a method."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa

from exdd_ray.methods.embedding import backbone_inputs, embed_universe, embedding_need, unembedded
from exdd_ray.methods.method import Fitted, LearnsFrom, Method, Need, PlannedFit, Resources, TrainingImages, counts
from exdd_ray.methods.supersimplenet.config import SuperSimpleNetConfig
from exdd_ray.methods.trained import networks_need
from exdd_ray.progress import silent


def _fit(config: SuperSimpleNetConfig, images: TrainingImages, resources: Resources, seed: int) -> Fitted:
    from exdd_ray.methods.supersimplenet.detector import fit_supersimplenet, predict_from_files

    embedder = resources.embedder(config.features, images.universe)
    embedder.samples(images.train)  # so that processes that train find all vectors in the store
    alone = replace(embedder, run=None, order=None, search=None, progress=silent, covers={}, _known={})
    elsewhere = partial(fit_supersimplenet, config, images.train, alone, seed)
    remote = resources.remote_training(elsewhere, config.training)
    fitted = fit_supersimplenet(config, images.train, embedder, seed, progress=resources.progress, remote=remote)
    return Fitted(
        predict=fitted.predict,
        predict_from_files=lambda catalog: predict_from_files(fitted, catalog),
        train=counts(images.train),
        remarks=fitted.remarks,
    )


def _needs(config: SuperSimpleNetConfig, fit: PlannedFit, resources: Resources) -> Iterator[Need]:
    yield embedding_need(config, fit, resources)
    yield networks_need(config, fit, ("blur_radius",))


def _prepare_synthetic(config: SuperSimpleNetConfig, universe: pa.Table, resources: Resources, made: pa.Table) -> None:
    """Patch vectors of synthetic images."""
    resources.embedder(config.features, universe).samples(made)


METHOD = Method(
    config=SuperSimpleNetConfig,
    learns_from=lambda _: LearnsFrom(defects=True, masks=True, name="SuperSimpleNet"),
    fit=_fit,
    needs=_needs,
    inputs=backbone_inputs,
    training=lambda config: config.training,
    unfitted=("blur_radius",),
    faults=unembedded,
    prepare=embed_universe,
    prepare_synthetic=_prepare_synthetic,
)
