"""The metrics, in the order that tables have them in: to add one is to add it here."""

from collections.abc import Mapping
from dataclasses import replace

from exdd_ray.errors import ConfigError
from exdd_ray.metrics.aupimo import aupimo
from exdd_ray.metrics.curves import area_up_to, f1_above
from exdd_ray.metrics.influence import Influence, Scored, ap_influence, auroc_influence, by_image
from exdd_ray.metrics.metric import VALIDATION, ImageScores, Metric, PixelScores
from exdd_ray.metrics.threshold import threshold_at_rate


def recall_at_false_alarms(images: ImageScores) -> float | None:
    """Share of the defects above the threshold that a normal image exceeds at `false_alarm_rate` at most."""
    if images.normals is None:
        return None
    threshold = threshold_at_rate(images.normals, images.config.false_alarm_rate)
    return None if threshold is None else float((images.scores[images.labels == 1] > threshold).mean())


def segmentation_f1(pixels: PixelScores) -> float | None:
    """F1 of all test pixels at the mean + 3 standard deviations of held-out normal images' pixels.

    As MVTec AD 2 binarises its maps (Heckler-Kram et al., 2025, arXiv:2503.21622).
    """
    return None if pixels.threshold is None else f1_above(pixels.counts, pixels.threshold)


_ALL = (
    Metric(
        "image_auroc",
        "Image AUROC",
        of_images=lambda images: images.detection.auroc,
        shown="everywhere",
        influence=auroc_influence,
    ),
    Metric(
        "image_ap",
        "Image AP",
        of_images=lambda images: images.detection.ap,
        shown="everywhere",
        influence=ap_influence,
    ),
    Metric("image_f1", "Image F1", of_images=lambda images: images.detection.f1),
    Metric("image_precision", "Image precision", of_images=lambda images: images.detection.precision, shown="records"),
    Metric("image_recall", "Image recall", of_images=lambda images: images.detection.recall, shown="records"),
    Metric("recall_at_false_alarms", "Recall at false-alarm rate", of_images=recall_at_false_alarms),
    Metric("pixel_auroc", "Pixel AUROC", of_pixels=lambda pixels: pixels.detection.auroc, shown="everywhere"),
    Metric("pixel_ap", "Pixel AP", of_pixels=lambda pixels: pixels.detection.ap, shown="everywhere"),
    Metric("pixel_f1", "Pixel F1", of_pixels=lambda pixels: pixels.detection.f1, shown="records"),
    Metric(
        "aupro",
        "AUPRO",
        of_pixels=lambda pixels: area_up_to(pixels.overlap, pixels.config.fpr_limit),
        shown="everywhere",
    ),
    Metric("aupro_5", "AUPRO, 5 % FPR", of_pixels=lambda pixels: area_up_to(pixels.overlap, 0.05)),
    Metric("aupimo", "AUPIMO", of_pixels=lambda pixels: aupimo(pixels.counts)),
    Metric("seg_f1", "SegF1", of_pixels=segmentation_f1),
    Metric("bank_vectors", "Bank vectors", less=True, unit="count"),
    Metric("milliseconds", "Milliseconds an image", less=True, unit="milliseconds"),
)
METRICS: Mapping[str, Metric] = {metric.key: metric for metric in _ALL}
MEASURED = tuple(metric for metric in _ALL if metric.level != "cost")
COMPARED = tuple(metric for metric in MEASURED if metric.shown != "records")
COSTS = tuple(metric for metric in _ALL if metric.level == "cost")


def known_metric(column: str) -> Metric:
    """The metric of a table's column, on the test images or the validation ones. Raises ConfigError for none."""
    key = column.removeprefix(VALIDATION)
    if key not in METRICS:
        raise ConfigError(f"no metric is called {key!r}; there are {', '.join(METRICS)}")
    metric = METRICS[key]
    return metric if key == column else replace(metric, key=column, title=f"{metric.title}, validation")


def on_validation(metric: Metric) -> str:
    """The column of a metric on the validation images; costs have one for all images."""
    return metric.key if metric.level == "cost" else f"{VALIDATION}{metric.key}"


def influence_on(column: str, tested: Scored) -> Influence | None:
    """What the images add to a metric; None for metrics of which that is not known."""
    measure = known_metric(column).influence
    return None if measure is None else by_image(tested, measure(tested.labels, tested.scores))


def measure_images(images: ImageScores) -> dict[str, float | None]:
    """Every metric of images, by key."""
    return {metric.key: metric.of_images(images) for metric in MEASURED if metric.of_images}


def measure_pixels(pixels: PixelScores) -> dict[str, float | None]:
    """Every metric of pixels, by key."""
    return {metric.key: metric.of_pixels(pixels) for metric in MEASURED if metric.of_pixels}
