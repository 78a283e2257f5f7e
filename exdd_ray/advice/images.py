"""What a folder's files say before anything is run: those of no use, and those that show the same as others."""

from collections.abc import Iterator

from exdd_ray.data.check import DataReport, FileTrouble
from exdd_ray.errors import DataError


def require_usable(report: DataReport) -> None:
    """Raise DataError for images and masks that every trial which meets them would fail at."""
    troubles = (*report.unreadable, *_of_masks(report))
    if troubles:
        raise DataError(
            f"{troubles[0].path}: {troubles[0].reason}: mend it, or take it out of the folder (files of no use: "
            f"{len(troubles)}; `exdd data check` names all)"
        )


def _of_masks(report: DataReport) -> Iterator[FileTrouble]:
    """Troubles of masks that are there: candidates are chosen by which masks are not."""
    return (one for one in report.masks if not one.path.endswith(one.id))


def told_alike(report: DataReport) -> Iterator[str]:
    """That images show the same: learnt and judged by alike, they flatter what learns them."""
    copies = sum(len(group.ids) - 1 for group in report.duplicates)
    alike = [f"copies of others, byte for byte: {copies}"] * bool(copies)
    alike += [f"like another one nearly to the pixel: {len(report.twins)}"] * bool(report.twins)
    first = [group.ids[:2] for group in report.duplicates] + [(one.id, one.like) for one in report.twins]
    if alike:
        yield (
            f"Images that are {', '.join(alike)} (the first: {' and '.join(first[0])}). Where one of such a pair is "
            "learnt and the other one judges, detectors look better than they are: take one out."
        )
