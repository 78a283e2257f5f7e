import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from tracking_inputs import CHOSEN, ERROR, KEY, NAME, REMARK, make_sweep

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.experiment.sweep_config import TrackingConfig
from exdd_ray.tracking.mlflow import FILES, log_sweep
from exdd_ray.tracking.tracked import tracked_sweep
from exdd_ray.tracking.trackers import check_tracking, track_sweep

TRACKED = "mlflow.parentRunId"


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Any:
    """Nothing of the user's own settings, and nothing sent anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("WANDB_API_KEY", KEY)
        event.listen(Engine, "connect", _do_not_sync)
        yield
        event.remove(Engine, "connect", _do_not_sync)


def _do_not_sync(connection: Any, _: object) -> None:
    """MLflow makes a new database in many steps, each of which would wait for the disk."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def uri(folder: Path) -> str:
    """A database that the sweep is in, as `exdd sweep` logs it."""
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    (place,) = track_sweep(folder, TrackingConfig(mlflow=uri))
    assert place == f"MLflow: experiment {NAME} of {uri}"
    return uri


def runs_of(uri: str) -> tuple[Any, list[Any]]:
    """The sweep's run, and the trials' in the order that they were logged in."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(NAME).experiment_id], order_by=["start_time ASC"])
    (parent,) = [run for run in runs if TRACKED not in run.data.tags]
    trials = [run for run in runs if TRACKED in run.data.tags]
    assert {run.data.tags[TRACKED] for run in trials} == {parent.info.run_id}
    return parent, trials


def test_every_trial_is_a_run_nested_in_the_sweeps(folder: Path, uri: str) -> None:
    parent, trials = runs_of(uri)
    assert (parent.info.run_name, parent.info.status) == (NAME, "FINISHED")
    assert parent.data.metrics == {"trials": 8, "failed": 1}
    assert parent.data.params == {"objectives": "image_auroc, bank_vectors", "select": "validation"}
    assert (parent.data.tags["chosen"], parent.data.tags["mlflow.note.content"]) == (CHOSEN, REMARK)
    rows = {row.title: row for row in tracked_sweep(folder).trials}
    assert {run.info.run_name for run in trials} == set(rows)
    for run in trials:
        row = rows[run.info.run_name]
        assert run.data.metrics == row.metrics
        assert run.data.params["synthesizer.count"] == str(row.settings["synthesizer.count"])
        assert json.loads(run.data.params["layers"]) == row.settings["layers"]
        assert run.data.params["seed"] == str(row.seed)
        assert run.data.tags["category"] == row.category
        failed = row.artifact is None
        assert (run.info.status, run.data.tags.get("error")) == (("FAILED", ERROR) if failed else ("FINISHED", None))


def test_report_and_tables_are_its_artifacts(folder: Path, uri: str) -> None:
    from mlflow import MlflowClient

    client, (parent, _) = MlflowClient(uri), runs_of(uri)
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == set(FILES)
    (report,) = (folder / "mlflow").rglob("report.html")
    assert report.read_bytes() == (folder / "report.html").read_bytes()


def test_key_is_nowhere_in_the_files(folder: Path, uri: str) -> None:
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert folder.parent / "mlflow.db" in files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_a_store_of_files_takes_it_where_mlflow_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    sweep, uri = tracked_sweep(make_sweep(tmp_path, "files")), (tmp_path / "runs").as_uri()
    with pytest.raises(UserError, match="MLFLOW_ALLOW_FILE_STORE"):
        log_sweep(sweep, uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    log_sweep(sweep, uri)
    log_sweep(sweep, uri)
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("files").experiment_id])
    assert len(runs) == 9  # to log again makes no other runs


def test_a_server_that_is_not_there_is_said_without_the_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"MLflow, http://127\.0\.0\.1:9") as refused:
        log_sweep(tracked_sweep(folder), "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(refused.value)


def test_without_mlflow_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for call in (
        lambda: check_tracking(TrackingConfig(mlflow="sqlite:///a.db")),
        lambda: log_sweep(tracked_sweep(folder), "a"),
    ):
        with pytest.raises(ConfigError, match=r"pip install .exdd-ray\[mlflow\]"):
            call()
