"""What configs of synthesizers share that paint with a diffusion model: the model, where and how it paints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.synthesizers.config import DeviceConfig, ForegroundConfig, SynthesizerConfig

MaskShape = Literal["line", "blob", "scatter", "edge"]

MASK_SHAPES: tuple[MaskShape, ...] = ("line", "blob", "scatter", "edge")

MINIATURE = "miniature"


class MaskConfig(Frozen):
    """Where a model is to paint a defect.

    Attributes:
        source: `procedural` shapes, those of a `library` folder, or the masks of the training `positives`
            (as DIAG does; the report flags it as the leak that it is).
        shapes: procedural shapes to draw from.
        placed: the mask of a positive is `stretched` with its image to the canvas, as DIAG does, or `moved`, its size
            and shape kept, to a random place.
        folder: mask images of the library.
        foreground: the mask is fitted to it; one of `positives` only where it does not lie on it already.
    """

    source: Literal["procedural", "library", "positives"] = "procedural"
    shapes: tuple[MaskShape, ...] = Field(MASK_SHAPES, min_length=1)
    placed: Literal["stretched", "moved"] = "stretched"
    folder: Path | None = None
    foreground: ForegroundConfig = ForegroundConfig()

    @model_validator(mode="after")
    def _folder_of_a_library(self) -> "MaskConfig":
        if (self.source == "library") != (self.folder is not None):
            raise ValueError("masks.folder is for masks.source=library, and needed there")
        return self

    def aside(self) -> Iterator[str]:
        """A library is known by its contents; shapes are not drawn from another source."""
        yield "folder"
        if self.source != "procedural":
            yield "shapes"
        if self.source != "positives":
            yield "placed"


class DiffusionConfig(SynthesizerConfig):
    """A pretrained latent diffusion model paints.

    Attributes:
        model: `miniature`, a hub id, or a local folder in diffusers' format.
        revision: commit of the hub's repository.
        variant: of the weight files, as `fp16`.
        working_size: (height, width) to which backgrounds and the masks of positives are resized before anything else
            (bilinear, as OpenCV does), as when a dataset is stored so. The detector's features.working_size should be
            the same: the resampling itself tells images apart.
        size: (height, width) at which the model works, in pixels.
        strength: share of the noise that the background is taken to.
        guidance: weight of the prompt.
        steps: denoising steps of the whole schedule.
        scheduler: `model` keeps the model's own.
        clip_skip: layers of the text encoder that are left out at its end.
        composite: where all of the canvas is painted, keep its own pixels outside the mask.
        run: on what it runs, and how.
    """

    model: str = MINIATURE
    revision: str | None = None
    variant: str | None = None
    working_size: tuple[int, int] | None = None
    size: tuple[int, int] = (64, 64)
    strength: float = Field(0.99, gt=0, le=1)
    guidance: float = Field(3.0, ge=0)
    steps: int = Field(20, ge=1)
    scheduler: Literal["model", "ddim", "dpm", "euler", "unipc"] = "model"
    clip_skip: int = Field(0, ge=0)
    composite: bool = True
    run: DeviceConfig = DeviceConfig()

    @model_validator(mode="after")
    def _sizes_are_positive(self) -> "DiffusionConfig":
        for name in ("working_size", "size", "canvas", "output"):
            if min(getattr(self, name, None) or (1,)) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: sides are at least one pixel")
        return self

    def aside(self) -> Iterator[str]:
        """The model is known by its content or its commit; a preset has filled the others."""
        yield from ("preset", "model", "revision", "variant")


class PaintConfig(DiffusionConfig):
    """A text-to-image model paints defects into masked normal images.

    Attributes:
        prompts: what to paint; they take turns.
        negative_prompt: what to keep away from; empty for none.
        masks: where to paint.
        margin: pixels of the canvas by which what is painted reaches beyond the mask of the defect: the model hides
            them, too, so that a defect's own edge and shadow do not give it away.
        canvas: (height, width) to which background and mask are resized; None is the background's own.
        crop_padding: paint a crop of the canvas around the mask, with this margin in pixels, and paste the masked part
            back; None paints all of the canvas.
        output: (height, width) of the stored image; None is the canvas.
        resample: how images are resized to canvas and output; masks are with `bilinear` by the nearest pixel, with
            `bicubic` likewise and cut at one half (as DIAG's code does).
        colours: of what is painted are those of the `model`, or of the `canvas`: into a grey one is painted in grey,
            lest a tint gives defects away.
    """

    prompts: tuple[str, ...] = Field(("scratch", "stain", "hole", "crack"), min_length=1)
    negative_prompt: str = ""
    masks: MaskConfig = MaskConfig()
    margin: int = Field(0, ge=0)
    canvas: tuple[int, int] | None = None
    crop_padding: int | None = Field(8, ge=0)
    output: tuple[int, int] | None = None
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    colours: Literal["model", "canvas"] = "model"

    @model_validator(mode="after")
    def _distinct_prompts(self) -> "PaintConfig":
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError(f"a prompt is named twice: {', '.join(self.prompts)}")
        return self

    def aside(self) -> Iterator[str]:
        """Of a crop, all that is outside the mask is kept anyway."""
        yield from super().aside()
        if self.crop_padding is not None:
            yield "composite"

    @property
    def whole(self) -> bool:
        """Whether images are painted from nothing, without a mask."""
        return False
