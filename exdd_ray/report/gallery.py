"""Pictures of what a detector found and what it got wrong: image, true mask, anomaly map."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import UserError
from exdd_ray.experiment.small_maps import EACH
from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.line.geometry import cut_size
from exdd_ray.report.charts import polyline, simplify

SIDE = 200  # pixels of a picture's longer side
MAP_LEVELS = 48
MASK_SIDE = 400
MAX_PICTURES = 110
MAX_TILES = 200
COLOURMAP = "inferno"


@dataclass(frozen=True)
class Picture:
    """A test image as it is shown: its key in the page, size in pixels, data URI, and the mask's outline as a path."""

    key: str
    width: int
    height: int
    uri: str
    outline: str


@dataclass(frozen=True)
class Tile:
    """A prediction: its picture, and the anomaly map as a data URI over a box (x, y, width, height) of the picture."""

    picture: Picture
    heat: str
    box: tuple[float, float, float, float]
    row: CatalogRow
    score: float
    above: bool


@dataclass(frozen=True)
class Panel:
    """Predictions of one result.

    Attributes:
        trial, group: positions of the trial and the category.
        threshold: F1-max threshold of the image scores.
        detected, weakest, alarms: the defects of the highest scores, those of the lowest, normals of the highest.
    """

    trial: int
    group: int
    result: StoredResult
    threshold: float | None
    detected: tuple[Tile, ...]
    weakest: tuple[Tile, ...]
    alarms: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """All panels and their pictures, each held once.

    Attributes:
        ramp: the colour map as CSS colours, low to high.
        notes: why something is not shown.
    """

    pictures: tuple[Picture, ...]
    panels: tuple[Panel, ...]
    ramp: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picks:
    """Positions of the images to show, each list starting with the most telling."""

    detected: np.ndarray
    weakest: np.ndarray
    alarms: np.ndarray

    @property
    def tiles(self) -> int:
        """How many there are."""
        return len(self.detected) + len(self.weakest) + len(self.alarms)


def make_gallery(results: Sequence[tuple[int, int, StoredResult]]) -> Gallery:
    """Panels of (trial position, category position, result); fewer images each where there are many of them.

    Where an image or mask cannot be read any more, a note says so instead.
    """
    for count in range(EACH, 0, -1):
        chosen = [pick(result, count) for _, _, result in results]
        rows = _distinct_rows(results, chosen)
        if len(rows) <= MAX_PICTURES and sum(picks.tiles for picks in chosen) <= MAX_TILES:
            break
    try:
        pictures = {row: _picture(row, f"p{number}") for number, row in enumerate(rows)}
    except UserError as error:
        return Gallery((), (), (), (f"Nothing to show: the images cannot be read any more ({error}).",))
    panels = [_panel(*place, picks, pictures) for place, picks in zip(results, chosen, strict=True)]
    return Gallery(tuple(pictures.values()), tuple(panels), _ramp())


def pick(result: StoredResult, count: int) -> Picks:
    """At most `count` positions of each kind; no defect is both among the strongest and the weakest."""
    scores, threshold = result.scores, _threshold(result)
    labels = np.array([row.label for row in result.rows])
    ascending = np.argsort(scores, kind="stable")
    defective, normal = ascending[labels[ascending] == 1], ascending[labels[ascending] != 1]
    weakest = defective[: min(count, (len(defective) + 1) // 2)]
    others = defective[len(weakest) :]
    detected = others[scores[others] >= threshold][::-1][:count]
    return Picks(detected, weakest, normal[::-1][:count])


def _distinct_rows(results: Sequence[tuple[int, int, StoredResult]], chosen: Sequence[Picks]) -> list[CatalogRow]:
    return list(
        dict.fromkeys(
            result.rows[i]
            for (_, _, result), picks in zip(results, chosen, strict=True)
            for i in (*picks.detected, *picks.weakest, *picks.alarms)
        )
    )


def _picture(row: CatalogRow, key: str) -> Picture:
    image, mask = read_pair(row)
    height, width = _within(image.shape[:2], SIDE)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return Picture(
        key, width, height, data_uri(small, "WEBP", quality=75), "" if mask is None else outline(mask, (height, width))
    )


def outline(mask: np.ndarray, size: Size) -> str:
    """SVG path around the defect regions of a mask bool [H x W], in a drawing of `size` (height, width)."""
    from contourpy import contour_generator

    height, width = _within(mask.shape, MASK_SIDE)
    area = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    padded = np.pad(np.asarray(area), 1)
    scale = np.array([size[1] / width, size[0] / height])
    # A line one pixel wide in the file must stay visible: far less than half of a cell counts as covered.
    loops = contour_generator(z=padded).lines(0.5 if mask.shape == (height, width) else 0.2)
    # Cell centres lie at halves, and the padding moved them by one.
    paths = [(np.asarray(loop, dtype=np.float64) - 0.5) * scale for loop in loops]
    return "".join(polyline(simplify(path, 0.2), closed=True) for path in paths)


def _panel(trial: int, group: int, result: StoredResult, picks: Picks, pictures: dict[CatalogRow, Picture]) -> Panel:
    tiles = [
        tuple(_tile(result, int(i), pictures) for i in positions)
        for positions in (picks.detected, picks.weakest, picks.alarms)
    ]
    return Panel(trial, group, result, result.detection.threshold if result.detection else None, *tiles)


def _tile(result: StoredResult, at: int, pictures: dict[CatalogRow, Picture]) -> Tile:
    row, score = result.rows[at], float(result.scores[at])
    picture, geometry = pictures[row], result.trial.config.detector.geometry
    box = map_box((picture.height, picture.width), geometry)
    return Tile(picture, _heat(result.maps[at], result.map_scale), box, row, score, score >= _threshold(result))


def _threshold(result: StoredResult) -> float:
    """From where a score counts as defective; from none where nothing can be measured."""
    return result.detection.threshold if result.detection else math.inf


def map_box(size: Size, geometry: FeaturesConfig) -> tuple[float, float, float, float]:
    """Box (x, y, width, height) of an image of `size` that the anomaly map covers: all of it, or a central part."""
    height, width = size
    tall, wide = (float(side) for side in cut_size(size, geometry))
    if geometry.crop is not None:
        shorter, resize = min(height, width), geometry.resize
        up, across = (resize / shorter,) * 2 if isinstance(resize, int) else (resize[0] / tall, resize[1] / wide)
        tall, wide = geometry.crop[0] / up, geometry.crop[1] / across
    return round((width - wide) / 2, 2), round((height - tall) / 2, 2), round(wide, 2), round(tall, 2)


def _heat(anomaly_map: np.ndarray, scale: tuple[float, float]) -> str:
    """A map in colours that fade out towards the low end of the scale; a palette of few levels keeps it small."""
    from matplotlib import colormaps

    low, high = scale
    share = np.clip((anomaly_map - low) / (high - low), 0, 1)
    steps = np.linspace(0, 1, MAP_LEVELS)
    picture = Image.fromarray(np.rint(share * (MAP_LEVELS - 1)).astype(np.uint8))
    picture.putpalette(colormaps[COLOURMAP](steps, bytes=True)[:, :3].tobytes())
    opacity = np.rint(215 * np.sqrt(steps)).astype(np.uint8).tobytes()
    return data_uri(picture, "PNG", optimize=True, transparency=opacity)


def _ramp() -> tuple[str, ...]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return tuple(to_hex(colormaps[COLOURMAP](level)) for level in np.linspace(0, 1, 9))


def _within(size: tuple[int, ...], side: int) -> Size:
    """(height, width) of the same shape with no side longer than `side`; never enlarged."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def data_uri(image: Image.Image, form: str, **options: Any) -> str:
    """The image encoded in a form of Pillow's, as a page can hold it."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
