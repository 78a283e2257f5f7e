"""A metric is one value: how it is measured, what it is called, how it is printed, which way is better."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.metrics.curves import Detection, Rates, detection, overlap_rates, pixel_detection
from exdd_ray.metrics.histogram import ScoreCounts

MISSING = "–"
VALIDATION = "validation_"  # before the key of what is measured on the images held out to choose between experiments

Level = Literal["image", "pixel", "cost"]
Unit = Literal["share", "number", "count", "milliseconds"]
Shown = Literal["everywhere", "reports", "records"]
# Labels [N] (0 or 1, both present) and scores [N] -> what each image adds to the metric [N].
ImageInfluence = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ImageScores:
    """What metrics of images are measured from.

    Attributes:
        labels: [N] 0 or 1, both present.
        scores: [N] finite.
        normals: scores [n] of normal images that were neither trained on nor are tested, for thresholds; None where
            none are held out.
    """

    labels: np.ndarray
    scores: np.ndarray
    config: EvaluationConfig
    normals: np.ndarray | None = None

    @cached_property
    def detection(self) -> Detection:
        """AUROC, AP and F1 with their curves."""
        return detection(self.labels, self.scores)


@dataclass(frozen=True)
class PixelScores:
    """What metrics of pixels are measured from.

    Attributes:
        counts: all pixels of all anomaly maps, by score.
        threshold: mean + 3 standard deviations of the pixels of normal images that were neither trained on nor are
            tested; None where none are held out.
    """

    counts: ScoreCounts
    config: EvaluationConfig
    threshold: float | None = None

    @cached_property
    def detection(self) -> Detection:
        """AUROC, AP and F1 with their curves."""
        return pixel_detection(self.counts)

    @cached_property
    def overlap(self) -> Rates:
        """The per-region overlap by false positive rate."""
        return overlap_rates(self.counts)


@dataclass(frozen=True)
class Metric:
    """A metric, from which records, means, tests, tables and objectives follow.

    Attributes:
        key: its column in all tables; on validation images with VALIDATION before it.
        title: as people read it.
        of_images: measures it from the scores of images; None where it is undefined for them.
        of_pixels: measures it from the scores of pixels. A metric without either is a cost, which is known of the trial
            and not of its images.
        less: whether less of it is better.
        unit: a `share` is printed in percent.
        shown: also on the terminal (`everywhere`); compared, an objective and in `reports`; or in `records` alone.
        influence: what each image adds to it, where that is known: of the test images, the paired test then knows the
            noise.
    """

    key: str
    title: str
    of_images: Callable[[ImageScores], float | None] | None = None
    of_pixels: Callable[[PixelScores], float | None] | None = None
    less: bool = False
    unit: Unit = "share"
    shown: Shown = "reports"
    influence: ImageInfluence | None = None

    @property
    def level(self) -> Level:
        """What it is measured on."""
        return "image" if self.of_images else "pixel" if self.of_pixels else "cost"

    @property
    def percent(self) -> bool:
        """Whether it is printed in percent."""
        return self.unit == "share"

    def scaled(self, value: float) -> float:
        """The value in the unit that it is printed in."""
        return 100 * value if self.percent else value

    def text(self, value: float | None, *, unit: bool = False) -> str:
        """The value as it is printed; a dash where there is none."""
        if value is None:
            return MISSING
        if self.percent:
            return f"{100 * value:.2f}{' %' if unit else ''}"
        if self.unit == "number":
            return f"{value:.4g}"
        return f"{value:.3g}" if self.unit == "milliseconds" and value < 100 else f"{value:,.0f}"
