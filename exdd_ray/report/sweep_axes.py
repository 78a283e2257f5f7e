"""Axes of a sweep's figures: limits that hold the data, logarithms where they spread it better, round marks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.report.charts import Tick

_DECADE = 10.0
_APART = 28.0  # units of the drawing between the labels of an axis
_LETTER = 6.2  # width of a label's letter


@dataclass(frozen=True)
class Scale:
    """Numbers to positions on an axis, linear or by their logarithms.

    Attributes:
        low, high: the positions of the axis' ends.
    """

    low: float
    high: float
    log: bool = False

    def position(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Positions [N] of values [N]."""
        given = np.asarray(values, dtype=np.float64)
        return np.log10(given) if self.log else given

    def share(self, value: float) -> float:
        """Where a value lies between the ends: 0 to 1."""
        return float((self.position([value])[0] - self.low) / (self.high - self.low))


def spread_scale(values: Sequence[float], margin: float) -> Scale:
    """A scale of settings: logarithmic over a decade and more where that spaces them more evenly.

    Args:
        values: at least one.
        margin: free share of the axis at both ends.
    """
    distinct = np.array(sorted(set(values)), dtype=np.float64)
    log = bool(
        len(distinct) > 2
        and distinct[0] > 0
        and distinct[-1] >= _DECADE * distinct[0]
        and _uneven(np.log10(distinct)) < _uneven(distinct)
    )
    ends = np.log10(distinct[[0, -1]]) if log else distinct[[0, -1]]
    return _padded(float(ends[0]), float(ends[1]), margin, log)


def _uneven(positions: np.ndarray) -> float:
    gaps = np.diff(positions)
    return float(np.std(gaps) / np.mean(gaps))


def _padded(low: float, high: float, margin: float, log: bool) -> Scale:
    reach = (high - low) or max(abs(high), 1.0)
    return Scale(low - margin * reach, high + margin * reach, log)


def value_scale(values: Sequence[float], least: float, within: tuple[float, float]) -> Scale:
    """A linear scale of measured values, with some room, inside of the limits that the measure has.

    Args:
        values: at least one.
        least: reach of the axis, so that next to no difference looks like it.
        within: the measure's lowest and highest value.
    """
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), (least - (high - low)) / 2)
    low, high = max(within[0], low - room), min(within[1], high + room)
    return Scale(low, high) if high > low else Scale(low - least / 2, high + least / 2)


def marks_at(values: Sequence[float], scale: Scale, ends: tuple[float, float]) -> tuple[Tick, ...]:
    """Marks at the values themselves where they are few, at round numbers where they are many.

    Args:
        values: of the settings.
        ends: places of the axis' ends in the drawing.
    """
    distinct = sorted(set(values))
    chosen = distinct if len(distinct) <= 8 else round_numbers(scale)
    marks: list[Tick] = []
    for value in chosen:
        mark = Tick(round(ends[0] + scale.share(value) * (ends[1] - ends[0]), 1), f"{value:.4g}")
        if not marks or abs(mark.at - marks[-1].at) >= max(_APART, _LETTER * len(mark.label)):
            marks.append(mark)
    return tuple(marks)


def round_numbers(scale: Scale, count: int = 5) -> list[float]:
    """Round numbers within a scale, at most `count` intervals."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if scale.log:
        low, high = 10**scale.low, 10**scale.high
        found = LogLocator(subs=(1.0, 2.0, 5.0), numticks=12).tick_values(low, high)
        return [float(value) for value in found if low <= value <= high]
    locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])
    slack = 1e-9 * (scale.high - scale.low)
    return [
        float(v) for v in locator.tick_values(scale.low, scale.high) if scale.low - slack <= v <= scale.high + slack
    ]


def marks(scale: Scale, ends: tuple[float, float], count: int = 5) -> tuple[Tick, ...]:
    """Marks at round numbers; arguments as in marks_at."""
    return tuple(
        Tick(round(ends[0] + scale.share(value) * (ends[1] - ends[0]), 1), f"{value:,.6g}")
        for value in round_numbers(scale, count)
    )
