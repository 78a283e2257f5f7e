import pytest
from sweep_small import BASE, small_sweep

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.space import points_ahead


def names(loaded):
    return [point.name for point in points_ahead(loaded)]


def test_a_grid_is_the_product_with_every_seed(tmp_path):
    points = points_ahead(small_sweep(tmp_path))
    assert [point.name for point in points] == [
        "count=0, rate=0.05",
        "count=0, rate=0.1",
        "count=4, rate=0.05",
        "count=4, rate=0.1",
    ]
    config = points[3].trials[1][1].config
    assert (config.seed, config.synthesizer.count, config.detector.bank.negative.rate) == (1, 4, 0.1)
    assert points[3].settings == {"count": 4, "rate": 0.1}


def test_keys_of_one_ending_keep_as_much_as_tells_them_apart(tmp_path):
    loaded = small_sweep(tmp_path, space={"bank.negative.rate": [0.1], "detector.bank.positive.rate": [0.2]})
    assert names(loaded) == ["negative.rate=0.1, positive.rate=0.2"]


def test_the_baseline_comes_first_and_is_added_where_the_grid_lacks_it(tmp_path):
    assert names(small_sweep(tmp_path, baseline={"count": 4, "rate": 0.1}))[0] == "count=4, rate=0.1"
    added = names(small_sweep(tmp_path, baseline={"synthesizer.count": 9}))
    assert added[0] == "count=9, rate=0.05"
    assert len(added) == 5


def test_variants_are_an_axis_and_datasets_are_not(tmp_path):
    variants = {"one bank": {"detector.system": "patchcore"}, "two banks": {"detector.system": "exdd"}}
    datasets = {"a": {"dataset.procedural.seed": 1}, "b": {"dataset.procedural.seed": 2}}
    points = points_ahead(small_sweep(tmp_path, variants=variants, datasets=datasets, space={"count": [0]}))
    assert [point.name for point in points] == ["one bank, count=0", "two banks, count=0"]
    assert [name for name, _ in points[0].trials] == ["a", "a", "b", "b"]
    assert {trial.config.dataset.procedural.seed for _, trial in points[1].trials} == {1, 2}


def test_random_points_are_the_same_for_a_seed_and_none_comes_twice(tmp_path):
    space = {"synthesizer.count": {"low": 0, "high": 40}, "scoring.bonus": {"low": 0.01, "high": 1.0, "log": True}}
    tuner = {"kind": "random", "points": 12, "seed": 3}
    drawn = points_ahead(small_sweep(tmp_path, space=space, tuner=tuner))
    again = points_ahead(small_sweep(tmp_path, space=space, tuner=tuner))
    assert [point.settings for point in drawn] == [point.settings for point in again]
    assert len({point.name for point in drawn}) == 12
    assert all(0 <= point.settings["count"] <= 40 and 0.01 <= point.settings["bonus"] <= 1 for point in drawn)
    other = points_ahead(small_sweep(tmp_path, space=space, tuner={**tuner, "seed": 4}))
    assert [point.settings for point in other[1:]] != [point.settings for point in drawn[1:]]


def test_a_random_search_stops_where_the_space_ends(tmp_path):
    assert len(points_ahead(small_sweep(tmp_path, tuner={"kind": "random", "points": 40}))) == 4


def test_an_override_replaces_an_axis(tmp_path):
    assert names(small_sweep(tmp_path, "bank.negative.rate=0.02")) == ["count=0", "count=4"]
    assert [t.config.seed for _, t in points_ahead(small_sweep(tmp_path, "seed=7"))[0].trials] == [7]


def test_an_override_replaces_what_datasets_and_the_baseline_say(tmp_path):
    datasets = {"a": {"dataset.split.defects": 3}, "b": {"dataset.split.defects": 2}}
    baseline = {"count": 4, "bank.negative.rate": 0.1}
    loaded = small_sweep(
        tmp_path, "dataset.split.defects=1", "bank.negative.rate=0.02", datasets=datasets, baseline=baseline
    )
    points = points_ahead(loaded)
    assert [point.name for point in points] == ["count=4", "count=0"]
    assert {trial.config.dataset.split.defects for point in points for _, trial in point.trials} == {1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"bank.negatve.rate": [0.1]}}, "did you mean 'bank.negative.rate'"),
        ({"space": {"bank.negative.rate": [0.1, 2]}}, "detector.bank.negative.rate: .*, not 2"),
        ({"space": {"scoring.neighbours": [3, 1]}}, "one neighbour is the nearest vector itself"),
        ({"space": {"count": []}}, "space.count has no value"),
        ({"space": {"count": {"low": 1, "high": 5}}}, "space.count is a range"),
        ({"space": {"count": [1], "synthesizer.count": [2]}}, "synthesizer.count is in the space twice"),
        ({"grid": {"count": [1]}}, "grid is a run's"),
        ({"baseline": {"scoring.bonus": 1}}, "baseline.scoring.bonus is not in the space: count, rate"),
        ({"tuner": {"kind": "tpe"}}, "tuner.points is needed"),
        ({"searcher": {"kind": "grid"}}, "config key 'searcher' is 'tuner' now"),
        ({"tuner": {"kind": "asha", "points": 4}}, "tuner.fidelity is needed"),
        ({"objectives": ["auroc"]}, "objectives"),
        ({"space": {"count": 4}}, "space: count: give a list of values, or a range"),
        ({"seeds": [0, 1, 0]}, "a seed is named twice"),
        ({"space": {"seed": [1, 2]}}, "seed is no setting"),
        ({"datasets": {"a": {"seed": 2}}}, "seed is no setting"),
        ({"dataset": {**BASE["dataset"], "split": {"defects": 3}}}, "needs images held out of training"),
        ({"dataset": {**BASE["dataset"], "split": {"validation_defects": 3}}}, "validation needs both kinds"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        points_ahead(small_sweep(tmp_path, **changes))


def test_choosing_on_the_test_images_must_be_asked_for(tmp_path):
    split = {**BASE["dataset"], "split": {"defects": 3}}
    assert len(points_ahead(small_sweep(tmp_path, dataset=split, select="test"))) == 4
