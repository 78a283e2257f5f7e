"""Curves of a sweep's metrics over each swept number, and its objectives against each other."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.metrics.metric import Metric
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.report.charts import Frame, Tick, polyline
from exdd_ray.report.sweep_axes import marks, marks_at, spread_scale, value_scale
from exdd_ray.report.sweep_data import Point, SweepFolder, number_of, numeric_keys, setting_of

MAX_LINES = 8
_LEAST = 0.5  # points of percent that an axis reaches over at least
_LEFT = 50  # of the box, wider than a run's curves need for their marks

Measured = tuple[float, float | None]  # mean and half width of its interval, as shown
Ticks = tuple[tuple[Tick, ...], tuple[Tick, ...]]


@dataclass(frozen=True)
class Dot:
    """A value in a drawing, with what it says of itself; `number` is of its point, None where it is of several."""

    x: float
    y: float
    text: str
    number: int | None = None
    kind: str = ""


@dataclass(frozen=True)
class Series:
    """A line with dots: `band` is its interval as an area, `whiskers` as strokes where it is not known throughout."""

    name: str
    path: str
    band: str
    whiskers: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Figure:
    """Series over the same axes; the note says what the series leave out or average over."""

    metric: Metric
    title: str
    axes: tuple[str, str]
    frame: Frame
    ticks: Ticks
    series: tuple[Series, ...]
    note: str


def curves(sweep: SweepFolder) -> tuple[Figure, ...]:
    """A figure for each swept number and metric that was measured at two of its values."""
    figures = [
        _curve(sweep, key, metric) for metric in sweep.metrics() for key in numeric_keys(sweep.points, sweep.keys)
    ]
    return tuple(figure for figure in figures if figure)


def _curve(sweep: SweepFolder, key: str, metric: Metric) -> Figure | None:
    points = [point for point in sweep.points if number_of(point.settings.get(key)) is not None]
    others = [name for name in sweep.keys if name != key and len({setting_of(point, name) for point in points}) > 1]
    lines, note = _lines(sweep, key, points, others, metric)
    if len({x for line in lines.values() for x, _ in line}) < 2:
        return None
    joined = not note.startswith("Each dot")
    if left_out := len(sweep.points) - len(points):
        note = f"{note} Without the points whose value is no number ({left_out}).".strip()
    return _figure(metric, sweep.title(key), lines, note, joined)


Line = Sequence[tuple[float, Measured]]


def _lines(
    sweep: SweepFolder, key: str, points: Sequence[Point], others: Sequence[str], metric: Metric
) -> tuple[dict[str, Line], str]:
    """A line for each combination of the other keys, or one that averages over them, or mere dots."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        same = json.dumps([point.settings.get(name) for name in others], sort_keys=True)
        groups.setdefault(same, []).append(point)
    values = {_number(point, key) for point in points}
    if len(groups) <= MAX_LINES and len(points) > len(groups):
        named = {_group_name(sweep, group[0], others): group for group in groups.values()}
        return {name: _measured(group, key, metric) for name, group in named.items()}, ""
    titles = ", ".join(map(sweep.title, others))
    if 2 * len(values) <= len(points):
        return {"": _averaged(sweep, key, points, metric)}, f"Averaged over {titles} ({len(groups)} combinations)."
    return {
        "": _measured(points, key, metric)
    }, f"Each dot is a point; {titles} {'varies' if len(others) == 1 else 'vary'} too."


def _number(point: Point, key: str) -> float:
    value = number_of(point.settings[key])
    assert value is not None
    return value


def _group_name(sweep: SweepFolder, point: Point, others: Sequence[str]) -> str:
    return ", ".join(f"{sweep.title(name)} {setting_of(point, name)}" for name in others)


def _measured(points: Sequence[Point], key: str, metric: Metric) -> Line:
    found = [(_number(point, key), point.values[metric.key]) for point in points if metric.key in point.values]
    line = [(x, (value.mean, value.half)) for x, value in found]
    return sorted(line, key=lambda pair: pair[0])


def _averaged(sweep: SweepFolder, key: str, points: Sequence[Point], metric: Metric) -> Line:
    """At each value the mean over points within a seed and category, then its interval over these."""
    value_of = {point.name: _number(point, key) for point in points}
    runs: dict[float, dict[tuple[int, str, str], list[float]]] = {}
    for row in sweep.rows:
        if row["state"] == "done" and row["name"] in value_of and row.get(metric.key) is not None:
            run = (row["seed"], row["dataset"], row["category"])
            runs.setdefault(value_of[row["name"]], {}).setdefault(run, []).append(row[metric.key])
    means = {x: mean_of(np.array([np.mean(found) for found in by_run.values()])) for x, by_run in runs.items()}
    return [(x, (means[x].value, means[x].half)) for x in sorted(means)]


def _figure(metric: Metric, title: str, lines: Mapping[str, Line], note: str, joined: bool) -> Figure:
    shown = {name: [(x, _shown(value, metric)) for x, value in line] for name, line in lines.items()}
    across = [x for line in shown.values() for x, _ in line]
    up = [m + sign * (half or 0) for line in shown.values() for _, (m, half) in line for sign in (-1, 1)]
    x, y = spread_scale(across, 0.04), value_scale(up, _least(metric), _within(metric))
    frame = Frame(x=(x.low, x.high), y=(y.low, y.high), left=_LEFT)
    series = [
        _series(name, x.position([at for at, _ in line]), line, frame, metric, joined) for name, line in shown.items()
    ]
    return Figure(
        metric=metric,
        title=title,
        axes=(title, f"{metric.title}{', %' if metric.percent else ''}"),
        frame=frame,
        ticks=(marks_at(across, x, (frame.left, frame.right)), marks(y, (frame.bottom, frame.top))),
        series=tuple(series),
        note=note,
    )


def _shown(value: Measured, metric: Metric) -> Measured:
    mean, half = value
    return metric.scaled(mean), None if half is None else metric.scaled(half)


def _least(metric: Metric) -> float:
    return _LEAST if metric.percent else 1.0


def _within(metric: Metric) -> tuple[float, float]:
    return (0.0, 100.0 if metric.percent else math.inf)


def _series(name: str, x: np.ndarray, line: Line, frame: Frame, metric: Metric, joined: bool) -> Series:
    mean = np.array([value for _, (value, _) in line])
    halves = [half for _, (_, half) in line]
    known = np.array([half is not None for half in halves], dtype=bool)
    half = np.array([half or 0.0 for half in halves])
    ends = [frame.place(np.stack([x, np.clip(mean + sign * half, *frame.y)], axis=1)) for sign in (-1, 1)]
    at = frame.place(np.stack([x, mean], axis=1))
    banded = joined and len(line) > 1 and bool(known.all())
    strokes = [] if banded else [polyline(np.stack([ends[0][i], ends[1][i]])) for i in np.flatnonzero(known)]
    return Series(
        name=name,
        path=polyline(at) if joined and len(line) > 1 else "",
        band=polyline(np.concatenate([ends[0], ends[1][::-1]]), closed=True) if banded else "",
        whiskers="".join(strokes),
        dots=tuple(
            Dot(round(float(px), 1), round(float(py), 1), _dot_text(name, value, measured, metric))
            for (px, py), (value, measured) in zip(at, line, strict=True)
        ),
    )


def _dot_text(name: str, x: float, measured: Measured, metric: Metric) -> str:
    mean, half = measured
    unit = " %" if metric.percent else ""
    interval = "" if half is None else f" ± {half:.4g}"
    return f"{f'{name}: ' if name else ''}{x:.4g} → {mean:.4g}{interval}{unit}"


def pareto_figures(sweep: SweepFolder) -> tuple[Figure, ...]:
    """Every two objectives against each other, a cost across; members of the front marked."""
    pairs = itertools.combinations(sweep.objectives(), 2)
    figures = [_pareto(sweep, *sorted(pair, key=lambda metric: metric.level != "cost")) for pair in pairs]
    return tuple(figure for figure in figures if figure)


def _pareto(sweep: SweepFolder, across: Metric, up: Metric) -> Figure | None:
    found = [(point, point.mean(across), point.mean(up)) for point in sweep.points]
    places = [(point, across.scaled(x), up.scaled(y)) for point, x, y in found if x is not None and y is not None]
    if not places:
        return None
    x = value_scale([at for _, at, _ in places], _least(across), _within(across))
    y = value_scale([at for _, _, at in places], _least(up), _within(up))
    frame = Frame(x=(x.low, x.high), y=(y.low, y.high), left=_LEFT)
    at = frame.place(np.array([[px, py] for _, px, py in places]))
    dots = [_pareto_dot(point, place, across, up) for (point, *_), place in zip(places, at, strict=True)]
    front = sorted((dot.x, dot.y) for dot, (point, *_) in zip(dots, places, strict=True) if point.pareto)
    whole = len(sweep.objectives()) == 2 and len(front) > 1  # the front of more is no line in two of them
    titles = tuple(f"{metric.title}{', %' if metric.percent else ''}" for metric in (across, up))
    return Figure(
        metric=up,
        title=f"{up.title} against {across.title}",
        axes=(
            f"{titles[0]}{' (less is better)' if across.less else ''}",
            f"{titles[1]}{' (less is better)' if up.less else ''}",
        ),
        frame=frame,
        ticks=(marks(x, (frame.left, frame.right)), marks(y, (frame.bottom, frame.top))),
        series=(Series("", polyline(np.array(front)) if whole else "", "", "", tuple(sorted(dots, key=_rank))),),
        note="",
    )


def _rank(dot: Dot) -> int:
    """Dots that are marked are drawn over the others."""
    return len(dot.kind)


def _pareto_dot(point: Point, place: np.ndarray, across: Metric, up: Metric) -> Dot:
    values = ", ".join(f"{metric.title} {metric.text(point.mean(metric), unit=True)}" for metric in (up, across))
    kind = " ".join(word for word in ("pareto", "chosen", "baseline") if getattr(point, word))
    return Dot(round(float(place[0]), 1), round(float(place[1]), 1), f"{point.name}: {values}", point.number, kind)
