"""Images of folders scored one after another, in bounded memory; those that cannot be read are named."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from exdd_ray.data.files import images_under
from exdd_ray.errors import DataError, ImageError
from exdd_ray.line.detector import BATCH, Detector, Prediction


@dataclass(frozen=True)
class Scored:
    """A file with its prediction, or with the reason why there is none."""

    file: Path
    prediction: Prediction | None
    error: str = ""


def image_files(places: Iterable[Path]) -> list[Path]:
    """The files that are given, and the image files in folders that are, sorted.

    Raises DataError where one is not there, or a folder has none.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(f"{place}: no such file or folder")
        inside = list(map(Path, images_under(place))) if place.is_dir() else [place]
        if not inside:
            raise DataError(f"{place}: no image in this folder")
        found += inside
    return found


def score_files(detector: Detector, files: Iterable[Path], batch: int = BATCH) -> Iterator[Scored]:
    """Score files, in their order; one that cannot be read has an error."""
    waiting = iter(files)
    while group := list(islice(waiting, batch)):
        read = [(file, *_read(detector, file)) for file in group]
        predictions = iter(detector.predict([pixels for _, pixels, _ in read if pixels is not None], batch))
        for file, pixels, error in read:
            yield Scored(file, None if pixels is None else next(predictions), error)


def _read(detector: Detector, file: Path) -> tuple[np.ndarray | None, str]:
    try:
        return detector.read(file), ""
    except ImageError as error:
        return None, error.reason
