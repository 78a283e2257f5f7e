"""Trials that train, side by side in Ray's workers: the store then holds what this process would have trained."""

import threading

import pyarrow.parquet as pq
import pytest
import ray
import torch
from experiments import planned
from safetensors.torch import load_file

from exdd_ray.experiment.backend import Backend
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.run_plan import run_plan
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.trial_files import PREDICTIONS
from exdd_ray.on_ray import shares
from exdd_ray.on_ray.train import train_on_ray
from exdd_ray.on_ray.trials import TuneTrials
from exdd_ray.store.artifact import Store
from exdd_ray.training.checkpoint import WEIGHTS

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


def run(trials, store, at_once=None):
    """What trials gave, so many at once on the cluster, or one after another here."""
    session = Session(store, backend=Backend(trials=at_once and TuneTrials(at_once)))
    return run_plan(planned(trials, session), session)


def scores(outcome):
    return pq.read_table(outcome.artifact.file(PREDICTIONS))["score"].to_pylist()


def test_trials_side_by_side_give_what_one_after_another_does(tmp_path, caplog):
    painted = {"kind": "per_region", "count": 12}
    three = [
        trial(0, synthesizer=painted),
        trial(0, synthesizer=painted, epochs=1),
        trial(1, optimizer="sgd", learning_rate=1e30),
    ]
    alone = run(three, Store(tmp_path / "alone"))
    store = Store(tmp_path / "shared")
    with caplog.at_level("INFO", "exdd_ray.training"):
        caplog.clear()
        found = run(three, store, at_once=2)
    assert not [key for key in store.made if key.startswith("train")]
    assert len([key for key in store.made if key.startswith("synthesis")]) == 2  # chunks, and not by the workers
    assert len(list(store.root.glob("train-*/*/*"))) == 2
    assert [one.artifact and one.artifact.key for one in found] == [one.artifact and one.artifact.key for one in alone]
    assert list(map(scores, found[:2])) == list(map(scores, alone[:2]))
    assert any("classifier, seed 0: after 10 steps: validation" in line for line in caplog.messages)
    failed = found[2]  # alone
    assert failed.artifact is None
    assert failed.error
    assert "\n" not in failed.error


def test_no_more_than_so_many_run_at_once(tmp_path):
    free, stop = [], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            free.append(ray.available_resources().get("CPU", 0.0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run([trial(7), trial(8)], Store(tmp_path), at_once=1)
    finally:
        stop.set()
        watcher.join()
    assert 1 <= min(free) < 2  # of the cluster's two CPUs, one trial has one


def test_gpus_are_shared_so_that_all_find_room(monkeypatch):
    monkeypatch.setattr(shares.ray, "cluster_resources", lambda: {"GPU": 2})
    assert [shares._gpus(count) for count in (1, 2, 3, 4, 5)] == [1, 1, 1 / 2, 1 / 2, 1 / 3]


@pytest.mark.slow
def test_a_trial_that_trains_in_several_workers_has_the_cluster_to_itself(tmp_path):
    store = Store(tmp_path / "shared")
    session = Session(store, backend=Backend(trials=TuneTrials(2), train=train_on_ray))
    narrow, wide = (trial(4, training={"batch": 4, "device": "cpu", "workers": workers}) for workers in (1, 2))
    (outcome,) = run_plan(planned([wide], session), session)
    assert outcome.artifact is not None
    assert not [key for key in store.made if key.startswith("train")]
    run([narrow], Store(tmp_path / "alone"))
    first, second = (load_file(weights(tmp_path / place)) for place in ("alone", "shared"))
    assert any(not torch.equal(first[key], second[key]) for key in first)  # sums in another order
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def weights(store):
    (file,) = store.glob(f"train-*/*/*/{WEIGHTS}")
    return file
