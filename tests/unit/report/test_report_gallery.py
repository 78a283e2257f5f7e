"""The pictures of a report: which are shown, in what colours, with what outlines."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_inputs
from PIL import Image
from report_inputs import DETECTORS, Run, make_results, path_points

from exdd_ray.experiment.small_maps import small_maps
from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.prepare import prepare_mask
from exdd_ray.report.gallery import MAX_TILES, make_gallery, map_box, outline, pick

made = report_inputs.made


def test_pick_separates_found_missed_and_false_alarms(made: Run) -> None:
    def at(threshold: float) -> StoredResult:
        detection = replace(result.image.detection, threshold=threshold)  # type: ignore[union-attr]
        return replace(result, rows=rows, scores=scores, image=replace(result.image, detection=detection))  # type: ignore[type-var]

    result = made[1][0]
    scores = np.array([0.9, 0.1, 0.8, 0.3, 0.7, 0.2, 0.95])
    labels = [1, 1, 1, 1, 0, 0, 1]
    rows = tuple(replace(result.rows[0], id=str(i), label=label) for i, label in enumerate(labels))
    picks = pick(at(0.5), 2)
    assert picks.detected.tolist() == [6, 0]
    assert picks.weakest.tolist() == [1, 3]
    assert picks.alarms.tolist() == [4, 5]
    assert pick(at(0.92), 6).detected.tolist() == [6]


@pytest.mark.parametrize("size", [(90, 150), (150, 90), (64, 64)])
@pytest.mark.parametrize(
    "geometry",
    [
        {"resize": 128, "crop": (80, 80)},
        {"resize": (96, 160), "crop": (80, 80)},
        {"resize": (96, 160), "fit": "cut", "crop": (80, 80)},
        {"resize": (60, 130), "fit": "cut"},
    ],
)
def test_map_box_is_what_the_network_sees(size: tuple[int, int], geometry: dict[str, Any]) -> None:
    features = FeaturesConfig.model_validate(geometry)
    x, y, width, height = map_box((size[0] * 8, size[1] * 8), features)
    rows, columns = np.mgrid[: size[0] * 8, : size[1] * 8]
    inside = (rows >= y) & (rows < y + height) & (columns >= x) & (columns < x + width)
    seen = prepare_mask(inside, features)
    assert seen[1:-1, 1:-1].all()
    slim = (rows >= y + 24) & (rows < y + height - 24) & (columns >= x + 24) & (columns < x + width - 24)
    border = prepare_mask(slim, features)
    assert not border[0].any()
    assert not border[:, -1].any()


def test_map_box_without_a_crop_is_the_image() -> None:
    assert map_box((50, 70), FeaturesConfig(resize=(32, 32))) == (0, 0, 70, 50)


@pytest.mark.parametrize("shape", [(40, 60), (400, 1200)])
def test_outline_encloses_the_mask(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, dtype=bool)
    mask[shape[0] // 4 : shape[0] // 2, : shape[1] // 3] = True
    points = path_points(outline(mask, (50, 75)))
    assert points[:, 0].min() == pytest.approx(0, abs=0.6)
    assert points[:, 0].max() == pytest.approx(25, abs=0.6)
    assert points[:, 1].min() == pytest.approx(12.5, abs=0.6)
    assert points[:, 1].max() == pytest.approx(25, abs=0.6)


def test_outline_keeps_a_hairline_and_is_empty_for_an_empty_mask() -> None:
    mask = np.zeros((1200, 1200), dtype=bool)
    assert outline(mask, (200, 200)) == ""
    mask[600, 100:1100] = True
    assert path_points(outline(mask, (200, 200)))[:, 0].max() > 180


def test_gallery_holds_each_picture_once_and_colours_by_the_shared_scale(made: Run) -> None:
    result = made[1][-1]
    gallery = make_gallery([(0, 0, made[1][0]), (1, 0, result)])
    keys = [picture.key for picture in gallery.pictures]
    assert len(set(keys)) == len(keys)
    panel = gallery.panels[1]
    assert all(tile.above and tile.row.label == 1 for tile in panel.detected)
    assert all(tile.row.label == 0 for tile in panel.alarms)
    assert max(panel.detected[0].picture.width, panel.detected[0].picture.height) == 128
    tile = panel.detected[0]
    at = [row.id for row in result.rows].index(tile.row.id)
    heat = Image.open(io.BytesIO(base64.b64decode(tile.heat.partition(",")[2]))).convert("RGBA")
    low, high = result.map_scale
    share = np.clip((result.maps[at] - low) / (high - low), 0, 1)
    np.testing.assert_allclose((np.asarray(heat)[..., 3] / 215) ** 2, share, atol=0.02)
    assert np.asarray(heat)[..., 3].max() > 0


def test_gallery_shows_fewer_of_each_where_there_are_many_panels(made: Run) -> None:
    result = made[1][0]
    gallery = make_gallery([(i, 0, result) for i in range(20)])
    tiles = sum(len(p.detected) + len(p.weakest) + len(p.alarms) for p in gallery.panels)
    assert 0 < tiles <= MAX_TILES


def test_gallery_says_which_image_is_gone(made: Run) -> None:
    result = made[1][0]
    rows = tuple(replace(row, image="gone.png", mask=None) for row in result.rows)
    gallery = make_gallery([(0, 0, replace(result, rows=rows))])
    assert gallery.panels == ()
    assert "gone.png: no such file" in gallery.notes[0]


def test_small_maps_are_those_of_the_images_that_a_gallery_may_show(tmp_path: Path) -> None:
    (result,) = make_results(tmp_path, categories=("wood",), seeds=(0,), detectors=DETECTORS[:1])
    maps, (low, high) = small_maps(result.predictions)
    labels = np.array([row.label for row in result.predictions.rows])
    normal = result.predictions.patch_maps[labels == 0]
    assert (low, high) == (np.median(normal), pytest.approx(np.quantile(result.predictions.patch_maps, 0.995)))
    at = maps["row"].tolist()
    assert {int(np.argmax(np.where(labels == 0, result.predictions.scores, -np.inf)))} <= set(at)
    wanted = result.predictions.draw(result.predictions.patch_maps[at[0]], maps["map"].shape[1:])
    np.testing.assert_array_equal(maps["map"][0], wanted)
