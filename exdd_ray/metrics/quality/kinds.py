"""The quality of synthetic defects kind by kind, as AnomalyDiffusion and DualAnoDiff report it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.errors import DataError
from exdd_ray.metrics.quality.config import KindsConfig, QualityConfig
from exdd_ray.metrics.quality.distances import inception_score
from exdd_ray.metrics.quality.evaluate import Figure, QualityReport
from exdd_ray.metrics.quality.kind_classifier import KindPictures, called_kinds, describe_classifier
from exdd_ray.metrics.quality.networks import FeatureNetwork, extract, load_network
from exdd_ray.metrics.quality.perceptual import Perceptual, cluster_lpips, load_perceptual, pairwise_lpips
from exdd_ray.metrics.quality.pictures import PictureSet
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Store

CLUSTER = 50  # images at most of a cluster whose pairs are measured
Found = Figure | tuple[str, str]


@dataclass(frozen=True)
class Kind:
    """A kind of defect: its synthetic images, and the real ones that were trained on and are tested."""

    name: str
    made: tuple[CatalogRow, ...]
    trained: tuple[CatalogRow, ...]
    tested: tuple[CatalogRow, ...]


@dataclass(frozen=True)
class _Value:
    """Of one kind, from so many synthetic and real images."""

    kind: str
    value: float
    made: int
    real: int


def measure_kinds(
    real: Sequence[CatalogRow],
    synthetic: Sequence[CatalogRow],
    config: QualityConfig,
    store: Store,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> QualityReport:
    """Inception Score and IC-LPIPS of each kind, averaged over the kinds, and the accuracy of a classifier of kinds.

    IC-LPIPS is that within clusters around the kind's real training images, of at most 50 synthetic images each. The
    classifier is trained on the synthetic images and asked of the real ones that are tested. Kinds are told by their
    names: `defect` of the rows.

    Args:
        real: defects, split as they were for the synthesizer.
        config: with `kinds`.
        store: keeps the trained classifier.
        seed: of the classifier.

    Raises:
        UserError: weights that are not to be had.
        ImageError: an unreadable image or mask.
    """
    assert config.kinds is not None
    kinds = _kinds(real, synthetic)
    if not kinds:
        named = (", ".join(sorted({row.defect for row in rows})) for rows in (synthetic, real))
        reason = "synthetic images are of {}, real ones of {}: no kind has two synthetic images".format(*named)
        return QualityReport((), (("figures by kind", reason),), ())
    network, perceptual = load_network(config, device), None
    if config.perceptual is not None:
        perceptual = load_perceptual(config.perceptual, config.perceptual_weights, device)
    found = [
        _scores(kinds, network, config),
        _varieties(kinds, perceptual, config),
        _accuracy(kinds, config, config.kinds, store, seed, progress),
    ]
    return QualityReport(
        tuple(one for one in found if isinstance(one, Figure)),
        tuple(one for one in found if not isinstance(one, Figure)),
        (f"classifier of kinds: {describe_classifier(config.kinds)}",),
    )


def _kinds(real: Sequence[CatalogRow], synthetic: Sequence[CatalogRow]) -> list[Kind]:
    """The kinds of real defects that have two synthetic images."""
    found = []
    for name in sorted({row.defect for row in real}):
        made = tuple(row for row in synthetic if row.defect == name)
        trained, tested = (
            tuple(row for row in real if (row.defect, row.split) == (name, split)) for split in ("train", "test")
        )
        if len(made) > 1:
            found.append(Kind(name, made, trained, tested))
    return found


def _scores(kinds: Sequence[Kind], network: FeatureNetwork, config: QualityConfig) -> Found:
    name = _named(f"IS-{network.name} by kind", config)
    values = []
    for kind in kinds:
        logits = extract(network, _pictures(kind.made, config)).logits
        if logits is None:
            return name, f"{network.name} gives no class scores: take inception or squeezenet"
        values.append(_Value(kind.name, inception_score(logits).mean, len(logits), 0))
    return _mean(name, values)


def _varieties(kinds: Sequence[Kind], perceptual: Perceptual | None, config: QualityConfig) -> Found:
    if perceptual is None:
        name = _named("IC-LPIPS by kind", config)
        return name, "no network was asked for: quality.perceptual=squeeze, alex or vgg"
    name, values = _named(f"IC-LPIPS-{perceptual.name} by kind", config), []
    for kind in kinds:
        try:
            values.append(_variety(kind, perceptual, config))
        except DataError as error:
            return name, f"{kind.name}: {error}"
    return _mean(name, values)


def _variety(kind: Kind, perceptual: Perceptual, config: QualityConfig) -> _Value:
    """IC-LPIPS of a kind. Raises DataError for one without two training images, or where no cluster has two members."""
    made, real = (_pictures(rows, config) for rows in (kind.made, kind.trained))
    nearest = pairwise_lpips(perceptual, real, made).argmin(axis=0)
    kept = np.sort(np.concatenate([np.flatnonzero(nearest == one)[:CLUSTER] for one in np.unique(nearest)]))
    clusters = cluster_lpips(perceptual, made.subset(kept.tolist()), nearest[kept])
    return _Value(kind.name, float(clusters.means.mean()), len(kept), len(real))


def _accuracy(
    kinds: Sequence[Kind], config: QualityConfig, how: KindsConfig, store: Store, seed: int, progress: Progress
) -> Found:
    name = _named(f"accuracy of kinds-{how.network}", config)
    known = [kind for kind in kinds if kind.tested]
    if len(known) < 2:
        return name, f"{len(known)} kinds have synthetic images and tested real ones: 2 are needed"
    made, truth = _numbered([kind.made for kind in known]), _numbered([kind.tested for kind in known])
    pictures = KindPictures(_pictures([row for kind in known for row in kind.made], config), made)
    asked = _pictures([row for kind in known for row in kind.tested], config)
    right = called_kinds(pictures, asked, how, store, seed, progress) == truth
    each = [f"{kind.name} {right[truth == at].sum()} of {len(kind.tested)}" for at, kind in enumerate(known)]
    note = f"{'; '.join(each)}; {1 / len(known):.2g} is chance"
    return Figure(name, float(right.mean()), None, len(truth), len(made), note)


def _numbered(parts: Sequence[Sequence[CatalogRow]]) -> np.ndarray:
    return np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])


def _mean(name: str, values: Sequence[_Value]) -> Figure:
    """The mean over kinds, with each one's value and images."""
    each = (f"{one.kind} {one.value:.3g} of {one.made}" + f" around {one.real}" * (one.real > 0) for one in values)
    found = np.array([one.value for one in values])
    std = float(found.std()) if len(found) > 1 else None
    real, made = sum(one.real for one in values), sum(one.made for one in values)
    return Figure(name, float(found.mean()), std, real, made, f"mean of kinds: {'; '.join(each)}")


def _pictures(rows: Sequence[CatalogRow], config: QualityConfig) -> PictureSet:
    return PictureSet("images of a kind", rows, context=config.context if config.crops else None)


def _named(metric: str, config: QualityConfig) -> str:
    return f"{metric} (defect crops)" if config.crops else metric
