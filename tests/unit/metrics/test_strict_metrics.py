"""AUPIMO, AUPRO at 5 %, SegF1 and recall at a false-alarm rate, against their definitions as plain loops."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import f1_score

from exdd_ray.metrics.aupimo import aupimo
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.metrics.curves import f1_above
from exdd_ray.metrics.evaluate import image_metrics, normal_threshold, pixel_metrics
from exdd_ray.metrics.histogram import ScoreHistogram
from exdd_ray.metrics.threshold import threshold_at_rate

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def make_pairs(count: int, decimals: int, seed: int = 0) -> Pairs:
    """Every second image has a defect; sizes differ; the fewer decimals, the more ties."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        mask = np.zeros((40 + i, 50), dtype=bool)
        if i % 2:
            mask[5 : 9 + i, 10:20] = True
            mask[30, 40:42] = True
        scores = np.round(rng.standard_normal(mask.shape) + 3 * mask, decimals)
        found.append((scores.astype(np.float32), mask))
    return found


def plain_aupimo(pairs: Pairs, low: float, high: float) -> float:
    """Image by image, on a fine grid of rates: the recall at the lowest threshold that alarms no more."""
    normal = [scores.ravel() for scores, mask in pairs if not mask.any()]
    thresholds = np.unique(np.concatenate([scores.ravel() for scores, _ in pairs]))
    false = np.array([np.mean([(scores >= t).mean() for scores in normal]) for t in thresholds])
    areas = []
    for scores, mask in pairs:
        if mask.any():
            recall = np.array([(scores[mask] >= t).mean() for t in thresholds])
            grid = np.exp((np.arange(4000) + 0.5) / 4000 * (np.log(high) - np.log(low)) + np.log(low))
            allowed = [recall[false <= z] for z in grid]
            areas.append(np.mean([of[0] if len(of) else 0.0 for of in allowed]))
    return float(np.mean(areas))


def aupimo_of(pairs: Pairs) -> float | None:
    return pixel_metrics([(scores, mask if mask.any() else None) for scores, mask in pairs]).values["aupimo"]


@pytest.mark.parametrize("decimals", [0, 1, 5])
@pytest.mark.parametrize("bounds", [(1e-5, 1e-4), (1e-3, 1e-1)])
def test_aupimo_is_the_mean_of_the_images_own_areas(
    decimals: int, bounds: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_pairs(8, decimals)
    monkeypatch.setattr(aupimo, "__defaults__", (bounds,))
    found = aupimo_of(pairs)
    assert found == pytest.approx(plain_aupimo(pairs, *bounds), abs=1e-3)


def test_aupimo_of_perfect_inverted_and_constant_maps() -> None:
    pairs = make_pairs(4, 1)
    assert aupimo_of([(mask.astype(np.float32), mask) for _, mask in pairs]) == pytest.approx(1.0)
    assert aupimo_of([(1 - mask.astype(np.float32), mask) for _, mask in pairs]) == 0.0
    assert aupimo_of([(np.zeros(mask.shape, np.float32), mask) for _, mask in pairs]) == 0.0


def test_aupimo_without_a_normal_image_is_undefined() -> None:
    assert aupimo_of(make_pairs(6, 2)[1::2]) is None


def test_an_image_whose_defect_vanished_is_no_normal_image_to_aupimo() -> None:
    pairs = make_pairs(8, 2)
    loud, vanished = np.full((20, 20), 9.0, np.float32), np.zeros((20, 20), dtype=bool)
    given = [(scores, mask if mask.any() else None) for scores, mask in pairs]
    with_it = pixel_metrics([*given, (loud, vanished)])
    assert with_it.values["aupimo"] == pixel_metrics(given).values["aupimo"]
    assert with_it.values["pixel_auroc"] < pixel_metrics(given).values["pixel_auroc"]


def test_aupimo_of_an_image_of_one_pixel() -> None:
    normal, defect = (np.zeros((1, 1), np.float32), np.zeros((1, 1), bool)), np.ones((1, 1), bool)
    assert aupimo_of([normal, (np.ones((1, 1), np.float32), defect)]) == pytest.approx(1.0)


def test_aupro_at_5_percent_is_aupro_with_that_limit() -> None:
    pairs = make_pairs(6, 1)
    wide, narrow = pixel_metrics(pairs), pixel_metrics(pairs, EvaluationConfig(fpr_limit=0.05))
    assert wide.values["aupro_5"] == narrow.values["aupro"] != wide.values["aupro"]


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 1.5, 2.0, 99.0])
def test_segmentation_f1_is_scikit_learns(threshold: float) -> None:
    pairs = make_pairs(6, 1)
    labels = np.concatenate([mask.ravel() for _, mask in pairs])
    called = np.concatenate([scores.ravel() for scores, _ in pairs]) > threshold
    found = pixel_metrics(pairs, threshold=threshold).values["seg_f1"]
    assert found == pytest.approx(f1_score(labels, called, zero_division=0))
    assert pixel_metrics(pairs).values["seg_f1"] is None  # without held-out normal images


def test_nothing_of_constant_maps_is_above_normal() -> None:
    threshold = normal_threshold([np.full((3, 5), 0.25, np.float32)] * 2)
    assert threshold == 0.25
    histogram = ScoreHistogram()
    histogram.add(np.full(4, 0.25, np.float32), np.array([1, 0, 0, 0], bool), np.ones(1), normal=False)
    assert f1_above(histogram.counts(), threshold) == 0.0


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_normal_threshold_is_that_of_all_pixels_at_once(offset: float) -> None:
    maps = [scores + np.float32(offset) for scores, _ in make_pairs(5, 5)]
    pixels = np.concatenate([one.ravel() for one in maps]).astype(np.float64)
    assert normal_threshold(maps) == pytest.approx(pixels.mean() + 3 * pixels.std(), rel=1e-12)
    assert normal_threshold([]) is None


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("decimals", [0, 3])
def test_another_normal_score_alarms_at_most_at_the_rate_and_no_lower_threshold_would_do(rate, decimals) -> None:
    for count in (1, 7, 19, 20, 100):
        normals = np.round(np.random.default_rng(count).normal(size=count), decimals)
        threshold = threshold_at_rate(normals, rate)
        if threshold is None:
            assert 1 / (count + 1) > rate
            continue
        assert ((normals > threshold).sum() + 1) / (count + 1) <= rate + 1e-9
        lower = normals[normals < threshold]
        assert not len(lower) or ((normals > lower.max()).sum() + 1) / (count + 1) > rate


@pytest.mark.parametrize("count", [19, 20, 39, 60, 100])
def test_the_rate_that_is_stated_is_kept_on_new_images(count: int) -> None:
    rng = np.random.default_rng(count)
    drawn = rng.normal(size=(4000, count + 50))
    rates = [(row[count:] > threshold_at_rate(row[:count], 0.05)).mean() for row in drawn]
    expected = int(0.05 * (count + 1) + 1e-9) / (count + 1)
    assert np.mean(rates) == pytest.approx(expected, abs=0.003)
    assert np.mean(rates) < 0.053


def test_too_few_normal_scores_allow_no_threshold() -> None:
    assert threshold_at_rate(np.arange(18.0), 0.05) is None
    assert threshold_at_rate(np.arange(19.0), 0.05) == 18


def test_recall_is_that_of_the_test_defects_at_the_held_out_threshold() -> None:
    labels, scores = np.array([0, 0, 1, 1, 1, 1]), np.array([9.0, 9.0, 1.0, 2.0, 3.0, 4.0])
    config = EvaluationConfig(false_alarm_rate=0.25)
    normals = np.array([0.0, 1.0, 2.0, 2.0, 0.5, 0.2, 5.0])  # one of eight above 2 is one, and a new one may be another
    found = image_metrics(labels, scores, config, normals, resamples=0, seed=0).values
    assert found["recall_at_false_alarms"] == 0.5
    assert image_metrics(labels, scores, config, resamples=0, seed=0).values["recall_at_false_alarms"] is None
