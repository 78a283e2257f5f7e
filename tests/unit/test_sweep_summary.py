import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from exdd_ray.config.sweep import SweepConfig
from exdd_ray.metrics.seeds import difference, holm
from exdd_ray.sweep.summary import pareto_front, summarize, summary_table
from exdd_ray.sweep.tables import TRIALS_SCHEMA

SEEDS = range(4)


def row(name, seed, test, validation, *, bank=100, error="", **more):
    return {
        "name": name,
        "number": 0,
        "settings": "{}",
        "seed": seed,
        "dataset": "d",
        "category": more.pop("category", "c"),
        "tested": more.pop("tested", "t"),
        "state": "failed" if error else "done",
        "error": error,
        "image_auroc": None if error else test,
        "validation_image_auroc": None if error else validation,
        "bank_vectors": None if error else bank,
        "remarks": "",
        **more,
    }


def table(rows):
    return pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    noise = {seed: rng.normal(0, 0.02) for seed in SEEDS}
    rows = [row("base", s, 0.90 + noise[s], 0.80) for s in SEEDS]
    rows += [row("better", s, 0.92 + noise[s] + 0.001 * s, 0.85, bank=500) for s in SEEDS]
    rows += [row("same", s, 0.90 - noise[s] / 9 + noise[3 - s], 0.70, bank=200) for s in SEEDS]
    return rows


def test_the_best_is_chosen_on_the_validation_images(trials):
    trials += [row("lucky on test", s, 0.999, 0.5) for s in SEEDS]
    chosen = {p.name for p in summarize(table(trials), SweepConfig(), "base") if p.chosen}
    assert chosen == {"better"}
    on_test = {p.name for p in summarize(table(trials), SweepConfig(select="test"), "base") if p.chosen}
    assert on_test == {"lucky on test"}


def test_a_difference_is_paired_seed_by_seed(trials):
    _, better, same = summarize(table(trials), SweepConfig(), "base")
    apart = [r["image_auroc"] - b["image_auroc"] for r, b in zip(trials[4:8], trials[:4], strict=True)]
    found = better.differences["image_auroc"]
    assert found.mean.value == pytest.approx(np.mean(apart))
    assert found.p == pytest.approx(2 * stats.ttest_1samp(apart, 0).pvalue)  # Holm: the smaller of two
    assert not found.within_noise
    assert same.differences["image_auroc"].within_noise


def test_holm_is_as_in_the_textbook():
    values = {0: [0.010, 0.012, 0.011, 0.013], 1: [0.01, -0.02, 0.03, 0.00], 2: [0.02, 0.03, 0.01, 0.025]}
    found = [difference(dict(enumerate(v)), dict.fromkeys(range(4), 0.0)) for v in values.values()]
    raw = [each.p for each in found]
    order = np.argsort(raw)
    wanted = np.empty(3)
    wanted[order] = np.minimum(1, np.maximum.accumulate(np.array(raw)[order] * [3, 2, 1]))
    assert [each.p for each in holm(found)] == pytest.approx(wanted)


def test_a_point_with_a_failed_trial_is_shown_and_not_chosen(trials):
    trials[4] = row("better", 0, 0, 0, error="no space left")
    points = {p.name: p for p in summarize(table(trials), SweepConfig(), "base")}
    assert (points["better"].runs, points["better"].failed, points["better"].chosen) == (3, 1, False)
    assert points["base"].chosen
    assert summary_table(list(points.values())).column("failed").to_pylist() == [0, 1, 0]


def test_points_tested_on_other_images_are_not_compared(trials):
    trials += [row("fewer tested", s, 0.99, 0.7, tested="others") for s in SEEDS]
    points = {p.name: p for p in summarize(table(trials), SweepConfig(), "base")}
    assert points["fewer tested"].differences == {}
    assert points["better"].differences


def test_categories_of_one_seed_are_one_run():
    rng = np.random.default_rng(3)
    effect = rng.normal(0, 0.03, size=len(SEEDS))  # what a seed does to all categories
    rows = [row("base", s, 0.8, 0.8, category=c) for s in SEEDS for c in "abcdef"]
    rows += [row("other", s, 0.8 + effect[s], 0.8, category=c) for s in SEEDS for c in "abcdef"]
    _, other = summarize(table(rows), SweepConfig(), "base")
    found = other.differences["image_auroc"]
    assert found.mean.runs == len(SEEDS)
    assert found.p == pytest.approx(stats.ttest_1samp(effect, 0).pvalue)
    assert (other.runs, other.means["image_auroc"].runs) == (24, 4)


def test_nothing_is_chosen_where_everything_failed():
    rows = [row(name, 0, 0, 0, error="broken") for name in ("base", "other")]
    points = summarize(table(rows), SweepConfig(), "base")
    assert not any(p.chosen or p.pareto or p.means or p.differences for p in points)


def test_the_pareto_front_goes_by_each_objectives_own_direction(trials):
    sweep = SweepConfig(objectives=("image_auroc", "bank_vectors"))
    assert [p.name for p in summarize(table(trials), sweep, "base") if p.pareto] == ["base", "better"]


def test_a_front_holds_what_nothing_dominates():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, size=(60, 3)).astype(float)
    slow = [not any((other >= one).all() and (other > one).any() for other in values) for one in values]
    assert pareto_front(values).tolist() == slow
