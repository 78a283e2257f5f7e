"""Published figures beside ours, as pages and terminals print them."""

from dataclasses import dataclass

from exdd_ray.experiment.beside import Beside
from exdd_ray.metrics.metric import Metric
from exdd_ray.metrics.table import METRICS
from exdd_ray.report.numbers import count_of

NOTE = (
    "The published figures are quoted from their sources and were not measured here; data, sizes and seeds may differ. "
    "± is the standard deviation over runs, where it is known."
)


@dataclass(frozen=True)
class PublishedRow:
    """A published figure as text, and ours beside it; a dash where there is none."""

    trial: str
    metric: str
    measured: str
    runs: str
    published: str
    source: str


def published_row(one: Beside) -> PublishedRow:
    """A figure as it is printed: shares in percent."""
    metric = METRICS[one.metric]
    return PublishedRow(
        trial=one.point,
        metric=metric.title + (", %" if metric.percent else ""),
        measured=_spread(metric, one.measured, one.measured_std),
        runs=count_of(one.seeds, "seed", "seeds") if one.seeds else "",
        published=_spread(metric, one.published, one.published_std),
        source=one.source,
    )


def _spread(metric: Metric, mean: float | None, std: float | None) -> str:
    return metric.text(mean) + ("" if std is None else f" ± {metric.text(std)}")
