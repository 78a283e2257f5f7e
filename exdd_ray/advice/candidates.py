"""What is compared on a folder: detectors, numbers of real defects, and synthetic defects beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from exdd_ray.data.catalog import catalog_rows
from exdd_ray.errors import DataError
from exdd_ray.experiment.load import Raw
from exdd_ray.experiment.space import LoadedSweep, load_raw_sweep

MIN_NORMAL = 12
MIN_DEFECTS = 4
_HELD_OUT = 1 / 3  # of the normal training images
_TESTED = 2  # normal images that are neither trained on nor judged by, where the folder has no split
_SYNTHETIC = 50
_LEARNERS: Mapping[str, Mapping[str, Any]] = {
    "ExDD": {"kind": "patch_bank", "system": "exdd"},
    "SuperSimpleNet": {"kind": "supersimplenet"},
}
_SYNTHESIZERS: Mapping[str, Mapping[str, Any]] = {
    "pasted": {"kind": "pasted", "blend": "poisson"},
    "MemSeg": {"kind": "per_region", "preset": "memseg"},
    "miniature": {"kind": "inpaint", "model": "miniature", "prompts": ["scratch", "crack", "hole", "stain"]},
}


@dataclass(frozen=True)
class Facts:
    """Images of a folder.

    Attributes:
        masked: defects with a mask.
        split: whether the folder itself says which normal images are tested.
    """

    normal: int
    defects: int
    masked: int
    split: bool

    @property
    def judged(self) -> int:
        """Defects that no candidate learns, by which all are judged."""
        return max(2, (self.defects - 1) // 2)

    @property
    def learnt(self) -> int:
        """Defects that a candidate learns at most; one at least is left over for the test images."""
        return self.defects - self.judged - 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of defects on the way to that: its half and its quarter, the most first."""
        return tuple(dict.fromkeys(count for count in (self.learnt, self.learnt // 2, self.learnt // 4) if count))


@dataclass(frozen=True)
class Candidate:
    """A detector with so many real defects and, by name, a source of synthetic ones.

    Attributes:
        learner: name of the detector.
        defects: real ones that it learns; 0 for none.
        synthetic: name of their source; empty for none.
        changes: what distinguishes it from the base, by dotted key.
    """

    learner: str
    defects: int
    synthetic: str
    changes: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As in tables and sentences."""
        real = f"{self.defects} real" if self.defects else ""
        made = f"{_SYNTHETIC} {self.synthetic}" if self.synthetic else ""
        return f"{self.learner}, {' + '.join(filter(None, (real, made)))} defects" if real or made else self.learner

    @property
    def effort(self) -> tuple[int, bool, bool]:
        """What it asks of its user: labels, synthesis, training of a network. Less is simpler."""
        return self.defects, bool(self.synthetic), self.learner == "SuperSimpleNet"


def facts_of(catalog: pa.Table) -> Facts:
    """What a folder has. Raises DataError where too few images are normal to hold some out."""
    rows = catalog_rows(catalog)
    defects = [row for row in rows if row.label == 1]
    normal = [row for row in rows if row.label == 0]
    if len(normal) < MIN_NORMAL:
        raise DataError(
            f"{len(normal)} good images: advice needs {MIN_NORMAL}, to learn from some and be judged by others"
        )
    split = any(row.split == "test" for row in normal)
    return Facts(len(normal), len(defects), sum(row.mask is not None for row in defects), split)


def candidates(facts: Facts) -> tuple[Candidate, ...]:
    """What is compared, the single bank first, then by what a user wants to know first."""
    single = Candidate("PatchCore", 0, "", {"detector": {"kind": "patch_bank", "system": "patchcore"}})
    padim = Candidate("PaDiM", 0, "", {"detector": {"kind": "padim"}})
    if facts.masked < facts.defects:
        return single, padim
    most, *fewer = facts.counts
    return (
        single,
        *(_with(learner, most, "") for learner in _LEARNERS),
        *(_with(learner, most, "pasted") for learner in _LEARNERS),
        *(_with(learner, count, "") for count in fewer for learner in _LEARNERS),
        *(_with(learner, 0, "MemSeg") for learner in _LEARNERS),
        *(_with(learner, most, "MemSeg") for learner in _LEARNERS),
        _with("SuperSimpleNet", 0, ""),
        padim,
        *(_with(learner, most, "miniature") for learner in _LEARNERS),
    )


def _with(learner: str, defects: int, synthetic: str) -> Candidate:
    made = {**_SYNTHESIZERS[synthetic], "count": _SYNTHETIC} if synthetic else None
    changes = {"detector": _LEARNERS[learner], "dataset.split.defects": defects, "synthesizer": made}
    return Candidate(learner, defects, synthetic, changes)


def as_sweep(root: Path, facts: Facts, compared: tuple[Candidate, ...], seeds: int) -> LoadedSweep:
    """The sweep over the candidates: every seed draws anew who is learnt, and who all are judged by."""
    split = {
        "defects": 0,
        "validation_fraction": _HELD_OUT,
        "validation_defects": facts.judged,
        **({} if facts.split else {"train_fraction": 1 - _TESTED / facts.normal}),
    }
    raw: Raw = {
        "name": "advise",
        "dataset": {"name": "folder", "root": str(root), "split": split},
        "seeds": list(range(seeds)),
        "variants": {one.name: dict(one.changes) for one in compared},
        "objectives": ["image_auroc"],
        "select": "validation",
    }
    return load_raw_sweep(raw, root)
