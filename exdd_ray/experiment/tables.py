"""The tables of a sweep: every trial, and every point with means, intervals and the test against the baseline."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exdd_ray.experiment.run_plan import Outcome
from exdd_ray.experiment.trial_files import PREDICTIONS
from exdd_ray.metrics.bootstrap import RESAMPLED
from exdd_ray.metrics.table import COMPARED, MEASURED, on_validation

METRICS = (
    *(metric.key for metric in MEASURED),
    *(f"{key}_{end}" for key in RESAMPLED for end in ("low", "high")),
    *(on_validation(metric) for metric in COMPARED),
    "held_out_precision",
    "held_out_recall",
    "milliseconds",
)
NUMBERS = ("image_threshold", "held_out_threshold", "seconds")
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
        ("detector", pa.string()),
        ("preset", pa.string()),
        ("state", pa.string()),
        ("error", pa.string()),
        ("traceback", pa.string()),
        ("artifact", pa.string()),
        *((name, pa.float64()) for name in (*METRICS, *NUMBERS)),
        *((name, pa.int64()) for name in COUNTS),
        ("tested", pa.string()),
        ("remarks", pa.string()),
    ]
)
_OF_IMAGES = ["id", "content", "label", "defect", "score"]
_TYPES = [pa.string(), pa.string(), pa.int64(), pa.string(), pa.float64()]
_ABOUT = [("name", pa.string()), ("dataset", pa.string()), ("category", pa.string()), ("seed", pa.int64())]
NO_PREDICTIONS = pa.schema([*_ABOUT, *zip(_OF_IMAGES, _TYPES, strict=True)]).empty_table()
Row = Mapping[str, Any]


def trials_table(outcomes: Sequence[Outcome], milliseconds: Mapping[str, float] | None = None) -> pa.Table:
    """One row a trial and category; metrics are shares between 0 and 1, null where a trial failed.

    Args:
        milliseconds: an image, by the key of the trial.
    """
    rows = [_row(outcome, (milliseconds or {}).get(outcome.planned.key)) for outcome in outcomes]
    return pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)


def predictions_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """One row a trial and test image.

    Columns are the trial's name, dataset, category and seed; and the image's id, what it is known by (`content`), its
    label, defect and score.
    """
    tables = []
    for planned, artifact in ((one.planned, one.artifact) for one in outcomes if one.artifact):
        table = pq.read_table(artifact.file(PREDICTIONS), columns=_OF_IMAGES, filters=[("split", "=", "test")])
        about = (planned.point.name, planned.dataset, planned.category, planned.trial.config.seed)
        for at, (name, value) in enumerate(zip(("name", "dataset", "category", "seed"), about, strict=True)):
            table = table.add_column(at, name, pa.repeat(value, table.num_rows))
        tables.append(table)
    return pa.concat_tables(tables) if tables else NO_PREDICTIONS


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
        "detector": planned.trial.config.detector.kind,
        "preset": planned.trial.config.detector.preset,
        "state": "done" if outcome.artifact else "failed",
        "error": outcome.error,
        "traceback": outcome.trace,
        "artifact": planned.key if outcome.artifact else "",
        **{name: record.get(name) for name in (*METRICS, *NUMBERS, *COUNTS)},
        "milliseconds": milliseconds,
        "bank_vectors": sum(banks) if banks else None,
        "tested": record.get("tested", ""),
        "remarks": record.get("remarks", ""),
    }
