"""A team's W&B workspace for a sweep, as code: objectives by setting, parallel coordinates, the table of runs."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.extras import require
from exdd_ray.metrics.metric import Metric
from exdd_ray.tracking.tracked import Scalar, TrackedSweep, tracked_sweep

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

_COLUMNS = 3


def save_dashboard(folder: Path, project: str | None = None) -> str:
    """Save the workspace of a sweep's folder; the project is that of its `tracking.wandb` where none is given.

    Returns:
        Its address.

    Raises:
        ConfigError: no project, no WANDB_API_KEY, or wandb-workspaces is not installed.
        UserError: the server does not answer or refuses it.
    """
    sweep = tracked_sweep(folder)
    project = project or sweep.results.config.tracking.wandb
    if project is None:
        raise ConfigError("a dashboard is in a W&B project: say which (--project, or tracking.wandb in sweep.yaml)")
    if not os.environ.get("WANDB_API_KEY"):
        raise ConfigError("a dashboard is saved on W&B's server, and so needs WANDB_API_KEY")
    require("wandb_workspaces", "a dashboard")
    import wandb

    try:
        wandb.login(prompt=False, verify=True)
        entity = os.environ.get("WANDB_ENTITY") or str(wandb.Api().default_entity)
        return str(build_dashboard(sweep, entity, project).save().url)
    except wandb.errors.Error as error:
        raise UserError(f"wandb: {' '.join(str(error).split())}") from error


def build_dashboard(sweep: TrackedSweep, entity: str, project: str) -> "Workspace":
    """The workspace, without any network: runs of the sweep's group, the best first."""
    require("wandb_workspaces", "a dashboard")
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    objectives, settings = sweep.results.objectives(), sweep.settings
    tables = [wr.WeavePanelSummaryTable(table_name=name) for name in ("summary", "categories", "mistakes")]
    sections = [
        ws.Section(name="All settings", panels=[_parallel(objectives, settings)], is_open=True),
        *(_by_setting(objective, settings) for objective in objectives),
        ws.Section(name="Tables", panels=tables, is_open=True),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Sweep {_without_symbols(sweep.name)}",
        sections=sections,
        runset_settings=_runs(sweep.name, objectives, list(settings)),
    )


def _without_symbols(text: str) -> str:
    """The library takes them all, `=` too, for emojis, which it refuses."""
    return "".join("-" if unicodedata.category(sign).startswith("S") else sign for sign in text)


def _by_setting(objective: Metric, settings: dict[str, list[Scalar]]) -> Any:
    """A plot of the objective against each setting: points over numbers, bars of means over anything else."""
    import wandb_workspaces.workspaces as ws

    panels = [_plot(objective, key, values) for key, values in settings.items()]
    layout = ws.SectionLayoutSettings(columns=min(_COLUMNS, max(1, len(panels))))
    return ws.Section(name=objective.title, panels=panels, is_open=True, layout_settings=layout)


def _plot(objective: Metric, key: str, values: list[Scalar]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    title = f"{objective.title} by {key}"
    if _are_numbers(values):
        return wr.ScatterPlot(title=title, x=_setting(key), y=wr.SummaryMetric(objective.key))
    return wr.BarPlot(title=title, metrics=[objective.key], groupby=_setting(key), groupby_aggfunc="mean")


def _are_numbers(values: list[Scalar]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _setting(key: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.Config(f"settings.{key}")


def _parallel(objectives: Sequence[Metric], settings: dict[str, list[Scalar]]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    by_setting = [wr.ParallelCoordinatesPlotColumn(metric=_setting(key), display_name=key) for key in settings]
    measured = [
        wr.ParallelCoordinatesPlotColumn(
            metric=wr.SummaryMetric(objective.key), display_name=objective.title, inverted=objective.less
        )
        for objective in objectives
    ]
    return wr.ParallelCoordinatesPlot(title="settings and objectives", columns=[*by_setting, *measured])


def _runs(group: str, objectives: Sequence[Metric], settings: list[str]) -> Any:
    """The table of runs: those of the group, in the order of the first objective."""
    import wandb_workspaces.workspaces as ws

    columns = [f"summary:{objective.key}" for objective in objectives]
    columns += [f"config:settings.value.{key}" for key in settings]
    best_first = ws.Ordering(ws.Summary(objectives[0].key), ascending=objectives[0].less)
    # The library writes and reads filters as text, and takes quotation marks and signs in a name for those of a filter.
    name = "".join(sign if sign.isalnum() else f"\\U{ord(sign):08x}" for sign in group)
    return ws.RunsetSettings(filters=f"Metric('Group') == '{name}'", order=[best_first], pinned_columns=columns)
