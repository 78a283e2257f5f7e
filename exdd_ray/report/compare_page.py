"""Several finished runs on one page: what differs in their configs, their metrics, and which differences are noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from exdd_ray.errors import UserError
from exdd_ray.experiment.beside import Beside
from exdd_ray.metrics.difference import Difference, difference, holm
from exdd_ray.metrics.metric import MISSING, Metric
from exdd_ray.metrics.seeds import mean_by_seed, mean_of
from exdd_ray.metrics.table import COMPARED
from exdd_ray.report.environment import page_environment, versions
from exdd_ray.report.numbers import Flag, is_leakage
from exdd_ray.report.published import NOTE, published_row
from exdd_ray.report.run_folder import Entry, read_runs
from exdd_ray.report.sweep_data import Point, Value, setting_text
from exdd_ray.report.sweep_tables import metric_cell

_UNSAID = frozenset({"name", "seed"})  # of an experiment: the table says them


@dataclass(frozen=True)
class Comparison:
    """Trials beside the first of them.

    Attributes:
        keys: dotted keys that differ, each with its value in every trial, on one line.
        points: the trials, with metrics and differences from the first.
        images: for each trial, on which images it was tested.
        flags: remarks, and the trials that they are about.
    """

    entries: tuple[Entry, ...]
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    metrics: tuple[Metric, ...]
    points: tuple[Point, ...]
    images: tuple[str, ...]
    flags: tuple[Flag, ...]

    @property
    def published(self) -> tuple[Beside, ...]:
        """Published figures beside the trials."""
        return tuple(one for entry in self.entries for one in entry.published)


def write_comparison(path: Path, folders: Sequence[Path]) -> Comparison:
    """Write one HTML file on runs, from their folders alone.

    Raises:
        ConfigError: a folder is no run's.
        ArtifactError: a file of a run is damaged.
        UserError: the page cannot be written.
    """
    found = compare(read_runs(folders))
    text = (
        page_environment()
        .get_template("compare.html.jinja")
        .render(
            found=found,
            interval=interval_text,
            metric_cell=metric_cell,
            published_rows=[published_row(one) for one in found.published],
            published_note=NOTE,
            several=len(found.entries) > 1,
            many_seeds=any(len(entry.seeds) > 1 for entry in found.entries),
            written=datetime.now().astimezone(),
            versions=versions(),
        )
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot write the page: {error.strerror}") from error
    return found


def compare(entries: Sequence[Entry]) -> Comparison:
    """Trials beside the first of them; differences are corrected for being several (Holm)."""
    rows = [row for entry in entries for row in entry.rows]
    metrics = [metric for metric in COMPARED if any(row.get(metric.key) is not None for row in rows)]
    values: list[dict[str, Value]] = [{} for _ in entries]
    for metric in metrics:
        for own, value in zip(values, _values(entries, metric.key), strict=True):
            if value is not None:
                own[metric.key] = value
    points = [
        Point(number, entry.name, {}, len(entry.rows), 0, number == 0, False, False, own)
        for number, (entry, own) in enumerate(zip(entries, values, strict=True))
    ]
    return Comparison(
        tuple(entries),
        _differing(entries),
        tuple(metrics),
        tuple(points),
        tuple(_images(entry, entries[0]) for entry in entries),
        _flags(entries),
    )


def interval_text(entry: Entry, metric: Metric) -> str:
    """The 95 % bootstrap interval over the test images of a metric of one result, where the run has it."""
    ends = [entry.rows[0].get(f"{metric.key}_{end}") for end in ("low", "high")] if len(entry.rows) == 1 else [None]
    return "" if None in ends else " – ".join(map(metric.text, ends))


def _values(entries: Sequence[Entry], metric: str) -> list[Value | None]:
    found = [entry.measured(metric) for entry in entries]
    tested: dict[int, Difference] = {}
    places = entries[0].categories  # what a category is called may differ; seeds may share some of its images
    for number, mine in enumerate(found[1:], start=1):
        if common := [run for run in mine if run in found[0]]:
            pair = ({run._replace(place=places[run.tested]): one[run] for run in common} for one in (mine, found[0]))
            tested[number] = difference(*pair, of_images=True)
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    means = [
        mean_of(np.array(list(mean_by_seed({(run.seed, run.place): one.value for run, one in mine.items()}).values())))
        if mine
        else None
        for mine in found
    ]
    return [
        None
        if mean is None
        else Value(mean.value, mean.half, *(_apart(corrected[number]) if number in corrected else ()))
        for number, mean in enumerate(means)
    ]


def _apart(one: Difference) -> tuple[float, float | None, float | None, bool, str | None]:
    return one.mean.value, one.mean.half, one.p, one.within_noise, one.unmeasured


def _differing(entries: Sequence[Entry]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    keys = dict.fromkeys(key for entry in entries for key in entry.config if key not in _UNSAID)
    shown = {key: tuple(setting_text(e.config[key]) if key in e.config else MISSING for e in entries) for key in keys}
    return tuple((key, values) for key, values in shown.items() if len(set(values)) > 1)


def _images(entry: Entry, first: Entry) -> str:
    """On which images a trial was tested, and whether the first one was tested on them too."""
    seeds = f"seed{'s' if len(entry.seeds) > 1 else ''} {', '.join(map(str, entry.seeds))}"
    own = f"{_counted(entry)}, {seeds}"
    if entry is first:
        return own
    mine, theirs = entry.contents, first.contents
    if not entry.runs & first.runs:
        under = "labels" if set(entry.seeds) & set(first.seeds) else "seeds"
        same = (
            f"the same as the first's, but under other {under}"
            if mine == theirs
            else f"{len(mine & theirs):,} of the first's {len(theirs):,}"
        )
        return f"{own}; {same}: not tested"
    return f"{own}; the same as the first's" + (
        "" if mine == theirs else ", where a seed has the same: the others are left out"
    )


def _counted(entry: Entry) -> str:
    normal, defects = entry.tested
    if not normal and not defects:
        return f"{len(entry.contents):,} unlabelled"
    return f"{normal:,} normal, {defects:,} defective"


def _flags(entries: Sequence[Entry]) -> tuple[Flag, ...]:
    about: dict[str, dict[str, None]] = {}
    for entry in entries:
        for row in entry.rows:
            for remark in row["remarks"].splitlines():
                about.setdefault(remark, {})[entry.name] = None
    flags = [
        Flag(remark, "" if len(names) == len(entries) else ", ".join(names), is_leakage(remark))
        for remark, names in about.items()
    ]
    return tuple(sorted(flags, key=lambda flag: not flag.leakage))
