"""Trials that train, side by side in Ray's workers: the store then holds what this process would have trained."""

import threading

import pytest
import ray

from exdd_ray.errors import UserError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.run import run_trials
from exdd_ray.experiment.session import Session
from exdd_ray.on_ray import trials
from exdd_ray.on_ray.trials import RayTrials
from exdd_ray.store.artifact import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def trial(seed, synthesizer=None, **detector):
    made = {"size": [64, 64], "materials": ["ceramic"], "kinds": ["hole"]}
    counts = {"normal_train": 8, "normal_test": 3, "defects_per_kind": 6}
    config = {
        "dataset": {"split": {"defects": 3}, "procedural": {**made, **counts}},
        "detector": {
            "kind": "classifier",
            "features": {"layers": ["layer2"], "resize": [48, 48]},
            "batchnorm": "frozen",
            "epochs": 2,
            "training": {"batch": 4, "device": "cpu"},
            **detector,
        },
        "synthesizer": synthesizer,
        "evaluation": {"bootstrap": 0},
        "seed": seed,
    }
    return Trial("classifier", ExperimentConfig.model_validate(config))


def test_seeds_side_by_side_give_what_one_after_another_does(tmp_path):
    three = [trial(seed) for seed in (0, 1, 2)]
    alone = run_trials(three, Session(Store(tmp_path / "alone")), lambda _: None)
    store = Store(tmp_path / "shared")
    found = run_trials(three, Session(store, ahead=RayTrials(2)), lambda _: None)
    assert not [key for key in store.made if key.startswith("train")]
    assert len(list(store.root.glob("train-*/*/*"))) == 3
    for one, other in zip(alone, found, strict=True):
        assert one.predictions.scores.tolist() == other.predictions.scores.tolist()


def test_no_more_than_so_many_run_at_once(tmp_path):
    free, stop = [], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            free.append(ray.available_resources().get("CPU", 0.0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run_trials([trial(seed) for seed in (7, 8, 9)], Session(Store(tmp_path), ahead=RayTrials(1)), lambda _: None)
    finally:
        stop.set()
        watcher.join()
    assert 1 <= min(free) < 2  # of the cluster's two CPUs, one trial has one


def test_gpus_are_shared_so_that_all_find_room(monkeypatch):
    monkeypatch.setattr(trials.ray, "cluster_resources", lambda: {"GPU": 2})
    assert [trials._gpus(count) for count in (1, 2, 3, 4, 5)] == [1, 1, 1 / 2, 1 / 2, 1 / 3]


def test_shared_synthesis_is_made_before_and_what_workers_log_is_heard(tmp_path, caplog):
    painted = {"kind": "per_region", "count": 12}
    store = Store(tmp_path)
    both = [trial(3, synthesizer=painted), trial(3, epochs=1, synthesizer=painted)]
    with caplog.at_level("INFO", "exdd_ray.training"):
        run_trials(both, Session(store, ahead=RayTrials(2)), lambda _: None)
    assert len([key for key in store.made if key.startswith("synthesis")]) == 2  # chunks, and not by the workers
    assert any("classifier, seed 3: after 10 steps: validation" in line for line in caplog.messages)


def test_a_trial_that_fails_is_named_after_the_others_ended(tmp_path):
    store = Store(tmp_path)
    session = Session(store, ahead=RayTrials(2))
    with pytest.raises(UserError, match=r"^classifier, seed 5: ") as error:
        run_trials([trial(5, optimizer="sgd", learning_rate=1e30), trial(6)], session, lambda _: None)
    assert "\n" not in str(error.value)
    assert len(list(store.root.glob("train-*/*/*"))) == 1
