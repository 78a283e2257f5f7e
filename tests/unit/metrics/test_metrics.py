import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from exdd_ray.errors import DataError
from exdd_ray.metrics.bootstrap import bootstrap_intervals
from exdd_ray.metrics.curves import detection
from exdd_ray.metrics.evaluate import image_metrics, pixel_metrics
from exdd_ray.metrics.histogram import MAX_BINS, ScoreHistogram


def make_pairs(count, scale, offset, seed=0, size=(96, 120)):
    rng = np.random.default_rng(seed)
    for i in range(count):
        mask = np.zeros(size, dtype=bool)
        if i % 2:
            mask[10 : 20 + i % 7, 30:50] = True
            mask[60:64, 70 : 75 + i % 3] = True
        scores = offset + scale * (rng.standard_normal(size) + 1.5 * mask)
        yield scores.astype(np.float32), mask


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-4, 1), (1, 1000), (1e6, -3e5), (1e-30, 0)])
def test_streamed_pixel_metrics_match_scikit_learn(scale, offset):
    pairs = list(make_pairs(40, scale, offset))
    found = pixel_metrics(pairs).detection
    scores = np.concatenate([s.ravel() for s, _ in pairs])
    labels = np.concatenate([m.ravel() for _, m in pairs])
    assert found.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)
    assert found.ap == pytest.approx(average_precision_score(labels, scores), abs=1e-4)


def test_skewed_scores_over_many_magnitudes():
    rng = np.random.default_rng(1)
    labels = rng.random((400, 500)) < 0.01
    scores = np.exp(rng.standard_normal(labels.shape) * 8 + 6 * labels).astype(np.float32)
    found = pixel_metrics([(scores, labels)]).detection
    assert found.auroc == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-4)
    assert found.ap == pytest.approx(average_precision_score(labels.ravel(), scores.ravel()), abs=1e-4)


def plain_aupro(pairs, limit):
    """Every threshold, every region: the definition."""
    from scipy.ndimage import label

    scores = np.concatenate([s.ravel() for s, _ in pairs])
    normal = np.concatenate([s[~m] for s, m in pairs])
    regions = []
    for s, m in pairs:
        numbered, count = label(m, structure=np.ones((3, 3)))
        regions += [s[numbered == i] for i in range(1, count + 1)]
    thresholds = np.unique(scores)[::-1]
    fpr = np.array([0.0] + [(normal >= t).mean() for t in thresholds])
    pro = np.array([0.0] + [np.mean([(r >= t).mean() for r in regions]) for t in thresholds])
    grid = np.union1d(fpr[fpr < limit], [limit])
    highest = [max(pro[fpr <= g], default=0) if g in fpr else np.interp(g, fpr, pro) for g in grid]
    lowest = [min(pro[fpr >= g]) if g in fpr else np.interp(g, fpr, pro) for g in grid]
    return (
        sum((b - a) * (h + low) / 2 for a, b, h, low in zip(grid, grid[1:], highest, lowest[1:], strict=False)) / limit
    )


def test_aupro_matches_the_definition():
    pairs = [(np.round(s, 1), m) for s, m in make_pairs(6, 1, 0, size=(65, 78))]
    assert pixel_metrics(pairs).values["aupro"] == pytest.approx(plain_aupro(pairs, 0.3), abs=1e-6)


def test_aupro_of_a_perfect_map_is_one_and_of_an_inverted_one_zero():
    pairs = [(m.astype(np.float32), m) for _, m in make_pairs(4, 1, 0)]
    assert pixel_metrics(pairs).values["aupro"] == pytest.approx(1.0)
    inverted = [(1 - s, m) for s, m in pairs]
    assert pixel_metrics(inverted).detection.auroc == pytest.approx(0.0)


def test_histogram_is_bounded_and_independent_of_the_order():
    rng = np.random.default_rng(2)
    parts = [(rng.standard_normal(70_000) * 10.0**k).astype(np.float32) for k in range(-6, 6)]

    def count(order):
        histogram = ScoreHistogram()
        for i in order:
            labels = parts[i] > 0
            histogram.add(parts[i], labels, np.ones(labels.sum()), normal=False)
        return histogram.counts()

    one, other = count(range(12)), count([7, 0, 11, 3, 5, 1, 2, 10, 4, 9, 8, 6])
    assert len(one.scores) <= MAX_BINS
    assert one.negatives.sum() + one.positives.sum() == 12 * 70_000
    for name in ("scores", "negatives", "positives", "overlap"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert np.all(np.diff(one.scores) > 0)


def test_detection_finds_the_best_f1_threshold():
    labels = np.array([0, 0, 0, 1, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.8, 0.9])
    found = detection(labels, scores)
    assert (found.f1, found.threshold) == (pytest.approx(6 / 7), pytest.approx(0.35))
    assert (found.precision, found.recall) == (pytest.approx(0.75), 1.0)


def test_bootstrap_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 60])
    scores = np.round(rng.standard_normal(140) + labels, 1)
    auroc, ap = bootstrap_intervals(labels, scores, 600, seed=0).values()
    normal, defective = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    drawn = [np.concatenate([rng.choice(normal, 80), rng.choice(defective, 60)]) for _ in range(600)]
    for interval, metric in ((auroc, roc_auc_score), (ap, average_precision_score)):
        plain = np.quantile([metric(labels[d], scores[d]) for d in drawn], [0.025, 0.975])
        assert (interval.low, interval.high) == (pytest.approx(plain[0], abs=0.015), pytest.approx(plain[1], abs=0.015))


def test_each_resample_equals_scikit_learn():
    from exdd_ray.metrics.bootstrap import _auroc_ap

    labels = np.array([1, 0, 1, 0, 0, 1])
    scores = np.array([3.0, 3.0, 2.0, 2.0, 1.0, 0.0])
    counts = np.array([[1, 2, 0, 1, 0, 2], [3, 1, 0, 1, 1, 0]])
    auroc, ap = _auroc_ap(counts.astype(float), labels, np.array([1, 3, 4, 5]))
    for row, weights in enumerate(counts):
        assert auroc[row] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
        assert ap[row] == pytest.approx(average_precision_score(labels, scores, sample_weight=weights))


def test_one_class_is_refused_with_the_class_that_is_missing():
    with pytest.raises(DataError, match="nothing defective"):
        image_metrics(np.zeros(5, dtype=int), np.arange(5.0), resamples=10, seed=0)
    with pytest.raises(DataError, match="nothing normal"):
        image_metrics(np.ones(5, dtype=int), np.arange(5.0), resamples=10, seed=0)


def test_bad_maps_are_refused():
    mask = np.zeros((4, 4), dtype=bool)
    with pytest.raises(DataError, match="not finite"):
        pixel_metrics([(np.full((4, 4), np.nan, dtype=np.float32), mask)])
    with pytest.raises(DataError, match="meets a mask"):
        pixel_metrics([(np.zeros((4, 5), dtype=np.float32), mask)])
