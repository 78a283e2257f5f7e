"""A finished run or sweep, as its folder holds it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.metrics.table import COMPARED

_TABLE = "trials.parquet"
_SHOWN = tuple(metric.key for metric in COMPARED if metric.shown == "everywhere")


@dataclass(frozen=True)
class Results:
    """The folder of a finished run or sweep; its tables are read when they are asked for."""

    folder: Path

    @cached_property
    def table(self) -> pa.Table:
        """One row a trial, category and seed: settings, counts and metrics; `.to_pandas()` makes a data frame of it.

        Raises ArtifactError where the file is damaged.
        """
        return _read(self.folder / _TABLE)

    @cached_property
    def predictions(self) -> pa.Table:
        """One row a trial and test image: its label and score. Raises ArtifactError as `table`."""
        return _read(self.folder / "predictions.parquet")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Means, or of a sweep its baseline, its chosen point and remarks, as `--json` prints them."""
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return found

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        """A line a trial: its mean metrics over categories and seeds, in percent."""
        shown = [name for name in _SHOWN if name in self.table.column_names]
        means = self.table.group_by("name", use_threads=False).aggregate([(name, "mean") for name in shown])
        rows = [[row["name"] or "-", *(_percent(row[f"{name}_mean"]) for name in shown)] for row in means.to_pylist()]
        lines = [["trial", *(name.replace("_", " ") for name in shown)], *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*map(str.rstrip, text), f"report: {self.report}"])


def read_results(folder: str | Path) -> Results:
    """The results in a folder, as `runs/demo/latest`.

        >>> read_results("runs/demo/latest").table.column("image_auroc")  # doctest: +SKIP

    Raises ConfigError where it holds no finished run or sweep.
    """
    place = Path(folder).expanduser().resolve()
    if not (place / _TABLE).is_file():
        raise ConfigError(f"{folder}: not the results of a run or a sweep (it has no {_TABLE})")
    return Results(place)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
