"""Config of how scores are made from distances."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen


class Rise(Frozen):
    """How evidence of defects raises a score.

    Attributes:
        share: of normal images, held out, that are raised at all: up to the level that so many of their maxima exceed,
            evidence adds nothing.
        slope: what a standard deviation of these maxima above the level adds at first.
        ceiling: the most that is added.
    """

    share: float = Field(0.01, gt=0, lt=1)
    slope: float = Field(2.0, gt=0)
    ceiling: float = Field(4.0, gt=0)


class ScoringConfig(Frozen):
    """How distances become an image score and an anomaly map.

    Attributes:
        fusion: `single` negative bank only; `ratio` s_N / (s_P + epsilon); `bonus` z_N + weight * softplus(z_NP);
            `evidence` z_N and what is learnt of defects (`evidence`).
        pairing: where s_P is read: `independent` at the patch with the largest positive distance, `colocated` at the
            patch of s_N, `min` at the patch with the smallest positive distance.
        neighbours: b of PatchCore's Eq. 7; 0 turns the re-weighting off.
        scale: distances in Eq. 7's exponents are divided by `sqrt_dim`, the root of a vector's length (ExDD), or `none`
            (PatchCore).
        own_term: whether the nearest bank vector itself is among the b neighbours in Eq. 7's denominator.
        squared: squared distances (as faiss returns them).
        top: share of an image's patches, at least one, whose mean distance is its score; None takes the farthest alone.
        epsilon: added to the ratio's denominator.
        bonus: weight of the defect evidence in `bonus`.
        smoothing: side of the mean filter over the patch grid of distances; 1 for none.
        blur: of the anomaly map: `gaussian`, or `pillow8` (Pillow's blur of an 8-bit image, as released with ExDD).
        blur_radius: standard deviation of the blur in pixels; 0 for none.
        calibration: number of normal images, held out of the bank one at a time, on which scores are standardised.
    """

    fusion: Literal["single", "ratio", "bonus", "evidence"] = "single"
    pairing: Literal["independent", "colocated", "min"] = "independent"
    neighbours: int = Field(9, ge=0)
    scale: Literal["sqrt_dim", "none"] = "none"
    own_term: bool = True
    squared: bool = False
    top: float | None = Field(None, gt=0, le=1)
    epsilon: float = Field(1e-6, ge=0)
    bonus: float = Field(0.5, ge=0)
    smoothing: int = Field(1, ge=1)
    blur: Literal["gaussian", "pillow8"] = "gaussian"
    blur_radius: float = Field(4.0, ge=0)
    calibration: int = Field(100, ge=2)

    @model_validator(mode="after")
    def _meaningful(self) -> "ScoringConfig":
        if self.smoothing % 2 == 0:
            raise ValueError(f"smoothing is the side of a centred window, so odd, not {self.smoothing}")
        if self.neighbours == 1:
            raise ValueError(
                "one neighbour is the nearest vector itself: every score would be 0; give 0, or 2 and more"
            )
        if self.top is not None and (self.fusion != "single" or self.neighbours):
            raise ValueError(
                "scoring.top is the mean of many patches of a single bank: set fusion=single, neighbours=0"
            )
        if self.blur == "pillow8" and self.standardises:
            raise ValueError(f"blur=pillow8 cuts the negative values of fusion={self.fusion} off: use gaussian")
        return self

    def aside(self) -> Iterator[str]:
        """What the fusion does not use, and options that are off."""
        used = {"single": {"squared"}, "ratio": {"epsilon", "pairing"}, "bonus": {"bonus"}}.get(self.fusion, set())
        yield from {"squared", "epsilon", "pairing", "bonus"} - used
        if self.top is None:
            yield "top"
        if self.standardises:
            yield "neighbours"
        if self.standardises or not self.neighbours:
            yield from ("scale", "own_term")

    @property
    def standardises(self) -> bool:
        """Whether scores are in standard deviations of held-out normal images."""
        return self.fusion in ("bonus", "evidence")
