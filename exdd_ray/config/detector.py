"""Config of the memory-bank detectors (PatchCore, ExDD) and their presets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen, merge

Size = tuple[int, int]
System = Literal["patchcore", "exdd"]
Preset = Literal["paper", "released", "best"]


class FeaturesConfig(Frozen):
    """What turns an image into patch vectors.

    Attributes:
        backbone: `surface_resnet18` (bundled), a torchvision model, or `timm/<name>`.
        weights: a weights file (safetensors or pth); None looks in EXDD_WEIGHTS, then downloads torchvision's.
        layers: modules whose outputs are taken, shallow first; the forward pass stops after the last.
        aggregator: `avg` 3x3 mean, bilinear, concatenated; `exdd` as released with ExDD; `pc1024` as in PatchCore.
        working_size: (height, width) to which images and masks are resized before anything else (bilinear, as OpenCV
            does), as when a dataset is stored so; None keeps theirs.
        resize: (height, width), or one number for the shorter side (then `crop` is needed).
        crop: (height, width) of a central crop after the resize.
        dtype: how the vectors are stored.
        precision: of the backbone's arithmetic; `bfloat16` pays on a GPU.
    """

    backbone: str = "surface_resnet18"
    weights: Path | None = None
    layers: tuple[str, ...] = Field(("layer2", "layer3"), min_length=1)
    aggregator: Literal["avg", "exdd", "pc1024"] = "avg"
    working_size: Size | None = None
    resize: int | Size = (224, 224)
    crop: Size | None = None
    dtype: Literal["float32", "float16"] = "float32"
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _fixed_size(self) -> "FeaturesConfig":
        sides = [self.resize] if isinstance(self.resize, int) else list(self.resize)
        if min(*sides, *(self.working_size or ()), *(self.crop or ()), 16) < 16:
            raise ValueError("sizes are at least 16 pixels")
        if self.crop is not None and any(want > have for want, have in zip(self.crop, sides * 2, strict=False)):
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")
        if isinstance(self.resize, int) and self.crop is None:
            raise ValueError("resize by the shorter side leaves many sizes: give crop, or resize=[height,width]")
        return self

    def aside(self) -> Iterator[str]:
        """The weights' file is known by its content."""
        yield "weights"

    @property
    def input_size(self) -> Size:
        """(height, width) that the backbone sees."""
        size = self.crop if self.crop is not None else self.resize
        assert not isinstance(size, int)
        return size


class CoresetConfig(Frozen):
    """How a memory bank is thinned.

    Attributes:
        rate: share of the vectors kept, in (0, 1].
        minimum: at least so many vectors are kept (all of them if there are fewer).
        method: `greedy` exact farthest-first; `approximate` PatchCore's released one (ten random starts, their mean
            distance); `merge_reduce` the greedy coreset of the chunks' greedy coresets, for banks beyond one machine's
            patience (covers within 4 times the least radius, `greedy` within 2); `random` a seeded random subset.
        chunk: vectors of a chunk of `merge_reduce`.
        projection: dimensions of a Gaussian random projection in which the greedy order is computed; None for none.
        seed: of the first pick and the projection; None takes the experiment's.
    """

    rate: float = Field(0.01, gt=0, le=1)
    minimum: int = Field(1, ge=1)
    method: Literal["greedy", "approximate", "merge_reduce", "random"] = "greedy"
    chunk: int = Field(200_000, ge=1)
    projection: int | None = Field(None, ge=1)
    seed: int | None = None

    def aside(self) -> Iterator[str]:
        """What the method does not use."""
        if self.method != "merge_reduce":
            yield "chunk"
        if self.method == "random":
            yield "projection"


class SearchConfig(Frozen):
    """How nearest bank vectors are found.

    Attributes:
        index: `exact`; or FAISS's `flat` (exact but for rounding), `hnsw` or `ivf`, which trade neighbours for speed:
            measure their recall (benchmarks/search.py). Held-out images are always searched exactly.
        precision: of the exact search's products; bfloat16 finds the same neighbours, faster where the hardware is.
        memory_mib: bound of the products that each thread holds at a time; None is what measured fastest.
    """

    index: Literal["exact", "flat", "hnsw", "ivf"] = "exact"
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_mib: int | None = Field(None, ge=1)

    def aside(self) -> Iterator[str]:
        """What changes the time alone: neighbours are decided by exact distances."""
        yield from ("precision", "memory_mib")


class BankConfig(Frozen):
    """The negative (normal) and, for a dual bank, the positive (defect) memory bank."""

    negative: CoresetConfig = CoresetConfig()
    positive: CoresetConfig | None = None


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


class ScoringConfig(Frozen):
    """How distances become an image score and an anomaly map.

    Attributes:
        fusion: `single` negative bank only; `ratio` s_N / (s_P + epsilon); `bonus` z_N + weight * softplus(z_NP).
        pairing: where s_P is read: `independent` at the patch with the largest positive distance, `colocated` at the
            patch of s_N, `min` at the patch with the smallest positive distance.
        neighbours: b of PatchCore's Eq. 7; 0 turns the re-weighting off.
        scale: distances in Eq. 7's exponents are divided by `sqrt_dim`, the root of a vector's length (ExDD), or `none`
            (PatchCore).
        own_term: whether the nearest bank vector itself is among the b neighbours in Eq. 7's denominator.
        squared: squared distances (as faiss returns them).
        epsilon: added to the ratio's denominator.
        bonus: weight of the defect evidence in `bonus`.
        smoothing: side of the mean filter over the patch grid of distances; 1 for none.
        blur: of the anomaly map: `gaussian`, or `pillow8` (Pillow's blur of an 8-bit image, as released with ExDD).
        blur_radius: standard deviation of the blur in pixels; 0 for none.
        calibration: number of normal images, held out of the bank one at a time, on which scores are standardised.
    """

    fusion: Literal["single", "ratio", "bonus"] = "single"
    pairing: Literal["independent", "colocated", "min"] = "independent"
    neighbours: int = Field(9, ge=0)
    scale: Literal["sqrt_dim", "none"] = "none"
    own_term: bool = True
    squared: bool = False
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
        if self.blur == "pillow8" and self.fusion == "bonus":
            raise ValueError("blur=pillow8 cuts the negative values of fusion=bonus off: use gaussian")
        return self

    def aside(self) -> Iterator[str]:
        """What the fusion does not use."""
        used = {"single": {"squared"}, "ratio": {"epsilon", "pairing"}, "bonus": {"bonus"}}[self.fusion]
        yield from {"squared", "epsilon", "pairing", "bonus"} - used
        if self.fusion == "bonus":
            yield "neighbours"
        if self.fusion == "bonus" or not self.neighbours:
            yield from ("scale", "own_term")


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
        "bank": {"negative": {"rate": 0.01}, "positive": {"rate": 0.1}},
        "positives": {"source": "mask", "purify": 0.99},
        "scoring": {"fusion": "bonus", "neighbours": 0, "smoothing": 3},
    },
}


class PatchBankConfig(Frozen):
    """A memory-bank detector. The preset fills what is not given.

    Attributes:
        kind: of the detector: memory banks of patches.
        system: `patchcore` (one bank) or `exdd` (two banks).
        preset: `paper` as published, `released` as the authors' code computes it, `best` what measurements support.
    """

    kind: Literal["patch_bank"] = "patch_bank"
    system: System = "exdd"
    preset: Preset = "best"
    features: FeaturesConfig = FeaturesConfig()
    bank: BankConfig = BankConfig()
    search: SearchConfig = SearchConfig()
    positives: PositivesConfig = PositivesConfig()
    scoring: ScoringConfig = ScoringConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        chosen = (given.get("system", "exdd"), given.get("preset", "best"))
        return merge(PRESETS.get(chosen, {}), given)

    @model_validator(mode="after")
    def _consistent(self) -> "PatchBankConfig":
        dual = self.bank.positive is not None
        if dual and self.system == "patchcore":
            raise ValueError("bank.positive is set, but patchcore has one bank: use system=exdd")
        if not dual and self.scoring.fusion != "single":
            raise ValueError(f"scoring.fusion={self.scoring.fusion} needs bank.positive")
        return self

    def aside(self) -> Iterator[str]:
        """What says which banks there are, and what one that is not there would use."""
        yield "system"
        if self.bank.positive is None:
            yield "positives"
        if not self.calibrates:
            yield "scoring.calibration"

    @property
    def calibrates(self) -> bool:
        """Whether held-out normal images are searched for."""
        return self.bank.positive is not None and (self.scoring.fusion == "bonus" or self.purify is not None)

    @property
    def purify(self) -> float | None:
        """Of the positives, where they are taken so."""
        return self.positives.purify if self.positives.source == "mask" else None

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        return self.features
