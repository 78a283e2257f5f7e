"""What is known of a dataset: how it is read, where it comes from, how many images it must have."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import VALIDATION


@dataclass(frozen=True, kw_only=True)
class Source:
    """One archive to download.

    Attributes:
        filename: to store it under.
        checksum: `md5:<hex>` or `sha256:<hex>`, as recorded by the publisher or by a public project that downloads
            from the same address; None where none is known.
    """

    url: str
    filename: str
    checksum: str | None = None


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Images that can be had from somewhere.

    Attributes:
        licence: name or conditions, shown before a download.
        homepage: the publisher's page, with the full licence text.
        sources: archives; empty where the publisher asks for a form or has no lasting address.
        note: what a user should know.
    """

    name: str
    title: str
    licence: str
    homepage: str
    sources: tuple[Source, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How many images the official dataset has of a category, split and label; None counts all."""

    category: str
    split: str | None
    label: int | None
    images: int


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Collection):
    """A dataset that can be loaded.

    Attributes:
        load: (root, category) to catalog; a category of None loads all that are there.
        categories: official names; empty where they are the user's own.
        markers: glob patterns, of which a root of this dataset matches at least one; empty where any root may do.
        expected: official counts.
        related: why a random split leaks, where images show the same object; empty where they do not.
    """

    load: Callable[[Path, str | None], pa.Table]
    categories: tuple[str, ...]
    markers: tuple[str, ...]
    expected: tuple[Expected, ...] = ()
    related: str = ""


def expected_counts(
    category: str, *, train: int, test_normal: int, test_defect: int, validation: int | None = None
) -> tuple[Expected, ...]:
    """Official counts of a category whose training and validation images are all normal."""
    held_out = (
        () if validation is None else (Expected(category=category, split=VALIDATION, label=0, images=validation),)
    )
    return (
        *held_out,
        Expected(category=category, split="train", label=0, images=train),
        Expected(category=category, split="train", label=1, images=0),
        Expected(category=category, split="test", label=0, images=test_normal),
        Expected(category=category, split="test", label=1, images=test_defect),
    )
