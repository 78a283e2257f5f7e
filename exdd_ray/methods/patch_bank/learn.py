"""Learning evidence of defects: kernel ridge regression with images left out in turns, and the choices that rest on it.

Nothing is chosen on images that were learnt: evidence of a held-out normal image, or of a training defect, is of the
fit that left its fold out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.kernel import Kernel, Sums, fitted_weights, nothing, sums_of
from exdd_ray.banks.memory_bank import MemoryBank
from exdd_ray.banks.scoring.evidence import Lift, bold_enough, lift
from exdd_ray.banks.search import search
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Samples
from exdd_ray.methods.patch_bank.config import EvidenceConfig
from exdd_ray.methods.patch_bank.positives import Defects, image_vectors
from exdd_ray.store.hashes import digest

_COMPARED = 500  # defect patches, whose distances to normal ones set the kernel's width
_SYNTHETIC = 0.5  # of the defects' weight, where synthetic ones help with real ones
_EARNS = 0.01  # what they must add to image AUROC and average precision of patches together
_WHOLE = -1  # the fold of what is never left out, and the fit that leaves nothing out, which is the last


@dataclass(frozen=True)
class HeldOut:
    """Normal images, each compared with the bank without its own vectors.

    Attributes:
        samples: n images.
        z: smoothed distances [n x P], in standard deviations of their images' maxima.
    """

    samples: Samples
    z: np.ndarray

    @property
    def key(self) -> str:
        """Names the images and their distances."""
        return digest([self.samples.key, digest(self.z.tolist())])


@dataclass(frozen=True)
class Learnt:
    """Two functions of a patch vector, for image scores and for maps.

    Attributes:
        weights: float64 [M x 2] of the kernel's landmarks.
        synthetic: share of the defects' weight that synthetic ones have.
        lifts: how each raises a score; None does not.
    """

    kernel: Kernel
    weights: np.ndarray
    synthetic: float
    lifts: tuple[Lift | None, ...] = ()


def learn(config: EvidenceConfig, defects: Defects, held_out: HeldOut, positive: MemoryBank, seed: int) -> Learnt:
    """Learn of defects' patches beside those of held-out normal images.

    Synthetic defects beside real ones are learnt where evidence of real ones that were left out is better with them.

    Args:
        positive: bank of the defects' patches: landmarks.
        seed: of the random normal patches.
    """
    folds = np.arange(len(held_out.z)) % config.folds
    vectors, weights, images = _normal_patches(config, held_out, seed)
    kernel = _kernel(config, defects, vectors, positive, seed)
    zeros = _sums(kernel, vectors, weights, folds[images], config.folds)
    shares = [0.0] if defects.judged.all() else [0.0, _SYNTHETIC]  # synthetic ones alone take the place of real ones
    ones = [_defect_sums(kernel, defects, chosen, config.folds) for chosen in defects.targets]
    fitted = np.stack([_fits(config, kernel, ones, zeros, share) for share in shares], axis=1)
    judged = defects.only(defects.judged)
    normal = _left_out(kernel, fitted, image_vectors([held_out.samples]), folds)
    known = _left_out(kernel, fitted, image_vectors(judged.parts), _folds_of(judged, config.folds))
    if not _several(judged):  # what cannot be left out: no evidence of it counts
        known = np.full_like(known, -np.inf)
    found = [
        _judged(config, Learnt(kernel, fitted[:, at, :, _WHOLE], share), normal[at], known[at], judged, held_out)
        for at, share in enumerate([1.0] if defects.synthetic.all() else shares)
    ]
    plain, worth = found[0]
    return found[1][0] if len(found) > 1 and found[1][1] > worth + _EARNS else plain


def _judged(
    config: EvidenceConfig,
    learnt: Learnt,
    normal: np.ndarray,
    known: np.ndarray,
    defects: Defects,
    held_out: HeldOut,
) -> tuple[Learnt, float]:
    """How evidence raises scores, and what it is worth: image AUROC and average precision of patches.

    Args:
        normal: evidence [2 x n x P] of held-out normal images, of fits that left them out.
        known: that of the defects [2 x k x P].
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    real = int((~defects.synthetic).sum())
    tried = config.map_rises(real) if _several(defects) else ()  # of one image it is not known how far a defect extends
    tolerance = config.map_tolerance(real)
    extent = bold_enough(defects.z, defects.covered, known[1], held_out.z, normal[1], tried, tolerance)
    whole = lift(config.image_rise(real), normal[0])
    z = np.concatenate([defects.z, held_out.z])
    labels = np.arange(len(z)) < len(defects.z)
    images, maps = (
        z if one is None else z + one.of(np.concatenate([known[at], normal[at]]))
        for at, one in enumerate((whole, extent))
    )
    truth = np.concatenate([defects.covered, np.zeros_like(held_out.z, dtype=bool)])
    worth = roc_auc_score(labels, images.max(axis=1)) + average_precision_score(truth.ravel(), maps.ravel())
    return replace(learnt, lifts=(whole, extent)), float(worth)


def _normal_patches(config: EvidenceConfig, held_out: HeldOut, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hardest patches of each image and some others [n x D], their weights [n], and their images [n]."""
    rng, vectors, weights, images = np.random.default_rng(seed), [], [], []
    for number, (patches, z) in enumerate(zip(image_vectors([held_out.samples]), held_out.z, strict=True)):
        hardest, others = np.split(np.argsort(-z, kind="stable"), [config.hardest])
        drawn = rng.permutation(others)[: config.random]
        vectors.append(patches[np.concatenate([hardest, drawn])])
        weights.append(np.repeat([1.0, len(others) / max(len(drawn), 1)], [len(hardest), len(drawn)]))
        images.append(np.full(len(hardest) + len(drawn), number))
    return np.concatenate(vectors), np.concatenate(weights), np.concatenate(images)


def _kernel(config: EvidenceConfig, defects: Defects, normal: np.ndarray, positive: MemoryBank, seed: int) -> Kernel:
    """As wide as defect patches are apart from normal ones, by the median."""
    chosen = greedy_order(normal, config.normal_landmarks, first=0).indices
    either = defects.striking | defects.covered
    patches = np.concatenate([each[rows] for each, rows in zip(image_vectors(defects.parts), either, strict=True)])
    rng = np.random.default_rng(seed)
    compared = patches[rng.permutation(len(patches))[:_COMPARED]]
    width = float(np.median(search(compared, normal, 1).distances))
    if not width > 0:
        raise DataError(
            "most patches under the training defects' masks are those of normal images: are the masks right?"
        )
    return Kernel(np.concatenate([positive.vectors[: config.defect_landmarks], normal[chosen]]), width)


def _sums(kernel: Kernel, vectors: np.ndarray, weights: np.ndarray, folds: np.ndarray, count: int) -> list[Sums]:
    """Of the rows of each fold, and last of those that are never left out."""
    chosen = [folds == fold for fold in (*range(count), _WHOLE)]
    return [
        sums_of(kernel, vectors[rows], weights[rows]) if rows.any() else nothing(len(kernel.landmarks))
        for rows in chosen
    ]


def _folds_of(defects: Defects, count: int) -> np.ndarray:
    """The folds [k] of defective images: those that are judged on are left out in turns, where there are several."""
    folds = np.full(len(defects.synthetic), _WHOLE)
    judged = defects.only(defects.judged)
    if _several(judged):
        folds[defects.judged] = np.array(judged.files) % count
    return folds


def _several(defects: Defects) -> bool:
    """Whether they are of several image files, so that one can be left out."""
    return len(set(defects.files)) > 1


def _defect_sums(kernel: Kernel, defects: Defects, chosen: np.ndarray, count: int) -> tuple[list[Sums], Sums]:
    """Of chosen patches [k x P] of the defects that are judged on by fold, and of the synthetic ones beside them.

    An image's weight grows with the root of its patches, so that a large defect does not outweigh all small ones.
    """
    patches = [vectors[rows] for vectors, rows in zip(image_vectors(defects.parts), chosen, strict=True)]
    sizes, folds = chosen.sum(axis=1), _folds_of(defects, count)
    weights, images = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes), np.repeat(np.arange(len(sizes)), sizes)
    vectors, made = np.concatenate(patches), ~defects.judged[images]
    judged = _sums(kernel, vectors[~made], weights[~made], folds[images][~made], count)
    return judged, sums_of(kernel, vectors[made], weights[made]) if made.any() else nothing(len(kernel.landmarks))


def _fits(
    config: EvidenceConfig,
    kernel: Kernel,
    ones: Sequence[tuple[list[Sums], Sums]],
    zeros: Sequence[Sums],
    share: float,
) -> np.ndarray:
    """Weights [M x 2 x folds + 1] of both targets: of fits that leave one fold out each, and last of all of it."""
    targets = (  # one at a time: of many landmarks each is large
        (
            _without(judged, left).scaled(config.prior * (1 - share)) + synthetic.scaled(config.prior * share),
            _without(zeros, left).scaled(1 - config.prior),
            ridge,
        )
        for (judged, synthetic), ridge in zip(ones, (config.image_ridge, config.map_ridge), strict=True)
        for left in (*range(config.folds), None)
    )
    return fitted_weights(kernel, targets).reshape(len(kernel.landmarks), len(ones), -1)


def _without(sums: Sequence[Sums], left: int | None) -> Sums:
    return sum((one for fold, one in enumerate(sums) if fold != left), nothing(len(sums[0].values)))


def _left_out(kernel: Kernel, fitted: np.ndarray, images: Iterable[np.ndarray], folds: np.ndarray) -> np.ndarray:
    """Evidence [S x 2 x n x P] of images' vectors, each of the fit that left its fold out.

    Args:
        fitted: weights [M x S x 2 x folds + 1].
    """
    flat = fitted.reshape(len(fitted), -1)
    found = [
        kernel.weighted(vectors, flat).reshape(-1, *fitted.shape[1:])[..., fold]
        for vectors, fold in zip(images, folds, strict=True)
    ]
    return np.stack(found).transpose(2, 3, 0, 1)
