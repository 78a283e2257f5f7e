"""What methods that segment images have in common: DRAEM's U-Net, and the focal loss."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from exdd_ray.methods.config import SegmentationConfig

_SMALLEST = 1e-6


class UNet(nn.Module):
    """DRAEM's discriminative network (Zavrtanik et al., 2021).

    Two convolutions a block, max-pooling down, bilinear doubling (corners aligned) with a convolution up, skip
    connections. Each level of the way up has the width of the next finer one of the way down.

    Args:
        given: channels of the input.
        made: channels of the output.
    """

    def __init__(self, config: SegmentationConfig, given: int, made: int) -> None:
        super().__init__()
        widths = [config.base * multiplier for multiplier in config.multipliers]
        ups = [widths[max(level - 1, 0)] for level in reversed(range(len(widths) - 1))]
        self.down = nn.ModuleList(_block(a, b) for a, b in pairwise([given, *widths]))
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.widen = nn.ModuleList(_convolution(a, b) for a, b in pairwise([widths[-1], *ups]))
        skips = reversed(widths[:-1])
        self.up = nn.ModuleList(_block(skip + width, width) for skip, width in zip(skips, ups, strict=True))
        self.out = nn.Conv2d(ups[-1], made, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B x made x H x W] of images [B x given x H x W]."""
        skips = []
        features = images
        for level, block in enumerate(self.down):
            features = block(self.pool(features) if level else features)
            skips.append(features)
        skips.pop()
        for widen, block in zip(self.widen, self.up, strict=True):
            features = block(torch.cat([widen(self.enlarge(features)), skips.pop()], dim=1))
        logits: Tensor = self.out(features)
        return logits


def focal_loss(probabilities: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """-(1 - p_t)^gamma log p_t (Lin et al., 2017), the mean over all pixels.

    Args:
        probabilities: of being anomalous [B x 1 x H x W].
        masks: 0 or 1, of the same shape.
    """
    p = probabilities.float().clamp(_SMALLEST, 1 - _SMALLEST)  # 1 less the smallest is 1 in bfloat16
    p_true = torch.where(masks > 0.5, p, 1 - p)
    return (-((1 - p_true) ** gamma) * p_true.log()).mean()


def _convolution(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU(inplace=True))


def _block(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(given, made), *_convolution(made, made))
