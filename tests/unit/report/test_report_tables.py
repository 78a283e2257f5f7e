"""The numbers in a report's tables."""

from dataclasses import replace

import numpy as np
import pytest
import report_inputs
from report_inputs import DETECTORS, LEAKAGE, Run

from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.metrics.evaluate import image_metrics
from exdd_ray.report.numbers import (
    best_of,
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

made = report_inputs.made


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
    by_seed = [np.mean([r.metrics["aupro"] for r in own if r.trial.config.seed == seed]) for seed in (0, 1)]
    cell = summaries[0].metrics["aupro"]
    assert cell is not None
    assert cell.mean == pytest.approx(np.mean(by_seed))
    assert cell.deviation == pytest.approx(np.std(by_seed, ddof=1))
    assert [summary.leakage for summary in summaries] == [False, True]


def test_interval_is_given_for_a_single_result_only(made: Run) -> None:
    _, results = made
    assert summarize(results)[0].intervals == {}
    assert summarize(results[:1])[0].intervals == results[0].image.intervals != {}


def test_pixel_metrics_are_averaged_where_they_exist(made: Run) -> None:
    _, results = made
    first, second = results[0], results[1]
    (summary,) = summarize([first, replace(second, pixel=None)])
    assert first.pixel is not None
    assert summary.metrics["pixel_auroc"] is not None
    assert summary.metrics["pixel_auroc"].mean == first.pixel.detection.auroc
    (none,) = summarize([replace(first, pixel=None)])
    assert none.metrics["pixel_auroc"] is None


def resampled(result: StoredResult, right: float, seed: int) -> StoredResult:
    """The result with scores that are the labels up to noise, larger `right` better; of a category, as `seed` draws."""
    labels = np.array([row.label for row in result.rows])
    scores = right * labels + np.random.default_rng(seed).normal(size=len(labels))
    image = image_metrics(labels, scores, resamples=0, seed=0)
    return replace(result, scores=scores, image=image)


def test_best_is_named_only_where_it_is_more_than_noise(made: Run) -> None:
    first, second = ([r for r in made[1] if r.trial.name == detector.name] for detector in DETECTORS)

    def best(low: float, high: float, seeds: int = 2) -> dict[str, str | None]:
        results = [
            resampled(r, right, i % 2 + 2 * (rs is second))
            for right, rs in ((low, first), (high, second))
            for i, r in enumerate(rs)
        ]
        kept = [result for result in results if result.trial.config.seed < seeds]
        return best_of(summarize(kept))

    assert best(0.0, 6.0)["image_auroc"] == best(0.0, 6.0)["image_ap"] == DETECTORS[1].name
    assert best(6.0, 0.0)["image_auroc"] == DETECTORS[0].name
    assert set(best(1.0, 1.2).values()) == {None}
    assert set(best(0.0, 6.0, seeds=1).values()) == {None}  # of training anew, one seed says nothing
    assert best(0.0, 6.0)["pixel_ap"] is None  # nor is it known what other images would change there
    assert set(best_of(summarize(first)).values()) == {None}


def test_strongest_keeps_first_and_last(made: Run) -> None:
    base = summarize(made[1])[0]
    cells = [replace(base.metrics["image_auroc"], mean=mean) for mean in (0.1, 0.9, 0.5, 0.8, 0.2)]  # type: ignore[type-var]
    summaries = [replace(base, metrics={**base.metrics, "image_auroc": cell}) for cell in cells]
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
    moved = replace(results[0], dataset="visa")
    assert [g.label for g in group_by_category([moved, results[1]])] == ["visa / ceramic", "procedural / wood"]


def test_first_seed_takes_the_lowest(made: Run) -> None:
    found = first_seed(made[1][::-1])
    assert [result.trial.config.seed for result in found] == [0, 0]


def test_errors_count_both_sides_of_the_threshold(made: Run) -> None:
    for result in made[1]:
        detection = result.image.detection
        found = errors(result, detection.threshold)
        assert (found.normal, found.defective) == result.test
        assert 1 - found.missed / found.defective == pytest.approx(detection.recall)
        hits = found.defective - found.missed
        assert hits / (hits + found.alarms) == pytest.approx(detection.precision)
