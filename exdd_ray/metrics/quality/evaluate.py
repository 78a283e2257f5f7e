"""The quality of a set of synthetic images against a set of real ones, as named figures with their counts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.errors import DataError
from exdd_ray.extras import require
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.metrics.quality.distances import (
    Estimate,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from exdd_ray.metrics.quality.networks import FeatureNetwork, extract, load_network
from exdd_ray.metrics.quality.perceptual import Perceptual, cluster_lpips, load_perceptual, pairwise_lpips
from exdd_ray.metrics.quality.pictures import Picture, PictureSet


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        name: metric, network and what was measured on: `KID-resnet18 (defect crops)`. Only `FID-inception` and
            its like are comparable with published values.
        value: of it.
        std: over what `note` says; None where the metric has none.
        n_real: real images it was computed on; 0 where the metric looks at synthetic ones only.
        n_synthetic: synthetic images it was computed on.
        note: what the value rests on, or what is wrong with it.
    """

    name: str
    value: float
    std: float | None
    n_real: int
    n_synthetic: int
    note: str


@dataclass(frozen=True)
class QualityReport:
    """The figures, KID first: of small sets it is the one to quote, for it is unbiased and FID is not.

    Attributes:
        figures: that could be computed.
        left_out: name and reason of those that could not.
        networks: description of each network, with the content hash of its weights.
    """

    figures: tuple[Figure, ...]
    left_out: tuple[tuple[str, str], ...]
    networks: tuple[str, ...]

    def and_of(self, other: "QualityReport") -> "QualityReport":
        """Both reports as one."""
        return QualityReport(
            self.figures + other.figures, self.left_out + other.left_out, self.networks + other.networks
        )


@dataclass(frozen=True)
class _Sets:
    real: PictureSet
    synthetic: PictureSet
    suffix: str

    def figure(self, metric: str, value: float, std: float | None, note: str, *, real: bool = True) -> Figure:
        n_real = len(self.real) if real else 0
        return Figure(metric + self.suffix, value, std, n_real, len(self.synthetic), note)


def check_quality(config: QualityConfig) -> None:
    """Raise ConfigError where a package that would measure is not installed."""
    require("torch_fidelity", "the quality of synthetic images")
    if config.perceptual is not None:
        require("lpips", "quality.perceptual")


def measure_quality(
    real: Sequence[Picture],
    synthetic: Sequence[Picture],
    config: QualityConfig,
    *,
    real_masks: Sequence[np.ndarray] | None = None,
    synthetic_masks: Sequence[np.ndarray] | None = None,
    device: str = "cpu",
) -> QualityReport:
    """FID, KID, precision, recall, Inception Score, LPIPS and IC-LPIPS of synthetic images against real ones.

    The sets should be alike in all but what is to be judged: size, material, file compression; any difference counts.

    Args:
        real: images of real defects: uint8 arrays [H x W x 3], files, or catalog rows.
        synthetic: likewise.
        config: networks, and whether to look at the crops around the defects only.
        real_masks: bool [H x W] of each real image, needed for crops unless the images are catalog rows.
        synthetic_masks: likewise.
        device: for the networks.

    Raises:
        UserError: weights that are not to be had.
        DataError: fewer than 2 images a set; crops without masks.
        ImageError: an unreadable image or mask.
    """
    context = config.context if config.crops else None
    sets = _Sets(
        PictureSet("real", real, real_masks, context),
        PictureSet("synthetic", synthetic, synthetic_masks, context),
        " (defect crops)" if config.crops else "",
    )
    network = load_network(config, device)
    perceptual = None
    if config.perceptual is not None:
        perceptual = load_perceptual(config.perceptual, config.perceptual_weights, device)
    found = [*_feature_figures(sets, network), *_perceptual_figures(sets, perceptual)]
    return QualityReport(
        tuple(figure for figure in found if isinstance(figure, Figure)),
        tuple(reason for reason in found if not isinstance(reason, Figure)),
        tuple(used.description for used in (network, perceptual) if used is not None),
    )


def _feature_figures(sets: _Sets, network: FeatureNetwork) -> Iterator[Figure | tuple[str, str]]:
    real, synthetic = extract(network, sets.real), extract(network, sets.synthetic)
    kid = kernel_distance(real.vectors, synthetic.vectors)
    yield sets.figure(f"KID-{network.name}", kid.mean, kid.std, f"{kid.parts} subsets of {kid.size}")
    fid = frechet_distance(real.vectors, synthetic.vectors)
    yield sets.figure(f"FID-{network.name}", fid, None, _rank_note(sets, real.vectors.shape[1]))
    yield from _precision_figures(sets, network.name, real.vectors, synthetic.vectors)
    score = f"IS-{network.name}{sets.suffix}"
    if synthetic.logits is None:
        yield score, f"{network.name} gives no class scores: take inception or squeezenet"
    else:
        yield _score_figure(sets, network.name, inception_score(synthetic.logits))


def _rank_note(sets: _Sets, dimensions: int) -> str:
    fewest = min(len(sets.real), len(sets.synthetic))
    if fewest > dimensions:
        return f"{dimensions} features"
    return f"{fewest} images for {dimensions} features: rank-deficient and biased, quote KID"


def _precision_figures(
    sets: _Sets, network: str, real: np.ndarray, synthetic: np.ndarray
) -> Iterator[Figure | tuple[str, str]]:
    try:
        precision, recall = precision_recall(real, synthetic)
    except DataError as error:
        yield f"precision-{network}{sets.suffix}", str(error)
        yield f"recall-{network}{sets.suffix}", str(error)
        return
    yield sets.figure(f"precision-{network}", precision, None, "3 nearest neighbours")
    yield sets.figure(f"recall-{network}", recall, None, "3 nearest neighbours")


def _score_figure(sets: _Sets, network: str, score: Estimate) -> Figure:
    parts = f"{score.parts} parts of {score.size}" if score.parts > 1 else "all images at once"
    std = None if math.isnan(score.std) else score.std
    return sets.figure(f"IS-{network}", score.mean, std, f"{parts}; of ImageNet's classes, not of defects", real=False)


def _perceptual_figures(sets: _Sets, perceptual: Perceptual | None) -> Iterator[Figure | tuple[str, str]]:
    if perceptual is None:
        for metric in ("LPIPS", "IC-LPIPS"):
            yield metric + sets.suffix, "no network was asked for: quality.perceptual=squeeze, alex or vgg"
        return
    distances = pairwise_lpips(perceptual, sets.real, sets.synthetic)
    closest = distances.min(axis=0)
    name = f"LPIPS-{perceptual.name}"
    note = "mean of each synthetic image to its nearest real one; 0 is a copy"
    yield sets.figure(name, float(closest.mean()), float(closest.std()), note)
    try:
        clusters = cluster_lpips(perceptual, sets.synthetic, distances.argmin(axis=0))
    except DataError as error:
        yield f"IC-{name}{sets.suffix}", str(error)
        return
    note = f"{len(clusters.means)} clusters; {clusters.single} images alone in theirs are left out"
    yield sets.figure(f"IC-{name}", float(clusters.means.mean()), float(clusters.means.std()), note)
