"""PatchCore and ExDD as a method."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from exdd_ray.data.catalog import select_rows
from exdd_ray.methods.embedding import backbone_inputs, embed_universe, embedding_need, unembedded
from exdd_ray.methods.method import (
    BANKS,
    ORDERS,
    SEARCHES,
    Fitted,
    LearnsFrom,
    Method,
    Need,
    PlannedFit,
    Resources,
    TrainingImages,
    counts,
)
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.store.hashes import digest

if TYPE_CHECKING:
    from exdd_ray.export.portable import Portable
    from exdd_ray.methods.patch_bank.detector import FittedPatchBank

TURNED = "embedding, turned"


def _learns_from(config: PatchBankConfig) -> LearnsFrom:
    alone = config.scoring.fusion == "evidence"
    return LearnsFrom(defects=config.bank.positive is not None, masks=True, name="a dual bank", alone=alone)


def _fit(config: PatchBankConfig, images: TrainingImages, resources: Resources, seed: int) -> Fitted:
    from exdd_ray.methods.patch_bank.detector import predict_from_files
    from exdd_ray.methods.patch_bank.fit import fit_patch_bank

    fitted = fit_patch_bank(config, images.train, resources.embedder(config.features, images.universe), seed)
    positive = 0 if fitted.positive is None else len(fitted.positive.vectors)
    return Fitted(
        predict=fitted.predict,
        predict_from_files=lambda catalog: predict_from_files(fitted, catalog),
        train=counts(images.train),
        bank_sizes=(fitted.normal_vectors, positive),
        remarks=fitted.remarks,
        portable=lambda: _portable(fitted),
    )


def _portable(fitted: "FittedPatchBank") -> "Portable":
    from exdd_ray.methods.patch_bank.graph import portable

    return portable(fitted)


def _needs(config: PatchBankConfig, fit: PlannedFit, resources: Resources) -> Iterator[Need]:
    from exdd_ray.banks.memory_bank import order_family

    embedding = embedding_need(config, fit, resources)
    yield embedding
    images = select_rows(fit.train, label=0)
    for degrees in config.bank.rotations:
        turned = resources.slices(config.features, images, degrees=degrees)
        yield Need(TURNED, "slices of images", tuple(turned), in_store=True)
    normal = images["id"].to_pylist()
    order = digest([embedding.keys, normal, config.bank.rotations, order_family(config.bank.negative), fit.seed])
    orders = _of_layers(config, order)
    yield Need(ORDERS, "artifacts", orders)
    defects = select_rows(fit.train, label=1)["id"].to_pylist()
    if config.bank.positive is None or not (defects or fit.synthetic):
        yield Need(SEARCHES, "passes", orders)
        return
    learnt = config.scoring.fusion == "evidence"
    purified = [order, config.bank.negative.model_dump_json(), config.scoring.calibration] if config.purify else None
    made_from = [
        defects,
        fit.synthetic,
        config.positives.model_dump(mode="json"),
        config.evidence.covered if learnt else 0,
    ]
    bank = digest([embedding.keys, made_from, purified, config.bank.positive.model_dump_json(), fit.seed])
    yield Need(BANKS, "artifacts", (bank,))
    yield Need(SEARCHES, "passes", (order,) if learnt else (order, bank))


def _of_layers(config: PatchBankConfig, key: str) -> tuple[str, ...]:
    """Keys of what each layer has, where layers are kept apart, or the one of all."""
    return tuple(digest([key, layer]) for layer in config.features.layers) if config.features.layers_apart else (key,)


def _prepare_synthetic(config: PatchBankConfig, universe: pa.Table, resources: Resources, made: pa.Table) -> None:
    """Patch vectors of synthetic images, where the positive bank takes them from whole images."""
    if config.positives.source == "mask":
        resources.embedder(config.features, universe).samples(made)


def _share(fits: Sequence[tuple[PatchBankConfig, PlannedFit]], resources: Resources) -> None:
    """One order and one search for all bank sizes of detectors with the same features and the same normal images.

    Args:
        fits: on one category.
    """
    from exdd_ray.methods.patch_bank.nested import prepare_patch_banks

    groups: dict[str, list[tuple[PatchBankConfig, PlannedFit]]] = {}
    for config, fit in fits:
        normal = select_rows(fit.train, label=0)["image"].to_pylist()
        key = digest([config.features.model_dump_json(), config.bank.rotations, fit.seed, normal])
        groups.setdefault(key, []).append((config, fit))
    for group in groups.values():
        first, fit = group[0]
        if len({config.bank.negative for config, _ in group}) > 1:
            embedder = resources.embedder(first.features, fit.universe)
            prepare_patch_banks([config for config, _ in group], fit.train, embedder, fit.seed)


METHOD = Method(
    config=PatchBankConfig,
    learns_from=_learns_from,
    fit=_fit,
    needs=_needs,
    inputs=backbone_inputs,
    unfitted=("scoring",),
    faults=unembedded,
    prepare=embed_universe,
    prepare_synthetic=_prepare_synthetic,
    share=_share,
    reads_maps=True,
)
