"""The curves and histograms of a report."""

from dataclasses import replace

import numpy as np
import pytest
import report_inputs
from report_inputs import Run, path_points

from exdd_ray.report.charts import Frame, histogram, image_plots, pixel_plots, score_limits, simplify

made = report_inputs.made


def in_data(path: str, frame: Frame) -> np.ndarray:
    points = path_points(path)
    x = (points[:, 0] - frame.left) / (frame.right - frame.left) * (frame.x[1] - frame.x[0]) + frame.x[0]
    y = (frame.bottom - points[:, 1]) / (frame.bottom - frame.top) * (frame.y[1] - frame.y[0]) + frame.y[0]
    return np.stack([x, y], axis=1)


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
    edges = np.linspace(*drawn.frame.x, 1 + max(10, int(2 * np.sqrt(len(result.rows)))))
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
