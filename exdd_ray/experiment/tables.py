"""The tables of a sweep: every trial, and every point with means, intervals and the test against the baseline."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from exdd_ray.experiment.run_plan import Outcome
from exdd_ray.metrics.bootstrap import RESAMPLED
from exdd_ray.metrics.table import COMPARED, MEASURED, on_validation

METRICS = (
    *(metric.key for metric in MEASURED),
    *(f"{key}_{end}" for key in RESAMPLED for end in ("low", "high")),
    *(on_validation(metric) for metric in COMPARED),
    "milliseconds",
)
COUNTS = (
    "bank_vectors",
    "negative_bank",
    "positive_bank",
    "train_normal",
    "train_defects",
    "train_synthetic",
    "test_normal",
    "test_defects",
    "validation_normal",
    "validation_defects",
)
TRIALS_SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("name", pa.string()),
        ("settings", pa.string()),
        ("seed", pa.int64()),
        ("dataset", pa.string()),
        ("category", pa.string()),
        ("state", pa.string()),
        ("error", pa.string()),
        ("traceback", pa.string()),
        ("artifact", pa.string()),
        *((name, pa.float64()) for name in METRICS),
        *((name, pa.int64()) for name in COUNTS),
        ("tested", pa.string()),
        ("remarks", pa.string()),
    ]
)
Row = Mapping[str, Any]


def trials_table(outcomes: Sequence[Outcome], milliseconds: Mapping[str, float] | None = None) -> pa.Table:
    """One row a trial and category; metrics are shares between 0 and 1, null where a trial failed.

    Args:
        milliseconds: an image, by the key of the trial.
    """
    rows = [_row(outcome, (milliseconds or {}).get(outcome.planned.key)) for outcome in outcomes]
    return pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)


def _row(outcome: Outcome, milliseconds: float | None) -> dict[str, Any]:
    planned, record = outcome.planned, outcome.artifact.metadata if outcome.artifact else {}
    banks = [record[name] for name in ("negative_bank", "positive_bank")] if record else None
    return {
        "number": planned.point.number,
        "name": planned.point.name,
        "settings": json.dumps(planned.point.settings),
        "seed": planned.trial.config.seed,
        "dataset": planned.dataset,
        "category": planned.category,
        "state": "done" if outcome.artifact else "failed",
        "error": outcome.error,
        "traceback": outcome.trace,
        "artifact": planned.key if outcome.artifact else "",
        **{name: record.get(name) for name in (*METRICS, *COUNTS)},
        "milliseconds": milliseconds,
        "bank_vectors": sum(banks) if banks else None,
        "tested": record.get("tested", ""),
        "remarks": record.get("remarks", ""),
    }
