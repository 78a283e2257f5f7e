"""Stores that are kept on another file system: here pyarrow's own of this machine, by a URI as an object store has."""

import json
import shutil

import pytest
from sweep_small import small_sweep

from exdd_ray.cli.main import main
from exdd_ray.errors import UserError
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.sweep import plan_sweep, run_sweep
from exdd_ray.store.artifact import Recipe, open_store

RECIPE = Recipe("test", 1, {"a": 1})


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A URI, and a function that opens its store as another machine would: with an empty cache."""
    monkeypatch.setenv("EXDD_CACHE", str(tmp_path / "cache"))

    def elsewhere():
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        return open_store((tmp_path / "bucket").as_uri())

    return elsewhere


def build(folder):
    (folder / "deep").mkdir()
    (folder / "deep/a.txt").write_text("a")
    return {"b": 2}


def test_what_one_machine_made_another_one_reads(remote, tmp_path):
    made = remote().make(RECIPE, build)
    other = remote()
    assert not made.folder.exists()
    assert other.peek(RECIPE.key).metadata == {"b": 2}
    found = other.make(RECIPE, lambda folder: pytest.fail("made again"))
    assert found.file("deep/a.txt").read_text() == "a"
    assert (other.made, other.reused) == ([], [RECIPE.key])


def test_an_artifact_whose_manifest_is_not_there_yet_is_not_there(remote, tmp_path):
    remote().make(RECIPE, build)
    (manifest,) = (tmp_path / "bucket").rglob("manifest.json")
    manifest.unlink()
    other = remote()
    assert other.peek(RECIPE.key) is None
    assert other.find(RECIPE.key) is None


def test_a_damaged_copy_is_fetched_and_refused(remote, tmp_path):
    remote().make(RECIPE, build)
    (file,) = (tmp_path / "bucket").rglob("a.txt")
    file.write_text("b")
    assert remote().find(RECIPE.key) is None


def test_a_file_system_that_pyarrow_does_not_know():
    with pytest.raises(UserError, match=r"^nowhere://bucket: "):
        open_store("nowhere://bucket?secret=1").find(RECIPE.key)


def test_a_sweep_of_another_machine_is_not_run_again(remote, tmp_path):
    loaded = small_sweep(tmp_path, seeds=[0], space={"count": [0, 4]})
    first = remote()
    results = run_sweep(loaded, plan_sweep(loaded, Session(first)), Session(first), tmp_path)
    assert sum(key.startswith("trial-") for key in first.made) == 2
    second = remote()
    plan = plan_sweep(loaded, Session(second))
    assert (plan.missing("trials"), plan.missing("embedding"), plan.missing("synthesis")) == (0, 0, 0)
    again = run_sweep(loaded, plan, Session(second), tmp_path)
    assert not [key for key in second.made if not key.startswith("procedural")]
    assert again.trials.equals(results.trials)


def test_a_sweeps_results_are_kept_there_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EXDD_CACHE", str(tmp_path / "cache"))
    small_sweep(tmp_path)
    uri = (tmp_path / "bucket").as_uri()
    options = ["seeds=[0]", "synthesizer.count=0", f"store={uri}", f"output={tmp_path}/out"]
    assert main(["sweep", str(tmp_path / "sweep.yaml"), "--here", *options]) == 0, capsys.readouterr().err
    kept = tmp_path / "bucket/results/small/out"
    assert json.loads((kept / "summary.json").read_text())["trials"] == 2
    assert (kept / "report.html").read_text() == (tmp_path / "out/report.html").read_text()
