"""Curves and score histograms as SVG paths; the template draws them, the style sheet colours them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.metrics.curves import Curve

_TOLERANCE = 0.3  # of a path, in units of the drawing


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in the drawing and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Frame:
    """The drawing's size, the box of the data in it, and the data's limits."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = 340
    height: int = 280
    left: int = 42
    right: int = 330
    top: int = 10
    bottom: int = 238

    def place(self, points: np.ndarray) -> np.ndarray:
        """Data [N x 2] to places in the drawing [N x 2]."""
        low, high = np.array([self.x[0], self.y[0]]), np.array([self.x[1], self.y[1]])
        corner, opposite = np.array([self.left, self.bottom]), np.array([self.right, self.top])
        return np.asarray(corner + (points - low) / (high - low) * (opposite - corner))


@dataclass(frozen=True)
class Line:
    """A trial's curve: the trial's position (its colour), name, and the metric that the curve belongs to."""

    trial: int
    name: str
    value: float
    path: str


@dataclass(frozen=True)
class Plot:
    """Curves of several trials over the same axes."""

    title: str
    measure: str
    axes: tuple[str, str]
    frame: Frame
    ticks: tuple[tuple[Tick, ...], tuple[Tick, ...]]
    lines: tuple[Line, ...]
    chance: bool


@dataclass(frozen=True)
class Histogram:
    """Image scores of one trial: the share of normal and of defective images in each bin.

    Attributes:
        threshold: place of the F1-max threshold on the x axis.
        beyond: scores outside of the axis, counted in its outermost bins.
    """

    trial: int
    name: str
    frame: Frame
    ticks: tuple[tuple[Tick, ...], tuple[Tick, ...]]
    normal: str
    defective: str
    threshold: Tick | None
    beyond: int


Read = Callable[[StoredResult], tuple[float, Curve] | None]


def image_plots(results: Sequence[tuple[int, StoredResult]]) -> tuple[Plot, ...]:
    """ROC and precision-recall curves of the image scores of (trial position, result) pairs; empty without metrics."""
    if not any(result.detection for _, result in results):
        return ()
    return (
        _roc(results, lambda r: (r.detection.auroc, r.detection.roc) if r.detection else None),
        _pr(results, lambda r: (r.detection.ap, r.detection.pr) if r.detection else None),
    )


def pixel_plots(results: Sequence[tuple[int, StoredResult]]) -> tuple[Plot, ...]:
    """ROC, precision-recall and per-region-overlap curves of the anomaly maps; empty where no result has any."""
    measured = [(trial, result) for trial, result in results if result.pixel is not None]
    if not measured:
        return ()
    return (
        _roc(measured, lambda r: (r.pixel.detection.auroc, r.pixel.detection.roc) if r.pixel else None),
        _pr(measured, lambda r: (r.pixel.detection.ap, r.pixel.detection.pr) if r.pixel else None),
        _pro(measured),
    )


def _roc(results: Sequence[tuple[int, StoredResult]], read: Read) -> Plot:
    axes = ("False positive rate", "True positive rate")
    return _plot("ROC", "AUROC", axes, Frame(), _lines(results, read, Frame(), steps=False), chance=True)


def _pr(results: Sequence[tuple[int, StoredResult]], read: Read) -> Plot:
    return _plot("Precision–recall", "AP", ("Recall", "Precision"), Frame(), _lines(results, read, Frame(), steps=True))


def _pro(results: Sequence[tuple[int, StoredResult]]) -> Plot:
    limit = max(result.trial.config.evaluation.fpr_limit for _, result in results)
    frame = Frame(x=(0.0, limit))
    axes = ("False positive rate", "Per-region overlap")
    return _plot("Per-region overlap", "AUPRO", axes, frame, _lines(results, _overlap, frame, steps=False))


def _overlap(result: StoredResult) -> tuple[float, Curve] | None:
    area = result.metrics["aupro"]
    return None if area is None or result.pixel is None else (area, result.pixel.pro)


def _plot(
    title: str, measure: str, axes: tuple[str, str], frame: Frame, lines: tuple[Line, ...], chance: bool = False
) -> Plot:
    return Plot(title, measure, axes, frame, _ticks(frame, 5), lines, chance)


def _lines(results: Sequence[tuple[int, StoredResult]], read: Read, frame: Frame, *, steps: bool) -> tuple[Line, ...]:
    found = [(trial, result.trial.name, read(result)) for trial, result in results]
    return tuple(
        Line(trial, name, value[0], _curve_path(value[1], frame, steps)) for trial, name, value in found if value
    )


def _curve_path(curve: Curve, frame: Frame, steps: bool) -> str:
    points = np.stack([curve.x, curve.y], axis=1)
    if steps:  # average precision takes each precision back to the recall before it
        corners = np.stack([curve.x[:-1], curve.y[1:]], axis=1)
        points = np.insert(points, np.arange(1, len(points)), corners, axis=0)
    return polyline(simplify(frame.place(points), _TOLERANCE))


def simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """The points [N x 2] of a polyline that keep it within a distance of its course (Douglas and Peucker, 1973)."""
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    waiting = [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        away = _distances(points[first + 1 : last], points[first], points[last])
        if away.size and away.max() > tolerance:
            middle = first + 1 + int(away.argmax())
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    return points[keep]


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distances [N] of points to the segment from start to end."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.asarray(np.linalg.norm(points - start - share[:, None] * along, axis=1))


def polyline(points: np.ndarray, *, closed: bool = False) -> str:
    """SVG path through points [N x 2], to a tenth of a unit."""
    return "M" + " ".join(f"{x:.4g},{y:.4g}" for x, y in points) + ("Z" if closed else "")


def histogram(trial: int, result: StoredResult) -> Histogram:
    """Score histograms of a result's normal (or unlabelled) and defective images, each class by itself."""
    scores = result.scores
    defective = np.array([row.label for row in result.rows]) == 1
    threshold = result.detection.threshold if result.detection else None
    low, high = score_limits(scores, float(np.median(scores)) if threshold is None else threshold)
    bins = int(np.clip(2 * np.sqrt(len(scores)), 10, 40))
    edges = np.linspace(low, high, bins + 1)
    inside = np.clip(scores, low, high)
    shares = [np.histogram(inside[members], edges)[0] / max(members.sum(), 1) for members in (~defective, defective)]
    frame = Frame(x=(low, high), y=(0.0, 1.08 * float(max(map(max, shares)))), height=210, bottom=168)
    mark = None
    if threshold is not None:
        mark = Tick(round(float(frame.place(np.array([[threshold, 0.0]]))[0, 0]), 1), f"{threshold:.4g}")
    return Histogram(
        trial=trial,
        name=result.trial.name,
        frame=frame,
        ticks=(_ticks(frame, 5)[0], _ticks(frame, 3, percent=True)[1]),
        normal=_bars(shares[0], edges, frame),
        defective=_bars(shares[1], edges, frame),
        threshold=mark,
        beyond=int(((scores < low) | (scores > high)).sum()),
    )


def score_limits(scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Limits of an axis that hold the threshold and the scores, but for a few far from all others."""
    low, high = np.quantile(scores, [0.02, 0.98])
    reach = high - low
    first = min(threshold, max(float(scores.min()), low - reach))
    last = max(threshold, min(float(scores.max()), high + reach))
    return (first, last) if last > first else (first - 0.5, last + 0.5)


def _bars(shares: np.ndarray, edges: np.ndarray, frame: Frame) -> str:
    """Outline of adjoining bars, from the base line and back to it."""
    x = np.repeat(edges, 2)
    y = np.concatenate([[0.0], np.repeat(shares, 2), [0.0]])
    return polyline(simplify(frame.place(np.stack([x, y], axis=1)), 0.01), closed=True)


def _ticks(frame: Frame, count: int, *, percent: bool = False) -> tuple[tuple[Tick, ...], tuple[Tick, ...]]:
    """Round numbers on both axes, at most `count` intervals each; `percent` is of the y axis."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])
    x, y = (
        [float(v) for v in locator.tick_values(*limits) if limits[0] <= v <= limits[1] + 1e-12]
        for limits in (frame.x, frame.y)
    )
    across = frame.place(np.array([[value, frame.y[0]] for value in x]))[:, 0]
    up = frame.place(np.array([[frame.x[0], value] for value in y]))[:, 1]
    return (
        tuple(Tick(round(float(at), 1), f"{value:.6g}") for at, value in zip(across, x, strict=True)),
        tuple(Tick(round(float(at), 1), _label(value, percent)) for at, value in zip(up, y, strict=True)),
    )


def _label(value: float, percent: bool) -> str:
    return f"{100 * value:.3g} %" if percent else f"{value:.6g}"
