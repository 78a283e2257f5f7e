"""What every synthesizer's config has, and what several share: where a defect may lie, how a model is run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen


class SegmentedConfig(Frozen):
    """What a segmentation model may find.

    Attributes:
        model: file of a program (`torch.export.save`) that gives a probability for each pixel of an image.
    """

    model: Path | None = None

    def aside(self) -> Iterator[str]:
        """The model is known by its content."""
        yield "model"


class ForegroundConfig(SegmentedConfig):
    """Where on an image a defect may lie.

    Attributes:
        kind: `all` of it, where the grey value exceeds a `threshold` (MemSeg), or where a `model` finds the part.
        level: the threshold, of 0..255.
        invert: the part is darker than its background.
    """

    kind: Literal["all", "threshold", "model"] = "all"
    level: int = Field(100, ge=0, le=255)
    invert: bool = False

    @model_validator(mode="after")
    def _model_of_its_kind(self) -> "ForegroundConfig":
        if (self.kind == "model") != (self.model is not None):
            raise ValueError("foreground.model is for foreground.kind=model, and needed there")
        return self

    def aside(self) -> Iterator[str]:
        """What the kind does not use."""
        yield from super().aside()
        if self.kind != "threshold":
            yield from ("level", "invert")


class FilterConfig(Frozen):
    """Which samples are dropped; levels are absolute differences of 0..255, averaged over pixels and channels.

    Attributes:
        min_inside: the least change inside the mask; less is a sample without a defect.
        max_outside: the largest change outside.
        duplicate: the least difference from every earlier sample of the same prompt.
    """

    min_inside: float = Field(2.0, ge=0)
    max_outside: float = Field(1.0, ge=0)
    duplicate: float = Field(0.5, ge=0)


class SynthesizerConfig(Frozen):
    """A synthesizer's config; its own class names its `kind`, as its folder is named, and the presets that it has.

    Attributes:
        kind: of the synthesizer.
        preset: values that are published or measured together.
        count: synthetic images, of all prompts together.
        filters: which samples are dropped; None keeps all.
    """

    kind: str
    preset: str
    count: int = Field(100, ge=0)
    filters: FilterConfig | None = FilterConfig()


class DeviceConfig(Frozen):
    """How a model is run. A sample's pixels may depend on the device, the precision, `compile` and `slicing`.

    Attributes:
        device: `auto` takes CUDA where it is; over Ray, where the cluster has it.
        precision: of the model; `auto` is float16 on CUDA and float32 elsewhere.
        batch: images in one call, of any prompts; halved, and said so, when the device runs out of memory.
        compile: compile the denoiser (worth it for hundreds of images).
        memory: `slicing` decodes and attends in pieces, `offload` keeps on the device only the part that works.
        gpus: GPUs a worker reserves; a fraction shares one.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch: int = Field(10, ge=1)
    compile: bool = False
    memory: Literal["full", "slicing", "offload"] = "full"
    gpus: float = Field(1.0, gt=0)

    def aside(self) -> Iterator[str]:
        """What changes no pixel; of device and precision, a key names those that `auto` is."""
        yield from ("device", "precision", "batch", "gpus")
        if self.memory != "slicing":
            yield "memory"
