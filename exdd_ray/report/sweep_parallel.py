"""Parallel coordinates: every point of a sweep as a line through its settings and objectives."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exdd_ray.metrics.metric import Metric
from exdd_ray.report.charts import Tick
from exdd_ray.report.sweep_axes import marks, marks_at, spread_scale, value_scale
from exdd_ray.report.sweep_data import Point, SweepFolder, number_of, setting_of

TOP, BOTTOM, LEFT, RIGHT = 52.0, 300.0, 118.0, 1064.0
_STEPS = (120.0, 200.0)  # between axes: at least, as labels need it, and at most, as two axes fit a phone
_LAST = 64.0  # room for half of the last axis' title
_LABEL = 18  # letters of a mark


@dataclass(frozen=True)
class Axis:
    """An axis: its place across the drawing, its title in lines, its marks, and the places of points by number."""

    x: float
    title: tuple[str, ...]
    ticks: tuple[Tick, ...]
    places: Mapping[int, float]


@dataclass(frozen=True)
class Strand:
    """A point's line: its path, what it says of itself, and its shade in percent; None where it has no objective."""

    point: Point
    path: str
    text: str
    shade: int | None


@dataclass(frozen=True)
class Parallel:
    """The drawing, its strands the best last; `axes` are the swept keys and the objectives, better is up."""

    width: float
    axes: tuple[Axis, ...]
    strands: tuple[Strand, ...]


def parallel(sweep: SweepFolder) -> Parallel | None:
    """Lines of all points through the keys that vary and the objectives; None where there is one point only."""
    points = sweep.points
    keys = [key for key in sweep.keys if len({setting_of(point, key) for point in points}) > 1]
    makers: list[Callable[[float], Axis]] = [
        *((lambda x, key=key: _key_axis(x, sweep.title(key), key, points)) for key in keys),
        *((lambda x, metric=metric: _metric_axis(x, metric, points)) for metric in sweep.objectives()),
    ]
    if len(points) < 2 or len(makers) < 2:
        return None
    step = min(_STEPS[1], max(_STEPS[0], (RIGHT - LEFT) / (len(makers) - 1)))
    axes = tuple(make(round(LEFT + number * step, 1)) for number, make in enumerate(makers))
    shades = _shades(sweep.objectives()[0], points)
    strands = [Strand(p, _path(p, axes), _text(sweep, p, keys), shades.get(p.number)) for p in points]
    strands.sort(key=lambda strand: (strand.point.chosen, -1 if strand.shade is None else strand.shade))
    return Parallel(axes[-1].x + _LAST, axes, tuple(strands))


def _key_axis(x: float, title: str, key: str, points: Sequence[Point]) -> Axis:
    numbers = {point.number: number_of(point.settings.get(key)) for point in points}
    known = {number: value for number, value in numbers.items() if value is not None}
    if len(known) < len(numbers):
        return _named_axis(x, title, key, points)
    scale = spread_scale(list(known.values()), 0.0)
    places = {number: BOTTOM + scale.share(value) * (TOP - BOTTOM) for number, value in known.items()}
    ticks = marks_at(list(known.values()), scale, (BOTTOM, TOP))
    return Axis(x, _in_lines(title), ticks, places)


def _named_axis(x: float, title: str, key: str, points: Sequence[Point]) -> Axis:
    """Values that are no numbers, evenly spaced, the first on top."""
    names = list(dict.fromkeys(setting_of(point, key) for point in points))
    gap = (BOTTOM - TOP) / max(1, len(names) - 1)
    at = {name: round(TOP + i * gap, 1) for i, name in enumerate(names)}
    every = -(-len(names) // 20)  # more labels than that would overlap
    ticks = tuple(Tick(at[name], _short(name)) for name in names[::every])
    return Axis(x, _in_lines(title), ticks, {point.number: at[setting_of(point, key)] for point in points})


def _metric_axis(x: float, metric: Metric, points: Sequence[Point]) -> Axis:
    known = {point.number: metric.scaled(mean) for point in points if (mean := point.mean(metric)) is not None}
    title = _in_lines(f"{metric.title}{', %' if metric.percent else ''}")
    if not known:
        return Axis(x, title, (), {})
    scale = value_scale(list(known.values()), 0.1, (0.0, math.inf))
    ends = (TOP, BOTTOM) if metric.less else (BOTTOM, TOP)
    places = {number: ends[0] + scale.share(value) * (ends[1] - ends[0]) for number, value in known.items()}
    return Axis(x, title, marks(scale, ends), places)


def _path(point: Point, axes: Sequence[Axis]) -> str:
    """Through the axes; broken where the point has no value."""
    path, pen = "", "M"
    for axis in axes:
        place = axis.places.get(point.number)
        path += "" if place is None else f"{pen}{axis.x:g},{place:.1f}"
        pen = "M" if place is None else "L"
    return path


def _text(sweep: SweepFolder, point: Point, keys: Sequence[str]) -> str:
    settings = [f"{sweep.title(key)} {setting_of(point, key)}" for key in keys]
    measured = [f"{metric.title} {metric.text(point.mean(metric), unit=True)}" for metric in sweep.objectives()]
    return " · ".join([f"#{point.number}", *settings, *measured])


def _shades(metric: Metric, points: Sequence[Point]) -> dict[int, int]:
    """By number of the point percent of the colour: 100 the best, 0 the worst."""
    means = {point.number: mean for point in points if (mean := point.mean(metric)) is not None}
    if not means:
        return {}
    worst, best = (max(means.values()), min(means.values()))[:: 1 if metric.less else -1]
    return {number: round(100 * (mean - worst) / ((best - worst) or 1.0)) for number, mean in means.items()}


def _in_lines(title: str) -> tuple[str, ...]:
    """A title on two lines, broken at the space nearest to its middle."""
    spaces = [i for i, letter in enumerate(title) if letter == " "]
    if not spaces or len(title) < 12:
        return (title,)
    middle = min(spaces, key=lambda i: abs(i - len(title) / 2))
    return title[:middle], title[middle + 1 :]


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
