"""What a sweep's chosen and baseline trial get most wrong: the weakest defects, the most suspicious normal images."""

from collections.abc import Sequence

from exdd_ray.errors import UserError
from exdd_ray.report.gallery import Gallery, make_gallery
from exdd_ray.report.sweep_data import Point, Row, SweepFolder, read_trials

MAX_CATEGORIES = 6


def mistakes(sweep: SweepFolder) -> Gallery:
    """The gallery of the chosen and the baseline point, first seed; notes instead of what cannot be read any more."""
    points = {point.name: point for point in (sweep.chosen, sweep.baseline) if point and sweep.done(point)}
    if not points:
        return Gallery((), (), (), ("Neither the chosen nor the baseline trial has a result.",))
    wanted, notes = _wanted(sweep, list(points.values()))
    try:
        results = read_trials(sweep, [row for _, _, row in wanted])
    except (UserError, OSError) as error:
        return Gallery((), (), (), (f"Nothing to show: {error}.",))
    gallery = make_gallery([(trial, group, one) for (trial, group, _), one in zip(wanted, results, strict=True)])
    return Gallery(gallery.pictures, gallery.panels, gallery.ramp, (*notes, *gallery.notes))


def _wanted(sweep: SweepFolder, points: Sequence[Point]) -> tuple[list[tuple[int, int, Row]], tuple[str, ...]]:
    """The first seed's rows of the points with their places; with many categories the hardest of the first point."""
    rows = [[row for row in sweep.done(p) if row["seed"] == min(r["seed"] for r in sweep.done(p))] for p in points]
    hardest = sorted(rows[0], key=lambda row: (row["image_auroc"] is None, row["image_auroc"] or 0.0))[:MAX_CATEGORIES]
    places = [(row["dataset"], row["category"]) for row in rows[0] if row in hardest]
    left_out = len(rows[0]) - len(places)
    notes = (f"The {MAX_CATEGORIES} categories of the lowest image AUROC; {left_out} more are not shown.",)
    return [
        (trial, places.index((row["dataset"], row["category"])), row)
        for trial, mine in enumerate(rows)
        for row in mine
        if (row["dataset"], row["category"]) in places
    ], notes * bool(left_out)
