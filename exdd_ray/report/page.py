"""The page: gathers tables, curves, gallery and configs of a run, and renders them into one HTML file."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import yaml

from exdd_ray import __version__
from exdd_ray.errors import DataError
from exdd_ray.experiment.config import RunConfig
from exdd_ray.experiment.result import TrialResult
from exdd_ray.report.charts import Histogram, Plot, histogram, image_plots, pixel_plots
from exdd_ray.report.environment import page_environment
from exdd_ray.report.gallery import Gallery, make_gallery
from exdd_ray.report.synthetic import ROOM, synthetic_sets
from exdd_ray.report.tables import (
    DECIMALS,
    Errors,
    Group,
    Summary,
    best_of,
    columns,
    errors,
    first_seed,
    flags,
    group_by_category,
    images_tested,
    span,
    strongest,
    summarize,
)

MAX_CURVES = 14  # colours and dashes that can be told apart
MAX_GALLERIES = 4


@dataclass(frozen=True)
class Charts:
    """The figures of one category; `errors` are of (trial position, name, counts)."""

    image: tuple[Plot, ...]
    pixel: tuple[Plot, ...]
    histograms: tuple[Histogram, ...]
    errors: tuple[tuple[int, str, Errors], ...]


def write_report(path: Path, run: RunConfig, results: Sequence[TrialResult], overrides: Sequence[str] = ()) -> None:
    """Write one HTML file that needs no other file and no network; the overrides tell it from its namesakes.

    Raises:
        DataError: no result.
        ImageError: an image that is shown cannot be read any more.
        ArtifactError: a synthetic sample without a mask.
    """
    if not results:
        raise DataError("no result to report")
    path.write_text(render_report(run, results, overrides), encoding="utf-8")


def render_report(run: RunConfig, results: Sequence[TrialResult], overrides: Sequence[str] = ()) -> str:
    """The HTML of a run's results."""
    environment = page_environment()
    environment.filters |= {"share": lambda value: f"{value:.{DECIMALS}f}", "span": span}
    summaries, groups = summarize(results), group_by_category(results)
    normal, defective = images_tested(results)
    return environment.get_template("report.html.jinja").render(
        run=run,
        overrides=overrides,
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


def count_of(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many}"


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


def _numbered(group: Group, summaries: Sequence[Summary], wanted: Sequence[int]) -> list[tuple[int, TrialResult]]:
    """The first seed's results of a group with their trials' positions, for the positions wanted."""
    position = {summary.name: number for number, summary in enumerate(summaries)}
    numbered = [(position[result.trial.name], result) for result in first_seed(group.results)]
    return sorted(((trial, result) for trial, result in numbered if trial in wanted), key=lambda pair: pair[0])


def _config_yaml(summary: Summary) -> str:
    return str(yaml.safe_dump(summary.results[0].trial.config.model_dump(mode="json"), sort_keys=False))


def versions() -> str:
    """Of what computed the results."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn"))
    return f"exdd_ray {__version__}, Python {platform.python_version()}, {packages}"
