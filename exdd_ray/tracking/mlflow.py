"""A sweep in MLflow: a run with a nested one for each trial."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exdd_ray.errors import UserError
from exdd_ray.extras import require
from exdd_ray.store.hashes import digest
from exdd_ray.tracking.tracked import TrackedSweep, TrialRow, plain

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILES = ("report.html", "summary.json", "summary.parquet", "trials.parquet", "plan.json", "resolved.yaml")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_LOCAL = ("sqlite:", "file:")
_IDENTITY = "exdd_identity"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def log_sweep(sweep: TrackedSweep, uri: str) -> str:
    """Log all of a sweep as one run of the experiment of its name, each trial as a run nested in it.

    What is logged again goes into the run that an earlier call made for it.

    Settings are parameters, FILES artifacts. A new experiment of a local store keeps its artifacts in the results'
    folder, under `mlflow`; on a server, the server says where.

    Returns:
        The experiment and the store, without the credentials that the URI may hold.

    Raises:
        ConfigError: MLflow is not installed.
        UserError: the store does not answer, or refuses a run or a file.
    """
    require("mlflow", "tracking.mlflow")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name = sweep.name
    shown = _CREDENTIALS.sub("//", uri)
    try:
        with _few_retries():
            client = MlflowClient(uri)
            experiment = _experiment(client, sweep, uri)
            parent = _log_parent(client, experiment, sweep)
            for row in sweep.trials:
                _log_trial(client, experiment, parent, row)
            client.set_terminated(parent)
            _log_files(client, parent, sweep)
    except MlflowException as error:
        text = _CREDENTIALS.sub("//", " ".join(str(error).split()))
        raise UserError(f"MLflow, {shown}: {text}") from error
    return f"experiment {name} of {shown}"


def _experiment(client: "MlflowClient", sweep: TrackedSweep, uri: str) -> str:
    found = client.get_experiment_by_name(sweep.name)
    if found is not None:
        return str(found.experiment_id)
    place = (sweep.folder / "mlflow").absolute().as_uri() if uri.startswith(_LOCAL) else None
    return str(client.create_experiment(sweep.name, artifact_location=place))


def _log_parent(client: "MlflowClient", experiment: str, sweep: TrackedSweep) -> str:
    facts = sweep.facts
    tags = {name: str(facts[name]) for name in ("baseline", "chosen") if facts[name] is not None}
    about = {"objectives": ", ".join(facts["objectives"]), "select": facts["select"]}
    parent = _run(client, experiment, sweep.name, tags, f"{sweep.name}: {about}")
    _log(client, parent, about, {"trials": facts["trials"], "failed": facts["failed"]}, "\n".join(facts["remarks"]))
    return parent


def _log_trial(client: "MlflowClient", experiment: str, parent: str, row: TrialRow) -> None:
    tags = {"mlflow.parentRunId": parent, "trial": row.name, "dataset": row.dataset, "category": row.category}
    tags |= {"error": row.error} if row.error else {"artifact": row.artifact.key} if row.artifact else {}
    run = _run(client, experiment, row.title, tags, row.identity)
    _log(client, run, {**row.settings, "seed": row.seed}, row.metrics, row.remarks)
    client.set_terminated(run, status="FAILED" if row.artifact is None else "FINISHED")


def _run(client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str], about: str) -> str:
    """The id of the run that shows something: the one that was made for it before, or a new one."""
    own = {**tags, _IDENTITY: digest(about)}
    found = client.search_runs([experiment], f"tags.{_IDENTITY} = '{own[_IDENTITY]}'", max_results=1)
    if not found:
        return str(client.create_run(experiment, run_name=name, tags=own).info.run_id)
    run = str(found[0].info.run_id)
    for key, value in own.items():
        client.set_tag(run, key, value)
    return run


def _log(
    client: "MlflowClient", run: str, settings: Mapping[str, Any], metrics: Mapping[str, float], remarks: str
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        params=[Param(key, str(plain(value))) for key, value in settings.items()],
        tags=[RunTag("mlflow.note.content", remarks)] if remarks else [],
    )


def _log_files(client: "MlflowClient", run: str, sweep: TrackedSweep) -> None:
    """What the folder has of FILES; a server may keep its files where this machine cannot write."""
    try:
        for name in FILES:
            if (file := sweep.folder / name).is_file():
                client.log_artifact(run, str(file))
    except (OSError, ImportError) as error:
        raise UserError(f"MLflow has all runs, but its artifact store takes no files: {error}") from error


@contextmanager
def _few_retries() -> Iterator[None]:
    """MLflow tries a server that is not there for minutes."""
    if _RETRIES in os.environ:
        yield
        return
    os.environ[_RETRIES] = "2"
    try:
        yield
    finally:
        del os.environ[_RETRIES]
