"""The network of SuperSimpleNet: an adaptor, a segmentation head and a classification head."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from exdd_ray.methods.supersimplenet.config import SuperSimpleNetConfig

_SLOPE = 0.2
_KERNEL = 5


class Found(NamedTuple):
    """Logits of being anomalous: of every patch [B x 1 x h x w], and of the images [B]."""

    maps: Tensor
    scores: Tensor


class SuperSimpleNet(nn.Module):
    """Heads on features [B x C x h x w] of a frozen backbone (Rolih et al., 2024 and 2025).

    Attributes:
        mean, deviation: of every channel [C], to which features are standardised; zeros and ones leave them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, config: SuperSimpleNetConfig) -> None:
        super().__init__()
        self._adapted_score = config.adapted_score
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.adaptor = nn.Conv2d(channels, channels, 1)
        self.segment = nn.Sequential(
            nn.Conv2d(channels, config.hidden, 1),
            nn.BatchNorm2d(config.hidden),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(config.hidden, 1, 1, bias=False),
        )
        self.look = nn.Sequential(
            nn.Conv2d(channels + 1, config.score_channels, _KERNEL, padding=_KERNEL // 2),
            nn.BatchNorm2d(config.score_channels),
            nn.ReLU(),
        )
        self.score = nn.Linear(2 * config.score_channels + 2, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(layer.weight)
        self.to(memory_format=torch.channels_last)

    def forward(self, features: Tensor, noise: Tensor | None = None, *, apart: bool = False) -> Found:
        """Logits of images.

        Args:
            noise: [nB x C x h x w], n for each image, one after the other: makes n images of each. It is added to the
                features and to what the adaptor makes of them, alike.
            apart: no gradient flows from the image's logit to the map.
        """
        plain = (features - self.mean[:, None, None]) / self.deviation[:, None, None]
        adapted = self.adaptor(plain)
        if noise is not None:
            each = noise.unflatten(0, (len(features), -1))
            plain, adapted = ((part[:, None] + each).flatten(0, 1) for part in (plain, adapted))
        maps = self.segment(adapted)
        shown = maps.detach() if apart else maps
        seen = self.look(torch.cat([adapted if self._adapted_score else plain, shown], dim=1))
        pooled = [part.flatten(2) for part in (seen, shown)]
        summary = torch.cat([value for part in pooled for value in (part.amax(2), part.mean(2))], dim=1)
        return Found(maps, self.score(summary).flatten())
