"""Thresholds of the best F1, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, precision_score, recall_score

from exdd_ray.errors import DataError
from exdd_ray.metrics.threshold import f1_max_point, point_at

LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 1])
SCORES = np.array([-2.0, 0.5, 0.4, 0.1, 0.9, 1.7, 0.2, 0.6])


def test_both_threshold_rules_agree_with_an_oracle_and_tell_the_images_apart_alike():
    score, midpoint = (f1_max_point(LABELS, SCORES, rule) for rule in ("score", "midpoint"))
    precision, recall, thresholds = precision_recall_curve(LABELS, SCORES)
    best = int(np.argmax(2 * precision * recall / (precision + recall + 1e-10)))
    assert score.threshold == thresholds[best] == 0.4
    assert midpoint.threshold == (thresholds[best] + thresholds[best - 1]) / 2 == pytest.approx(0.3)
    for point in (score, midpoint):
        called = point.threshold <= SCORES
        assert point.precision == pytest.approx(precision_score(LABELS, called)) == pytest.approx(0.8)
        assert point.recall == pytest.approx(recall_score(LABELS, called)) == 1.0


def test_on_other_images_the_two_rules_differ():
    labels, scores = np.array([0, 1]), np.array([0.0, 0.35])
    assert point_at(labels, scores, f1_max_point(LABELS, SCORES, "score").threshold).recall == 0
    assert point_at(labels, scores, f1_max_point(LABELS, SCORES, "score").threshold).precision == 0
    assert point_at(labels, scores, f1_max_point(LABELS, SCORES, "midpoint").threshold).recall == 1


def test_the_lowest_score_has_no_neighbour_below():
    labels, scores = np.array([1, 1, 0]), np.array([1.0, 2.0, 1.0])
    assert f1_max_point(labels, scores, "midpoint").threshold == 1.0


def test_precision_and_recall_at_a_threshold():
    point = point_at(LABELS, SCORES, 0.5)
    assert (point.precision, point.recall) == (0.75, 0.75)
    with pytest.raises(DataError, match="no image is defective"):
        point_at(np.zeros(3), np.zeros(3), 0.0)
    with pytest.raises(DataError):
        f1_max_point(np.ones(3), np.arange(3.0), "score")
