"""Which images: the dataset and its split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from exdd_ray.config.base import Frozen

Draw = Literal["random", "first_third", "masked"]


def _as_text(given: Any) -> Any:
    """A name such as 2024, which YAML takes for a number, as text."""
    return str(given) if isinstance(given, int) else given


class SplitConfig(Frozen):
    """Who is trained on.

    Attributes:
        train_fraction: of the normal images, where the dataset publishes no split.
        defects: defective images to train on; None takes all that the dataset's own split puts into train.
        draw: which defects are trained on: as many as `defects` says at `random`, of all or of those that are `masked`,
            or the `first_third` of each kind, sorted by name and rounded down, as AnomalyDiffusion and DualAnoDiff do.
        validation_fraction: of the normal training images, held out to choose thresholds on, and to choose between
            experiments where validation_defects are too; where the dataset publishes validation images of its own
            (MVTec LOCO AD, MVTec AD 2), they are taken in their stead.
        validation_defects: defective images held out for the latter: of the training ones where the dataset has any.
    """

    train_fraction: float = Field(0.8, gt=0, lt=1)
    defects: int | None = Field(None, ge=0)
    draw: Draw = "random"
    validation_fraction: float = Field(0.0, ge=0, lt=1)
    validation_defects: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole_validation(self) -> "SplitConfig":
        if self.validation_defects and not self.validation_fraction:
            raise ValueError("validation needs both kinds of images: set validation_fraction beside validation_defects")
        if self.draw == "first_third" and self.defects is not None:
            raise ValueError(f"draw=first_third says which defects are trained on: unset defects={self.defects}")
        if self.draw == "masked" and self.defects is None:
            raise ValueError("draw=masked takes as many defects as asked for: set defects")
        return self

    def aside(self) -> Iterator[str]:
        """The draw where it is the usual one."""
        if self.draw == "random":
            yield "draw"


class ProceduralConfig(Frozen):
    """The made dataset (dataset.name=procedural); counts are per material.

    Attributes:
        size: (height, width) of the images.
        materials: of the surfaces; None takes all.
        kinds: of the defects; None takes all.
        normal_train: normal images to train on.
        normal_test: normal images to test on.
        defects_per_kind: defective images to test on, of each kind.
        seed: of what is drawn.
    """

    size: tuple[int, int] = (160, 160)
    materials: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    normal_train: int = Field(40, ge=1)
    normal_test: int = Field(20, ge=1)
    defects_per_kind: int = Field(10, ge=1)
    seed: int = 0


class DatasetConfig(Frozen):
    """Which images.

    Attributes:
        name: a known dataset (`exdd data list`), `folder` for one's own, or `procedural` for a made one.
        root: its folder; None looks for EXDD_DATA/<name>, or data/<name> where that is unset.
        category: one category; None runs all, each with its own model.
        weak_labels: a KSDD2 split file that says which train positives have a pixel mask.
        mask_threshold: a mask pixel above it is defective; None reads two-valued masks as such, others from the middle
            of their file's range, and VisA, MVTec LOCO AD, AutoVI and the Kolektor datasets from 0, as their
            publishers do.
        bit_depth: of the grey values in 16-bit files, as 12 for a camera's 12 bits; None is all 16.
        duplicates: `drop` leaves training and validation images out whose bytes are tested too; `keep` says so.
        max_unreadable: share of unreadable images that is tolerated (they are left out and reported).
    """

    name: str = "procedural"
    root: Annotated[Path | None, BeforeValidator(_as_text)] = None
    category: Annotated[str | None, BeforeValidator(_as_text)] = None
    weak_labels: Path | None = None
    mask_threshold: int | None = Field(None, ge=0, lt=65535)
    bit_depth: int | None = Field(None, ge=9, le=16)
    duplicates: Literal["keep", "drop"] = "keep"
    max_unreadable: float = Field(0.0, ge=0, le=1)
    split: SplitConfig = SplitConfig()
    procedural: ProceduralConfig = ProceduralConfig()

    def aside(self) -> Iterator[str]:
        """What finds the images: they are known one by one."""
        yield from ("root", "category", "weak_labels", "procedural")
