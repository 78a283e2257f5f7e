"""Config of DiffusionAD (Zhang et al., 2023) and its presets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen, merge
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig, Preset, SegmentationConfig
from exdd_ray.synthesizers.config import ForegroundConfig
from exdd_ray.training.config import TrainConfig

TIMESTEPS = 1000
Scale = Literal["full", "small"]
Steps = tuple[int, int]


class ReconstructionConfig(Frozen):
    """The denoising UNet.

    Attributes:
        base: channels at the full resolution, and length of the sinusoidal time embedding.
        multipliers: channels of each resolution, in multiples of `base`; each resolution has half the last one's side.
        layers: residual blocks of a resolution on the way down; one more on the way up.
        attention: sides of the feature maps that have self-attention (the deepest always has one in the middle).
        heads: of an attention.
        groups: of the group normalisation.
    """

    base: int = Field(128, ge=8)
    multipliers: tuple[int, ...] = Field((1, 1, 2, 2, 4, 4), min_length=2)
    layers: int = Field(2, ge=1)
    attention: tuple[int, ...] = (32, 16, 8)
    heads: int = Field(4, ge=1)
    groups: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _divides(self) -> "ReconstructionConfig":
        for name, number in (("heads", self.heads), ("groups", self.groups)):
            if self.base % number:
                raise ValueError(f"{name} {number} must divide base {self.base}")
        return self


class DiffusionConfig(Frozen):
    """The noise of the two scales; steps are of 0 .. 999.

    Attributes:
        image_range: pixels that the networks see: `signed` -1..1, or `unit` 0..1. The reconstruction is always clamped
            to -1..1.
        weak, strong: first and last step that training draws each scale from, uniformly.
        weak_test, strong_test: the steps used after training.
        guidance: weight of the norm guidance.
        noise_loss: `mean` or `sum` of the two scales' squared errors.
    """

    image_range: Literal["signed", "unit"] = "signed"
    weak: Steps = (0, 299)
    strong: Steps = (300, 599)
    weak_test: int = Field(200, ge=1, lt=TIMESTEPS)
    strong_test: int = Field(400, ge=1, lt=TIMESTEPS)
    guidance: float = Field(1.0, ge=0)
    noise_loss: Literal["mean", "sum"] = "sum"

    @model_validator(mode="after")
    def _ordered(self) -> "DiffusionConfig":
        for name, (first, last) in (("weak", self.weak), ("strong", self.strong)):
            if not 0 <= first <= last < TIMESTEPS:
                raise ValueError(f"{name} {first}..{last}: steps ascend within 0..{TIMESTEPS - 1}")
        if self.weak_test >= self.strong_test:
            raise ValueError(f"weak_test {self.weak_test} is not below strong_test {self.strong_test}")
        return self


class AnomalyConfig(Frozen):
    """The synthetic anomalies of the training (per-region blending by DiffusionAD's recipe).

    Attributes:
        share: probability that a training sample has one.
        textures: folder of texture images; None makes procedural ones.
        texture_share: probability that a texture fills one, else the image's own structure does; None is the recipe's
            0.5, and 1 for categories that are textures.
        texture_categories: which are; published for MVTec AD and DAGM.
        foreground: where they may lie.
    """

    share: float = Field(0.5, gt=0, lt=1)
    textures: Path | None = None
    texture_share: float | None = Field(None, ge=0, le=1)
    texture_categories: tuple[str, ...] = ()
    foreground: ForegroundConfig = ForegroundConfig()

    def aside(self) -> Iterator[str]:
        """Textures are known by their contents."""
        yield "textures"


class InferenceConfig(Frozen):
    """How a trained model is applied; the training does not depend on it.

    Attributes:
        mode: `one_step` from two scales with norm guidance; for comparison `single_scale`, one step from the weak
            scale alone, and `ddim`, many steps down from the strong scale.
        ddim_steps: of `ddim`; must divide diffusion.strong_test.
        noise: `seeded`, by the experiment's seed and the image's id, so that scores repeat; or `random`.
        batch: images at once.
    """

    mode: Literal["one_step", "single_scale", "ddim"] = "one_step"
    ddim_steps: int = Field(50, ge=1)
    noise: Literal["seeded", "random"] = "seeded"
    batch: int = Field(8, ge=1)

    def aside(self) -> Iterator[str]:
        """What the mode does not use."""
        if self.mode != "ddim":
            yield "ddim_steps"


_TEXTURES = ("carpet", "grid", "leather", "tile", "wood", "zipper", *(f"Class{n}" for n in range(1, 11)))

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "paper": {
        "anomalies": {"texture_categories": _TEXTURES},
        "diffusion": {"noise_loss": "mean"},
        "schedule": "constant",
        "checkpoint": "last",
        "inference": {"noise": "random"},
        "training": {"batch": 16},
    },
    "released": {
        "anomalies": {"texture_categories": _TEXTURES},
        "antialias": False,
        "diffusion": {"image_range": "unit", "strong": (300, 999)},
        "schedule": "oscillating",
        "checkpoint": "test",
        "validate_epochs": 50,
        "inference": {"noise": "random"},
        "training": {"batch": 16},
    },
    "best": {
        "schedule": "cosine",
        "checkpoint": "validation",
        "inference": {"noise": "seeded"},
        "training": {"batch": 16, "ema": 0.999},
    },
}

SCALES: Mapping[Scale, Mapping[str, Any]] = {
    "full": {},
    "small": {
        "size": 64,
        "reconstruction": {"base": 16, "multipliers": (1, 1, 2, 4), "layers": 1, "attention": (), "groups": 8},
        "segmentation": {"base": 16, "multipliers": (1, 2, 4, 8)},
        "unet_rate": 1e-3,
        "segmentation_rate": 1e-3,
        "steps": 1500,
        "training": {"batch": 8, "ema": 0.99},
    },
}


def _fitted(scale: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """What a scale changes of a preset: it averages weights, for fewer steps, only where the preset does."""
    training = scale.get("training", {})
    kept = {key: value for key, value in training.items() if key != "ema" or key in preset.get("training", {})}
    return {**scale, "training": kept}


class DiffusionADConfig(DetectorConfig):
    """DiffusionAD: an image is reconstructed without its defects in one denoising step, and compared by a network.

    Attributes:
        kind: of the detector: trained to reconstruct and to segment.
        preset: `paper` as published (as far as it is known: learning rates and noise ranges from the released config);
            `released` as the authors' code computes it: pixels of 0..1, strong noise of steps 300..999, a learning rate
            that swings with a period of 20 steps, images reduced without smoothing, the checkpoint chosen on the test
            images (a leak; the report says so): the last that is no worse than the one before in image AUROC and in
            image and pixel AUROC together, both rounded; `best` keeps averaged weights, anneals the rates once, chooses
            the checkpoint on held-out training images and repeats its scores.
        scale: `full` as published, or `small` networks and images for CPUs.
        size: side of the images in pixels, 64 to 256.
        antialias: images are smoothed as they are resized; else bilinear, as OpenCV does.
        unet_rate, segmentation_rate: learning rates (Adam).
        schedule: of the rates: `constant`; `cosine`, both fall to 0 over the training; `oscillating`, the
            segmentation's alone falls to 0 and returns every 20 steps.
        epochs: a step for every batch of training images, so many times.
        steps: of the training; None takes `epochs`, which overrule the steps of a scale where they are given.
        checkpoint: `last`, the best on `validation`, or the best on `test` (for preset=released only).
        validate_epochs: epochs between two validations; None takes training.validate_every.
        held_out: share of the training images that are kept for validation.
    """

    makes_anomalies = "detector.anomalies"
    kind: Literal["diffusionad"] = "diffusionad"
    preset: Preset = "best"
    scale: Scale = "full"
    size: int = Field(256, ge=64, le=256)
    antialias: bool = True
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    anomalies: AnomalyConfig = AnomalyConfig()
    unet_rate: float = Field(1e-4, gt=0)
    segmentation_rate: float = Field(1e-5, gt=0)
    schedule: Literal["constant", "cosine", "oscillating"] = "cosine"
    epochs: int = Field(3000, ge=1)
    steps: int | None = Field(None, ge=1)
    checkpoint: Literal["last", "validation", "test"] = "validation"
    validate_epochs: int | None = Field(None, ge=1)
    held_out: float = Field(0.1, gt=0, lt=1)
    training: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        preset = PRESETS.get(given.get("preset", "best"), {})
        scale = SCALES.get(given.get("scale", "full"), {})
        filled = merge(merge(preset, _fitted(scale, preset)), given)
        if "epochs" in given and "steps" not in given:
            filled["steps"] = None  # the scale's are not to overrule what was asked
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> "DiffusionADConfig":
        for name, levels in (("reconstruction", self.reconstruction), ("segmentation", self.segmentation)):
            if self.size % (1 << len(levels.multipliers) - 1):
                raise ValueError(f"size {self.size} cannot be halved {len(levels.multipliers) - 1} times ({name})")
        sides = {self.size >> level for level in range(len(self.reconstruction.multipliers))}
        if unknown := set(self.reconstruction.attention) - sides:
            raise ValueError(f"reconstruction.attention {min(unknown)}: feature maps have sides {sorted(sides)}")
        if self.checkpoint == "test" and self.preset != "released":
            raise ValueError("checkpoint=test is a leak, kept for preset=released: use validation or last")
        if self.validate_epochs is not None and self.training.validate_every != TrainConfig().validate_every:
            raise ValueError("training.validate_every is not used where validate_epochs is given: unset one of them")
        if self.inference.mode == "ddim" and self.diffusion.strong_test % self.inference.ddim_steps:
            raise ValueError(
                f"inference.ddim_steps {self.inference.ddim_steps} does not divide strong_test "
                f"{self.diffusion.strong_test}"
            )
        return self

    def aside(self) -> Iterator[str]:
        """What fills other values, and what they overrule or do not use."""
        yield "scale"
        if self.steps is not None:
            yield "epochs"
        if self.checkpoint != "validation":
            yield "held_out"
        if self.checkpoint == "last":
            yield "validate_epochs"
        if self.checkpoint == "last" or self.validate_epochs is not None:
            yield "training.validate_every"

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        size = (self.size, self.size)
        return FeaturesConfig(working_size=None if self.antialias else size, resize=size)
