"""What is in a dataset and what is wrong with it: every file is read once."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from exdd_ray.data.catalog import UNSPLIT, CatalogRow, catalog_rows
from exdd_ray.data.datasets import DATASETS
from exdd_ray.data.images import content_hash, image_size, read_image
from exdd_ray.data.masks import mask_files, read_mask
from exdd_ray.data.twins import Twins, find_twins, fingerprint
from exdd_ray.data.values import DeepFacts, MaskFacts, deep_facts, depth_notes, mask_facts, mask_notes
from exdd_ray.errors import ImageError
from exdd_ray.progress import Progress, silent

EMPTY_MASK, NO_MASK = "the mask of a defect is empty", "a defect without a mask"
_MAX_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class GroupCount:
    """Number of images of one kind."""

    category: str
    split: str
    label: int
    defect: str
    images: int


@dataclass(frozen=True, kw_only=True)
class FileTrouble:
    """A file and what is wrong with it."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Images with the same bytes.

    Attributes:
        harm: what follows from it; empty where the copies lie in one split under one label.
    """

    ids: tuple[str, ...]
    harm: str


@dataclass(frozen=True, kw_only=True)
class WrongCount:
    """A group of images (None means any) that does not have its official size."""

    category: str
    split: str | None
    label: int | None
    expected: int
    found: int


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Findings of a check.

    Attributes:
        smallest: (height, width) of the image with the fewest pixels; None where no image could be read.
        largest: (height, width) of the image with the most pixels.
        sizes: number of distinct sizes.
        modes: colour mode of the files, and how many have it.
        unreadable: images that cannot be decoded.
        masks: defects whose mask is missing, unreadable, empty or of another size than the image.
        twins: of every image that may be tested and that a training image resembles, the most alike.
        notes: what is worth knowing without being wrong.
    """

    dataset: str
    images: int
    counts: tuple[GroupCount, ...]
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    sizes: int
    modes: tuple[tuple[str, int], ...]
    unreadable: tuple[FileTrouble, ...]
    masks: tuple[FileTrouble, ...]
    duplicates: tuple[Duplicates, ...]
    twins: tuple[Twins, ...]
    wrong_counts: tuple[WrongCount, ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> int:
        """Number of findings that should be mended before the dataset is used."""
        harmful = sum(bool(group.harm) for group in self.duplicates)
        return len(self.unreadable) + len(self.masks) + len(self.wrong_counts) + harmful


@dataclass(frozen=True, kw_only=True)
class _Finding:
    row: CatalogRow
    size: tuple[int, int] | None = None
    mode: str = ""
    digest: str = ""
    unreadable: FileTrouble | None = None
    mask: FileTrouble | None = None
    values: MaskFacts | None = None
    deep: DeepFacts | None = None
    print: np.ndarray | None = None


def check_dataset(catalog: pa.Table, progress: Progress = silent, notes: Sequence[str] = ()) -> DataReport:
    """Read every image and mask of a catalog and report counts, sizes and what is wrong. Threads share the reading.

    Args:
        catalog: of a dataset.
        progress: told of every image.
        notes: on what is not in the catalog, to report too.
    """
    rows = catalog_rows(catalog)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        findings = []
        with progress("reading images", len(rows)) as advance:
            for finding in pool.map(_inspect, rows):
                findings.append(finding)
                advance(1)
    sizes = [finding.size for finding in findings if finding.size is not None]
    readable = [finding for finding in findings if finding.print is not None]
    twins = find_twins(
        [finding.row for finding in readable],
        np.array([finding.print for finding in readable]),
        [finding.digest for finding in readable],
    )
    mask_troubles, missing_notes = _mask_findings(findings)
    wrong_counts, count_notes = _compare_counts(rows)
    return DataReport(
        dataset=", ".join(sorted({row.dataset for row in rows})),
        images=len(rows),
        counts=_count(rows),
        smallest=min(sizes, key=_area, default=None),
        largest=max(sizes, key=_area, default=None),
        sizes=len(set(sizes)),
        modes=tuple(Counter(finding.mode for finding in findings if finding.mode).most_common()),
        unreadable=tuple(finding.unreadable for finding in findings if finding.unreadable is not None),
        masks=mask_troubles,
        duplicates=_duplicates(findings),
        twins=twins,
        wrong_counts=wrong_counts,
        notes=(
            *missing_notes,
            *mask_notes([finding.values for finding in findings if finding.values is not None]),
            *depth_notes([finding.deep for finding in findings if finding.deep is not None], rows[0].bit_depth),
            *_twin_notes(twins, rows),
            *count_notes,
            *notes,
        ),
    )


def _inspect(row: CatalogRow) -> _Finding:
    try:
        digest = content_hash(row.image)
        pixels = read_image(row.image, row.bit_depth)
        with Image.open(row.image) as image:
            mode = image.mode
    except ImageError as error:
        return _Finding(row=row, unreadable=FileTrouble(id=row.id, path=row.image, reason=error.reason))
    size = (pixels.shape[0], pixels.shape[1])
    trouble = _inspect_mask(row, size)
    return _Finding(
        row=row,
        size=size,
        mode=mode,
        digest=digest,
        mask=trouble,
        values=mask_facts(row) if row.mask is not None and trouble is None else None,
        deep=deep_facts(row.image),
        print=fingerprint(pixels),
    )


def _inspect_mask(row: CatalogRow, size: tuple[int, int]) -> FileTrouble | None:
    if row.mask is None:
        return None
    try:
        others = [found for file in mask_files(row.mask) if (found := image_size(file)) != size]
        if others:
            reason = f"mask of {others[0][1]} x {others[0][0]} pixels for an image of {size[1]} x {size[0]}"
        elif row.label == 1 and not read_mask(row.mask, row.mask_threshold).any():
            reason = EMPTY_MASK
        else:
            return None
    except ImageError as error:
        reason = error.reason
    return FileTrouble(id=row.id, path=row.mask, reason=reason)


def _mask_findings(findings: Sequence[_Finding]) -> tuple[tuple[FileTrouble, ...], tuple[str, ...]]:
    """Troubles with masks, and notes. Defects without any mask are one note: the dataset may have image labels only."""
    troubles = [finding.mask for finding in findings if finding.mask is not None]
    defects = [finding.row for finding in findings if finding.row.label == 1]
    missing = [row for row in defects if row.mask is None]
    if missing and len(missing) == len(defects):
        return tuple(troubles), (f"none of the {len(defects)} defects has a mask: image labels only",)
    troubles += [FileTrouble(id=row.id, path=row.image, reason=NO_MASK) for row in missing]
    return tuple(troubles), ()


def _twin_notes(twins: Sequence[Twins], rows: Sequence[CatalogRow]) -> Iterator[str]:
    """How many images have a near-duplicate, of how many that may be tested."""
    if not twins:
        return
    tested = sum(row.split != "train" for row in rows)
    unsplit = any(row.split == UNSPLIT for row in rows)
    which = "images resemble another one" if unsplit else "test images resemble a training one"
    cause = ", and a random split puts such pairs into train and test" * unsplit
    yield (
        f"{len(twins)} of {tested} {which} nearly to the pixel, but for exposure or compression (the first: "
        f"{twins[0].id} and {twins[0].like}){cause}"
    )


def _duplicates(findings: Iterable[_Finding]) -> tuple[Duplicates, ...]:
    groups: dict[tuple[str, str], list[CatalogRow]] = defaultdict(list)  # a model learns from one category alone
    for finding in findings:
        if finding.digest:
            groups[finding.row.category, finding.digest].append(finding.row)
    return tuple(
        Duplicates(ids=tuple(row.id for row in group), harm=_harm(group)) for group in groups.values() if len(group) > 1
    )


def _harm(group: Sequence[CatalogRow]) -> str:
    splits = {row.split for row in group}
    if len({row.label for row in group}) > 1:
        return "the same image is normal and defective"
    if len(splits) > 1:
        return "the same image is in train and test"
    return "the same image may fall into train and test" if splits == {UNSPLIT} else ""


def _count(rows: Iterable[CatalogRow]) -> tuple[GroupCount, ...]:
    counts = Counter((row.category, row.split, row.label, row.defect) for row in rows)
    return tuple(
        GroupCount(category=category, split=split, label=label, defect=defect, images=images)
        for (category, split, label, defect), images in sorted(counts.items())
    )


def _compare_counts(rows: Sequence[CatalogRow]) -> tuple[tuple[WrongCount, ...], tuple[str, ...]]:
    """Official counts that are not met, of the categories that are there, and a note of those that are not."""
    wrong: list[WrongCount] = []
    notes: list[str] = []
    for name in sorted({row.dataset for row in rows} & DATASETS.keys()):
        spec, members = DATASETS[name], [row for row in rows if row.dataset == name]
        present = {row.category for row in members}
        if absent := [category for category in spec.categories if category not in present]:
            notes.append(f"not in this catalog: {', '.join(absent)}")
        for entry in (entry for entry in spec.expected if entry.category in present):
            found = sum(
                row.category == entry.category and entry.split in {None, row.split} and entry.label in {None, row.label}
                for row in members
            )
            if found != entry.images:
                wrong.append(
                    WrongCount(
                        category=entry.category,
                        split=entry.split,
                        label=entry.label,
                        expected=entry.images,
                        found=found,
                    )
                )
    return tuple(wrong), tuple(notes)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
