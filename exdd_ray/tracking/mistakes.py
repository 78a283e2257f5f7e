"""The worst mistakes of a trial: defects that normal images outscore, normal images that outscore defects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.experiment.trial_files import MAPS, PREDICTIONS
from exdd_ray.store.arrays import read_arrays
from exdd_ray.tracking.tracked import TrialRow


@dataclass(frozen=True)
class Mistake:
    """A test image in the wrong place of the ranking.

    Attributes:
        outranked: images of the other label that are on its wrong side, those of the same score included.
        heat: small anomaly map float32 [h x w].
    """

    row: CatalogRow
    score: float
    outranked: int
    heat: np.ndarray

    @property
    def kind(self) -> str:
        """What is wrong."""
        return "missed defect" if self.row.label else "false alarm"


def worst_mistakes(trial: TrialRow, count: int) -> list[Mistake]:
    """At most `count` missed defects and as many false alarms, each list from the worst; none of a perfect ranking."""
    assert trial.artifact is not None
    table = pq.read_table(trial.artifact.file(PREDICTIONS))
    records = [record for record in table.to_pylist() if record["split"] == "test"]
    scores = np.array([record["score"] for record in records], dtype=np.float64)
    labels = np.array([record["label"] for record in records], dtype=np.int64)
    wrong = _outranked(scores, labels)
    chosen: list[int] = []
    for label in (1, 0):
        mine = np.flatnonzero((labels == label) & (wrong > 0))
        by_score = np.argsort(scores[mine] if label else -scores[mine], kind="stable")
        chosen += mine[by_score][:count].tolist()
    maps = read_arrays(trial.artifact.file(MAPS))
    heat = dict(zip(maps["row"].tolist(), maps["map"], strict=True))
    return [Mistake(_row(records[i], trial), float(scores[i]), int(wrong[i]), heat[i]) for i in chosen if i in heat]


def _outranked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each image [N], how many of the other label score at least as high as a defect, or as low as a normal."""
    normal, defective = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    above = len(normal) - np.searchsorted(normal, scores, side="left")
    below = np.searchsorted(defective, scores, side="right")
    return np.asarray(np.where(labels == 1, above, below))


def _row(record: Mapping[str, Any], trial: TrialRow) -> CatalogRow:
    names = ("id", "split", "label", "defect", "image", "mask", "mask_threshold")
    about: dict[str, Any] = {name: record[name] for name in names}
    return CatalogRow(dataset=trial.dataset, category=trial.category, bit_depth=record.get("bit_depth"), **about)
