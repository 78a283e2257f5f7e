"""How a sweep's trials come to its workers."""

from sweep_small import small_sweep

from exdd_ray.experiment.batches import in_batches
from exdd_ray.experiment.plan import lay_out
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import points_ahead
from exdd_ray.store.artifact import Store


def planned(folder, **changes):
    return lay_out(points_ahead(small_sweep(folder, **changes)), Session(Store(folder / "store")))


SPACE = {"scoring.neighbours": [0, 3, 5, 9], "synthesizer.count": [0, 4], "bank.negative.rate": [0.05, 0.1, 0.2]}


def test_trials_that_differ_in_their_scoring_alone_come_together(tmp_path):
    trials = planned(tmp_path, space=SPACE, seeds=[0])
    batches = in_batches(trials, 2)
    assert sorted(one.key for batch in batches for one in batch) == sorted(one.key for one in trials)
    assert [len(batch) for batch in batches] == [4] * 6
    for batch in batches:
        configs = [one.trial.config for one in batch]
        assert len({(config.synthesizer.count, config.detector.bank.negative.rate) for config in configs}) == 1
        assert len({config.detector.scoring.neighbours for config in configs}) == 4


def test_every_worker_has_several_batches_and_few_trials_are_not_held_back(tmp_path):
    trials = planned(tmp_path, space=SPACE, seeds=[0, 1])
    assert max(map(len, in_batches(trials, 2))) == 8
    assert len(in_batches(trials, 2)) == 6
    assert [len(batch) for batch in in_batches(trials[:3], 2)] == [1, 1, 1]
    assert in_batches([], 2) == []


def test_a_trial_that_trains_networks_is_a_batch(tmp_path):
    network = {"kind": "diffusionad", "scale": "small"}
    trained = planned(
        tmp_path, space={"detector.steps": list(range(1, 21))}, detector=network, synthesizer=None, seeds=[0]
    )
    assert [len(batch) for batch in in_batches(trained, 1)] == [1] * 20
