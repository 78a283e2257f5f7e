"""The numbers of a report: metrics aggregated over categories and seeds, counts, and what to warn a reader of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.metrics.bootstrap import Interval
from exdd_ray.metrics.difference import Measured, Run, difference, holm
from exdd_ray.metrics.influence import Scored
from exdd_ray.metrics.metric import Metric
from exdd_ray.metrics.table import COMPARED, METRICS, influence_on

DECIMALS = 3
_NAMED = 4  # trials or categories of a flag


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and their sample standard deviation; None for a single seed."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Summary:
    """All results of one trial name.

    Attributes:
        name: of the trial.
        results: over categories and seeds.
        seeds: in ascending order.
        metrics: those compared, by key; None where no result has the metric.
        intervals: 95 % bootstrap intervals by key of the metric, where there is a single result.
        leakage: whether a result has such a remark.
    """

    name: str
    results: tuple[StoredResult, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Spread | None]
    intervals: Mapping[str, Interval]
    leakage: bool


@dataclass(frozen=True)
class Flag:
    """A remark and where it applies; `leakage` marks results that are not comparable with clean ones."""

    text: str
    where: str
    leakage: bool


@dataclass(frozen=True)
class Errors:
    """What a result gets wrong at the F1-max threshold: missed defects and false alarms, of how many."""

    missed: int
    defective: int
    alarms: int
    normal: int


@dataclass(frozen=True)
class Group:
    """The results on one category of one dataset."""

    label: str
    results: tuple[StoredResult, ...]


def spread(values: Sequence[tuple[int, float]]) -> Spread | None:
    """Mean of (seed, value) pairs within each seed, then mean and sample standard deviation over the seeds."""
    if not values:
        return None
    seeds = sorted({seed for seed, _ in values})
    means = [float(np.mean([value for key, value in values if key == seed])) for seed in seeds]
    return Spread(float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else None)


def summarize(results: Sequence[StoredResult]) -> tuple[Summary, ...]:
    """One summary for each trial name, in the order of the results."""
    names = dict.fromkeys(result.trial.name for result in results)
    return tuple(_summary(name, [result for result in results if result.trial.name == name]) for name in names)


def _summary(name: str, results: Sequence[StoredResult]) -> Summary:
    return Summary(
        name=name,
        results=tuple(results),
        seeds=tuple(sorted({result.trial.config.seed for result in results})),
        metrics={metric.key: _metric_spread(metric.key, results) for metric in COMPARED},
        intervals=results[0].image.intervals if len(results) == 1 and results[0].image else {},
        leakage=any(is_leakage(remark) for result in results for remark in result.remarks),
    )


def _metric_spread(metric: str, results: Sequence[StoredResult]) -> Spread | None:
    read = [(result.trial.config.seed, result.metrics[metric]) for result in results]
    return spread([(seed, value) for seed, value in read if value is not None])


def columns(summaries: Sequence[Summary]) -> tuple[Metric, ...]:
    """The metrics of the tables: those that are shown everywhere, and what else could be measured."""
    return tuple(
        metric
        for metric in COMPARED
        if metric.shown == "everywhere" or any(summary.metrics[metric.key] for summary in summaries)
    )


def best_of(summaries: Sequence[Summary]) -> dict[str, str | None]:
    """For each metric the trial that is better than every other one by more than noise; None where there is none.

    The differences of the best mean from the others are paired over seeds, categories and test images, and corrected
    for being several (Holm).
    """
    return {metric.key: _best(summaries, metric.key) for metric in COMPARED}


def _best(summaries: Sequence[Summary], metric: str) -> str | None:
    known = [(cell.mean, summary) for summary in summaries if (cell := summary.metrics[metric])]
    if len(summaries) < 2 or len(known) < len(summaries):
        return None
    best = (min if METRICS[metric].less else max)(known, key=lambda pair: pair[0])[1]
    mine = measured(best.results, metric)
    others = [measured(summary.results, metric) for summary in summaries if summary is not best]
    if any(not mine.keys() & other.keys() for other in others):
        return None  # tested on other images
    apart = holm([difference(mine, other, of_images=True) for other in others])
    return None if any(one.within_noise for one in apart) else best.name


def measured(results: Sequence[StoredResult], metric: str) -> dict[Run, Measured]:
    """A metric of each seed and category that has it."""
    found = {}
    for result in results:
        value = result.metrics[metric]
        if value is not None:
            images = Scored(result.contents, np.array([row.label for row in result.rows]), result.scores)
            run = Run(result.trial.config.seed, result.place, images.key)
            found[run] = Measured(value, influence_on(metric, images))
    return found


def strongest(summaries: Sequence[Summary], count: int, always: Sequence[int]) -> tuple[int, ...]:
    """Positions of at most `count` summaries, in order: those of `always` and the ones with the best image AUROC."""
    by_auroc = sorted(range(len(summaries)), key=lambda i: -_image_auroc(summaries[i]))
    wanted = dict.fromkeys([*(range(len(summaries))[i] for i in always), *by_auroc])
    return tuple(sorted(list(wanted)[:count]))


def _image_auroc(summary: Summary) -> float:
    cell = summary.metrics["image_auroc"]
    return -1.0 if cell is None else cell.mean


def count_of(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many}"


def span(values: Sequence[int]) -> str:
    """`5,976`, or `1,184–1,254` where the values differ."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def group_by_category(results: Sequence[StoredResult]) -> tuple[Group, ...]:
    """Results by dataset and category, in order; the label names the dataset where there are several."""
    keys = list(dict.fromkeys(_category_key(result) for result in results))
    several = len({dataset for dataset, _ in keys}) > 1
    return tuple(
        Group(
            f"{dataset} / {category}" if several else category,
            tuple(result for result in results if _category_key(result) == (dataset, category)),
        )
        for dataset, category in keys
    )


def _category_key(result: StoredResult) -> tuple[str, str]:
    return result.dataset, result.category


def first_seed(results: Sequence[StoredResult]) -> tuple[StoredResult, ...]:
    """The result of each trial name's lowest seed, in order of the names."""
    chosen: dict[str, StoredResult] = {}
    for result in results:
        before = chosen.get(result.trial.name)
        if before is None or result.trial.config.seed < before.trial.config.seed:
            chosen[result.trial.name] = result
    return tuple(chosen.values())


def errors(result: StoredResult, threshold: float) -> Errors:
    """Missed defects (scores below the threshold) and false alarms (normal images at or above it)."""
    above = result.scores >= threshold
    defective = np.array([row.label for row in result.rows]) == 1
    return Errors(
        missed=int((defective & ~above).sum()),
        defective=int(defective.sum()),
        alarms=int((~defective & above).sum()),
        normal=int((~defective).sum()),
    )


def images_tested(results: Sequence[StoredResult]) -> tuple[str, str]:
    """Normal and defective test images, summed over categories; a range where they differ between trials."""
    runs: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for result in results:
        runs.setdefault((result.trial.name, result.trial.config.seed), []).append(result.test)
    normal, defective = zip(*(map(sum, zip(*counts, strict=True)) for counts in runs.values()), strict=True)
    return span(normal), span(defective)


def flags(results: Sequence[StoredResult]) -> tuple[Flag, ...]:
    """Every distinct remark with the trials and categories that it is about, leakage first."""
    remarks = dict.fromkeys(remark for result in results for remark in result.remarks)
    found = [_flag(remark, results) for remark in remarks]
    return tuple(sorted(found, key=lambda flag: not flag.leakage))


def _flag(remark: str, results: Sequence[StoredResult]) -> Flag:
    inside = [result for result in results if remark in result.remarks]
    names = _which([result.trial.name for result in inside], [result.trial.name for result in results], "trials")
    categories = _which([result.category for result in inside], [result.category for result in results], "categories")
    return Flag(remark, "; ".join(filter(None, [names, categories])), is_leakage(remark))


def is_leakage(remark: str) -> bool:
    """Whether a remark says that the test images were not kept apart."""
    return remark.lower().startswith("leakage")


def _which(members: Sequence[str], everything: Sequence[str], noun: str) -> str:
    """The distinct members by name, or how many where that is a long list; empty where they are everything there is."""
    chosen, known = dict.fromkeys(members), set(everything)
    if chosen.keys() == known:
        return ""
    return ", ".join(chosen) if len(chosen) <= _NAMED else f"{len(chosen)} of {len(known)} {noun}"
