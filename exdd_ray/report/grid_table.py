"""The table of a grid: a row a detector and source of synthetic defects, a column a number of real ones."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.experiment.crossed import Combination, Count
from exdd_ray.experiment.summary import PointSummary, judged_by, summarize
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.metrics.difference import Difference
from exdd_ray.metrics.influence import Scored
from exdd_ray.metrics.seeds import Mean
from exdd_ray.metrics.table import COSTS

NONE_TO_LEARN = "the dataset's own split trains on no defect, so that there are no `all`"


@dataclass(frozen=True)
class Cell:
    """A combination on a dataset.

    Attributes:
        mean: of the metric over the seeds; None where a trial failed, and of all defects where there is none.
        gain: of synthetic defects: from the same detector with as many real defects and no other; None where there is
            nothing to compare with.
        seconds: mean of a trial's, beyond what trials share; None where none was done.
        error: why there is no mean, as of the first trial that failed; empty where there is one.
    """

    mean: Mean | None
    gain: Difference | None
    seconds: float | None
    error: str

    @property
    def text(self) -> str:
        """In percent, as `94.1 ± 0.8 (+1.2)`; a gain that is more than noise, that of seeds too, has a star."""
        if self.mean is None:
            return "none" if self.error == NONE_TO_LEARN else "failed" if self.error else ""
        half = "" if self.mean.half is None else f" ± {100 * self.mean.half:.1f}"
        return f"{100 * self.mean.value:.1f}{half}{_gain(self.gain)}"


def _gain(apart: Difference | None) -> str:
    if apart is None:
        return ""
    star = "*" if apart.clear and apart.unmeasured != "seeds" else ""
    return f" ({round(100 * apart.mean.value, 1) + 0.0:+.1f}{star})"  # no -0.0


Cells = Mapping[tuple[str, Combination], Cell]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # header and rows


def cells_of(trials: pa.Table, predictions: pa.Table, sweep: SweepConfig, compared: Sequence[Combination]) -> Cells:
    """By dataset and combination, the cells of a sweep over combinations; none of those that a search left out.

    Args:
        trials: as `trials_table` gives them.
        predictions: as `predictions_table` gives them.
    """
    scored, found = _scored(trials, predictions), {}
    for dataset in dict.fromkeys(trials["dataset"].to_pylist()):
        here = trials.filter(pc.equal(trials["dataset"], dataset))
        tried = set(here["name"].to_pylist())
        ran = [one for one in compared if one.name in tried]
        for detector, defects in dict.fromkeys((one.detector, one.defects) for one in ran):
            group = [one for one in ran if (one.detector, one.defects) == (detector, defects)]
            for one, cell in _group(group, here, sweep, scored).items():
                found[dataset, one] = cell
    return found


def _group(
    group: Sequence[Combination], trials: pa.Table, sweep: SweepConfig, scored: Mapping[str, Mapping[str, Scored]]
) -> dict[Combination, Cell]:
    """Cells of combinations that differ in the source of synthetic defects alone."""
    trials = trials.filter(pc.is_in(trials["name"], pa.array([one.name for one in group])))
    points = {one.name: one for one in summarize(trials, sweep, group[0].name, lambda key: scored.get(key, {}))}
    plain = not group[0].synthesizer
    column = judged_by(shown_metric(sweep), sweep)
    return {one: _cell(one, points[one.name], trials, column, compared=plain) for one in group}


def shown_metric(sweep: SweepConfig) -> str:
    """Key of the first objective that is a share, as costs are in no percent; without one image AUROC."""
    costs = {metric.key for metric in COSTS}
    return next((key for key in sweep.objectives if key not in costs), "image_auroc")


def _cell(one: Combination, point: PointSummary, trials: pa.Table, column: str, *, compared: bool) -> Cell:
    rows = [row for row in trials.to_pylist() if row["name"] == point.name]
    done = [row for row in rows if row["state"] == "done"]
    error = next((row["error"] for row in rows if row["state"] != "done"), "")
    if one.defects == "all" and done and not any(row["train_defects"] for row in done):
        error = NONE_TO_LEARN
    return Cell(
        mean=None if error else point.means.get(column),
        gain=point.differences.get(column) if compared and not error else None,
        seconds=float(np.mean([row["seconds"] for row in done])) if done else None,
        error=error,
    )


def _scored(trials: pa.Table, predictions: pa.Table) -> dict[str, dict[str, Scored]]:
    """What trials scored of the test images, by the key of their artifacts."""
    about = ["name", "dataset", "category", "seed"]
    keys = {tuple(row[name] for name in about): row["artifact"] for row in trials.to_pylist()}
    return {
        keys[place]: {"test": Scored(tuple(part["content"]), part["label"].to_numpy(), part["score"].to_numpy())}
        for place, part in predictions.to_pandas().groupby(about, sort=False)
    }


def rows_of(cells: Cells, dataset: str) -> Table:
    """A dataset's table: a row a detector and source of synthetic defects, a column a number of real ones."""
    here = {one: cell for (place, one), cell in cells.items() if place == dataset}
    counts: list[Count] = list(dict.fromkeys(one.defects for one in here))
    counts.sort(key=lambda count: float("inf") if count == "all" else count)
    rows = []
    for row in _rows(here):
        of_row = {one.defects: cell for one, cell in here.items() if (one.detector, one.synthesizer) == row}
        texts = [of_row[count].text if count in of_row else "" for count in counts]
        rows.append((*row, *texts, _seconds(list(of_row.values()))))
    return ("detector", "synthetic", *(f"{count} real" for count in counts), "seconds"), rows


def rows_across(cells: Cells, defects: Count) -> Table:
    """The table of a number of real defects: a row a detector and source of synthetic ones, a column a dataset.

    Detectors that learn normal images alone have their row, too.
    """
    datasets = list(dict.fromkeys(place for place, _ in cells))
    learners = {one.detector for _, one in cells if one.defects == defects}
    shown = list(dict.fromkeys(one for _, one in cells if one.defects == defects or one.detector not in learners))
    rows = []
    for one in shown:
        of_row = {place: cells[place, one] for place in datasets if (place, one) in cells}
        texts = [of_row[place].text if place in of_row else "" for place in datasets]
        rows.append((one.detector, one.synthesizer, *texts, _seconds(list(of_row.values()))))
    return ("detector", "synthetic", *datasets, "seconds"), rows


def _rows(here: Iterable[Combination]) -> list[tuple[str, str]]:
    """Detectors and sources of synthetic defects, each detector without any first."""
    found = list(dict.fromkeys((one.detector, one.synthesizer) for one in here))
    detectors = list(dict.fromkeys(detector for detector, _ in found))
    return sorted(found, key=lambda row: (detectors.index(row[0]), bool(row[1])))


def failures(cells: Cells) -> list[str]:
    """Why cells failed, each reason with how many."""
    return [
        f"{number} failed: {reason}" for reason, number in Counter(c.error for c in cells.values() if c.error).items()
    ]


def _seconds(cells: Sequence[Cell]) -> str:
    known = [cell.seconds for cell in cells if cell.seconds is not None]
    return f"{np.mean(known):.1f}" if known else ""


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
