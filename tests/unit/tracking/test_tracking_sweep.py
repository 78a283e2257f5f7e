import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tracking_inputs import CHOSEN, ERROR, KEY, NAME, NAMES, REMARK, artifacts, make_sweep, of_kind, summary

from exdd_ray.cli.main import main
from exdd_ray.errors import ArtifactError, ConfigError, UserError
from exdd_ray.experiment.sweep_config import TrackingConfig
from exdd_ray.store.arrays import read_arrays
from exdd_ray.store.artifact import Store
from exdd_ray.tracking.tracked import tracked_sweep
from exdd_ray.tracking.trackers import check_tracking, sync_sweep, track_sweep
from exdd_ray.tracking.wandb_sweep import MISTAKES, log_sweep


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the user's own settings, and nothing in the user's home."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(home))


def logged(folder: Path) -> list[str]:
    """Logs, and waits until wandb's own process has written all of it."""
    import wandb

    runs = log_sweep(tracked_sweep(folder), "defects", "offline")
    wandb.teardown()
    return list(runs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, list[str]]:
    """By job type, in the order that they were logged in."""
    found: dict[str, list[str]] = {}
    for run in logged(folder):
        found.setdefault(about(run).job_type, []).append(run)
    return found


def about(run: str) -> Any:
    return of_kind(run, "run")[0]


def config(run: str) -> dict[str, Any]:
    return {update.key: json.loads(update.value_json) for update in about(run).config.update}


def exit_code(run: str) -> int:
    return int(of_kind(run, "exit")[0].exit_code)


def test_every_trial_and_stage_is_a_run_of_the_sweeps_group(folder: Path, runs: dict[str, list[str]]) -> None:
    assert {kind: len(found) for kind, found in runs.items()} == {"stage": 3, "trial": 8, "summary": 1}
    for run in [run for found in runs.values() for run in found]:
        assert Path(run).is_relative_to(folder / "wandb")
        assert (about(run).project, about(run).run_group) == ("defects", NAME)
    names = [about(run).display_name for run in runs["trial"]]
    assert names[0] == "count=10, wood, seed 0"
    assert len(set(names)) == 8


def test_trial_holds_its_experiment_settings_and_metrics(folder: Path, runs: dict[str, list[str]]) -> None:
    for run, row in zip(runs["trial"], tracked_sweep(folder).trials, strict=True):
        assert sorted(about(run).tags) == sorted(["procedural", row.category])
        found, values = config(run), summary(run)
        assert (found["trial"], found["seed"], found["category"]) == (row.name, row.seed, row.category)
        assert found["settings"]["synthesizer"]["count"] == row.settings["synthesizer.count"]
        assert found["settings"]["variant"] == "DIAG"
        assert {name: values[name] for name in row.metrics} == row.metrics
        if row.artifact is None:
            assert (values["error"], about(run).notes, exit_code(run)) == (ERROR, ERROR, 1)
            continue
        assert exit_code(run) == 0
        experiment = json.loads(row.artifact.file("config.json").read_text())
        assert {key: found[key] for key in experiment} == experiment
        assert found["stages"] == list(row.artifact.metadata["stages"])
        assert (values["image_auroc"], values["seconds"]) == (row.artifact.metadata["image_auroc"], 1.5)
        assert "aupro" not in values
        assert "milliseconds" not in values
        assert about(run).notes == REMARK


def test_curves_are_charts_over_tables(folder: Path, runs: dict[str, list[str]]) -> None:
    artifact = tracked_sweep(folder).trials[0].artifact
    assert artifact is not None
    points = read_arrays(artifact.file("curves.arrow"))
    tables = {file.name.split("_table")[0]: file for file in Path(runs["trial"][0]).glob("files/media/table/*.json")}
    assert set(tables) == {"image_roc", "image_pr"}
    table = json.loads(tables["image_roc"].read_text())
    assert table["columns"] == ["false positive rate", "true positive rate"]
    np.testing.assert_allclose(table["data"], np.stack([points["image_roc_x"], points["image_roc_y"]], 1))
    charts = {u.nested_key[-1]: json.loads(u.value_json) for c in of_kind(runs["trial"][0], "config") for u in c.update}
    assert set(charts) == {"image_roc", "image_pr"}
    axes = charts["image_roc"]["panel_config"]["fieldSettings"]
    assert (axes["x"], axes["y"]) == ("false positive rate", "true positive rate")


def test_stages_log_what_they_made_by_its_manifest(folder: Path, runs: dict[str, list[str]]) -> None:
    sweep = tracked_sweep(folder)
    embedding, synthesis, bank = runs["stage"]
    assert about(embedding).display_name == "embedding: images"
    expected = {"distinct": 1, "in_store": 0, "uses": 8, "shared": 7, "seconds": 30.5}
    assert {key: summary(embedding)[key] for key in expected} == expected
    assert "seconds" not in summary(synthesis)
    assert artifacts(embedding, "embed") == {}
    for run, kind in ((synthesis, "synthesis"), (bank, "bank")):
        keys = {key for row in sweep.trials for key in row.stages if key.startswith(f"{kind}-")}
        found = artifacts(run, kind)
        assert set(found) == keys
        assert len(keys) == 2
        for key, files in found.items():
            assert set(files) == {"manifest.json"}
            stored = sweep.store.find(key)
            assert stored is not None
            assert files["manifest.json"].read_text() == stored.file("manifest.json").read_text()
    assert (summary(bank)["distinct"], summary(bank)["uses"], summary(bank)["shared"]) == (2, 7, 5)
    (size,) = {
        json.loads(one.metadata)["bytes"] for one in of_kind(bank, "artifact") if one.name == sweep.trials[0].stages[2]
    }
    assert size == 10_000


def table(run: str, name: str) -> tuple[dict[str, Any], dict[str, Path]]:
    (files,) = [files for files in artifacts(run, "run_table").values() if f"{name}.table.json" in files]
    return json.loads(files[f"{name}.table.json"].read_text()), files


def test_summary_holds_points_and_categories(folder: Path, runs: dict[str, list[str]]) -> None:
    (run,) = runs["summary"]
    assert (summary(run)["trials"], summary(run)["failed"]) == (8, 1)
    assert (config(run)["chosen"], about(run).display_name, about(run).notes) == (CHOSEN, NAME, REMARK)
    points = pq.read_table(folder / "summary.parquet")
    found, _ = table(run, "summary")
    assert found["columns"] == points.column_names
    assert found["data"] == [list(record.values()) for record in points.to_pylist()]
    found, _ = table(run, "categories")
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]
    means = {(row["name"], row["category"]): (row["runs"], row["image_auroc"]) for row in rows}
    assert means == {
        (NAMES[10], "wood"): (2, pytest.approx(0.56)),
        (NAMES[10], "ceramic"): (2, pytest.approx(0.56)),
        (NAMES[50], "wood"): (2, pytest.approx(0.6)),
        (NAMES[50], "ceramic"): (1, pytest.approx(0.55)),
    }


def test_summary_shows_the_chosen_points_mistakes_with_their_masks(runs: dict[str, list[str]]) -> None:
    found, files = table(runs["summary"][0], "mistakes")
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]
    assert found["columns"] == list(MISTAKES)
    wood = [(row["mistake"], row["id"], row["score"], row["outranked"]) for row in rows if row["category"] == "wood"]
    assert wood == [
        ("missed defect", "scratch2.png", 0.15, 2),
        ("missed defect", "scratch1.png", 0.4, 1),
        ("false alarm", "good2.png", 0.8, 2),
        ("false alarm", "good1.png", 0.2, 1),
    ]
    assert {row["category"] for row in rows} == {"wood", "ceramic"}
    assert "masks" not in rows[2]["image"]
    images = Path(runs["summary"][0]).parents[2] / "wood"
    np.testing.assert_array_equal(
        np.asarray(Image.open(files[rows[0]["image"]["path"]])), np.asarray(Image.open(images / "scratch2.png"))
    )
    heat = np.asarray(Image.open(files[rows[0]["heat map"]["path"]]))
    assert heat.shape == (3, 4, 3)
    assert len(np.unique(heat.reshape(-1, 3), axis=0)) > 6  # a ramp in colours
    mask = np.asarray(Image.open(files[rows[0]["image"]["masks"]["defect"]["path"]]))
    np.testing.assert_array_equal(mask > 0, np.asarray(Image.open(images / "scratch2-mask.png")) > 0)


def test_runs_do_not_list_the_installed_packages(runs: dict[str, list[str]]) -> None:
    """Which takes ten times as long as all the rest: 60 trials would take half a minute."""
    assert [file for found in runs.values() for run in found for file in Path(run).rglob("requirements.txt")] == []


def test_key_is_nowhere_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = make_sweep(tmp_path)
    track_sweep(folder, TrackingConfig(wandb="defects", tensorboard=True))
    import wandb

    wandb.teardown()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 60
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in "".join(capfd.readouterr())


def test_trackers_are_those_of_the_sweeps_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert track_sweep(make_sweep(tmp_path / "none")) == ()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = make_sweep(tmp_path / "both", wandb="defects", tensorboard=True)
    assert track_sweep(folder) == (f"TensorBoard: {folder / 'tensorboard'}",)
    assert not (folder / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(ConfigError, match="onlin is not online, offline or disabled"):
        check_tracking(TrackingConfig(wandb="defects"))


def test_results_that_are_gone_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_sweep(tmp_path)
    sweep = tracked_sweep(folder)
    store = Store(tmp_path / "store")
    bank = sweep.trials[0].stages[2]
    (store.folder(bank) / "vectors.bin").unlink()
    runs = logged(folder)
    assert "1 of 4 artifacts left the store" in capsys.readouterr().err
    assert bank in config(runs[3])["stages"]
    assert bank not in artifacts(runs[2], "bank")
    first = sweep.trials[0].artifact
    assert first is not None
    (first.folder / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=f"{first.key}, of trial {NAMES[10]}, is not in the store"):
        track_sweep(folder, TrackingConfig(tensorboard=True))
    (folder / "trials.parquet").unlink()
    with pytest.raises(ConfigError, match="not the results of a run or a sweep"):
        track_sweep(folder)


def test_logging_again_makes_no_other_runs(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path)
    first = [Path(run).name.rpartition("-")[2] for run in logged(folder)]
    second = logged(folder)
    assert {str(path) for path in (folder / "wandb").glob("offline-run-*")} == set(second)
    assert [about(run).run_id for run in second] == first
    assert len(set(first)) == 12


def test_images_that_are_gone_are_said_before_anything_is_logged(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path)
    (tmp_path / "ceramic" / "scratch2.png").unlink()
    with pytest.raises(UserError, match="scratch2.png: no such file"):
        log_sweep(tracked_sweep(folder), "defects", "offline")
    assert list(folder.glob("wandb/offline-run-*")) == []


def test_sync_needs_a_key_runs_and_a_server(
    folder: Path, tmp_path: Path, runs: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="needs WANDB_API_KEY"):
        sync_sweep(folder)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(UserError, match="no offline run"):
        sync_sweep(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    with pytest.raises(UserError, match=r"wandb: .*127\.0\.0\.1:9") as refused:
        sync_sweep(folder)
    assert KEY not in str(refused.value)
    for file in (folder / "wandb").glob("offline-run-*/*.wandb"):
        file.with_name(f"{file.name}.synced").touch()
    assert sync_sweep(folder) == 0


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(make_sweep(tmp_path))
    assert main(["track", "log", folder]) == 2
    assert "no tracker" in capsys.readouterr().err
    assert main(["track", "log", folder, "--tensorboard"]) == 0
    assert capsys.readouterr().out == f"TensorBoard: {Path(folder) / 'tensorboard'}\n"
    assert main(["track", "log", "--wandb", "defects", folder]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("W&B: 12 runs, summed up in ")
    assert err.count("no WANDB_API_KEY") == 1
    for action in ("sync", "dashboard"):
        assert main(["track", action, folder]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert ("WANDB_API_KEY" if action == "sync" else "project") in line
