"""Config of the memory-bank detectors (PatchCore, ExDD) and their presets."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from exdd_ray.banks.config import CoresetConfig, SearchConfig
from exdd_ray.banks.scoring.config import Rise, ScoringConfig
from exdd_ray.config.base import Frozen, Size, merge
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig, Preset

System = Literal["patchcore", "exdd"]


class BankConfig(Frozen):
    """The negative (normal) and, for a dual bank, the positive (defect) memory bank.

    Attributes:
        rotations: degrees by which the normal images are turned, to join the bank beside themselves: for few images of
            parts that lie in any direction (AnomalyDINO).
    """

    negative: CoresetConfig = CoresetConfig()
    positive: CoresetConfig | None = None
    rotations: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _turned(self) -> "BankConfig":
        if len({0.0, *(degrees % 360 for degrees in self.rotations)}) <= len(self.rotations):
            raise ValueError("rotations are different ones, and images are in the bank as they are too: leave 0 out")
        return self

    def aside(self) -> Iterator[str]:
        """None, as before there were any."""
        yield from () if self.rotations else ("rotations",)


class PositivesConfig(Frozen):
    """Which vectors of a defective image enter the positive bank.

    Attributes:
        source: `mask` takes the patches under the mask of the whole image; `crop` embeds a crop of every defect.
        contours: of the crops, `all` contours of an image or only the `last` (as released with ExDD).
        padding: pixels around a crop's bounding box.
        min_area: contours of fewer pixels are passed over.
        crop_size: (height, width) to which a crop is resized.
        purify: keep only vectors farther from the negative bank than this quantile of held-out normal patches, and
            the farthest of every defective image.
    """

    source: Literal["mask", "crop"] = "mask"
    contours: Literal["all", "last"] = "all"
    padding: int = Field(1, ge=0)
    min_area: int = Field(1, ge=1)
    crop_size: Size = (128, 128)
    purify: float | None = Field(None, gt=0, lt=1)

    def aside(self) -> Iterator[str]:
        """What the source does not use."""
        yield from ("purify",) if self.source == "crop" else ("contours", "padding", "min_area", "crop_size")


class EvidenceConfig(Frozen):
    """What is learnt of defects, for `scoring.fusion=evidence`: kernel ridge regression on patch vectors.

    Patches that masks cover are told from the hardest patches of held-out normal images and from random ones. The
    landmarks are the positive bank and a coreset of those normal patches.

    Attributes:
        normal_landmarks: of normal patches.
        defect_landmarks: of defects' patches at most: the first of the positive bank, which are the farthest apart.
            Memory grows with the square of all landmarks, time with the cube.
        hardest: patches of each held-out normal image that are farthest from the bank without it.
        random: others of each, which stand for all others.
        covered: patches that a mask covers by this share at least are a defect's extent; it need not be striking.
        prior: weight of the defects among all patches.
        image_ridge: of what image scores rest on, which is learnt of purified patches.
        map_ridge: of what maps rest on, which is learnt of covered patches.
        folds: images are left out in so many turns, to know what evidence there is of images that were not learnt;
            defects that are crops of one file are left out together.
        image: how evidence of few defects raises image scores.
        trusted_image: how that of many does; what is in between is interpolated, geometrically.
        many: real defective images from which on a next one is hardly of a kind that none of them resembles.
        maps: how it may raise maps: the first of these that buries neither training defects that were left out, nor
            those that are scored without evidence, as a kind that was never seen would be.
        ceiling: of these rises, where defects are few: higher ones are not tried, as few defects are a weak test.
        trusted_ceiling: that where they are many.
        tolerance: loss of their average precision up to which they are not buried, where defects are few.
        trusted_tolerance: that where they are many.
    """

    normal_landmarks: int = Field(512, ge=1)
    defect_landmarks: int = Field(2048, ge=1)
    hardest: int = Field(30, ge=1)
    random: int = Field(30, ge=1)
    covered: float = Field(0.5, gt=0, le=1)
    prior: float = Field(0.1, gt=0, lt=1)
    image_ridge: float = Field(1e-5, gt=0)
    map_ridge: float = Field(1e-4, gt=0)
    folds: int = Field(4, ge=2)
    image: Rise = Rise(share=0.003, slope=3.0, ceiling=4.0)
    trusted_image: Rise = Rise(share=0.3, slope=4.0, ceiling=6.0)
    many: int = Field(80, ge=1)
    maps: tuple[Rise, ...] = (
        Rise(share=0.5, slope=8.0, ceiling=20.0),
        Rise(share=0.5, slope=4.0, ceiling=12.0),
        Rise(share=0.85, slope=2.0, ceiling=8.0),
        Rise(share=0.85, slope=2.0, ceiling=5.0),
        Rise(share=0.7, slope=2.0, ceiling=4.0),
        Rise(share=0.5, slope=2.0, ceiling=3.0),
    )
    ceiling: float = Field(5.0, gt=0)
    trusted_ceiling: float = Field(20.0, gt=0)
    tolerance: float = Field(0.04, gt=0, lt=1)
    trusted_tolerance: float = Field(0.1, gt=0, lt=1)

    def image_rise(self, defects: int) -> Rise:
        """How evidence of so many real defective images raises image scores."""
        few, many = self.image, self.trusted_image
        return Rise(
            share=self._between(few.share, many.share, defects),
            slope=self._between(few.slope, many.slope, defects),
            ceiling=self._between(few.ceiling, many.ceiling, defects),
        )

    def map_rises(self, defects: int) -> tuple[Rise, ...]:
        """How evidence of so many real defective images may raise maps."""
        highest = self._between(self.ceiling, self.trusted_ceiling, defects)
        return tuple(rise for rise in self.maps if rise.ceiling <= highest)

    def map_tolerance(self, defects: int) -> float:
        """What scores of maps may lose with so many real defective images."""
        return self._between(self.tolerance, self.trusted_tolerance, defects)

    def _between(self, few: float, many: float, defects: int) -> float:
        return float(few * (many / few) ** min(defects / self.many, 1.0))


_PATCHCORE_INPUT = {"backbone": "wide_resnet50_2", "aggregator": "pc1024", "resize": 256, "crop": (224, 224)}


PRESETS: Mapping[tuple[System, Preset], Mapping[str, Any]] = {
    ("patchcore", "paper"): {
        "features": _PATCHCORE_INPUT,
        "bank": {"negative": {"rate": 0.1, "projection": 128}},
        "scoring": {"fusion": "single", "neighbours": 9, "scale": "none"},
    },
    ("patchcore", "released"): {
        "features": _PATCHCORE_INPUT,
        "bank": {"negative": {"rate": 0.1, "method": "approximate", "projection": 128}},
        "scoring": {"fusion": "single", "neighbours": 0, "squared": True},
    },
    ("patchcore", "best"): {
        "bank": {"negative": {"rate": 0.01}},
        "scoring": {"fusion": "single", "neighbours": 0, "smoothing": 3},
    },
    ("exdd", "paper"): {
        "features": {"backbone": "resnet50", "aggregator": "avg", "working_size": (632, 224), "resize": (632, 224)},
        "bank": {"negative": {"rate": 0.02, "projection": 128}, "positive": {"rate": 0.1, "projection": 128}},
        "positives": {"source": "crop", "contours": "all", "padding": 1},
        "scoring": {"fusion": "ratio", "pairing": "independent", "neighbours": 3, "scale": "sqrt_dim"},
    },
    ("exdd", "released"): {
        "features": {"backbone": "resnet50", "aggregator": "exdd", "working_size": (632, 224), "resize": (316, 112)},
        "bank": {
            "negative": {"rate": 0.01, "minimum": 1000, "projection": 128, "seed": 0},
            "positive": {"rate": 0.1, "minimum": 1000, "projection": 128, "seed": 0},
        },
        "positives": {"source": "crop", "contours": "last", "padding": 1},
        "scoring": {
            "fusion": "ratio",
            "pairing": "independent",
            "neighbours": 3,
            "scale": "sqrt_dim",
            "own_term": False,
            "blur": "pillow8",
            "blur_radius": 2.0,
        },
    },
    ("exdd", "best"): {
        "bank": {"negative": {"rate": 0.01}, "positive": {"rate": 0.1, "minimum": 512}},
        "positives": {"source": "mask", "purify": 0.99},
        "scoring": {"fusion": "evidence", "neighbours": 0, "smoothing": 3, "calibration": 300},
    },
}


class PatchBankConfig(DetectorConfig):
    """A memory-bank detector. The preset fills what is not given.

    Attributes:
        kind: of the detector: memory banks of patches.
        system: `patchcore` (one bank) or `exdd` (two banks).
        preset: `paper` as published, `released` as the authors' code computes it, `best` what measurements support.
    """

    feature_options: ClassVar[tuple[str, ...]] = ("foreground", "layers_apart", "tiles", "pad")
    kind: Literal["patch_bank"] = "patch_bank"
    system: System = "exdd"
    preset: Preset = "best"
    features: FeaturesConfig = FeaturesConfig()
    bank: BankConfig = BankConfig()
    search: SearchConfig = SearchConfig()
    positives: PositivesConfig = PositivesConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    scoring: ScoringConfig = ScoringConfig()

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        chosen = (given.get("system", "exdd"), given.get("preset", "best"))
        return merge(PRESETS.get(chosen, {}), given)

    @model_validator(mode="after")
    def _consistent(self) -> "PatchBankConfig":
        dual = self.bank.positive is not None
        if dual and self.system == "patchcore":
            raise ValueError("bank.positive is set, but patchcore has one bank: use system=exdd")
        if not dual and self.scoring.fusion != "single":
            raise ValueError(f"scoring.fusion={self.scoring.fusion} needs bank.positive")
        alone = {
            "features.foreground": self.features.foreground,
            "features.layers_apart": self.features.layers_apart,
            "bank.rotations": self.bank.rotations,
        }
        for name, given in alone.items():
            if dual and given:
                raise ValueError(f"{name} is of a single bank: unset it, or use system=patchcore")
        if self.features.layers_apart and self.scoring.neighbours:
            raise ValueError(
                "scoring.neighbours looks around one bank's vector, and features.layers_apart has a bank a layer: set 0"
            )
        if self.scoring.fusion == "evidence" and self.positives.source == "crop":
            raise ValueError("scoring.fusion=evidence learns of patches under masks: set positives.source=mask")
        return self

    def aside(self) -> Iterator[str]:
        """What says which banks there are, and what one that is not there would use."""
        yield "system"
        if self.bank.positive is None:
            yield "positives"
        if self.scoring.fusion != "evidence":
            yield "evidence"
        if not self.calibrates:
            yield "scoring.calibration"

    @property
    def calibrates(self) -> bool:
        """Whether held-out normal images are searched for."""
        return self.bank.positive is not None and (self.scoring.standardises or self.purify is not None)

    @property
    def purify(self) -> float | None:
        """Of the positives, where they are taken so."""
        return self.positives.purify if self.positives.source == "mask" else None

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        return self.features
