"""Segmentation models for tests: tiny programs by grey levels, exported as a user would."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim


class Brighter(nn.Module):
    """A pixel's probability is .5 at a grey level of 0..1, more above it, less below."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.grey = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.grey.weight, 100 / 3)
        nn.init.constant_(self.grey.bias, -100 * level)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.grey(image))


class LeftHalf(nn.Module):
    """Finds the left half of any image."""

    def forward(self, image: Tensor) -> Tensor:
        column = torch.ones_like(image[:, :1]).cumsum(dim=3)
        return (2 * column <= image.shape[3]).float()


def export(program: nn.Module, file: Path, *, any_size: bool = True) -> Path:
    """Writes a program for images of any size from 8 x 8 on, or of 32 x 32 alone."""
    sizes = ({2: Dim("height", min=8), 3: Dim("width", min=8)},) if any_size else None
    torch.export.save(torch.export.export(program.eval(), (torch.rand(1, 3, 32, 32),), dynamic_shapes=sizes), file)
    return file
