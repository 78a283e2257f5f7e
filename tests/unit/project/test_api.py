"""The front door: a dozen names that run experiments from a plain script or a notebook."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import exdd_ray
from exdd_ray import (
    Dataset,
    Experiment,
    api,
    detector,
    fit,
    load_config,
    load_dataset,
    load_sweep,
    open_store,
    read_results,
    run,
    sweep,
    synthesizer,
)
from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.report import results

SMALL = {
    "size": [64, 64],
    "materials": ["ceramic"],
    "kinds": ["hole", "stain"],
    "normal_train": 8,
    "normal_test": 4,
    "defects_per_kind": 6,
}
SPLIT = {"defects": 3, "validation_fraction": 0.25, "validation_defects": 3}
FEATURES = {"backbone": "surface_resnet18", "resize": [64, 64]}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def experiment(system="patchcore", **changes):
    chosen = detector("patch_bank", system=system, features=FEATURES)
    images = Dataset(name="procedural", procedural=SMALL, split=SPLIT)
    return Experiment(dataset=images, detector=chosen, evaluation={"bootstrap": 20}, **changes)


@pytest.mark.parametrize("module", [api, results, exdd_ray])
def test_every_example_gives_what_it_says(module):
    names = {name: getattr(exdd_ray, name) for name in exdd_ray.__all__}
    runner = doctest.DocTestRunner()
    found = doctest.DocTestFinder().find(module, extraglobs=names)
    for one in found:
        runner.run(one)
    assert not runner.failures
    documented = {one.name.rpartition(".")[2] for one in found if one.examples}
    assert {name for name in exdd_ray.__all__ if getattr(exdd_ray, name).__module__ == module.__name__} - {
        "Results"
    } <= documented


def test_a_run_writes_a_report_and_its_results_are_read_again():
    made = run(experiment(seed=3), name="mine")
    assert made.folder.parent.name == "mine"
    assert made.report.is_file()
    assert made.table.to_pylist() == read_results("runs/mine/latest").table.to_pylist()
    assert made.table["seed"].to_pylist() == [3]
    assert made.predictions.num_rows == 4 + 6
    lines = repr(made).splitlines()
    assert lines[0].split()[:3] == ["trial", "image", "auroc"]
    assert f"{100 * made.summary['image_auroc']:.2f}" in lines[1]
    assert lines[-1] == f"report: {made.report}"


def test_a_run_from_python_is_that_of_its_own_file(tmp_path):
    made = run({"one bank": experiment(), "two banks": experiment("exdd")}, seeds=[0, 1])
    assert made.table["name"].to_pylist() == ["one bank", "one bank", "two banks", "two banks"]
    again = run(load_config(made.folder / "config.yaml", "output=again"))
    kept = [name for name in made.table.column_names if name != "seconds"]
    assert again.folder == tmp_path / "again"
    assert again.table.select(kept) == made.table.select(kept)


def test_a_sweep_compares_its_points():
    made = sweep(
        {"one bank": experiment(), "two banks": experiment("exdd")},
        {"bank.negative.rate": [0.05, 0.1]},
        seeds=[0, 1],
        name="rates",
    )
    assert made.table.num_rows == 8
    assert set(made.table["state"].to_pylist()) == {"done"}
    assert made.summary["baseline"] == "one bank, rate=0.05"
    assert made.report.is_file()
    again = sweep(load_sweep(made.folder / "sweep.yaml"))
    assert again.table["image_auroc"] == made.table["image_auroc"]


def test_a_key_that_fills_others_is_no_axis_of_an_experiment_that_is_made():
    with pytest.raises(ConfigError, match="preset fills other keys"):
        sweep(experiment(), {"detector.preset": ["paper", "best"]})


def test_a_fitted_detector_scores_any_images():
    made, fitted = run(experiment()), fit(experiment())
    (root,) = Path("store/procedural").glob("*/*/images/ceramic")
    predictions = fitted.predict(load_dataset("folder", root))
    tested = made.predictions["score"].to_pylist()
    assert len(predictions.rows) > len(tested)
    assert set(tested) <= set(predictions.scores.tolist())
    assert predictions.draw(predictions.patch_maps[0]).shape == (64, 64)
    assert fitted.bank_sizes[1] == 0


def test_a_category_is_said_where_there_are_several():
    several = Dataset(name="procedural", procedural={**SMALL, "materials": ["ceramic", "wood"]})
    with pytest.raises(ConfigError, match="say which category: ceramic, wood"):
        fit(Experiment(dataset=several))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: detector("patch_bunk"), "detector.kind: one of"),
        (lambda: detector("patch_bank", bank={"negative": {"rat": 0.1}}), "did you mean 'detector.bank.negative.rate'"),
        (lambda: synthesizer("per_region", count=-1), "synthesizer.count"),
        (lambda: load_config("dem"), "did you mean 'demo'"),
        (lambda: load_sweep("synth"), "did you mean 'synth_count'"),
        (lambda: run("demo"), "load_config('demo') reads a file's"),
        (lambda: run({}), "an Experiment is run"),
        (lambda: sweep([Experiment()], {}), "an Experiment is run"),
        (lambda: run(Experiment(), seeds=0), "seeds are a list"),
        (lambda: read_results("runs"), "runs: not the results of a run or a sweep"),
    ],
)
def test_a_mistake_is_told_in_one_line(call, said):
    with pytest.raises(ConfigError) as error:
        call()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_table_is_told_of():
    made = run(experiment())
    (made.folder / "trials.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="trials.parquet: cannot be read"):
        assert read_results(made.folder).table


def test_configs_stores_and_results_need_no_ray():
    code = (
        "import sys, exdd_ray; from exdd_ray import *; exdd_ray.load_config('demo'); exdd_ray.open_store('store');"
        "assert set(exdd_ray.__all__) <= set(dir(exdd_ray)); assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_other_name_is_made_up():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = exdd_ray.nothing  # type: ignore[attr-defined]


def test_a_store_is_opened_by_its_path(tmp_path):
    assert open_store("store").root == tmp_path / "store"
