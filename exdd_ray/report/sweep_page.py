"""The page of a sweep: written from its results' folder, and from the store for pictures; one file, no network."""

from datetime import datetime
from pathlib import Path

import yaml

from exdd_ray.errors import ArtifactError, UserError
from exdd_ray.experiment.sweep_results import REPORT, RESOLVED
from exdd_ray.metrics.table import known_metric
from exdd_ray.report.environment import page_environment, versions
from exdd_ray.report.published import NOTE, published_row
from exdd_ray.report.sweep_charts import curves, pareto_figures
from exdd_ray.report.sweep_data import SweepFolder, read_sweep
from exdd_ray.report.sweep_gallery import mistakes
from exdd_ray.report.sweep_parallel import BOTTOM, TOP, parallel
from exdd_ray.report.sweep_tables import (
    flags,
    headline,
    heats,
    metric_cell,
    ranked,
    setting_cell,
    sharing,
    stages,
    verdict,
)


def write_sweep_report(folder: Path) -> None:
    """Write `report.html` into the folder of a sweep's results.

    Raises:
        ConfigError: the folder holds no sweep's results.
        ArtifactError: one of its files is damaged.
        UserError: the folder cannot be written.
    """
    text = render_sweep_report(read_sweep(folder))
    try:
        (folder / REPORT).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder / REPORT}: cannot write the report: {error.strerror}") from error


def render_sweep_report(sweep: SweepFolder) -> str:
    """The HTML of write_sweep_report."""
    environment = page_environment()
    environment.filters["share"] = known_metric("image_auroc").text  # which the figures of a run know
    categories, heat_tables = heats(sweep)
    validation = [] if sweep.on_test else [metric for metric in sweep.objectives() if metric.level != "cost"]
    return environment.get_template("sweep.html.jinja").render(
        sweep=sweep,
        headline=headline(sweep),
        verdict=verdict(sweep),
        objective=known_metric(sweep.config.objectives[0]),
        written=datetime.now().astimezone(),
        versions=versions(),
        flags=flags(sweep),
        points=ranked(sweep),
        columns=[*validation, *sweep.metrics()],
        metrics=sweep.metrics(),
        metric_cell=metric_cell,
        published_rows=[published_row(one) for one in sweep.published],
        published_note=NOTE,
        setting_cell=setting_cell,
        curves=curves(sweep),
        parallel=parallel(sweep),
        parallel_ends=(TOP, BOTTOM),
        pareto=pareto_figures(sweep),
        categories=categories,
        heats=heat_tables,
        gallery=mistakes(sweep),
        stages=stages(sweep.plan),
        sharing=sharing(sweep.plan),
        config=_chosen_config(sweep),
    )


def _chosen_config(sweep: SweepFolder) -> str:
    """The first config of the chosen point, as YAML; empty where nothing was chosen."""
    if sweep.chosen is None:
        return ""
    path = sweep.folder / RESOLVED
    try:
        with path.open(encoding="utf-8") as file:
            documents = yaml.load_all(file, yaml.CSafeLoader)
            found = next((one for one in documents if one.get("name") == sweep.chosen.name), None)
    except (OSError, yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: damaged ({' '.join(str(error).split())})") from error
    if found is None:
        raise ArtifactError(f"{path}: has no trial {sweep.chosen.name!r}")
    return str(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
