"""How good a localiser's current weights are, by images with masks: what its checkpoint is chosen by."""

from dataclasses import dataclass

import numpy as np

from exdd_ray.metrics.curves import detection
from exdd_ray.metrics.evaluate import image_metrics, pixel_metrics


@dataclass(frozen=True)
class Judgement:
    """The value of weights, higher is better, and the threshold of the image score with the largest F1."""

    value: float
    threshold: float


def judge_held_out(maps: np.ndarray, scores: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> Judgement:
    """Mean of image AUROC and pixel AP: the one is 1 early, and the other goes on.

    Args:
        maps: [n x S x S].
        scores: [n] of the images.
        labels: [n].
        masks: bool [n x S x S].
    """
    image, pixel = detection(labels, scores), detection(masks.ravel().astype(int), maps.ravel())
    return Judgement((image.auroc + pixel.ap) / 2, image.threshold)


def judge_on_test(maps: np.ndarray, scores: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> Judgement:
    """Image AUROC + pixel AUROC + pixel AP + AUPRO, as released; arguments as `judge_held_out`'s."""
    image = image_metrics(labels, scores, resamples=0, seed=0)
    truth = (mask if label else None for mask, label in zip(masks, labels, strict=True))
    pixel = pixel_metrics(zip(maps, truth, strict=True))
    found = (image.values["image_auroc"], *(pixel.values[key] for key in ("pixel_auroc", "pixel_ap", "aupro")))
    return Judgement(sum(value for value in found if value is not None), image.detection.threshold)
