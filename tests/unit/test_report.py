import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_inputs import DETECTORS, LEAKAGE, make_run

from exdd_ray.config.detector import FeaturesConfig
from exdd_ray.config.experiment import RunConfig
from exdd_ray.detectors.patch_bank import Predictions
from exdd_ray.errors import DataError, ImageError
from exdd_ray.experiment.result import TrialResult
from exdd_ray.features.prepare import prepare_mask
from exdd_ray.report.charts import Frame, histogram, image_plots, pixel_plots, score_limits, simplify
from exdd_ray.report.gallery import MAX_TILES, colour_scale, make_gallery, map_box, outline, pick
from exdd_ray.report.page import render_report, write_report
from exdd_ray.report.tables import (
    METRICS,
    best_means,
    errors,
    first_seed,
    flags,
    group_by_category,
    images_tested,
    span,
    spread,
    strongest,
    summarize,
)

Run = tuple[RunConfig, list[TrialResult]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def page(made: Run) -> str:
    return render_report(*made)


def path_points(path: str) -> np.ndarray:
    return np.array([point.split(",") for point in re.findall(r"[-\d.e]+,[-\d.e]+", path)], dtype=float)


def in_data(path: str, frame: Frame) -> np.ndarray:
    points = path_points(path)
    x = (points[:, 0] - frame.left) / (frame.right - frame.left) * (frame.x[1] - frame.x[0]) + frame.x[0]
    y = (frame.bottom - points[:, 1]) / (frame.bottom - frame.top) * (frame.y[1] - frame.y[0]) + frame.y[0]
    return np.stack([x, y], axis=1)


# Tables


def test_spread_averages_categories_within_a_seed_before_the_seeds() -> None:
    found = spread([(0, 0.8), (0, 0.9), (0, 1.0), (1, 0.7)])
    assert found is not None
    assert found.mean == pytest.approx((0.9 + 0.7) / 2)
    assert found.deviation == pytest.approx(0.2 / np.sqrt(2))


def test_spread_of_one_seed_has_no_deviation_and_of_nothing_is_none() -> None:
    found = spread([(3, 0.5), (3, 0.7)])
    assert found is not None
    assert (found.mean, found.deviation) == (pytest.approx(0.6), None)
    assert spread([]) is None


def test_summaries_hold_the_metrics_of_their_results(made: Run) -> None:
    _, results = made
    summaries = summarize(results)
    assert [summary.name for summary in summaries] == [detector.name for detector in DETECTORS]
    assert [summary.seeds for summary in summaries] == [(0, 1), (0, 1)]
    own = [r for r in results if r.trial.name == DETECTORS[0].name]
    by_seed = [np.mean([r.pixel.aupro for r in own if r.pixel and r.trial.config.seed == seed]) for seed in (0, 1)]
    cell = summaries[0].metrics[[metric.title for metric in METRICS].index("AUPRO")]
    assert cell is not None
    assert cell.mean == pytest.approx(np.mean(by_seed))
    assert cell.deviation == pytest.approx(np.std(by_seed, ddof=1))
    assert [summary.leakage for summary in summaries] == [False, True]


def test_interval_is_given_for_a_single_result_only(made: Run) -> None:
    _, results = made
    assert summarize(results)[0].interval is None
    assert summarize(results[:1])[0].interval == results[0].image.auroc_interval


def test_pixel_metrics_are_averaged_where_they_exist(made: Run) -> None:
    _, results = made
    first, second = results[0], results[1]
    (summary,) = summarize([first, replace(second, pixel=None)])
    assert first.pixel is not None
    assert summary.metrics[2] is not None
    assert summary.metrics[2].mean == first.pixel.detection.auroc
    (none,) = summarize([replace(first, pixel=None)])
    assert none.metrics[2] is None


def test_best_is_shared_by_values_that_print_alike(made: Run) -> None:
    low, high = summarize(made[1])
    close = replace(high, metrics=tuple(cell and replace(cell, mean=cell.mean - 1e-9) for cell in high.metrics))
    best = best_means([low, high, close])
    for column, value in enumerate(best):
        means = [s.metrics[column].mean for s in (low, high)]  # type: ignore[union-attr]
        assert value == round(max(means), 3)
    assert best_means([low]) == (None,) * len(METRICS)


def test_strongest_keeps_first_and_last(made: Run) -> None:
    base = summarize(made[1])[0]
    cells = [replace(base.metrics[0], mean=mean) for mean in (0.1, 0.9, 0.5, 0.8, 0.2)]  # type: ignore[type-var]
    summaries = [replace(base, metrics=(cell, *base.metrics[1:])) for cell in cells]
    assert strongest(summaries, 3, always=(0, -1)) == (0, 1, 4)
    assert strongest(summaries, 4, always=(0, -1)) == (0, 1, 3, 4)
    assert strongest(summaries, 9, always=(0, -1)) == (0, 1, 2, 3, 4)


def test_span() -> None:
    assert span([5976, 5976]) == "5,976"
    assert span([1254, 1184]) == "1,184–1,254"


def test_flags_put_leakage_first_and_say_where(made: Run) -> None:
    _, results = made
    remarked = [replace(results[0], remarks=("3 unreadable images left out",)), *results[1:]]
    leakage, note = flags(remarked)
    assert (leakage.text, leakage.where, leakage.leakage) == (LEAKAGE, DETECTORS[1].name, True)
    assert (note.where, note.leakage) == ("single bank; ceramic", False)
    assert flags([replace(result, remarks=("masks differ",)) for result in results])[0].where == ""


def test_tested_sums_categories_and_spans_trials(made: Run) -> None:
    _, results = made
    assert images_tested(results) == ("16", "18")
    fewer = [replace(r, test=(r.test[0], r.test[1] - 4)) if r.trial.name == "single bank" else r for r in results]
    assert images_tested(fewer) == ("16", "10–18")


def test_groups_name_the_dataset_where_there_are_several(made: Run) -> None:
    _, results = made
    assert [group.label for group in group_by_category(results)] == ["ceramic", "wood"]
    config = results[0].trial.config
    other = config.model_copy(update={"dataset": config.dataset.model_copy(update={"name": "visa"})})
    moved = replace(results[0], trial=replace(results[0].trial, config=other))
    assert [g.label for g in group_by_category([moved, results[1]])] == ["visa / ceramic", "procedural / wood"]


def test_first_seed_takes_the_lowest(made: Run) -> None:
    found = first_seed(made[1][::-1])
    assert [result.trial.config.seed for result in found] == [0, 0]


def test_errors_count_both_sides_of_the_threshold(made: Run) -> None:
    for result in made[1]:
        found, detection = errors(result), result.image.detection
        assert (found.normal, found.defective) == result.test
        assert 1 - found.missed / found.defective == pytest.approx(detection.recall)
        hits = found.defective - found.missed
        assert hits / (hits + found.alarms) == pytest.approx(detection.precision)


# Charts


def test_drawn_curves_enclose_the_metric(made: Run) -> None:
    result = made[1][0]
    assert result.pixel is not None
    for plot in (*image_plots([(0, result)]), *pixel_plots([(0, result)])):
        points = in_data(plot.lines[0].path, plot.frame)
        area = np.trapezoid(points[:, 1], points[:, 0]) / plot.frame.x[1]
        assert area == pytest.approx(plot.lines[0].value, abs=0.01), plot.title


def test_no_pixel_plot_without_pixel_metrics(made: Run) -> None:
    assert pixel_plots([(0, replace(made[1][0], pixel=None))]) == ()


def test_simplify_stays_within_its_tolerance() -> None:
    x = np.linspace(0, 300, 2000)
    points = np.stack([x, 40 * np.sin(x / 40)], axis=1)
    kept = simplify(points, 0.2)
    assert len(kept) < 100
    assert np.abs(np.interp(x, kept[:, 0], kept[:, 1]) - points[:, 1]).max() < 0.3
    closed = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 0.0]])
    np.testing.assert_array_equal(simplify(closed, 0.2), closed)


def test_histogram_bars_of_each_class_sum_to_one(made: Run) -> None:
    result = made[1][0]
    drawn = histogram(0, result)
    edges = np.linspace(*drawn.frame.x, 1 + max(10, int(2 * np.sqrt(len(result.predictions.rows)))))
    middles = (edges[:-1] + edges[1:]) / 2
    for path in (drawn.normal, drawn.defective):
        points = in_data(path, drawn.frame)
        # Left and right of every vertical stroke the outline has the bars' heights.
        heights = [points[np.flatnonzero(points[:, 0] <= middle + 1e-9)[-1], 1] for middle in middles]
        assert sum(heights) == pytest.approx(1, abs=0.03)
    assert drawn.beyond == 0


def test_score_limits_leave_far_outliers_to_the_outer_bins() -> None:
    scores = np.append(np.linspace(1, 2, 200), [1e6])
    low, high = score_limits(scores, 1.5)
    assert low == 1
    assert 2 < high < 4
    assert score_limits(scores, 50.0)[1] == 50
    flat = score_limits(np.ones(5), 1.0)
    assert flat[0] < 1 < flat[1]


# Gallery


def test_pick_separates_found_missed_and_false_alarms(made: Run) -> None:
    result = made[1][0]
    scores = np.array([0.9, 0.1, 0.8, 0.3, 0.7, 0.2, 0.95])
    labels = [1, 1, 1, 1, 0, 0, 1]
    rows = tuple(replace(result.predictions.rows[0], id=str(i), label=label) for i, label in enumerate(labels))
    predictions = Predictions(rows, scores, np.zeros((7, 4)), result.predictions.draw)
    picks = pick(predictions, 0.5, 2)
    assert picks.detected.tolist() == [6, 0]
    assert picks.weakest.tolist() == [1, 3]
    assert picks.alarms.tolist() == [4, 5]
    assert pick(predictions, 0.92, 6).detected.tolist() == [6]


@pytest.mark.parametrize("size", [(90, 150), (150, 90), (64, 64)])
@pytest.mark.parametrize("resize", [128, (96, 160)])
def test_map_box_is_what_the_network_sees(size: tuple[int, int], resize: int | tuple[int, int]) -> None:
    features = FeaturesConfig(resize=resize, crop=(80, 80))
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
    assert panel.scale == colour_scale(result.predictions)
    assert all(tile.above and tile.row.label == 1 for tile in panel.detected)
    assert all(tile.row.label == 0 for tile in panel.alarms)
    assert max(panel.detected[0].picture.width, panel.detected[0].picture.height) == 128
    tile = panel.detected[0]
    at = [row.id for row in result.predictions.rows].index(tile.row.id)
    heat = Image.open(io.BytesIO(base64.b64decode(tile.heat.partition(",")[2]))).convert("RGBA")
    drawn = result.predictions.draw(result.predictions.patch_maps[at], heat.size[::-1])
    share = np.clip((drawn - panel.scale[0]) / (panel.scale[1] - panel.scale[0]), 0, 1)
    np.testing.assert_allclose((np.asarray(heat)[..., 3] / 215) ** 2, share, atol=0.02)
    assert np.asarray(heat)[..., 3].max() > 0


def test_gallery_shows_fewer_of_each_where_there_are_many_panels(made: Run) -> None:
    result = made[1][0]
    gallery = make_gallery([(i, 0, result) for i in range(20)])
    tiles = sum(len(p.detected) + len(p.weakest) + len(p.alarms) for p in gallery.panels)
    assert 0 < tiles <= MAX_TILES


def test_gallery_refuses_an_image_that_is_gone(made: Run) -> None:
    result = made[1][0]
    rows = tuple(replace(row, image="gone.png", mask=None) for row in result.predictions.rows)
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        make_gallery([(0, 0, replace(result, predictions=replace(result.predictions, rows=rows)))])


# Page


def test_page_needs_nothing_from_outside(page: str) -> None:
    targets = re.findall(r"(?:\bhref|\bsrc|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert len(targets) > 20
    assert {target for target in targets if not target.startswith(("#", "data:"))} == set()
    assert "://" not in re.sub(r"data:[^\"]*", "", page)


def test_page_escapes_names_of_files_and_trials(page: str) -> None:
    assert "<real>" not in page
    assert "&lt;real&gt;" in page
    assert "<title>contrast &amp; &lt;noise&gt;" in page
    assert re.search(r"scratch <\d", page) is None
    assert re.search(r"scratch &lt;\d", page)


def test_page_prints_the_table_the_flags_and_the_configs(made: Run, page: str) -> None:
    for summary in summarize(made[1]):
        for cell in summary.metrics:
            assert cell is not None
            assert f"{cell.mean:.3f}<span" in page
    assert '<li class="leakage">' in page
    assert "4 training defects were taken from the test split" in page
    assert page.count("preset: best") == len(DETECTORS)
    assert "2 trials, each with 2 seeds, on procedural (2 categories)" in page


def test_report_of_one_result_without_masks(tmp_path: Path) -> None:
    run, (result,) = make_run(tmp_path, categories=("textile",), seeds=(0,), size=(120, 48), detectors=DETECTORS[:1])
    rows = tuple(replace(row, mask=None) for row in result.predictions.rows)
    bare = replace(result, pixel=None, predictions=replace(result.predictions, rows=rows))
    write_report(tmp_path / "report.html", run, [bare])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    interval = bare.image.auroc_interval
    assert interval is not None
    assert f"{interval.low:.3f} – {interval.high:.3f}" in page
    assert "No test defect has a mask" in page
    assert "no mask" in page
    assert 'class="best"' not in page
    assert 'class="flags"' not in page
    assert len(page) < 400_000


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result"):
        write_report(tmp_path / "report.html", RunConfig(), [])
    assert not list(tmp_path.iterdir())
