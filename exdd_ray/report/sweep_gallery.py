"""What a sweep's chosen and baseline trial get most wrong: the weakest defects, the most suspicious normal images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import read_pair
from exdd_ray.errors import ArtifactError, DataError, UserError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.result import TrialResult
from exdd_ray.metrics.threshold import f1_max_point
from exdd_ray.report.gallery import Picture, Tile, data_uri, make_gallery, outline
from exdd_ray.report.sweep_data import Point, Row, SweepFolder
from exdd_ray.report.sweep_maps import stored_result
from exdd_ray.store.artifact import Store, open_store

MAX_CATEGORIES = 6
MAX_OF_KIND = 6
MAX_TILES = 96
SIDE = 200


@dataclass(frozen=True)
class ShownTrial:
    """A trial whose mistakes are shown, on one category.

    Attributes:
        trial, group: positions of its point (chosen, then baseline) and of its category.
        row: of trials.parquet.
        rows, scores: its test images.
    """

    trial: int
    group: int
    row: Row
    config: ExperimentConfig
    rows: tuple[CatalogRow, ...]
    scores: np.ndarray

    @property
    def place(self) -> str:
        """Dataset and category."""
        return f"{self.row['dataset']} / {self.row['category']}"


@dataclass(frozen=True)
class Panel:
    """The worst mistakes of a trial.

    Attributes:
        threshold: of the image scores, at the largest F1 on these images.
        weakest, alarms: defects of the lowest scores, normals of the highest.
        scale: values of the first and last colour of the anomaly maps; None where there are none.
    """

    of: ShownTrial
    threshold: float | None
    weakest: tuple[Tile, ...]
    alarms: tuple[Tile, ...]
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Mistakes:
    """The panels, the pictures that their tiles show, the colours of maps, and why something is not shown."""

    pictures: tuple[Picture, ...]
    panels: tuple[Panel, ...]
    ramp: tuple[str, ...]
    notes: tuple[str, ...]


def mistakes(sweep: SweepFolder) -> Mistakes:
    """The gallery of the chosen and the baseline point, first seed; notes instead of what cannot be read any more."""
    points = {point.name: point for point in (sweep.chosen, sweep.baseline) if point and sweep.done(point)}
    if not points:
        return Mistakes((), (), (), ("Neither the chosen nor the baseline trial has a result.",))
    store = open_store(sweep.config.store)
    if store.mirror is None and not store.root.is_dir():
        return Mistakes((), (), (), (f"Nothing to show: the store {store.root} is not here.",))
    wanted, notes = _wanted(sweep, list(points.values()))
    try:
        trials = [_opened(store, *one) for one in wanted]
    except (UserError, OSError) as error:
        return Mistakes((), (), (), (f"Nothing to show: {error}.",))
    try:
        return _with_maps(trials, store, notes)
    except (UserError, OSError) as error:
        without = f"Without anomaly maps: {error}."
    try:
        return _without_maps(trials, (*notes, without))
    except (UserError, OSError) as error:
        return Mistakes((), (), (), (f"Nothing to show: the images cannot be read any more ({error}).",))


def _wanted(sweep: SweepFolder, points: Sequence[Point]) -> tuple[list[tuple[int, int, Row]], tuple[str, ...]]:
    """The first seed's rows of the points with their places; with many categories the hardest of the first point."""
    rows = [[row for row in sweep.done(p) if row["seed"] == min(r["seed"] for r in sweep.done(p))] for p in points]
    hardest = sorted(rows[0], key=lambda row: (row["image_auroc"] is None, row["image_auroc"] or 0.0))[:MAX_CATEGORIES]
    places = [(row["dataset"], row["category"]) for row in rows[0] if row in hardest]
    left_out = len(rows[0]) - len(places)
    notes = (f"The {MAX_CATEGORIES} categories of the lowest image AUROC; {left_out} more are not shown.",)
    return [
        (trial, places.index((row["dataset"], row["category"])), row)
        for trial, mine in enumerate(rows)
        for row in mine
        if (row["dataset"], row["category"]) in places
    ], notes * bool(left_out)


def _opened(store: Store, trial: int, group: int, row: Row) -> ShownTrial:
    artifact = store.find(row["artifact"])
    if artifact is None:
        raise ArtifactError(f"the store {store.root} no longer has the trial “{row['name']}”")
    try:
        config = ExperimentConfig.model_validate_json(artifact.file("config.json").read_text(encoding="utf-8"))
        records = pq.read_table(artifact.file("predictions.parquet")).to_pylist()
    except (ValueError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{artifact.folder}: cannot be read by this version") from error
    tested = [record for record in records if record["split"] == "test"]
    rows = tuple(_catalog_row(record, row) for record in tested)
    return ShownTrial(trial, group, row, config, rows, np.array([record["score"] for record in tested]))


def _catalog_row(record: Row, row: Row) -> CatalogRow:
    names = ("id", "split", "label", "defect", "image", "mask", "mask_threshold")
    region = record.get("region")
    return CatalogRow(
        dataset=row["dataset"],
        category=row["category"],
        bit_depth=record.get("bit_depth"),
        region=None if region is None else tuple(region),
        **{name: record[name] for name in names},
    )


def _with_maps(trials: Sequence[ShownTrial], store: Store, notes: tuple[str, ...]) -> Mistakes:
    """As the report of a run shows them. Raises UserError where the store does not hold all that they rest on."""
    results: list[tuple[int, int, TrialResult]] = []
    for one in trials:
        result = stored_result(one.row["name"], one.config, one.row["category"], store)
        _check_same(one, result)
        results.append((one.trial, one.group, result))
    gallery = make_gallery(results)
    panels = tuple(
        Panel(one, panel.threshold, panel.weakest, panel.alarms, panel.scale)
        for one, panel in zip(trials, gallery.panels, strict=True)
    )
    return Mistakes(_shown(panels), panels, gallery.ramp, notes)


def _check_same(one: ShownTrial, result: TrialResult) -> None:
    """Maps must be of the very scores that the sweep reports."""
    scores = dict(zip((row.id for row in result.predictions.rows), result.predictions.scores, strict=True))
    again = np.array([scores.get(row.id, np.nan) for row in one.rows])
    if len(scores) != len(one.rows) or not np.allclose(again, one.scores, rtol=1e-5, atol=1e-8):
        raise DataError("the images or weights have changed since the sweep")


def _shown(panels: Sequence[Panel]) -> tuple[Picture, ...]:
    tiles = (tile for panel in panels for tile in (*panel.weakest, *panel.alarms))
    return tuple({tile.picture.key: tile.picture for tile in tiles}.values())


def _without_maps(trials: Sequence[ShownTrial], notes: tuple[str, ...]) -> Mistakes:
    count = max(1, min(MAX_OF_KIND, MAX_TILES // (2 * len(trials))))
    pictures: dict[CatalogRow, Picture] = {}
    panels = tuple(_plain_panel(one, count, pictures) for one in trials)
    return Mistakes(_shown(panels), panels, (), notes)


def _plain_panel(one: ShownTrial, count: int, pictures: dict[CatalogRow, Picture]) -> Panel:
    labels = np.array([row.label for row in one.rows])
    threshold = f1_max_point(labels, one.scores, one.config.detector.threshold_rule).threshold
    ascending = np.argsort(one.scores, kind="stable")
    weakest, alarms = ascending[labels[ascending] == 1][:count], ascending[labels[ascending] == 0][::-1][:count]
    shown = [tuple(_plain_tile(one, int(i), threshold, pictures) for i in at) for at in (weakest, alarms)]
    return Panel(one, threshold, shown[0], shown[1])


def _plain_tile(one: ShownTrial, at: int, threshold: float, pictures: dict[CatalogRow, Picture]) -> Tile:
    row, score = one.rows[at], float(one.scores[at])
    if row not in pictures:
        pictures[row] = _picture(row, f"p{len(pictures)}")
    picture = pictures[row]
    return Tile(picture, "", (0.0, 0.0, picture.width, picture.height), row, score, score >= threshold)


def _picture(row: CatalogRow, key: str) -> Picture:
    image, mask = read_pair(row)
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    width, height = small.size
    drawn = "" if mask is None else outline(mask, (height, width))
    return Picture(key, width, height, data_uri(small, "WEBP", quality=75), drawn)
