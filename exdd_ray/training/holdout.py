"""Training images that are held out to choose a checkpoint and a threshold on."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from exdd_ray.data.catalog import REAL, CatalogRow
from exdd_ray.errors import DataError

Sources = Mapping[str, tuple[str, ...]]  # id of a synthetic image -> files of the images and masks it was made from

_DRAW = 1  # second word of the seed: what is held out does not depend on the order of the batches


def hold_out(
    rows: Sequence[CatalogRow], share: float, seed: int, sources: Sources | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions held out, of which none was made from an image of the other part.

    A share, at least one, of the normal and of the defective images is held out, where there are two. A synthetic image
    goes where the images are that it was made from; one made from both parts is left out of both. At least one is held
    out: its sources, drawn at random, are the first to be.

    Args:
        sources: of the synthetic images; one that is not named is held out as a real one would be.

    Raises:
        DataError: no normal or no defective image can be held out, or none would be left to train on.
    """
    rng = np.random.default_rng([seed, _DRAW])
    made = {at: set((sources or {})[row.id]) for at, row in enumerate(rows) if row.id in (sources or {})}
    first = made[int(rng.choice(list(made)))] if made else set()
    held: set[int] = set()
    for members in _groups([at for at in range(len(rows)) if at not in made], rows):
        order = sorted(rng.permutation(members).tolist(), key=lambda at: not _files(rows[at]) & first)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.update(order[:count])
    kept = set(range(len(rows))) - held - set(made)
    held_files, kept_files = ({file for at in part for file in _files(rows[at])} for part in (held, kept))
    for at, files in made.items():
        if not files & held_files:
            kept.add(at)
        elif not files & kept_files:
            held.add(at)
    _require_both(rows, held, "held out: train on two at least, or set detector.checkpoint=last")
    _require_both(rows, kept, "left to train on beside those held out: set detector.checkpoint=last")
    return np.array(sorted(kept), dtype=np.int64), np.array(sorted(held), dtype=np.int64)


def same_file(file: str, among: Collection[str]) -> tuple[str, ...]:
    """What a file that was written down is called among files that may lie elsewhere since: those whose path ends as
    its does for the longest stretch, at least for the name; empty where none does.
    """
    if file in among:
        return (file,)
    alike = {other: _common_end(file, other) for other in among}
    most = max(alike.values(), default=0)
    return tuple(other for other, parts in alike.items() if parts == most > 0)


def _common_end(one: str, other: str) -> int:
    pairs = zip(reversed(Path(one).parts), reversed(Path(other).parts), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _groups(positions: Sequence[int], rows: Sequence[CatalogRow]) -> Iterator[list[int]]:
    """The positions of each class, real and synthetic."""
    for label in (0, 1):
        for real in (True, False):
            if members := [at for at in positions if (rows[at].label, rows[at].origin == REAL) == (label, real)]:
                yield members


def _files(row: CatalogRow) -> set[str]:
    return {row.image} | ({row.mask} if row.mask else set())


def _require_both(rows: Sequence[CatalogRow], part: set[int], what: str) -> None:
    for label, name in enumerate(("normal", "defective")):
        if not any(rows[at].label == label for at in part):
            raise DataError(f"no {name} image can be {what}")
