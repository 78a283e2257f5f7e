import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from exdd_ray.experiment.summary import pareto_front, summarize, summary_table
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.tables import TRIALS_SCHEMA
from exdd_ray.metrics.influence import Scored

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
    chosen = {p.name for p in summarize(table(trials), SweepConfig(), "base", lambda _: {}) if p.chosen}
    assert chosen == {"better"}
    on_test = {p.name for p in summarize(table(trials), SweepConfig(select="test"), "base", lambda _: {}) if p.chosen}
    assert on_test == {"lucky on test"}


def test_a_difference_is_paired_seed_by_seed(trials):
    _, better, same = summarize(table(trials), SweepConfig(), "base", lambda _: {})
    apart = [r["image_auroc"] - b["image_auroc"] for r, b in zip(trials[4:8], trials[:4], strict=True)]
    found = better.differences["image_auroc"]
    assert found.mean.value == pytest.approx(np.mean(apart))
    assert found.p == pytest.approx(2 * stats.ttest_1samp(apart, 0).pvalue)  # Holm: the smaller of two
    assert found.clear
    assert not same.differences["image_auroc"].clear
    assert better.differences["bank_vectors"].unmeasured is None  # which no test image changes


def test_the_test_images_are_part_of_the_noise(trials):
    """With the images of each split behind a metric, what the seeds agree on may still be the images' doing."""
    over_seeds = summarize(table(trials), SweepConfig(), "base", lambda _: {})[1].differences
    assert over_seeds["image_auroc"].unmeasured == "images"
    trials = [{**one, "artifact": f"{one['name']} {one['seed']}"} for one in trials]
    labels = np.repeat([0, 1], 40)

    def scored(key):
        """Test images that a point sees as it does by chance; in validation nearly all classes are told apart."""
        noise = np.random.default_rng(len(key.split()[0])).normal(size=80)
        images = tuple(f"{i:02d}" for i in range(80))
        splits = {"test": labels + noise, "validation": 4 * labels + noise}
        return {split: Scored(images, labels, scores) for split, scores in splits.items()}

    found = summarize(table(trials), SweepConfig(), "base", scored)[1].differences
    assert (found["image_auroc"].unmeasured, found["image_auroc"].clear) == (None, False)
    assert found["image_auroc"].mean.half > 5 * over_seeds["image_auroc"].mean.half
    assert (found["validation_image_auroc"].unmeasured, found["validation_image_auroc"].within_noise) == (None, False)


def test_points_on_lower_rungs_are_neither_compared_nor_chosen():
    tuner = {"kind": "asha", "points": 3, "fidelity": {"key": "synthesizer.count", "rungs": [4, 8]}}
    sweep = SweepConfig.model_validate({"tuner": tuner})
    of = {"base": (8, 0.8), "stopped": (4, 0.99), "last": (8, 0.9)}
    rows = [
        row(name, seed, value, value, settings=f'{{"rate": 0.1, "count": {count}}}')
        for name, (count, value) in of.items()
        for seed in SEEDS
    ]
    points = {point.name: point for point in summarize(table(rows), sweep, "base", lambda _: {})}
    assert [name for name, point in points.items() if point.chosen] == ["last"]
    assert points["stopped"].means["image_auroc"].value == pytest.approx(0.99)
    assert (points["stopped"].differences, points["stopped"].pareto) == ({}, False)
    assert points["last"].differences


def test_a_point_with_a_failed_trial_is_shown_and_not_chosen(trials):
    trials[4] = row("better", 0, 0, 0, error="no space left")
    points = {p.name: p for p in summarize(table(trials), SweepConfig(), "base", lambda _: {})}
    assert (points["better"].runs, points["better"].failed, points["better"].chosen) == (3, 1, False)
    assert points["base"].chosen
    assert summary_table(list(points.values())).column("failed").to_pylist() == [0, 1, 0]


def test_points_tested_on_other_images_are_not_compared(trials):
    trials += [row("fewer tested", s, 0.99, 0.7, tested="others") for s in SEEDS]
    points = {p.name: p for p in summarize(table(trials), SweepConfig(), "base", lambda _: {})}
    assert points["fewer tested"].differences == {}
    assert points["better"].differences


def test_nothing_is_chosen_where_everything_failed():
    rows = [row(name, 0, 0, 0, error="broken") for name in ("base", "other")]
    points = summarize(table(rows), SweepConfig(), "base", lambda _: {})
    assert not any(p.chosen or p.pareto or p.means or p.differences for p in points)


def test_the_pareto_front_goes_by_each_objectives_own_direction(trials):
    sweep = SweepConfig(objectives=("image_auroc", "bank_vectors"))
    assert [p.name for p in summarize(table(trials), sweep, "base", lambda _: {}) if p.pareto] == ["base", "better"]


def test_a_front_holds_what_nothing_dominates():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, size=(60, 3)).astype(float)
    slow = [not any((other >= one).all() and (other > one).any() for other in values) for one in values]
    assert pareto_front(values).tolist() == slow


def test_points_that_hold_out_other_images_are_compared_on_the_tested_ones_alone(trials):
    trials = [{**one, "artifact": one["name"]} for one in trials]
    labels, noise = np.repeat([0, 1], 40), np.random.default_rng(0).normal(size=80)

    def scored(name):
        """Of one point other validation images; test images are known by what is in them, whatever the point."""
        own = name if name == "better" else "common"
        return {
            split: Scored(tuple(f"{of} {i}" for i in range(80)), labels, labels + noise)
            for split, of in (("test", "tested"), ("validation", own))
        }

    _, better, same = summarize(table(trials), SweepConfig(), "base", scored)
    assert better.differences["image_auroc"].unmeasured is None
    assert "validation_image_auroc" not in better.differences
    assert same.differences["validation_image_auroc"].unmeasured is None


def test_points_whose_images_are_labelled_otherwise_are_not_compared(trials):
    trials = [{**one, "artifact": one["name"]} for one in trials]
    images, noise = tuple(f"{i:02d}" for i in range(80)), np.random.default_rng(0).normal(size=80)

    def scored(name):
        labels = np.repeat([0, 1], [41, 39] if name == "better" else [40, 40])
        return {"test": Scored(images, labels, labels + noise)}

    _, better, same = summarize(table(trials), SweepConfig(), "base", scored)
    assert "image_auroc" not in better.differences
    assert "image_auroc" in same.differences
