"""Image scores and patch maps: single bank, ratio of two banks, calibrated bonus, learnt evidence."""

from dataclasses import dataclass

import numpy as np

from exdd_ray.banks.scoring.config import ScoringConfig
from exdd_ray.banks.scoring.distances import BankDistances, smooth
from exdd_ray.banks.scoring.reweight import Values, neighbourhood_share, used_neighbours
from exdd_ray.config.base import Size
from exdd_ray.errors import DataError


@dataclass(frozen=True)
class Calibration:
    """Mean and standard deviation, over held-out normal images, of the image maxima of d_N and of d_N - d_P."""

    negative: tuple[float, float]
    contrast: tuple[float, float] | None


@dataclass(frozen=True)
class Evidence:
    """All that the scores of n images are computed from.

    Attributes:
        negative: distances to the negative bank.
        positive: to the positive bank, for a dual bank.
        negative_neighbours: [n x b] distances from the patch of s_N* to the vectors around m*; None without Eq. 7.
        positive_neighbours: the same at the patch of s_P*.
        grid: (height, width) of the patches.
        dim: D, length of a vector.
        calibration: for the bonus, and with evidence.
        added: [2 x n x P] what evidence adds to the standardised distances, for image scores and for maps.
    """

    negative: BankDistances
    positive: BankDistances | None
    negative_neighbours: np.ndarray | None
    positive_neighbours: np.ndarray | None
    grid: Size
    dim: int
    calibration: Calibration | None = None
    added: np.ndarray | None = None


@dataclass(frozen=True)
class Scores:
    """Image scores [n] and the patch maps [n x P] that the anomaly maps are made from."""

    images: np.ndarray
    maps: np.ndarray


def critical_patches(
    config: ScoringConfig, grid: Size, negative: np.ndarray, positive: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The patches [n] at which s_N* and s_P* are read, from distances [n x P]; the first where several are equal.

    s_N* is the patch farthest from the negative bank; s_P* by the pairing the patch farthest from the positive bank
    (`independent`, as published), the patch of s_N* (`colocated`), or the one nearest to the positive bank (`min`).
    """
    at_n = np.argmax(smooth(negative, grid, config.smoothing), axis=1)
    if positive is None:
        return at_n, None
    smoothed = smooth(positive, grid, config.smoothing)
    by_pairing = {"independent": np.argmax, "min": np.argmin}
    return at_n, by_pairing[config.pairing](smoothed, axis=1) if config.pairing in by_pairing else at_n


def score(config: ScoringConfig, evidence: Evidence) -> Scores:
    """Image scores and patch maps of n images, by the configured fusion.

    Raises DataError where the evidence lacks what the fusion needs.
    """
    if config.fusion == "single":
        return _single(config, evidence)
    if config.fusion == "evidence":
        return _with_evidence(config, evidence)
    if evidence.positive is None:
        raise DataError(f"fusion {config.fusion} needs distances to a positive bank")
    return _ratio(config, evidence) if config.fusion == "ratio" else _bonus(config, evidence)


def calibrate(config: ScoringConfig, negative: np.ndarray, positive: np.ndarray | None, grid: Size) -> Calibration:
    """Statistics of normal images' distances [n x P], each measured with its own vectors left out of the bank."""
    smoothed = smooth(negative, grid, config.smoothing)
    contrast = None if positive is None else smoothed - smooth(positive, grid, config.smoothing)
    return Calibration(location_scale(smoothed), None if contrast is None else location_scale(contrast))


def location_scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of images' maxima, of values [n x P]. Raises DataError where all are one."""
    maxima = values.max(axis=1)
    spread = float(maxima.std())
    if not spread > 0:
        raise DataError("calibration: the held-out normal images all have one score; are they copies of each other?")
    return float(maxima.mean()), spread


def _single(config: ScoringConfig, evidence: Evidence) -> Scores:
    distances = smooth(evidence.negative.nearest, evidence.grid, config.smoothing)
    if config.squared:
        distances = distances**2
    images = distances.max(axis=1) if config.top is None else top_mean(distances, config.top)
    if config.neighbours:
        at, _ = critical_patches(config, evidence.grid, evidence.negative.nearest, None)
        images = images * (1 - _share(config, evidence.negative, at, evidence.negative_neighbours, evidence.dim))
    return Scores(images, distances)


def top_mean(values: np.ndarray, share: float) -> np.ndarray:
    """Mean of the largest values of each image [n], a share of its P, rounded down, but at least one: [n x P]."""
    count = max(1, int(share * values.shape[1]))
    found: np.ndarray = np.partition(values, -count, axis=1)[:, -count:].mean(axis=1)
    return found


def _ratio(config: ScoringConfig, evidence: Evidence) -> Scores:
    """s_N / (s_P + eps), with w_N = 1 - share and w_P = share; the map is the unweighted ratio (ExDD)."""
    assert evidence.positive is not None
    negative = smooth(evidence.negative.nearest, evidence.grid, config.smoothing)
    positive = smooth(evidence.positive.nearest, evidence.grid, config.smoothing)
    rows = np.arange(len(negative))
    at_n, at_p = critical_patches(config, evidence.grid, evidence.negative.nearest, evidence.positive.nearest)
    assert at_p is not None
    s_n, s_p = negative[rows, at_n], positive[rows, at_p]
    if config.neighbours:
        s_n = s_n * (1 - _share(config, evidence.negative, at_n, evidence.negative_neighbours, evidence.dim))
        s_p = s_p * _share(config, evidence.positive, at_p, evidence.positive_neighbours, evidence.dim)
    return Scores(s_n / (s_p + config.epsilon), negative / (positive + config.epsilon))


def _bonus(config: ScoringConfig, evidence: Evidence) -> Scores:
    """z_N + weight * softplus(z_NP): the single bank is the prior, defect evidence is added where it is."""
    assert evidence.positive is not None
    if evidence.calibration is None or evidence.calibration.contrast is None:
        raise DataError("fusion bonus needs a calibration on held-out normal images")
    negative = smooth(evidence.negative.nearest, evidence.grid, config.smoothing)
    contrast = negative - smooth(evidence.positive.nearest, evidence.grid, config.smoothing)
    z_n = standardised(negative, evidence.calibration.negative)
    z_np = standardised(contrast, evidence.calibration.contrast)
    maps = z_n + config.bonus * np.logaddexp(0, z_np)
    return Scores(maps.max(axis=1), maps)


def _with_evidence(config: ScoringConfig, evidence: Evidence) -> Scores:
    """z_N, raised for image scores where there is evidence of a defect, and for maps by evidence of its extent."""
    if evidence.calibration is None or evidence.added is None:
        raise DataError("fusion evidence needs evidence of defects, and a calibration on held-out normal images")
    z_n = standardised(
        smooth(evidence.negative.nearest, evidence.grid, config.smoothing), evidence.calibration.negative
    )
    of_images, of_maps = z_n + evidence.added
    return Scores(of_images.max(axis=1), of_maps)


def standardised(values: Values, of: tuple[float, float]) -> Values:
    """Values less a location, over a scale."""
    location, scale = of
    return (values - location) / scale


def _share(
    config: ScoringConfig, bank: BankDistances, patch: np.ndarray, neighbours: np.ndarray | None, dim: int
) -> np.ndarray:
    if neighbours is None:
        raise DataError("Eq. 7 needs the distances to the neighbours of the nearest bank vector")
    nearest = bank.nearest[np.arange(len(patch)), patch]
    scale = np.sqrt(dim) if config.scale == "sqrt_dim" else 1.0
    return neighbourhood_share(nearest, used_neighbours(neighbours, config.neighbours, config.own_term), scale)
