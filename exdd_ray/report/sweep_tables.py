"""The sentences and tables of a sweep's report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exdd_ray.metrics.metric import MISSING, Metric
from exdd_ray.metrics.seeds import CONFIDENCE
from exdd_ray.metrics.table import known_metric
from exdd_ray.report.numbers import Flag, count_of, is_leakage
from exdd_ray.report.sweep_data import Point, SweepFolder, Value, number_of, setting_of

_SAID = {
    "one run": "from one run: how much of it is noise is unknown",
    "the same": "the same in every run",
    "within noise": "within noise: seeds and test images do not tell the two apart",
    "perhaps better": "perhaps better: clear by itself, but not as one of so many comparisons",
    "perhaps worse": "perhaps worse: clear by itself, but not as one of so many comparisons",
    "better on one seed": "better, beyond the test images' noise; with one seed, that of training is unknown",
    "worse on one seed": "worse, beyond the test images' noise; with one seed, that of training is unknown",
    "better on these images": "better, beyond the seeds' noise; how much other test images would change is unknown",
    "worse on these images": "worse, beyond the seeds' noise; how much other test images would change is unknown",
    "better": "better, by more than noise",
    "worse": "worse, by more than noise",
    "less": "less of it, which is a saving",
    "more": "more of it, which is a cost",
}
_LIMITED = {"seeds": " on one seed", "images": " on these images"}  # by the noise that was not measured
NARROW = 0.01  # columns of shares that differ by less are not coloured in full


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it sorts by, a second line, and how that is meant: better, worse, or neither."""

    text: str
    sort: str
    below: str = ""
    verdict: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Verdict:
    """What was chosen, against what, and the judgement in words; `meaning` as in a cell."""

    chosen: str
    against: str = ""
    words: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Heat:
    """A metric of every point in every category: rows of (point, cells), a cell a text and a colour in percent."""

    metric: Metric
    rows: tuple[tuple[Point, tuple[tuple[str, int], ...]], ...]


@dataclass(frozen=True)
class Stage:
    """A stage of the plan: artifacts asked for, different ones, those that the store had, and the seconds spent."""

    name: str
    what: str
    uses: int
    distinct: int
    in_store: int
    seconds: float | None

    @property
    def computed(self) -> int:
        """Those that were not in the store."""
        return self.distinct - self.in_store


def headline(sweep: SweepFolder) -> str:
    """What was swept, on what, with how many trials and seeds."""
    varied = [
        f"{sweep.title(key)} ({count_of(len({setting_of(point, key) for point in sweep.points}), 'value', 'values')})"
        for key in sweep.keys
    ]
    seeds = len({row["seed"] for row in sweep.rows})
    places = list(dict.fromkeys((row["dataset"], row["category"]) for row in sweep.rows))
    datasets = list(dict.fromkeys(dataset for dataset, _ in places))
    categories = f" ({count_of(len(places), 'category', 'categories')})" if len(places) > len(datasets) else ""
    points = count_of(len(sweep.points), "point", "points")
    swept = f" of {' × '.join(varied)}" if varied else ""
    each = f", each with {count_of(seeds, 'seed', 'seeds')}," if seeds > 1 else ""
    where = f" on {' and '.join(datasets)}{categories}" if datasets else ""
    return f"{points}{swept}{each}{where}: {count_of(sweep.summary['trials'], 'trial', 'trials')}."


def verdict(sweep: SweepFolder) -> Verdict:
    """What was chosen and how good it is on the test images, and how it compares with the baseline."""
    metric, chosen, baseline = known_metric(sweep.config.objectives[0]), sweep.chosen, sweep.baseline
    images = "" if metric.level == "cost" else f" on the {sweep.config.select} images"
    if chosen is None:
        done = any(point.runs for point in sweep.points)
        why = f"no point has {metric.title}{images} from all of its trials" if done else "every trial failed"
        return Verdict(f"No point could be chosen: {why}.")
    tested = "" if metric.level == "cost" else " on the test images"
    first = f"{metric.title} {_with_interval(sweep, chosen, metric)}{tested}. Chosen as the best{images}{_ties(sweep)}."
    if baseline is None or baseline.name == chosen.name:
        return Verdict(first, "It is the baseline itself." if len(sweep.points) > 1 else "")
    against = f"Against the baseline “{baseline.name}” ({_with_interval(sweep, baseline, metric)})"
    value = chosen.values.get(metric.key)
    if value is None or value.difference is None:
        return Verdict(first, f"{against}: no run to compare with it.")
    apart = f"{difference_text(value, metric)}{' points' if metric.percent else ''}"
    words, meaning = _judged(value, metric)
    return Verdict(first, f"{against}: {apart},", _SAID[words], meaning)


def _ties(sweep: SweepFolder) -> str:
    """How many complete points are exactly as good as the chosen one."""
    judged, chosen = sweep.objectives()[0], sweep.chosen
    assert chosen is not None
    equal = sum(point.mean(judged) == chosen.mean(judged) and not point.failed for point in sweep.points) - 1
    return f", the first of {equal + 1} that are equally good" if equal else ""


def _with_interval(sweep: SweepFolder, point: Point, metric: Metric) -> str:
    """Mean ± half; with a single run its bootstrap interval, where it has one."""
    value = point.values.get(metric.key)
    if value is None:
        return "not measured"
    unit = " %" if metric.percent else ""
    if value.half is not None:
        return f"{metric.text(value.mean)} ± {metric.text(value.half)}{unit}"
    rows = sweep.done(point)
    low, high = (rows[0].get(f"{metric.key}_{end}") if len(rows) == 1 else None for end in ("low", "high"))
    interval = (
        "" if low is None or high is None else f" ({metric.text(low)} – {metric.text(high)} over resampled images)"
    )
    return f"{metric.text(value.mean)}{unit}{interval}"


def difference_text(value: Value, metric: Metric) -> str:
    """The difference from the baseline, signed, with its half width where that is known."""
    assert value.difference is not None
    sign = "+" if value.difference >= 0 else "−"
    return f"{sign}{metric.text(abs(value.difference))}{_half_text(value.difference_half, metric)}"


def _half_text(half: float | None, metric: Metric) -> str:
    """A half width behind its mean; counts that are the same in all runs have none."""
    return "" if half is None or (not half and not metric.percent) else f" ± {metric.text(half)}"


def metric_cell(point: Point, metric: Metric) -> Cell:
    """Mean ± half of a metric, and under it the difference from the baseline in numbers and words."""
    value = point.values.get(metric.key)
    if value is None:
        return Cell(MISSING, "")
    text = metric.text(value.mean) + _half_text(value.half, metric)
    if value.difference is None or point.baseline:
        return Cell(text, repr(value.mean))
    words, meaning = _judged(value, metric)
    return Cell(text, repr(value.mean), difference_text(value, metric), words, meaning)


def _judged(value: Value, metric: Metric) -> tuple[str, str]:
    """A difference in words, and whether they mean right or wrong: where all noise was measured, and Holm corrected."""
    cost = metric.level == "cost"
    if value.difference == 0 and (cost or value.difference_half == 0):
        return "the same", ""
    if cost and not value.difference_half and value.difference:  # a count, as it is in every run
        return ("less" if value.difference < 0 else "more"), ""
    if value.difference is None or value.difference_half is None or value.p is None:
        return "one run", ""
    if abs(value.difference) <= value.difference_half:
        return "within noise", ""
    if cost:
        return ("less" if value.difference < 0 else "more"), ""
    word = "better" if (value.difference < 0) == metric.less else "worse"
    if value.p >= 1 - CONFIDENCE:
        return f"perhaps {word}", ""
    if value.unmeasured is not None:
        return f"{word}{_LIMITED[value.unmeasured]}", ""
    return word, "right" if word == "better" else "wrong"


def setting_cell(point: Point, key: str) -> Cell:
    """A setting; numbers sort as such."""
    number = number_of(point.settings.get(key))
    text = setting_of(point, key)
    return Cell(text, ("" if text == MISSING else text) if number is None else repr(number))


def ranked(sweep: SweepFolder) -> list[Point]:
    """The points, the best by the first objective first, those without it last."""
    metric = sweep.objectives()[0]

    def rank(point: Point) -> tuple[bool, float]:
        mean = point.mean(metric)
        return mean is None, 0.0 if mean is None else mean if metric.less else -mean

    return sorted(sweep.points, key=rank)


def flags(sweep: SweepFolder) -> tuple[Flag, ...]:
    """Every remark of a trial with the number of points that it is about, leakage first."""
    found = [Flag(remark, _where(sweep, remark), is_leakage(remark)) for remark in sweep.summary["remarks"]]
    return tuple(sorted(found, key=lambda flag: not flag.leakage))


def _where(sweep: SweepFolder, remark: str) -> str:
    named = [row for row in sweep.rows if remark in (row["remarks"] or "").splitlines()]
    points, everything = len({row["name"] for row in named}), len(sweep.points)
    return "" if points in (0, everything) else f"{points} of {everything} points"


def heats(sweep: SweepFolder) -> tuple[tuple[str, ...], tuple[Heat, ...]]:
    """Titles of the categories, and a table a metric, in the points' ranked order; empty with one category."""
    places = list(dict.fromkeys((row["dataset"], row["category"]) for row in sweep.rows))
    if len(places) < 2:
        return (), ()
    several = len({dataset for dataset, _ in places}) > 1
    titles = tuple(f"{dataset} / {category}" if several else category for dataset, category in places)
    return titles, tuple(_heat(sweep, metric, places) for metric in sweep.metrics())


def _heat(sweep: SweepFolder, metric: Metric, places: Sequence[tuple[str, str]]) -> Heat:
    points = ranked(sweep)
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in sweep.rows:
        if row["state"] == "done" and row.get(metric.key) is not None:
            values.setdefault((row["name"], row["dataset"], row["category"]), []).append(row[metric.key])
    means = {at: sum(found) / len(found) for at, found in values.items()}
    columns = [[means.get((point.name, *place)) for point in points] for place in places]
    shades = [_shades(column, metric) for column in columns]
    return Heat(
        metric,
        tuple(
            (point, tuple((metric.text(column[i]), shade[i]) for column, shade in zip(columns, shades, strict=True)))
            for i, point in enumerate(points)
        ),
    )


def _shades(column: Sequence[float | None], metric: Metric) -> list[int]:
    """Percent of the colour: 100 the best of the column, 0 the worst, and what is missing."""
    known = [value for value in column if value is not None]
    if not known:
        return [0] * len(column)
    worst, best = (max(known), min(known)) if metric.less else (min(known), max(known))
    reach = max(abs(best - worst), NARROW if metric.percent else 1e-9)
    return [0 if value is None else round(100 * (1 - abs(best - value) / reach)) for value in column]


def stages(plan: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a plan, in its order."""
    names = ("what", "uses", "distinct", "in_store", "seconds")
    return tuple(Stage(entry["stage"], **{name: entry[name] for name in names}) for entry in plan["stages"])


def sharing(plan: Mapping[str, Any]) -> str:
    """How much of what the trials asked for was computed, of the stage that was asked for most."""
    asked = max(stages(plan), key=lambda stage: stage.uses, default=None)
    trials = count_of(plan["trials"], "trial", "trials")
    if asked is None:
        return f"{trials}; the plan names no stage."
    had = f", {asked.in_store:,} were in the store before" if asked.in_store else ""
    computed = f"{asked.computed:,} {'was' if asked.computed == 1 else 'were'} computed"
    return f"{asked.name.capitalize()}: {trials} asked for {asked.uses:,} {asked.what}; {computed}{had}."
