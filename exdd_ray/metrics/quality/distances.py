"""Distances between two sets of feature vectors, and the Inception Score; computed by torch-fidelity in float64."""

from dataclasses import dataclass

import numpy as np
import torch

from exdd_ray.errors import DataError

NEIGHBOURS = 3
_SUBSETS = 100
_LARGEST_SUBSET = 1000
_SPLITS = 10
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over parts of the data, the standard deviation over them, and how many parts of which size."""

    mean: float
    std: float
    parts: int
    size: int


def frechet_distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets (FID; Heusel et al., 2017, eq. 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2). Its bias grows as the sets shrink; at N <= D the covariances have no
    full rank.

    Args:
        real: [N x D].
        synthetic: [M x D].

    Raises:
        DataError: fewer than 2 vectors a set, other lengths, or values that are not finite.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    one, two = (fid_features_to_statistics(features) for features in _checked(real, synthetic))
    value = fid_statistics_to_metric(one, two, verbose=False)[KEY_METRIC_FID]
    return max(0.0, float(value))  # below 0 by rounding only


def kernel_distance(real: np.ndarray, synthetic: np.ndarray) -> Estimate:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID; Bińkowski et al., 2018, sec. 4).

    The mean over 100 random subsets of each set, of half the smaller one (1000 at most; half, for subsets of the whole
    would not vary, and the std would be 0). Unbiased for independent sets: values below 0 occur, and copies of the real
    vectors give one.

    Args:
        real: [N x D].
        synthetic: [M x D].

    Raises:
        DataError: as frechet_distance.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    size = min(_LARGEST_SUBSET, max(2, min(len(real), len(synthetic)) // 2))
    found = kid_features_to_metric(
        *_checked(real, synthetic), kid_subsets=_SUBSETS, kid_subset_size=size, rng_seed=_SEED, verbose=False
    )
    return Estimate(found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD], _SUBSETS, size)


def precision_recall(real: np.ndarray, synthetic: np.ndarray) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., 2019, eq. 1-2), 3 nearest neighbours.

    Precision is the share of synthetic vectors within the ball of a real one, whose radius reaches that one's third
    nearest real neighbour; recall is the same with the roles exchanged.

    Args:
        real: [N x D].
        synthetic: [M x D].

    Raises:
        DataError: as frechet_distance; fewer than 4 vectors a set.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    if min(len(real), len(synthetic)) <= NEIGHBOURS:
        raise DataError(
            f"precision and recall need {NEIGHBOURS + 1} images a set, not {len(real)} and {len(synthetic)}"
        )
    given, made = _checked(real, synthetic)
    found = prc_features_to_metric(made, given, prc_neighborhood=NEIGHBOURS, save_cpu_ram=True, verbose=False)
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def inception_score(logits: np.ndarray) -> Estimate:
    """exp of the mean KL divergence of p(y|x) from p(y) (Inception Score; Salimans et al., 2016, sec. 4).

    Args:
        logits: class scores before the softmax [N x C].

    Returns:
        The mean over 10 parts, as published; of fewer than 100 images over one, with a std of NaN.
    """
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    splits = _SPLITS if len(logits) >= 10 * _SPLITS else 1
    found = isc_features_to_metric(torch.from_numpy(logits), splits=splits, rng_seed=_SEED)
    std = found[KEY_METRIC_ISC_STD] if splits > 1 else float("nan")
    return Estimate(found[KEY_METRIC_ISC_MEAN], std, splits, len(logits) // splits)


def _checked(real: np.ndarray, synthetic: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    for name, vectors in (("real", real), ("synthetic", synthetic)):
        if vectors.ndim != 2 or len(vectors) < 2:
            raise DataError(f"{name}: features {vectors.shape}, at least 2 vectors are needed to compare sets")
        if not np.isfinite(vectors).all():
            raise DataError(f"{name}: features that are not finite")
    if real.shape[1] != synthetic.shape[1]:
        raise DataError(f"features of {real.shape[1]} and {synthetic.shape[1]} dimensions cannot be compared")
    return torch.from_numpy(real.astype(np.float64)), torch.from_numpy(synthetic.astype(np.float64))
