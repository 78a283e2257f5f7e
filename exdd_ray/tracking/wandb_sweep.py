"""A sweep in Weights & Biases: a run for each trial and each stage, and one that sums them up."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.report.gallery import COLOURMAP
from exdd_ray.store.arrays import read_arrays
from exdd_ray.store.artifact import Artifact
from exdd_ray.store.folders import MANIFEST
from exdd_ray.tracking.mistakes import worst_mistakes
from exdd_ray.tracking.tracked import TrackedSweep, TrialRow, nested
from exdd_ray.tracking.wandb_runs import Mode, Place, address, picture, start_run, tracking_mode, wandb_session

LINEAGE = ("bank", "synthesis")  # stages whose artifacts are W&B artifacts
MISTAKES = ("category", "mistake", "image", "heat map", "id", "defect", "score", "outranked")
CURVES = {
    "image_roc": ("false positive rate", "true positive rate"),
    "image_pr": ("recall", "precision"),
    "pixel_roc": ("false positive rate", "true positive rate"),
    "pixel_pr": ("recall", "precision"),
    "pro": ("false positive rate", "per-region overlap"),
}
_MAX_EACH = 8
_MAX_PICTURES = 96


def log_sweep(sweep: TrackedSweep, project: str, mode: Mode | None = None) -> tuple[str, ...]:
    """Log all of a sweep as runs of `project` in the group of its name, by job type: `stage`, `trial`, `summary`.

    Banks and synthetic sets are artifacts (their manifests only, not what they hold) that the stages' runs log. Online,
    the trials' runs use them, which gives the lineage; wandb allows no use offline, so that there the keys are in the
    trials' config (`stages`) alone. To log a sweep again makes no other runs. A failed trial is a failed run. Without
    WANDB_API_KEY and WANDB_MODE the runs stay offline in the results' folder, under `wandb`. A `mode` of None is
    tracking_mode's.

    Returns:
        Each run's address, or its folder where it is offline; the last is the summary's. Nothing with
        WANDB_MODE=disabled.

    Raises:
        ConfigError: an unknown WANDB_MODE, or online without a key.
        ImageError: an image of the chosen trial's mistakes cannot be read any more.
        UserError: wandb refuses the project, or its server does not answer.
    """
    mode = mode or tracking_mode()
    if mode == "disabled":
        return ()
    place = Place(project, sweep.name, sweep.folder, mode)
    with wandb_session(place):
        tables = _tables(sweep)  # reads images: before anything is logged
        lineage: dict[str, Any] = {}
        stages = [_log_stage(place, stage, made, lineage) for stage, made in _stages(sweep)]
        trials = [_log_trial(place, row, lineage) for row in sweep.trials]
        return (*stages, *trials, _log_summary(place, sweep, tables))


def _stages(sweep: TrackedSweep) -> Iterator[tuple[dict[str, Any], list[Artifact]]]:
    """The plan's stages with the artifacts that are logged; kinds of them that no stage is named after follow."""
    made = _lineage(sweep)
    for stage in sweep.results.plan["stages"]:
        yield dict(stage), made.pop(stage["stage"], [])
    for kind, artifacts in made.items():
        keys = {artifact.key for artifact in artifacts}
        uses = sum(key in keys for row in sweep.trials for key in row.stages)
        yield {"stage": kind, "what": "artifacts", "distinct": len(keys), "uses": uses}, artifacts


def _lineage(sweep: TrackedSweep) -> dict[str, list[Artifact]]:
    """By stage, the artifacts of LINEAGE that trials were made from."""
    keys = dict.fromkeys(key for row in sweep.trials for key in row.stages if _kind(key) in LINEAGE)
    found = [artifact for key in keys if (artifact := sweep.store.peek(key)) is not None]
    if len(found) < len(keys):
        gone = len(keys) - len(found)
        print(f"wandb: {gone} of {len(keys)} artifacts left the store, and so the lineage", file=sys.stderr)
    return {kind: mine for kind in LINEAGE if (mine := [one for one in found if _kind(one.key) == kind])}


def _kind(key: str) -> str:
    return key.rpartition("-")[0]


def _log_stage(place: Place, stage: dict[str, Any], made: list[Artifact], lineage: dict[str, Any]) -> str:
    """Logs a stage's run, and into `lineage` its artifacts by their keys."""
    about = {name: stage.pop(name) for name in ("stage", "what")}
    with start_run(place, "stage", f"{about['stage']}: {about['what']}", about, about=about["stage"]) as run:
        figures = {name: value for name, value in stage.items() if value is not None}
        run.summary.update({**figures, "shared": stage["uses"] - stage["distinct"]})
        logged = {artifact.key: run.log_artifact(_described(artifact)) for artifact in made}
        if place.mode == "online":
            for artifact in logged.values():
                artifact.wait()  # only what is on the server can be used
        lineage |= logged
        return address(run)


def _described(artifact: Artifact) -> Any:
    """A W&B artifact that holds the manifest alone."""
    import wandb

    manifest = json.loads(artifact.file(MANIFEST).read_text(encoding="utf-8"))
    files = manifest["files"].values()
    about = {"version": manifest["version"], "files": len(files), "bytes": sum(size for size, _ in files)}
    described = wandb.Artifact(artifact.key, type=_kind(artifact.key), metadata=about)
    described.add_file(str(artifact.file(MANIFEST)))
    return described


def _log_trial(place: Place, row: TrialRow, lineage: Mapping[str, Any]) -> str:
    tags, notes = (row.dataset, row.category), row.error or row.remarks
    with start_run(place, "trial", row.title, _trial_config(row), tags, notes, about=row.identity) as run:
        run.summary.update(row.metrics)
        if row.artifact is None:
            run.summary["error"] = row.error
            run.finish(exit_code=1)
            return address(run)
        run.summary["seconds"] = row.artifact.metadata["seconds"]
        run.log(_curves(row.artifact))
        if place.mode == "online":
            for key in row.stages:
                if key in lineage:
                    run.use_artifact(lineage[key])
        return address(run)


def _trial_config(row: TrialRow) -> dict[str, Any]:
    """The experiment, the settings that tell it from others, and what it was made from."""
    about = {
        "trial": row.name,
        "number": row.number,
        "category": row.category,
        "seed": row.seed,
        "settings": nested(row.settings),
    }
    if row.artifact is None:
        return {**about, "dataset": {"name": row.dataset}}
    experiment = json.loads(row.artifact.file("config.json").read_text(encoding="utf-8"))
    return {**experiment, **about, "artifact": row.artifact.key, "stages": list(row.stages)}


def _curves(artifact: Artifact) -> dict[str, Any]:
    import wandb

    points = read_arrays(artifact.file("curves.arrow"))
    found = {}
    for name, axes in CURVES.items():
        if f"{name}_x" in points:
            table = wandb.Table(
                columns=list(axes), data=np.stack([points[f"{name}_x"], points[f"{name}_y"]], 1).tolist()
            )
            found[name] = wandb.plot.line(table, *axes, title=name.replace("_", " "))
    return found


def _log_summary(place: Place, sweep: TrackedSweep, tables: Mapping[str, Any]) -> str:
    facts = sweep.facts
    about = {name: facts[name] for name in ("objectives", "select", "baseline", "chosen")}
    with start_run(place, "summary", sweep.name, about, notes="\n".join(facts["remarks"]), about=sweep.name) as run:
        run.log(dict(tables))
        run.summary.update({"trials": facts["trials"], "failed": facts["failed"]})
        return address(run)


def _tables(sweep: TrackedSweep) -> dict[str, Any]:
    import wandb

    points = pq.read_table(sweep.folder / "summary.parquet")
    found = {"summary": wandb.Table(columns=points.column_names, data=_rows(points.to_pylist()))}
    if categories := _categories(sweep):
        found["categories"] = wandb.Table(columns=list(categories[0]), data=_rows(categories))
    if mistakes := _mistakes(sweep):
        found["mistakes"] = wandb.Table(columns=list(MISTAKES), data=mistakes)
    return found


def _rows(records: list[dict[str, Any]]) -> list[list[Any]]:
    return [list(record.values()) for record in records]


def _categories(sweep: TrackedSweep) -> list[dict[str, Any]]:
    """Of each point and category, the means over seeds; None where a seed has none."""
    groups: dict[tuple[str, str], list[TrialRow]] = {}
    for row in sweep.trials:
        if row.artifact is not None:
            groups.setdefault((row.name, row.category), []).append(row)
    return [
        {"name": name, "category": category, "runs": len(rows), **{m: _mean(rows, m) for m in sweep.metrics}}
        for (name, category), rows in groups.items()
    ]


def _mean(rows: list[TrialRow], metric: str) -> float | None:
    values = [row.metrics[metric] for row in rows if metric in row.metrics]
    return float(np.mean(values)) if len(values) == len(rows) else None


def _mistakes(sweep: TrackedSweep) -> list[list[Any]]:
    """Rows of MISTAKES: of the chosen point, each category's first seed."""
    chosen: dict[str, TrialRow] = {}
    for row in sweep.trials:
        if row.artifact is not None and row.name == sweep.facts["chosen"]:
            chosen.setdefault(row.category, row)
    each = max(1, min(_MAX_EACH, _MAX_PICTURES // (2 * max(1, len(chosen)))))
    table = []
    for row in chosen.values():
        mistakes = worst_mistakes(row, each)
        heat = np.array([one.heat for one in mistakes])
        for one in mistakes:
            pictures = [_drawn(one.row), _heat(one.heat, float(heat.min()), float(heat.max()))]
            about = [one.row.id, one.row.defect, one.score, one.outranked]
            table.append([row.category, one.kind, *pictures, *about])
    return table


def _heat(values: np.ndarray, low: float, high: float) -> Any:
    """An anomaly map in colours, `low` dark and `high` bright."""
    from matplotlib import colormaps

    level = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros(values.shape)
    return picture(np.ascontiguousarray(colormaps[COLOURMAP](level, bytes=True)[..., :3]))


def _drawn(row: CatalogRow) -> Any:
    image, mask = read_pair(row)
    return picture(image, mask, row.defect)
