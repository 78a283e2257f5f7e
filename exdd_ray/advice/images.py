"""What a folder's files say before anything is run: those of no use, and those that show the same as others."""

from collections.abc import Iterator

from exdd_ray.data.check import EMPTY_MASK, NO_MASK, DataReport
from exdd_ray.errors import DataError


def require_usable(report: DataReport) -> None:
    """Raise DataError for images and masks that every trial which meets them would fail at."""
    masks = [one for one in report.masks if one.reason not in {EMPTY_MASK, NO_MASK}]
    troubles = [*report.unreadable, *masks]
    if troubles:
        raise DataError(
            f"{troubles[0].path}: {troubles[0].reason}: mend it, or take it out of the folder (files of no use: "
            f"{len(troubles)}; `exdd data check` names all)"
        )


def told_of_files(report: DataReport) -> Iterator[str]:
    """What is amiss with files that can be used: masks that mark nothing, and images that show the same."""
    empty = [one for one in report.masks if one.reason == EMPTY_MASK]
    if empty:
        yield f"Defects whose mask marks nothing: {len(empty)} (the first: {empty[0].id}): none learns where they are."
    yield from _alike(report)


def _alike(report: DataReport) -> Iterator[str]:
    copies = sum(len(group.ids) - 1 for group in report.duplicates)
    alike = [f"copies of others, byte for byte: {copies}"] * bool(copies)
    alike += [f"like another one nearly to the pixel: {len(report.twins)}"] * bool(report.twins)
    first = [group.ids[:2] for group in report.duplicates] + [(one.id, one.like) for one in report.twins]
    if alike:
        yield (
            f"Images that are {', '.join(alike)} (the first: {' and '.join(first[0])}). Where one of such a pair is "
            "learnt and the other one judges, detectors look better than they are: take one out."
        )
