"""A trial's result as the store holds it: read back from its artifact, for reports and trackers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.errors import ArtifactError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.trial_files import CONFIG, CURVES, MAPS, PREDICTIONS, SAMPLES
from exdd_ray.metrics.bootstrap import RESAMPLED, Interval
from exdd_ray.metrics.curves import Curve, Detection
from exdd_ray.metrics.evaluate import ImageMetrics, PixelMetrics, all_values
from exdd_ray.metrics.table import MEASURED
from exdd_ray.metrics.threshold import OperatingPoint
from exdd_ray.store.arrays import read_arrays
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.synthesize import SyntheticSample


@dataclass(frozen=True)
class StoredResult:
    """One experiment on one category, as its `TrialResult` was.

    Attributes:
        dataset: name of the dataset in the sweep.
        rows: the test images.
        contents: what the test images are known by.
        scores: [n] of the test images.
        chosen_on_test: the threshold of the largest F1 on the test images, by the detector's rule.
        maps: small anomaly maps of some of the test images, by their positions.
        map_scale: values of the first and the last colour of maps.
        samples: the synthetic defects that it trained on.
        dropped: samples that failed or were filtered out.
        dropped_of_parts: of each part of a mixture.
    """

    trial: Trial
    dataset: str
    category: str
    rows: tuple[CatalogRow, ...]
    contents: tuple[str, ...]
    scores: np.ndarray
    image: ImageMetrics | None
    pixel: PixelMetrics | None
    chosen_on_test: OperatingPoint | None
    held_out: OperatingPoint | None
    bank_sizes: tuple[int, int]
    train: tuple[int, int, int]
    test: tuple[int, int]
    remarks: tuple[str, ...]
    seconds: float
    maps: Mapping[int, np.ndarray] = field(default_factory=dict)
    map_scale: tuple[float, float] = (0.0, 1.0)
    samples: tuple[SyntheticSample, ...] = ()
    dropped: int = 0
    dropped_of_parts: Mapping[str, int] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Dataset and category."""
        return f"{self.dataset} / {self.category}"

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Every metric of the test images by key; None where it could not be measured."""
        return all_values(self.image, self.pixel)

    @property
    def detection(self) -> Detection | None:
        """Metrics of the image scores without their intervals."""
        return None if self.image is None else self.image.detection


def read_result(store: Store, key: str, name: str, dataset: str, category: str) -> StoredResult:
    """The result that a trial's artifact holds.

    Args:
        key: of the artifact.
        name: of the trial's point.

    Raises ArtifactError where the store no longer has it, or it was written by another version.
    """
    artifact = store.find(key)
    if artifact is None:
        raise ArtifactError(f"the store {store.root} no longer has the trial “{name}”")
    try:
        return _read(artifact, store, name, dataset, category)
    except (ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{artifact.folder}: cannot be read by this version") from error


def _read(artifact: Artifact, store: Store, name: str, dataset: str, category: str) -> StoredResult:
    record = artifact.metadata
    config = ExperimentConfig.model_validate_json(artifact.file(CONFIG).read_text(encoding="utf-8"))
    records = pq.read_table(artifact.file(PREDICTIONS)).to_pylist()
    tested = [one for one in records if one["split"] == "test"]
    curves, maps = read_arrays(artifact.file(CURVES)), read_arrays(artifact.file(MAPS))
    low, high = record["map_scale"]
    return StoredResult(
        trial=Trial(name, config),
        dataset=dataset,
        category=category,
        rows=tuple(_catalog_row(one, dataset, category) for one in tested),
        contents=tuple(one["content"] for one in tested),
        scores=np.array([one["score"] for one in tested], dtype=np.float64),
        image=_image_metrics(record, curves),
        pixel=_pixel_metrics(record, curves),
        chosen_on_test=_point(record, "image"),
        held_out=_point(record, "held_out"),
        bank_sizes=(record["negative_bank"], record["positive_bank"]),
        train=(record["train_normal"], record["train_defects"], record["train_synthetic"]),
        test=(record["test_normal"], record["test_defects"]),
        remarks=tuple(record["remarks"].splitlines()),
        seconds=record["seconds"],
        maps=dict(zip(maps["row"].tolist(), maps["map"], strict=True)),
        map_scale=(low, high),
        samples=_samples(artifact, store),
        dropped=record["dropped"],
        dropped_of_parts=record["dropped_of_parts"],
    )


def _catalog_row(record: Mapping[str, Any], dataset: str, category: str) -> CatalogRow:
    names = ("id", "split", "label", "defect", "image", "mask", "mask_threshold", "bit_depth")
    region = tuple(record["region"]) if record["region"] else None
    return CatalogRow(dataset=dataset, category=category, region=region, **{name: record[name] for name in names})


def _image_metrics(record: Mapping[str, Any], curves: Mapping[str, np.ndarray]) -> ImageMetrics | None:
    if record["detection"]["image"] is None:
        return None
    values = {metric.key: record.get(metric.key) for metric in MEASURED if metric.level == "image"}
    ends = {key: (record[f"{key}_low"], record[f"{key}_high"]) for key in RESAMPLED}
    intervals = {key: Interval(low, high) for key, (low, high) in ends.items() if low is not None}
    return ImageMetrics(_detection(record, curves, "image"), values, intervals)


def _pixel_metrics(record: Mapping[str, Any], curves: Mapping[str, np.ndarray]) -> PixelMetrics | None:
    if record["detection"]["pixel"] is None:
        return None
    values = {metric.key: record.get(metric.key) for metric in MEASURED if metric.level == "pixel"}
    return PixelMetrics(_detection(record, curves, "pixel"), values, Curve(curves["pro_x"], curves["pro_y"]))


def _detection(record: Mapping[str, Any], curves: Mapping[str, np.ndarray], of: str) -> Detection:
    roc, pr = (Curve(curves[f"{of}_{name}_x"], curves[f"{of}_{name}_y"]) for name in ("roc", "pr"))
    return Detection(**record["detection"][of], roc=roc, pr=pr)


def _point(record: Mapping[str, Any], of: str) -> OperatingPoint | None:
    threshold, precision, recall = (record[f"{of}_{name}"] for name in ("threshold", "precision", "recall"))
    return None if threshold is None else OperatingPoint(threshold, precision, recall)


def _samples(artifact: Artifact, store: Store) -> tuple[SyntheticSample, ...]:
    file = artifact.file(SAMPLES)
    return tuple(_sample(record, store) for record in pq.read_table(file).to_pylist()) if file.is_file() else ()


def _sample(record: Mapping[str, Any], store: Store) -> SyntheticSample:
    """A sample with its files where the store has them now."""
    names = [one.name for one in dataclasses.fields(CatalogRow)]
    row = CatalogRow(**{name: record[name] for name in names})
    if (chunk := store.find(row.origin)) is not None:
        image, mask = (str(chunk.file(Path(file).name)) if file else None for file in (row.image, row.mask))
        row = dataclasses.replace(row, image=str(image), mask=mask)
    own = {name.removeprefix("sample_"): value for name, value in record.items() if name.startswith("sample_")}
    return SyntheticSample(row, **own)
