"""Config of DualAnoDiff, and its presets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen, Size, merge
from exdd_ray.synthesizers.config import ForegroundConfig, SegmentedConfig
from exdd_ray.synthesizers.painting.config import DiffusionConfig
from exdd_ray.training.config import TrainConfig

ASKED_BY = "synthesizer.tuning"
Colour = tuple[float, float, float]


class BackgroundConfig(Frozen):
    """Background compensation (BCM): whole images are painted with what is behind the part in a normal image.

    Attributes:
        foreground: the part; what is left of an image without it is the background.
        closing: radius in pixels of the model's size, within which gaps in the foreground are closed.
        rule: how an image's states z take those of its background: `add` is z + gamma MLP(z_b), `mix` is
            (1 - gamma) z + gamma MLP(z_b).
        gamma: at the beginning; it is learnt.
        width: of the MLP.
        scaled: the background's latents are multiplied by the autoencoder's scaling factor, as all others are.
    """

    foreground: ForegroundConfig = ForegroundConfig(kind="threshold")
    closing: int = Field(2, ge=0)
    rule: Literal["add", "mix"] = "add"
    gamma: float = 0.1
    width: int = Field(320, ge=1)
    scaled: bool = True


class DualTuningConfig(Frozen):
    """What is learnt of a kind of defect: whole images, and their anomalous parts alone.

    Attributes:
        whole_prompt: of whole images; it holds the prompt of the part.
        part_prompt: of the anomalous part.
        backdrop: colour around the part, red, green and blue of -1..1; zeros are the mid-grey of the published code.
        repeats: of each image, with a mirroring and a window of its own.
        flips: mirror them at random, left to right and top to bottom.
        rank: of the LoRA that each branch has on each projection of all attention.
        shared_rank: of the LoRA that both branches have on the other layers of transformer and residual blocks, down-
            and upsamplers; None leaves them alone.
        text_rank: of the LoRA on the text encoder; None leaves it alone.
        saim: how the output of the layers in which branches see each other starts: at `random` as published, at `zero`,
            so that training starts from the pretrained model; `off` has no such layers.
        saim_blocks: such layers are after residual blocks, too, for a UNet as the miniature's, which attends at its
            coarsest levels alone.
        background: None paints without compensation.
        learning_rate: at the start.
        schedule: of the learning rate: `constant`, or falling to 0 by a `cosine`.
        steps: of the whole training.
        gradient_checkpointing: compute activations anew in the backward pass, for less memory.
        seed: of all that is drawn; None is the experiment's.
        training: the loop.
    """

    whole_prompt: str = "a vfx with sks"
    part_prompt: str = Field("sks", min_length=1)
    backdrop: Colour = (0.0, 0.0, 0.0)
    repeats: int = Field(24, ge=1)
    flips: bool = True
    rank: int = Field(16, ge=1)
    shared_rank: int | None = Field(16, ge=1)
    text_rank: int | None = Field(8, ge=1)
    saim: Literal["zero", "random", "off"] = "zero"
    saim_blocks: bool = True
    background: BackgroundConfig | None = None
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    steps: int = Field(600, ge=1)
    gradient_checkpointing: bool = False
    seed: int | None = Field(None, ge=0)
    training: TrainConfig = TrainConfig(batch=4, max_grad_norm=1.0)

    @model_validator(mode="after")
    def _consistent(self) -> "DualTuningConfig":
        if self.part_prompt not in self.whole_prompt:
            raise ValueError(
                f"tuning.whole_prompt={self.whole_prompt!r} must hold tuning.part_prompt={self.part_prompt!r}: prompts "
                "are nested"
            )
        if any(abs(level) > 1 for level in self.backdrop):
            raise ValueError("tuning.backdrop: red, green and blue are of -1..1")
        return self

    def aside(self) -> Iterator[str]:
        """What does not change what is learnt, and what is not used."""
        yield "gradient_checkpointing"
        if self.saim == "off":
            yield "saim_blocks"


class BlendConfig(Frozen):
    """Around the part, whole images are kept as their backgrounds are (blended latent diffusion).

    Attributes:
        start: share of the denoising steps before it begins: what part there will be must have shown.
        share: of the largest difference of a part's latents from the backdrop's, above which they are of the part.
        least: difference below which they never are.
        margin: latents around them that are painted, too.
    """

    start: float = Field(0.4, ge=0, le=1)
    share: float = Field(0.3, gt=0, lt=1)
    least: float = Field(0.5, gt=0)
    margin: int = Field(2, ge=0)


class PairMaskConfig(SegmentedConfig):
    """The mask of a pair: where its part differs from the backdrop, or a model finds it; and which are of no use.

    Differences are of 0..255, and blurred: texture that the model paints anew is none. Faint defects are as large as
    strong ones, so a pixel is told by its share of a pair's largest difference.

    Attributes:
        blur: standard deviation in pixels of the model's size.
        share: of the largest difference in a pair, above which a pixel is of the part, or counts as changed.
        level: difference from the backdrop, of the channel that differs most, up to which a pixel never is of the part.
            A `model` is asked instead, of the part on its backdrop at the model's size.
        opening: radius in pixels of what is taken for noise.
        closing: radius in pixels within which gaps are closed; holes are filled.
        changed_level: difference between image and background, averaged over channels, up to which a pixel never
            counts as changed; known where a background is painted on.
        covers: the least share of the changed pixels that the mask must hold; less drops the pair.
    """

    blur: float = Field(2.0, ge=0)
    share: float = Field(0.4, ge=0, lt=1)
    level: float = Field(8.0, gt=0)
    opening: int = Field(0, ge=0)
    closing: int = Field(1, ge=0)
    changed_level: float = Field(8.0, gt=0)
    covers: float = Field(0.5, ge=0, le=1)

    def aside(self) -> Iterator[str]:
        """A model needs no level."""
        yield from super().aside()
        if self.model is not None:
            yield "level"


class DualConfig(DiffusionConfig):
    """DualAnoDiff: a whole image and its anomalous part are painted together, and the part gives the mask.

    Attributes:
        kind: of the synthesizer: image and anomalous part painted together.
        preset: `paper` and `released` have the constants of DualAnoDiff, `best` tunes the bundled miniature.
        kinds: of defect; each is learnt by itself, and they take turns. None learns all training defects as one.
        window: (height, width) in pixels of what is learnt and painted of an image, somewhere around the defect; None
            is all of it.
        box: with an inpainting base, the least and the largest side of the box in which it paints, as shares of the
            window's, or more for a defect that is larger; the rest of the window is shown to it. It paints in boxes
            as it has learnt. None paints all of the window.
        tuning: what is learnt; None paints with `adapter`.
        adapter: a file (safetensors) that was trained before.
        blend: keeps what is around the part as it is in the background, while painting; None paints all anew.
        colours: of what is painted are those of the `model`, or of the `canvas`: on a grey background it is grey.
        mask: how a pair's mask is found, and which pairs are dropped.
    """

    kind: Literal["dualanodiff"] = "dualanodiff"
    preset: Literal["best", "paper", "released"] = "best"
    kinds: tuple[str, ...] | None = Field(None, min_length=1)
    window: Size | None = (64, 64)
    box: tuple[float, float] | None = (0.3, 0.7)
    guidance: float = Field(1.0, ge=0)
    tuning: DualTuningConfig | None = DualTuningConfig()
    adapter: Path | None = None
    blend: BlendConfig | None = BlendConfig()
    colours: Literal["model", "canvas"] = "canvas"
    mask: PairMaskConfig = PairMaskConfig()

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        filled = dict(merge(DUAL_PRESETS.get(given.get("preset", "best"), {}), given))
        if given.get("adapter") is not None and "tuning" not in given:
            filled["tuning"] = None
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> "DualConfig":
        if (self.tuning is None) == (self.adapter is None):
            raise ValueError("tuning makes an adapter, and adapter names one: give one of them")
        if self.adapter is not None and self.kinds is not None and len(self.kinds) > 1:
            raise ValueError("an adapter has learnt one kind of defect: name one in kinds, or none")
        if self.kinds is not None and len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"a kind is named twice: {', '.join(self.kinds)}")
        if self.box is not None and not 0 < self.box[0] <= self.box[1] <= 1:
            raise ValueError("box: the least and the largest side, above 0 and at most 1")
        if not self.composite and self.window is not None:
            raise ValueError("composite=false keeps nothing of the background: unset window, which would be seen in it")
        if not self.composite and self.filters is not None:
            raise ValueError("composite=false keeps nothing of the background: unset filters, which compare with it")
        return self

    def aside(self) -> Iterator[str]:
        """The adapter's file is known by its content."""
        yield from super().aside()
        yield "adapter"

    @property
    def shows_change(self) -> bool:
        """Whether what is painted can be compared with what was there: it is not made of noise alone."""
        return self.strength < 1 or self.blend is not None


_PUBLISHED: dict[str, Any] = {
    "model": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "size": (512, 512),
    "window": None,
    "box": None,
    "strength": 1.0,
    "blend": None,
    "colours": "model",
    "mask": {"blur": 0, "share": 0, "level": 25},
    "composite": False,
    "filters": None,
    "tuning": {
        "rank": 32,
        "shared_rank": None,
        "text_rank": 32,
        "saim": "random",
        "saim_blocks": False,
        "learning_rate": 2e-5,
        "schedule": "constant",
        "steps": 5000,
        "seed": 32,
        "gradient_checkpointing": True,
        "training": {"batch": 2, "checkpoint_every": 500},
    },
    "steps": 50,
    "guidance": 2.0,
}
DUAL_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": merge(_PUBLISHED, {"tuning": {"background": {"rule": "add", "gamma": 0.1}}}),
    "released": merge(_PUBLISHED, {"tuning": {"background": {"rule": "mix", "gamma": 0.0, "scaled": False}}}),
    "best": {},
}
