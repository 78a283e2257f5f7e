"""From prepared images to the vectors that a detector compares, as the store has them."""

import torch
from torch import Tensor, nn

from exdd_ray.errors import ConfigError
from exdd_ray.features.backbone import folded, load_backbone
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.slices import embedded, values_of


class Embed(nn.Module):
    """Vectors float32 [B x P x D] of normalised images [B x 3 x H x W], rounded as they are stored.

    Raises ConfigError for a foreground, which is told image by image by an eigenvector.
    """

    def __init__(self, features: FeaturesConfig) -> None:
        super().__init__()
        if features.foreground:
            raise ConfigError("features.foreground cannot be exported: it is told image by image, not by a graph")
        self.features = features
        self.backbone = folded(load_backbone(features))

    def forward(self, images: Tensor) -> Tensor:
        """The vectors."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.features.precision == "bfloat16"):
            found = values_of(embedded(self.backbone, images, self.features)[0], self.features)
        return (found.half() if self.features.dtype == "float16" else found).float()
