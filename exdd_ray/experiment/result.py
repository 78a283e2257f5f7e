"""What a trial gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from exdd_ray.experiment.load import Trial
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.bootstrap import RESAMPLED
from exdd_ray.metrics.curves import Detection
from exdd_ray.metrics.evaluate import ImageMetrics, PixelMetrics, all_values
from exdd_ray.metrics.threshold import OperatingPoint, f1_max_point
from exdd_ray.synthesizers.synthesize import Synthesis


@dataclass(frozen=True)
class Evaluation:
    """Predictions and what they are worth: `image` is None where not both labels are there, `pixel` without a mask."""

    predictions: Predictions
    image: ImageMetrics | None
    pixel: PixelMetrics | None

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Every metric by key; None where it could not be measured."""
        return all_values(self.image, self.pixel)


@dataclass(frozen=True)
class TrialResult:
    """One experiment on one category.

    Attributes:
        trial: the experiment, under its name in the run.
        category: of the dataset.
        predictions: of the test images.
        image: metrics of the image scores; None where the test images are not of both labels.
        pixel: metrics of the anomaly maps; None where no test defect has a mask.
        held_out: what the threshold that was chosen on held-out training images gives on the test images; None where
            the detector holds none out.
        bank_sizes: vectors in the negative bank, and in the positive one (0 without one).
        train: number of normal, real defective and synthetic training images.
        test: number of normal and defective test images.
        remarks: what a reader must know: leakage, images left out.
        seconds: that this trial took beyond what earlier ones had made.
        synthesis: the synthetic defects that it trained on.
        validation: of the images held out of training to choose between trials; None where there are none.
    """

    trial: Trial
    category: str
    predictions: Predictions
    image: ImageMetrics | None
    pixel: PixelMetrics | None
    bank_sizes: tuple[int, int]
    train: tuple[int, int, int]
    test: tuple[int, int]
    remarks: tuple[str, ...]
    seconds: float
    held_out: OperatingPoint | None = None
    synthesis: Synthesis = field(default_factory=lambda: Synthesis((), {}))
    validation: Evaluation | None = None

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Every metric of the test images by key; None where it could not be measured."""
        return all_values(self.image, self.pixel)

    @property
    def detection(self) -> Detection | None:
        """Metrics of the image scores without their intervals."""
        return None if self.image is None else self.image.detection

    @property
    def chosen_on_test(self) -> OperatingPoint | None:
        """Threshold, precision and recall at the largest F1 on the test images, by the detector's threshold rule."""
        if self.image is None:
            return None
        rule = self.trial.config.detector.threshold_rule
        labels = np.array([row.label for row in self.predictions.rows])
        return f1_max_point(labels, self.predictions.scores, rule)


def result_record(result: TrialResult) -> dict[str, object]:
    """A result as a row of a table: name, seed, counts and metrics (shares between 0 and 1).

    `image_f1`, `image_precision`, `image_recall` and `image_threshold` are chosen on the test images, `held_out_...` on
    held-out training images. Each of the `remarks` has a line.
    """
    config, chosen, held_out = result.trial.config, result.chosen_on_test, result.held_out
    return {
        "name": result.trial.name,
        "dataset": config.dataset.name,
        "category": result.category,
        "detector": config.detector.kind,
        "preset": config.detector.preset,
        "seed": config.seed,
        **result.metrics,
        **_interval_ends(result.image),
        "image_threshold": chosen.threshold if chosen else None,
        "held_out_threshold": held_out.threshold if held_out else None,
        "held_out_precision": held_out.precision if held_out else None,
        "held_out_recall": held_out.recall if held_out else None,
        "train_normal": result.train[0],
        "train_defects": result.train[1],
        "train_synthetic": result.train[2],
        "test_normal": result.test[0],
        "test_defects": result.test[1],
        "negative_bank": result.bank_sizes[0],
        "positive_bank": result.bank_sizes[1],
        "remarks": "\n".join(result.remarks),
        "seconds": result.seconds,
    }


def _interval_ends(image: ImageMetrics | None) -> dict[str, float | None]:
    """`image_auroc_low`, `image_auroc_high` and so on: the ends of the bootstrap intervals."""
    found = image.intervals if image else {}
    ends = [(key, end) for key in RESAMPLED for end in ("low", "high")]
    return {f"{key}_{end}": getattr(found[key], end) if key in found else None for key, end in ends}
