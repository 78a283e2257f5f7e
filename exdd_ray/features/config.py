"""Config of the feature extractor."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen, Size


class TilesConfig(Frozen):
    """Square tiles that a large image is embedded by, one after another.

    Attributes:
        size: pixels of a side.
        overlap: pixels at each inner edge that are at least taken from the neighbour, which overlaps by twice as many.
    """

    size: int = Field(448, ge=16)
    overlap: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _has_a_middle(self) -> "TilesConfig":
        if self.size <= 2 * self.overlap:
            raise ValueError(
                f"tiles of {self.size} pixels with an overlap of {self.overlap} on both sides leave nothing"
            )
        return self


class FeaturesConfig(Frozen):
    """What turns an image into patch vectors.

    Attributes:
        backbone: `surface_resnet18` (bundled), a torchvision model, or `timm/<name>`, vision transformers among them.
        weights: a weights file (safetensors or pth); None looks in EXDD_WEIGHTS, then downloads torchvision's.
        layers: modules whose outputs are taken, shallow first; the forward pass stops after the last. A vision
            transformer's are its blocks (`blocks.11`); of their tokens those of patches are kept.
        final_norm: whether a vision transformer's last norm is applied to each layer.
        aggregator: `avg` 3x3 mean, bilinear, concatenated; `exdd` as released with ExDD; `pc1024` as in PatchCore;
            `nearest` no mean, coarser maps repeated, concatenated (PaDiM, tokens of transformers); `upscaled` on twice
            the finest grid, concatenated, 3x3 mean (SuperSimpleNet).
        channels: values of a vector that are kept, chosen at random once and for all (PaDiM); None keeps all.
        unit_length: whether vectors are scaled to length 1: the square of a distance is then 2 (1 - cosine).
        foreground: whether patches of a background, told by an image's first principal component (AnomalyDINO), are
            in no bank and score 0.
        layers_apart: whether each layer's part of a vector is scaled (`unit_length`) and searched for itself, in a bank
            of its own; their distances are averaged (SuperADD).
        tiles: by which images are embedded; None embeds them whole.
        pad: whether images of a size that a transformer's patches do not divide get their last row and column repeated
            until they do. Patches that are mostly padding are in no bank and have no score.
        working_size: (height, width) to which images and masks are resized before anything else (bilinear, as OpenCV
            does), as when a dataset is stored so; None keeps theirs.
        resize: (height, width), or one number for the shorter side (then `crop` is needed).
        fit: how an image of other proportions than `resize` is brought to it: `stretch` it, or `cut` its longer sides
            centrally first.
        crop: (height, width) of a central crop after the resize.
        dtype: how the vectors are stored.
        precision: of the backbone's arithmetic; `bfloat16` pays on a GPU.
    """

    backbone: str = "surface_resnet18"
    weights: Path | None = None
    layers: tuple[str, ...] = Field(("layer2", "layer3"), min_length=1)
    final_norm: bool = False
    aggregator: Literal["avg", "exdd", "pc1024", "nearest", "upscaled"] = "avg"
    channels: int | None = Field(None, ge=1)
    unit_length: bool = False
    foreground: bool = False
    layers_apart: bool = False
    tiles: TilesConfig | None = None
    pad: bool = False
    working_size: Size | None = None
    resize: int | Size = (224, 224)
    fit: Literal["stretch", "cut"] = "stretch"
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
        for name in ("final_norm", "pad"):
            if getattr(self, name) and not self.backbone.startswith("timm/"):
                raise ValueError(f"{name} is of vision transformers (timm/<name>), and not of {self.backbone}")
        if self.fit == "cut" and isinstance(self.resize, int):
            raise ValueError("resize by the shorter side stretches nothing: unset fit, or give resize=[height,width]")
        if self.fit == "cut" and self.working_size is not None:
            raise ValueError("fit=cut takes images as they are, and working_size stretches them: unset one")
        if self.tiles and self.tiles.size > min(self.input_size):
            height, width = self.input_size
            raise ValueError(
                f"tiles of {self.tiles.size} pixels are larger than images of {height} x {width}: unset tiles"
            )
        mixing = {"aggregator=pc1024": self.aggregator == "pc1024", "channels": self.channels is not None}
        if self.layers_apart and any(mixing.values()):
            found = next(name for name, mixes in mixing.items() if mixes)
            raise ValueError(f"features.{found} mixes the layers: unset it, or layers_apart")
        return self

    def aside(self) -> Iterator[str]:
        """The weights' file, known by its content, and options that are off."""
        yield "weights"
        options = ("final_norm", "unit_length", "foreground", "layers_apart")
        yield from (name for name in (*options, "tiles", "pad") if not getattr(self, name))

    @property
    def input_size(self) -> Size:
        """(height, width) of images as they are embedded, and of their anomaly maps."""
        size = self.crop if self.crop is not None else self.resize
        assert not isinstance(size, int)
        return size
