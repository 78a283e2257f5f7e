"""Plans and results as tables on the terminal."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from exdd_ray.experiment.beside import Beside
from exdd_ray.experiment.crossed import Combination
from exdd_ray.experiment.plan import Plan
from exdd_ray.experiment.space import LoadedSweep
from exdd_ray.experiment.summary import judged_by
from exdd_ray.experiment.sweep_results import SweepResults
from exdd_ray.experiment.tables import Row
from exdd_ray.metrics.difference import Difference
from exdd_ray.metrics.metric import Metric
from exdd_ray.metrics.seeds import Mean
from exdd_ray.metrics.table import COMPARED, METRICS, known_metric
from exdd_ray.report.grid_table import NONE_TO_LEARN, cells_of, rows_of, shown_metric
from exdd_ray.report.published import published_row

_SHOWN = [metric for metric in COMPARED if metric.shown == "everywhere"]


def console() -> Console:
    """Standard output, wide enough for tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 120)


def print_plan(plan: Plan, loaded: LoadedSweep) -> None:
    """One line a stage: what is distinct, what the store has, how long the rest takes; then what a reader must know."""
    table = Table(title=f"{loaded.sweep.name}: {plan.headline}")
    for name in ("stage", "distinct", "in the store", "asked for", "about"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in plan.stages:
        about = "" if stage.seconds is None else f"{stage.seconds:.0f} s"
        table.add_row(f"{stage.stage} ({stage.what})", str(stage.distinct), str(stage.in_store), str(stage.uses), about)
    console().print(table)
    if any(stage.seconds is None for stage in plan.stages):
        print("(stages without a time were not timed on this machine yet, or are part of the trials)")
    if loaded.sweep.tuner.kind in ("tpe", "asha"):
        print(f"(the baseline alone: {loaded.sweep.tuner.kind} chooses the other points as it goes)")
    assigned = [planned.assigned for planned in plan.trials if planned.assigned]
    for remark in dict.fromkeys(remark for one in assigned for remark in one.assignment.remarks):
        print(f"note: {remark}", file=sys.stderr)
    for reason in dict.fromkeys(planned.error for planned in plan.trials if planned.error):
        print(f"note: some trials cannot be run: {reason}", file=sys.stderr)


def print_run(results: SweepResults) -> None:
    """One line a point: the mean over categories and seeds, in percent, with the deviation over seeds."""
    rows = [row for row in results.trials.to_pylist() if row["state"] == "done"]
    spread = ", ± standard deviation over seeds" if len({row["seed"] for row in rows}) > 1 else ""
    table = Table(title=f"percent; mean over categories{spread}")
    table.add_column("trial", no_wrap=True)
    for metric in _SHOWN:
        table.add_column(metric.key.replace("_", " "), justify="right")
    by_point = {point.name: [row for row in rows if row["name"] == point.name] for point in results.points}
    for point in results.points:
        table.add_row(point.name, *(_mean_cell(by_point[point.name], metric) for metric in _SHOWN))
    console().print(table)
    print_published(results.published)
    for name, mine in by_point.items():
        _print_thresholds(name, mine)
    for point in results.points:
        if (apart := point.differences.get("image_auroc")) is not None:
            print(f"{point.name}: image AUROC {_difference(apart)} against {results.baseline.name}")
    for remark in dict.fromkeys(remark for row in rows for remark in row["remarks"].splitlines()):
        print(f"note: {remark}")


def print_published(figures: Sequence[Beside]) -> None:
    """Published figures beside ours, marked as what they are; nothing without any."""
    if not figures:
        return
    table = Table(title="beside published figures, which were not measured here")
    for name in ("trial", "metric", "measured here", "published", "published in"):
        table.add_column(name, justify="right" if name in ("measured here", "published") else "left", overflow="fold")
    for row in map(published_row, figures):
        table.add_row(row.trial, row.metric, row.measured, row.published, row.source)
    console().print(table)


def _print_thresholds(name: str, rows: Sequence[Row]) -> None:
    """What thresholds chosen on the test images and on held-out training images give."""
    if not rows:
        return
    if all(row["image_precision"] is None for row in rows):
        print(f"{name}: scores only, in predictions.parquet")
        return
    at = " and ".join(f"{what} {_mean_cell(rows, METRICS[f'image_{what}'])}" for what in ("precision", "recall"))
    print(f"{name}: {at}, at the F1-max threshold chosen on the test images")
    for row in rows:
        if row["held_out_threshold"] is not None:
            precision, recall = 100 * row["held_out_precision"], 100 * row["held_out_recall"]
            reached = f"precision {precision:.2f} and recall {recall:.2f}"
            where = f"{name}, {row['category']}, seed {row['seed']}"
            print(f"{where}: {reached}, at the F1-max threshold of held-out training images")


def _mean_cell(rows: Sequence[Row], metric: Metric) -> str:
    if not rows or any(row[metric.key] is None for row in rows):
        return "-"
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    by_seed = [float(np.mean([row[metric.key] for row in rows if row["seed"] == seed])) for seed in seeds]
    mean = metric.text(float(np.mean(by_seed)))
    return mean if len(seeds) == 1 else f"{mean} ± {metric.text(float(np.std(by_seed, ddof=1)))}"


def print_sweep(results: SweepResults) -> None:
    """One line a point: means with intervals in percent, and what differs from the baseline."""
    sweep = results.loaded.sweep
    shown = dict.fromkeys([judged_by(sweep.objectives[0], sweep), "image_auroc", "pixel_auroc", "pixel_ap"])
    several = any(mean.half is not None for point in results.points for mean in point.means.values())
    spread = " ± half of the 95 % interval over seeds" if several else ""
    table = Table(title=f"percent: mean{spread}; difference from the baseline in image AUROC")
    for name in ("point", "runs", *(name.replace("_", " ") for name in shown), "difference", ""):
        table.add_column(name, justify="left" if name in ("point", "") else "right")
    for point in results.points:
        marks = ", ".join(filter(None, ["baseline" * point.baseline, "chosen" * point.chosen]))
        runs = f"{point.runs}" + f" ({point.failed} failed)" * bool(point.failed)
        cells = (_cell(name, point.means.get(name)) for name in shown)
        table.add_row(point.name, runs, *cells, _difference(point.differences.get("image_auroc")), marks)
    console().print(table)
    print_published(results.published)
    if results.chosen is None and not results.reasons:
        print(f"no point can be chosen: {judged_by(sweep.objectives[0], sweep)} could not be measured")
    if sweep.select == "test":
        print("warning: the best trial was chosen on the test images (select=test)")


def print_grid(results: SweepResults, compared: Sequence[Combination], published: Mapping[str, str]) -> None:
    """A table a dataset: of every combination the mean in percent, and what synthetic defects gain.

    Args:
        published: figures of detectors and synthesizers on their authors' own data.
    """
    sweep = results.loaded.sweep
    cells, metric = cells_of(results.trials, results.predictions, sweep, compared), shown_metric(sweep)
    for dataset in dict.fromkeys(place for place, _ in cells):
        header, rows = rows_of(cells, dataset)
        gains = "(gain of synthetic defects; *: more than noise)"
        table = Table(*header, title=f"{dataset or 'grid'}: {metric}, percent ± half of the 95 % interval {gains}")
        for row in rows:
            table.add_row(*row)
        console().print(table)
    if any(cell.error == NONE_TO_LEARN for cell in cells.values()):
        print(f"none: {NONE_TO_LEARN}")
    shown = {name for one in compared for name in (one.detector, one.synthesizer)}
    for name, figure in published.items():
        if name in shown:
            print(f"published, not measured here: {name}: {figure}")


def print_failures(results: SweepResults, *, traces: bool) -> None:
    """Why trials failed, with the tracebacks of programming errors, or where these are to be found."""
    for reason, count in results.reasons.items():
        print(f"{count} failed: {reason}")
    if results.traces and not traces:
        print("(--debug shows the tracebacks; trials.parquet keeps them)", file=sys.stderr)
    for reason, trace in results.traces.items() if traces else ():
        print(f"{reason}\n{trace}", file=sys.stderr)


def _cell(metric: str, mean: Mean | None) -> str:
    if mean is None:
        return "-"
    known = known_metric(metric)
    spread = "" if mean.half is None or known.level == "cost" else f" ± {known.text(mean.half)}"
    return f"{known.text(mean.value)}{spread}"


def _difference(apart: Difference | None) -> str:
    if apart is None:
        return ""
    alone = {"seeds": ", one seed", "images": ", seeds alone", None: ""}[apart.unmeasured]
    tested = "untested" if apart.p is None else f"p {apart.p:.3f}{alone}" if apart.clear else "noise"
    return f"{round(100 * apart.mean.value, 2) + 0.0:+.2f} ({tested})"  # no -0.00
