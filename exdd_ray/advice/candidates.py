"""What is compared on a folder: detectors, numbers of real defects, and synthetic defects beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.config.bundled import ADVICE, find_config
from exdd_ray.data.catalog import UNSPLIT, VALIDATION, catalog_rows
from exdd_ray.data.config import Draw
from exdd_ray.data.split import masked_share
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Raw, read_raw, validate
from exdd_ray.experiment.space import LoadedSweep, load_raw_sweep
from exdd_ray.methods.table import method_of

MIN_NORMAL = 12
MIN_DEFECTS = 4
_HELD_OUT = 1 / 3  # of the normal training images
_TESTED = 2  # normal images that are neither trained on nor judged by, where the folder has no split


class AdviceConfig(Frozen):
    """What is compared, by the names that it has in the answer.

    Attributes:
        good: detectors that learn good images alone, of which the first is what all others are compared with.
        learners: detectors that learn defects by their masks.
        synthesizers: of defects beside all real ones.
        alone: the one of them that is tried without a real defect; None for none.
        synthetic: defects that each makes.
    """

    good: dict[str, dict[str, Any]] = Field(min_length=1)
    learners: dict[str, dict[str, Any]] = Field(default_factory=dict)
    synthesizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    alone: str | None = None
    synthetic: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _alone_is_one_of_them(self) -> "AdviceConfig":
        if self.alone is not None and self.alone not in self.synthesizers:
            raise ValueError(f"alone={self.alone} is none of the synthesizers: {', '.join(self.synthesizers)}")
        return self

    @model_validator(mode="after")
    def _as_many_of_each(self) -> "AdviceConfig":
        for name, given in self.synthesizers.items():
            if "count" in given:
                raise ValueError(f"synthesizers.{name}.count: `synthetic` says how many each makes: unset it")
        return self


@dataclass(frozen=True)
class Facts:
    """Images of a folder that candidates may learn from or be judged by.

    Attributes:
        defects: of its train folder, where it has some there; or else of its test folder, or all.
        masked: those of them with a mask.
        split: whether the folder itself says which images are trained on.
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
        """Defects that a candidate learns at most, of those with a mask; one is left over for the test images."""
        return self.masked - masked_share(self.judged, self.masked, self.defects) - 1

    @property
    def learnable(self) -> bool:
        """Whether enough defects have a mask for some to be learnt."""
        return self.masked >= MIN_DEFECTS

    @property
    def draw(self) -> Draw:
        """How those that are learnt are drawn."""
        return "masked" if self.learnable and self.masked < self.defects else "random"

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
        synthetic: number and name of the source of synthetic ones; empty for none.
        changes: what distinguishes it from the base, by dotted key.
    """

    learner: str
    defects: int
    synthetic: str
    changes: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As in tables and sentences."""
        parts = [f"{self.defects} real"] * bool(self.defects) + [self.synthetic] * bool(self.synthetic)
        noun = "defect" if parts == ["1 real"] else "defects"
        return f"{self.learner}, {' + '.join(parts)} {noun}" if parts else self.learner


def read_advice_config(given: str = "default") -> AdviceConfig:
    """What a file compares, or the bundled one of a name.

    Raises ConfigError for a file that is none, and for learners that learn no defects: what the answer says of labels
    and synthesis would be of nothing.
    """
    path = find_config(given, [ADVICE])
    config = validate(AdviceConfig, read_raw(path), path)
    for name, learner in config.learners.items():
        detector = validate(ExperimentConfig, {"detector": learner}, Path(f"learners.{name}")).detector
        if not method_of(detector).learns_from(detector).defects:
            raise ConfigError(f"{path}: learners.{name} learns good images alone: name it under `good`")
    return config


def facts_of(catalog: pa.Table) -> Facts:
    """What a folder has. Raises DataError where too few images are normal to hold some out."""
    rows = catalog_rows(catalog)
    defects = [row for row in rows if row.label == 1 and row.split != VALIDATION]
    defects = [row for row in defects if row.split == "train"] or defects  # as split_catalog draws them
    normal = sum(row.label == 0 and row.split in {"train", UNSPLIT} for row in rows)
    if normal < MIN_NORMAL:
        raise DataError(
            f"{normal} good images to learn from: advice needs {MIN_NORMAL}, to learn from some and be judged by others"
        )
    split = any(row.split != UNSPLIT for row in rows)
    return Facts(normal, len(defects), sum(row.mask is not None for row in defects), split)


def candidates(config: AdviceConfig, facts: Facts) -> tuple[Candidate, ...]:
    """What is compared, the first detector of good images first, then by what a user wants to know first.

    Where too few defects have masks, it is detectors of good images alone.
    """
    good = [Candidate(name, 0, "", {"detector": one}) for name, one in config.good.items()]
    if not facts.learnable:
        return tuple(good)
    most, *fewer = facts.counts
    first, *others = config.synthesizers or [""]
    asked = [(most, ""), (most, first), *((count, "") for count in fewer)]
    asked += [(0, config.alone)] if config.alone else []
    asked += [(most, other) for other in others]
    learnt = [
        _learning(config, facts.draw, learner, *each) for each in dict.fromkeys(asked) for learner in config.learners
    ]
    which = len(config.learners)  # those of the first asked: which detector, as the others of good images
    return good[0], *learnt[:which], *good[1:], *learnt[which:]


def _learning(config: AdviceConfig, draw: Draw, learner: str, defects: int, synthesizer: str) -> Candidate:
    made = {**config.synthesizers[synthesizer], "count": config.synthetic} if synthesizer else None
    changes = {"detector": config.learners[learner], "dataset.split.defects": defects, "synthesizer": made}
    if draw == "masked":
        changes["dataset.split.draw"] = draw
    return Candidate(learner, defects, f"{config.synthetic} {synthesizer}" if synthesizer else "", changes)


def as_sweep(root: Path, facts: Facts, compared: tuple[Candidate, ...], seeds: int) -> LoadedSweep:
    """The sweep over the candidates: every seed draws anew who is learnt, and who all are judged by."""
    split = {
        "defects": 0,
        "draw": facts.draw,
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
    return load_raw_sweep(raw, Path("advise"))
