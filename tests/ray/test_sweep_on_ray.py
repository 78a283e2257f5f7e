"""Sweeps on Ray Tune: the tables that one process would make, whatever becomes of the workers."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
import ray
from ray import tune
from sweep_small import small_sweep

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.backend import LOCAL
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.sweep import plan_sweep, run_sweep
from exdd_ray.on_ray import adaptive, trials
from exdd_ray.on_ray import tune as tune_edge
from exdd_ray.on_ray.backend import with_tune
from exdd_ray.on_ray.cluster import require_shared
from exdd_ray.on_ray.trials import TuneTrials
from exdd_ray.on_ray.tune import fit
from exdd_ray.store.artifact import Recipe, Store


def swept(loaded, folder, *, on_ray=True):
    backend = with_tune(LOCAL, None) if on_ray else LOCAL
    session = Session(Store(folder / "store"), backend=backend)
    (folder / "out").mkdir(exist_ok=True)
    results = run_sweep(loaded, plan_sweep(loaded, session), session, folder / "out")
    return results, session.store


def test_tune_gives_the_table_of_one_process(tmp_path):
    loaded = small_sweep(tmp_path, seeds=[0], space={"count": [0, 4], "dataset.split.defects": [3, 500]})
    here, _ = swept(loaded, tmp_path, on_ray=False)
    (tmp_path / "ray").mkdir()
    there, store = swept(loaded, tmp_path / "ray")
    assert there.trials.drop_columns(["seconds"]).equals(here.trials.drop_columns(["seconds"]))
    assert there.reasons
    assert not [key for key in store.made if key.startswith("trial-")]  # the workers made them


def test_a_programming_error_in_a_worker_is_kept_with_its_traceback(tmp_path):
    loaded, session = small_sweep(tmp_path, seeds=[0], space={"count": [0]}), Session(Store(tmp_path / "store"))
    (planned,) = plan_sweep(loaded, session).trials
    broken = replace(planned, assigned=replace(planned.assigned, universe=None))
    ended = []
    TuneTrials()([broken], session, lambda planned, fault: ended.append(fault))
    (fault,) = ended
    assert fault.line.startswith("AttributeError: ") or fault.line.startswith("TypeError: ")
    assert "Traceback (most recent call last)" in fault.trace
    assert "stored_trial" in fault.trace


def test_a_trial_whose_worker_is_lost_is_run_again_and_fails_alone_where_it_is_lost_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_edge, "RETRIES", 1)
    told, marker = [], tmp_path / "marker"

    def work(config):
        once = config["job"] == 1 and not marker.exists()
        if once:
            marker.touch()
        if once or config["job"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        tune.report({"error": f"job {config['job']} ran"})

    ended = fit(work, {"job": tune.grid_search([0, 1, 2])}, tune.TuneConfig(), str(tmp_path), 1, told.append)
    assert marker.exists()
    done = {one.config["job"]: one.metrics["error"] for one in ended if not one.error}
    assert done == {0: "job 0 ran", 1: "job 1 ran"}
    (lost,) = (one for one in ended if one.error)
    assert lost.config["job"] == 2
    assert lost.error.startswith("its worker was lost 2 times: ")
    assert len(told) == 3


TPE = {
    "seeds": [0],
    "tuner": {"kind": "tpe", "points": 4, "at_once": 2, "seed": 1},
    "space": {"bank.negative.rate": {"low": 0.02, "high": 0.5, "log": True}, "synthesizer.count": [0, 4]},
    "objectives": ["image_auroc", "bank_vectors"],
}


@pytest.mark.slow
def test_tpe_over_two_objectives_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    loaded = small_sweep(tmp_path, **TPE)
    cut_off = small_sweep(tmp_path, **{**TPE, "tuner": {**TPE["tuner"], "points": 3}})

    first, _ = swept(cut_off, tmp_path)
    assert len(first.points) == 3
    whole, _ = swept(loaded, tmp_path)
    assert len(whole.points) == 4
    assert whole.trials.slice(0, 3).equals(first.trials)
    assert 1 <= sum(point.pareto for point in whole.points) <= 4
    assert len({point.settings for point in whole.points}) == 4
    monkeypatch.setattr(adaptive, "fit", None)  # a finished search starts nothing
    again, _ = swept(loaded, tmp_path)
    assert again.trials.equals(whole.trials)


@pytest.mark.slow
def test_tpe_shows_the_points_that_failed_and_refuses_another_searchs_study(tmp_path):
    space = {"dataset.split.defects": [3, 500]}
    tuner = {"kind": "tpe", "points": 5, "at_once": 1}
    results, _ = swept(small_sweep(tmp_path, seeds=[0], space=space, tuner=tuner), tmp_path)
    assert [row["state"] for row in results.trials.to_pylist()] == ["done", "failed"]
    assert "500 defects to train on" in next(iter(results.reasons))
    other = small_sweep(tmp_path, seeds=[0], space={"dataset.split.defects": [2, 3]}, tuner=tuner)
    with pytest.raises(ConfigError, match="is a search of another space"):
        swept(other, tmp_path)


@pytest.mark.slow
def test_asha_gives_few_points_much(tmp_path):
    tuner = {"kind": "asha", "points": 7, "fidelity": {"key": "synthesizer.count", "rungs": [2, 6, 18]}}
    space = {"bank.negative.rate": {"low": 0.02, "high": 0.9}}
    loaded = small_sweep(tmp_path, seeds=[0], tuner=tuner, space=space, objectives=["bank_vectors"])

    results, _ = swept(loaded, tmp_path)
    rows = results.trials.to_pylist()
    reached = [json.loads(row["settings"])["count"] for row in rows]
    assert [row["train_synthetic"] for row in rows] == reached
    assert len(reached) == 7
    assert reached[0] == 18  # the baseline has all
    assert set(reached) <= {2, 6, 18}
    assert reached.count(18) < 7


def test_workers_that_need_one_artifact_make_it_once(tmp_path):
    @ray.remote(num_cpus=0.1)
    def make():
        def build(folder):
            with (tmp_path / "log").open("a") as file:
                file.write("built\n")
            time.sleep(1)
            (folder / "x").write_text("x")

        return Store(tmp_path / "store").make(Recipe("slow", 1, {}), build).key

    assert len(set(ray.get([make.remote() for _ in range(3)]))) == 1
    assert (tmp_path / "log").read_text() == "built\n"


def test_every_node_reaches_a_folder_of_this_machine(tmp_path):
    require_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_kills_its_worker_fails_alone_in_its_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_edge, "RETRIES", 0)
    loaded, session = small_sweep(tmp_path, seeds=[0], space={"scoring.neighbours": [0, 3]}), Session(Store(tmp_path))
    (first, second), driver = plan_sweep(loaded, session).trials, os.getpid()

    class Deadly(str):
        def __format__(self, how):
            if os.getpid() != driver:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__format__(how)

    deadly, ended = replace(second, trial=replace(second.trial, name=Deadly(second.trial.name))), []
    monkeypatch.setattr(trials, "in_batches", lambda trials, workers: [list(trials)])
    TuneTrials()([deadly, first], session, lambda planned, fault: ended.append((planned.key, fault)))
    errors = {key: fault for key, fault in ended if fault}
    assert len(ended) == 2
    assert list(errors) == [second.key]
    assert errors[second.key].line.startswith("its worker was lost")
    assert session.store.find(first.key) is not None
