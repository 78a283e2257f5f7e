"""Sweeps in this process, from a file to tables."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from experiments import run_experiments
from sweep_small import BASE, small_sweep

from exdd_ray.cli.main import main
from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.experiment import run_plan as sweep_run
from exdd_ray.experiment.assign import assign, mask_donors
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.small_maps import EACH, SIDE
from exdd_ray.experiment.space import points_ahead
from exdd_ray.experiment.stored import trial_recipe
from exdd_ray.experiment.sweep import plan_sweep, run_sweep
from exdd_ray.experiment.sweep_results import check_folder, write_results
from exdd_ray.experiment.tables import METRICS
from exdd_ray.store.arrays import read_arrays
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.per_region.config import PerRegionConfig


def run(loaded, store):
    session = Session(store)
    return run_sweep(loaded, plan_sweep(loaded, session), session, store.root)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    loaded, store = small_sweep(folder), Store(folder / "store")
    return loaded, run(loaded, store), store


def test_every_trials_metrics_are_those_of_an_independent_run(swept, tmp_path):
    loaded, results, _ = swept
    rows = {(row["name"], row["seed"]): row for row in results.trials.to_pylist()}
    for point in points_ahead(loaded):
        for number, (_, trial) in enumerate(point.trials):
            store = Store(tmp_path / f"{point.number}-{number}")
            (alone,) = run_experiments([trial], Session(store))
            row = rows[point.name, trial.config.seed]
            assert row["image_auroc"] == alone.image.detection.auroc
            assert row["pixel_ap"] == alone.pixel.detection.ap
            assert row["validation_image_ap"] == alone.validation.image.detection.ap
            assert (row["negative_bank"], row["positive_bank"]) == alone.bank_sizes


def test_what_trials_share_is_made_once(swept):
    _, results, store = swept
    stages = {stage.stage: stage for stage in results.plan.stages}
    assert (stages["embedding"].distinct, stages["embedding"].uses) == (2, 16)
    assert (stages["synthesis"].distinct, stages["synthesis"].uses) == (2, 4)  # a chunk a seed
    assert (stages["coreset orders"].distinct, stages["coreset orders"].uses) == (2, 8)
    assert (stages["trials"].distinct, stages["trials"].in_store) == (8, 0)
    made = [key.split("-")[0] for key in store.made]
    assert made.count("synthesis") == 2
    assert made.count("trial") == 8
    assert len(store.made) == len(set(store.made))


def test_a_second_sweep_computes_nothing_and_says_the_same(swept):
    loaded, first, store = swept
    again = Store(store.root)
    second = run(loaded, again)
    assert again.made == []
    assert second.trials.equals(first.trials)
    assert second.plan.missing("trials") == 0
    assert all(stage.in_store == stage.distinct for stage in second.plan.stages)


def test_the_next_plan_knows_how_long_things_take(swept):
    _, results, store = swept
    longer = small_sweep(store.root.parent, space={"synthesizer.count": [0, 4], "bank.negative.rate": [0.05, 0.2]})
    plan = plan_sweep(longer, Session(Store(store.root)))
    seconds = {stage.stage: stage.seconds for stage in plan.stages}
    assert seconds["trials"] > 0
    assert seconds["embedding"] == 0
    assert all(stage.seconds is None for stage in results.plan.stages if stage.distinct)


def test_the_tables_are_written_and_read_by_others(swept, tmp_path):
    loaded, results, _ = swept
    write_results(tmp_path, results)
    trials, summary = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("trials", "summary"))
    assert trials.num_rows == 8
    assert summary["name"].to_pylist() == [point.name for point in points_ahead(loaded)]
    assert json.loads(trials["settings"][0].as_py()) == {"count": 0, "rate": 0.05}
    assert sum(summary["chosen"].to_pylist()) == 1
    by_hand = [row["image_auroc"] for row in trials.to_pylist() if row["name"] == "count=4, rate=0.1"]
    assert summary["image_auroc"][3].as_py() == pytest.approx(np.mean(by_hand))
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["trials"] == 8
    assert written["chosen"] == summary["name"][summary["chosen"].to_pylist().index(True)].as_py()
    assert [remark.split(":")[0].split(" (")[0] for remark in written["remarks"]] == [
        "training defects",
        "no recall at false alarms of 0.05",
        "stand-in",
        "4 synthetic defects are not learnt",
    ]


def test_a_results_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "tune").mkdir()
    with pytest.raises(UserError, match="holds 'tune', which is no sweep's result"):
        check_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tune"]


def test_a_sweep_gets_a_folder_of_its_own_and_resume_goes_on_in_it(swept, monkeypatch):
    store = swept[2]
    monkeypatch.chdir(store.root.parent)

    def folders(*more):
        assert main(["sweep", "sweep.yaml", "--here", f"store={store.root}", "bank.negative.rate=0.05", *more]) == 0
        return sorted(path.name for path in Path("runs/small").iterdir() if not path.is_symlink())

    first = folders()
    second = folders()
    assert (len(first), len(second)) == (1, 2)
    assert folders("--resume") == second
    assert Path("runs/small/latest").resolve().name == second[-1]
    assert (Path("runs/small") / first[0] / "report.html").exists()
    assert len(folders("seeds=[0]", "--resume")) == 3  # no sweep with these overrides is there


def test_a_programming_error_in_a_trial_is_kept_with_its_traceback(tmp_path, monkeypatch, capsys):
    small_sweep(tmp_path, seeds=[0], space={"bank.negative.rate": [0.05, 0.1]})
    good = sweep_run.stored_trial

    def fails(trial, *others):
        return 1 / 0 if trial.config.detector.bank.negative.rate == 0.1 else good(trial, *others)

    monkeypatch.setattr(sweep_run, "stored_trial", fails)
    options = ["sweep", str(tmp_path / "sweep.yaml"), "--here", f"output={tmp_path}/out"]
    assert main(options) == 0
    said = capsys.readouterr()
    assert "1 failed: ZeroDivisionError: division by zero (test_sweep_run.py:" in said.out
    assert "--debug" in said.err
    assert "Traceback" not in said.err
    assert main([*options, "--debug"]) == 0
    assert "return 1 / 0 if" in capsys.readouterr().err
    done, failed = pq.read_table(tmp_path / "out/trials.parquet").to_pylist()
    assert (done["state"], done["traceback"], failed["state"]) == ("done", "", "failed")
    assert "return 1 / 0 if" in failed["traceback"]


def test_a_folder_that_was_being_written_is_written_again(swept, tmp_path):
    _, results, _ = swept
    check_folder(tmp_path)
    (tmp_path / ".trials.parquet").write_bytes(b"half")
    check_folder(tmp_path)
    write_results(tmp_path, results)
    check_folder(tmp_path)
    assert pq.read_table(tmp_path / "trials.parquet").num_rows == 8


def test_a_trial_is_named_by_the_split_of_the_dataset_and_by_its_weights(tmp_path):
    loaded = small_sweep(tmp_path)
    ((_, trial), *_) = points_ahead(loaded)[0].trials
    (universe,) = Session(Store(tmp_path / "store")).categories(trial.config.dataset).values()
    rows = catalog_rows(universe)
    at = next(i for i, row in enumerate(rows) if row.split == "test" and not row.label)
    moved = build_catalog([replace(row, split="train") if i == at else row for i, row in enumerate(rows)])
    keys = set()
    for images in (universe, moved):
        session = Session(Store(tmp_path / "store"))
        keys.add(trial_recipe(trial.config, images, assign(trial.config, images).train, session).key)
    assert len(keys) == 2


def test_masks_of_held_out_defects_are_not_painted_in(tmp_path):
    split = {"defects": 0, "validation_fraction": 0.25, "validation_defects": 3}
    loaded = small_sweep(tmp_path, dataset={**BASE["dataset"], "split": split})
    ((_, trial), *_) = points_ahead(loaded)[0].trials
    (universe,) = Session(Store(tmp_path / "store")).categories(trial.config.dataset).values()
    official = build_catalog(
        [replace(row, split="train") if row.defect == "hole" else row for row in catalog_rows(universe)]
    )
    assignment = assign(trial.config.model_copy(update={"synthesizer": PerRegionConfig(count=1)}), official)
    givers = mask_donors(trial.config, official, assignment.train)["id"].to_pylist()
    held_out = [row.id for row in catalog_rows(assignment.validation) if row.label]
    assert len(givers) == 3
    assert len(held_out) == 3
    assert not set(givers) & set(held_out)


def test_the_maps_of_the_worst_mistakes_are_kept(swept):
    _, results, store = swept
    artifact = store.find(results.trials["artifact"][0].as_py())
    tested = [row for row in pq.read_table(artifact.file("predictions.parquet")).to_pylist() if row["split"] == "test"]
    kept = read_arrays(artifact.file("maps.arrow"))
    shown = [tested[row] for row in kept["row"]]
    weakest = sorted((row for row in tested if row["label"]), key=lambda row: row["score"])[:EACH]
    assert {row["id"] for row in weakest} <= {row["id"] for row in shown}
    assert kept["map"].shape == (len(shown), SIDE, SIDE)
    centres = [heat.max() for heat in kept["map"]]
    assert np.corrcoef(centres, [row["score"] for row in shown])[0, 1] > 0.7


def test_a_failing_trial_fails_alone_with_its_reason(tmp_path):
    loaded = small_sweep(tmp_path, space={"dataset.split.defects": [3, 500]})
    results = run(loaded, Store(tmp_path / "store"))
    assert [row["state"] for row in results.trials.to_pylist()] == ["done", "done", "failed", "failed"]
    ((reason, count),) = results.reasons.items()
    assert "500 defects to train on and 3 to validate on" in reason
    assert count == 2
    assert results.chosen.name == "defects=3"
    assert results.trials["image_auroc"].to_pylist()[2:] == [None, None]


def test_one_that_fails_as_it_runs_fails_alone_too(tmp_path):
    space = {"detector.features.crop": [None, [48, 48]], "fit": ["stretch", "cut"], "count": [0]}
    loaded = small_sweep(tmp_path, seeds=[0], space=space)
    overridden = small_sweep(tmp_path, "evaluation.resolution=native", seeds=[0], space=loaded.raw["space"])
    results = run(overridden, Store(tmp_path / "store"))
    assert [row["state"] for row in results.trials.to_pylist()] == ["done", "failed", "failed", "failed"]
    for error, key in zip(results.trials["error"].to_pylist()[1:], ("fit", "crop", "crop"), strict=True):
        assert error == f"evaluation.resolution=native needs maps of the whole image: unset detector.features.{key}"


def test_all_metrics_are_shares(swept):
    _, results, _ = swept
    for name in METRICS:
        values = [value for value in results.trials[name].to_pylist() if value is not None]
        assert all(0 <= value <= 1 and not math.isnan(value) for value in values), name
    assert results.trials["milliseconds"].null_count == 8


def test_milliseconds_are_measured_where_they_are_an_objective(tmp_path):
    loaded = small_sweep(
        tmp_path, seeds=[0], space={"bank.negative.rate": [0.1]}, objectives=["image_auroc", "milliseconds"]
    )
    store = Store(tmp_path / "store")
    results = run(loaded, store)
    (found,) = results.trials["milliseconds"].to_pylist()
    assert 0.1 < found < 10_000
    assert run(loaded, Store(store.root)).trials["milliseconds"].to_pylist() == [found]


def test_an_adaptive_search_needs_ray(tmp_path):
    loaded = small_sweep(tmp_path, tuner={"kind": "tpe", "points": 3}, seeds=[0])
    with pytest.raises(ConfigError, match="tuner.kind=tpe needs Ray"):
        run(loaded, Store(tmp_path / "store"))
