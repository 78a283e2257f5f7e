"""Whether two detectors differ: by the noise of the test images and of the seeds, measured and simulated."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from exdd_ray.errors import DataError
from exdd_ray.metrics.difference import Difference, Measured, Run, difference, holm
from exdd_ray.metrics.influence import Influence, Scored, ap_influence, auroc_influence
from exdd_ray.metrics.table import influence_on

METRICS = {"image_auroc": roc_auc_score, "image_ap": average_precision_score}


def scored(labels: np.ndarray, scores: np.ndarray) -> Scored:
    return Scored(tuple(f"{i:04d}" for i in range(len(labels))), labels, scores)


def measured(metric: str, labels: np.ndarray, scores: np.ndarray) -> Measured:
    value = auroc(labels, scores) if metric == "image_auroc" else METRICS[metric](labels, scores)
    return Measured(float(value), influence_on(metric, scored(labels, scores)))


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """As scikit-learn's, in a twentieth of the time."""
    wins = np.sign(scores[labels == 1][:, None] - scores[labels == 0])
    return float((1 + wins.mean()) / 2)


def labels_of(normal: int, defects: int) -> np.ndarray:
    return np.repeat([0, 1], [normal, defects])


@pytest.mark.parametrize("metric", METRICS)
def test_influence_is_the_derivative_by_an_images_weight(metric: str) -> None:
    rng = np.random.default_rng(0)
    labels = labels_of(30, 25)
    scores = np.round(labels + rng.normal(size=55), 1)  # with ties
    weights = 1 + 1e-5 * np.eye(55)
    slopes = np.array([METRICS[metric](labels, scores, sample_weight=w) for w in weights])
    slopes = (slopes - METRICS[metric](labels, scores)) / 1e-5
    for label in (0, 1):
        slopes[labels == label] -= slopes[labels == label].mean()
    of = {"image_auroc": auroc_influence, "image_ap": ap_influence}[metric]
    np.testing.assert_allclose(of(labels, scores), slopes, atol=1e-5)


def test_variance_of_one_auroc_is_delongs() -> None:
    rng = np.random.default_rng(1)
    labels = labels_of(40, 30)
    ours, constant = labels + rng.normal(size=70), np.zeros(70)  # a constant score has no variance
    found = difference(
        {Run(0, "p", "t"): measured("image_auroc", labels, ours)},
        {Run(0, "p", "t"): measured("image_auroc", labels, constant)},
        of_images=True,
    )
    wins = ours[labels == 1][:, None] > ours[labels == 0]
    of_defects, of_normals = wins.mean(axis=1), wins.mean(axis=0)
    parts = (np.var(of_defects, ddof=1) / 30, np.var(of_normals, ddof=1) / 40)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 29 + parts[1] ** 2 / 39)
    assert found.p == pytest.approx(2 * stats.t.sf((wins.mean() - 0.5) / sum(parts) ** 0.5, freedom))
    assert (found.unmeasured, found.within_noise) == ("seeds", True)  # whatever training anew would give


def same_images(apart: list[float], noise: float, images: int = 60) -> Difference:
    """Of seeds that differ by some amounts on one test split, whose images differ among each other."""
    rng = np.random.default_rng(2)
    drawn = noise * rng.normal(size=(2, images // 2))
    drawn -= drawn.mean(axis=1, keepdims=True)
    each = [{f"{i}": value / len(row) for i, value in enumerate(row)} for row in drawn]
    nothing = Influence(*(dict.fromkeys(row, 0.0) for row in each))
    runs = [Run(seed, "place", "split") for seed in range(len(apart))]
    values = {run: Measured(0.9 + value, Influence(*each)) for run, value in zip(runs, apart, strict=True)}
    return difference(values, dict.fromkeys(runs, Measured(0.9, nothing)), of_images=True)


def test_seeds_that_agree_on_one_test_split_prove_nothing() -> None:
    """A t-test over the seeds finds p = .013 here: it knows nothing of the images that all of them share."""
    apart = [0.0002, 0.0003, 0.00025]
    assert stats.ttest_1samp(apart, 0).pvalue < 0.02
    found = same_images(apart, noise=0.05)
    assert found.p is not None
    assert found.p > 0.8
    assert found.within_noise


def test_equal_differences_have_the_images_noise() -> None:
    clear, lost = same_images([0.001] * 3, noise=0.001), same_images([0.001] * 3, noise=0.01)
    assert clear.p is not None
    assert clear.p < 0.001
    assert not clear.within_noise
    assert lost.p is not None
    assert lost.p > 0.4


def test_what_no_image_and_no_seed_varies_is_a_sign_test() -> None:
    assert same_images([0.0] * 3, noise=0.0).p == 1.0
    assert same_images([0.25] * 3, noise=0.0).p == 0.25  # two degrees of freedom of the seeds


def test_without_influences_the_test_is_students_over_the_seeds_and_says_so() -> None:
    apart = [0.010, 0.012, 0.011, 0.013]
    runs = [Run(seed, "place", "split") for seed in range(4)]
    values = {run: Measured(value) for run, value in zip(runs, apart, strict=True)}
    found = difference(values, dict.fromkeys(runs, Measured(0.0)), of_images=True)
    assert found.p == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)
    assert (found.clear, found.unmeasured, found.within_noise) == (True, "images", True)
    cost = difference(values, dict.fromkeys(runs, Measured(0.0)), of_images=False)
    assert (cost.p, cost.unmeasured, cost.within_noise) == (found.p, None, False)


@pytest.mark.parametrize(("count", "p"), [(500, 0.0), (1000, 1.0)])
def test_a_count_that_no_seed_changes_has_no_noise(count: int, p: float) -> None:
    runs = [Run(seed, "place", "split") for seed in range(3)]
    found = difference(dict.fromkeys(runs, Measured(count)), dict.fromkeys(runs, Measured(1000)), of_images=False)
    assert (found.mean.value, found.mean.half, found.p) == (count - 1000, 0.0, p)
    assert found.within_noise == (p == 1.0)


def test_one_run_without_influences_proves_nothing() -> None:
    run = Run(0, "place", "split")
    found = difference({run: Measured(0.6)}, {run: Measured(0.5)}, of_images=False)
    assert found.mean.value == pytest.approx(0.1)
    assert (found.mean.half, found.p, found.within_noise) == (None, None, True)


def test_runs_that_the_baseline_lacks_are_left_out() -> None:
    values = {Run(seed, "p", "t"): Measured(value) for seed, value in ((1, 0.7), (2, 0.8), (3, 0.1))}
    found = difference(values, {Run(seed, "p", "t"): Measured(0.6) for seed in (1, 2)}, of_images=False)
    assert (found.mean.runs, found.mean.value) == (2, pytest.approx(0.15))
    with pytest.raises(DataError, match="nothing to compare"):
        difference(values, {Run(1, "p", "other images"): Measured(0.6)}, of_images=False)


def test_categories_of_one_seed_are_one_run() -> None:
    effect = np.random.default_rng(3).normal(0, 0.03, size=4)  # what a seed does to all categories
    runs = [Run(seed, place, "t") for seed in range(4) for place in "abcdef"]
    values = {run: Measured(0.8 + effect[run.seed]) for run in runs}
    found = difference(values, dict.fromkeys(runs, Measured(0.8)), of_images=False)
    assert found.mean.runs == 4
    assert found.p == pytest.approx(stats.ttest_1samp(effect, 0).pvalue)


def test_holm_is_as_in_the_textbook() -> None:
    rows = [[0.010, 0.012, 0.011, 0.013], [0.01, -0.02, 0.03, 0.00], [0.02, 0.03, 0.01, 0.025]]
    runs = [Run(seed, "p", "t") for seed in range(4)]
    found = [
        difference(
            {run: Measured(value) for run, value in zip(runs, row, strict=True)},
            dict.fromkeys(runs, Measured(0.0)),
            of_images=False,
        )
        for row in rows
    ]
    raw = np.array([each.p for each in found])
    order = np.argsort(raw)
    wanted = np.empty(3)
    wanted[order] = np.minimum(1, np.maximum.accumulate(raw[order] * [3, 2, 1]))
    assert [each.p for each in holm(found)] == pytest.approx(wanted)


def rejected(metric: str, *, seeds: int, fresh: bool, training: float, gain: float, repeats: int = 100) -> float:
    """How often two simulated detectors are told apart at the 5 % level.

    Args:
        fresh: whether each seed tests other images.
        training: deviation of what a seed does to how far defects score above normal images.
        gain: by how much they truly differ there.
    """
    rng, labels, found = np.random.default_rng(4), labels_of(60, 40), 0
    for _ in range(repeats):
        values: list[dict[Run, Measured]] = [{}, {}]
        for seed in range(seeds):
            if fresh or seed == 0:
                images = 1.5 * labels + rng.normal(size=100)
                own = 0.4 * rng.normal(size=(2, 100))  # how each detector sees the images
            for which in (0, 1):
                apart = training * rng.normal() + gain * which
                scores = images + own[which] + 0.3 * rng.normal(size=100) + apart * labels
                values[which][Run(seed, "p", f"{seed if fresh else 0}")] = measured(metric, labels, scores)
        tested = difference(values[1], values[0], of_images=True)
        found += tested.clear
    return found / repeats


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("seeds", "fresh", "training"), [(1, False, 0.0), (3, False, 0.0), (3, False, 0.3), (3, True, 0.1), (5, True, 0.3)]
)
def test_equal_detectors_are_told_apart_about_as_seldom_as_said(
    metric: str, seeds: int, fresh: bool, training: float
) -> None:
    assert rejected(metric, seeds=seeds, fresh=fresh, training=training, gain=0.0) <= 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_a_real_difference_is_seen(metric: str) -> None:
    assert rejected(metric, seeds=3, fresh=False, training=0.1, gain=0.9) > 0.8
    assert rejected(metric, seeds=3, fresh=True, training=0.1, gain=0.9) > 0.8
