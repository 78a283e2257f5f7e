"""The page: gathers tables, curves, gallery and configs of a run, and renders them into one HTML file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from exdd_ray.errors import DataError, UserError
from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.experiment.sweep_results import REPORT
from exdd_ray.report.charts import Histogram, Plot, histogram, image_plots, pixel_plots
from exdd_ray.report.environment import page_environment, versions
from exdd_ray.report.gallery import Gallery, make_gallery
from exdd_ray.report.numbers import (
    DECIMALS,
    Errors,
    Group,
    Summary,
    best_of,
    columns,
    count_of,
    errors,
    first_seed,
    flags,
    group_by_category,
    images_tested,
    span,
    strongest,
    summarize,
)
from exdd_ray.report.published import NOTE, published_row
from exdd_ray.report.sweep_data import SweepFolder, read_sweep, read_trials
from exdd_ray.report.sweep_tables import metric_cell
from exdd_ray.report.synthetic import ROOM, synthetic_sets

MAX_CURVES = 14  # colours and dashes that can be told apart
MAX_GALLERIES = 4


@dataclass(frozen=True)
class Charts:
    """The figures of one category; `errors` are of (trial position, name, counts)."""

    image: tuple[Plot, ...]
    pixel: tuple[Plot, ...]
    histograms: tuple[Histogram, ...]
    errors: tuple[tuple[int, str, Errors], ...]


def write_run_report(folder: Path) -> None:
    """Write `report.html` into the folder of a run's results: one file that needs no other and no network.

    Raises:
        ConfigError: the folder holds no run's results.
        DataError: all trials failed.
        ArtifactError: a file is damaged, or the store no longer has a trial or a synthetic sample with its mask.
        ImageError: a synthetic sample or its background cannot be read any more.
        UserError: the folder cannot be written.
    """
    run = read_sweep(folder)
    done = [row for row in run.rows if row["state"] == "done"]
    if not done:
        raise DataError(f"{folder}: no result to report")
    text = render_report(run, read_trials(run, done))
    try:
        (folder / REPORT).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder / REPORT}: cannot write the report: {error.strerror}") from error


def render_report(run: SweepFolder, results: Sequence[StoredResult]) -> str:
    """The HTML of a run's results, of all trials that are done."""
    environment = page_environment()
    environment.filters |= {"share": lambda value: f"{value:.{DECIMALS}f}", "span": span}
    summaries, groups = summarize(results), group_by_category(results)
    normal, defective = images_tested(results)
    return environment.get_template("report.html.jinja").render(
        run=run,
        overrides=run.overrides,
        compared=[point for point in run.points if point.values],
        failures=Counter(row["error"] for row in run.rows if row["state"] != "done"),
        metric_cell=metric_cell,
        published_rows=[published_row(one) for one in run.published],
        published_note=NOTE,
        headline=headline(summaries, groups, (normal, defective)),
        written=datetime.now().astimezone(),
        versions=versions(),
        flags=flags(results),
        metrics=columns(summaries),
        summaries=summaries,
        best=best_of(summaries),
        results=results,
        groups=groups,
        drawn=strongest(summaries, MAX_CURVES, always=(0, -1)),
        charts=[_charts(group, summaries) for group in groups],
        gallery=_gallery(groups, summaries),
        synthetic=synthetic_sets(groups),
        room=ROOM,
        seed=summaries[0].seeds[0],
        configs=[(summary, _config_yaml(summary)) for summary in summaries],
    )


def headline(summaries: Sequence[Summary], groups: Sequence[Group], tested: tuple[str, str]) -> str:
    """One sentence: what was compared, on what, tested on how many images."""
    datasets = dict.fromkeys(result.trial.config.dataset.name for group in groups for result in group.results)
    seeds = sorted({seed for summary in summaries for seed in summary.seeds})
    trials = count_of(len(summaries), "trial", "trials")
    repeated = f", each with {len(seeds)} seeds," if len(seeds) > 1 else ""
    categories = f" ({count_of(len(groups), 'category', 'categories')})" if len(groups) > 1 else ""
    where = f"{' and '.join(datasets)}{categories}"
    if tested == ("0", "0"):
        return f"{trials}{repeated} on {where}: scores of images without labels."
    return f"{trials}{repeated} on {where}, tested on {tested[0]} normal and {tested[1]} defective images."


def _charts(group: Group, summaries: Sequence[Summary]) -> Charts:
    drawn = strongest(summaries, MAX_CURVES, always=(0, -1))
    results = _numbered(group, summaries, drawn)
    return Charts(
        image=image_plots(results),
        pixel=pixel_plots(results),
        histograms=tuple(histogram(*numbered) for numbered in results),
        errors=tuple(
            (trial, result.trial.name, errors(result, result.detection.threshold))
            for trial, result in results
            if result.detection
        ),
    )


def _gallery(groups: Sequence[Group], summaries: Sequence[Summary]) -> Gallery:
    shown = strongest(summaries, MAX_GALLERIES, always=(0, -1))
    return make_gallery(
        [
            (trial, number, result)
            for number, group in enumerate(groups)
            for trial, result in _numbered(group, summaries, shown)
        ]
    )


def _numbered(group: Group, summaries: Sequence[Summary], wanted: Sequence[int]) -> list[tuple[int, StoredResult]]:
    """The first seed's results of a group with their trials' positions, for the positions wanted."""
    position = {summary.name: number for number, summary in enumerate(summaries)}
    numbered = [(position[result.trial.name], result) for result in first_seed(group.results)]
    return sorted(((trial, result) for trial, result in numbered if trial in wanted), key=lambda pair: pair[0])


def _config_yaml(summary: Summary) -> str:
    return str(yaml.safe_dump(summary.results[0].trial.config.model_dump(mode="json"), sort_keys=False))
